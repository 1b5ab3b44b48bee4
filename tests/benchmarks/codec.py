"""`make bench-codec`: what it takes to store and decode images, whole and in part, and labels.

On street scenes, which are about as hard to compress as photographs. Times are CPU time of the one
thread that decodes; the codecs take turns, so that a busy moment meets all of them.
"""

import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from tests.record import BENCHES, goal, write_record
from uda.data.codec import IMAGE_CODECS, decode_image, decode_label, decode_window, encode_label
from uda.data.streets import DOMAINS, render

SIZES = {"1024x2048": (1024, 2048), "1052x1914": (1052, 1914)}  # Cityscapes, GTA5: height x width
WINDOW_PX = 512
REPEATS = 25


def main() -> None:
    found = {name: _measure(*size) for name, size in SIZES.items()}
    goals = {}
    for name, figures in found.items():
        for codec in IMAGE_CODECS:
            ratio = figures["ms"][f"{codec} whole"] / figures["ms"][f"{codec} window"]
            goals[f"{name} {codec}: times that a window is quicker than the whole"] = goal(ratio, 3)
            equal = figures["equal_windows"][codec]
            goals[f"{name} {codec}: share of windows equal to the whole"] = goal(equal, 1)
    what = {"window": f"{WINDOW_PX}x{WINDOW_PX}", "repeats": REPEATS, "cpu": "of one thread"}
    write_record(BENCHES / "codec.json", "make bench-codec", {**what, "sizes": found}, goals)
    for name, figures in found.items():
        print(name, *(f"{size} {kb} kB" for size, kb in figures["kB"].items()), sep="  ")
        for case, ms in figures["ms"].items():
            print(f"  {case:13} {ms:7.2f} ms")


def _measure(height: int, width: int) -> dict[str, Any]:
    image, label = render(DOMAINS["game"], 0, 0, height, width)
    encoded = {"png": _png(image), "label": encode_label(label)}
    encoded |= {codec: encode(image) for codec, encode in IMAGE_CODECS.items()}
    random = np.random.default_rng(0)
    windows = [
        (int(random.integers(height - WINDOW_PX + 1)), int(random.integers(width - WINDOW_PX + 1)))
        for _ in range(REPEATS)
    ]
    times: dict[str, list[float]] = {}
    for top, left in windows:
        cases: dict[str, Callable[[], Any]] = {
            "png whole": lambda: np.asarray(Image.open(io.BytesIO(encoded["png"]))),
            "label": lambda: decode_label(encoded["label"], height, width),
        }
        for codec in IMAGE_CODECS:
            data = encoded[codec]
            window = (data, top, left, WINDOW_PX, WINDOW_PX)
            cases[f"{codec} whole"] = lambda data=data: decode_image(data)
            cases[f"{codec} window"] = lambda window=window: decode_window(*window)
        for name, decode in cases.items():
            started = time.thread_time()
            decode()
            times.setdefault(name, []).append(1000 * (time.thread_time() - started))
    return {
        "kB": {name: round(len(data) / 1000) for name, data in encoded.items()},
        "ms": {name: round(float(np.median(found)), 3) for name, found in times.items()},
        "equal_windows": {codec: _equal(encoded[codec], windows) for codec in IMAGE_CODECS},
    }


def _equal(data: bytes, windows: list[tuple[int, int]]) -> float:
    """The share of windows that hold the pixels of the whole image, bit for bit."""
    whole = decode_image(data)
    equal = [
        np.array_equal(
            decode_window(data, top, left, WINDOW_PX, WINDOW_PX),
            whole[top : top + WINDOW_PX, left : left + WINDOW_PX],
        )
        for top, left in windows
    ]
    return float(np.mean(equal))


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


if __name__ == "__main__":
    main()
