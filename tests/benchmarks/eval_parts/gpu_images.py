"""Whole evaluation on a GPU: images/s of `uda.evaluate.evaluate_images` over encoded examples.

Needs OpenCV and pyarrow. Without simplejpeg, which not every machine has, JPEG is left out.
"""

import importlib.util
import sys
import time
import types
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from torch import nn

HAS_JPEG = importlib.util.find_spec("simplejpeg") is not None
if not HAS_JPEG:  # `uda.data.codec` imports it, and needs it for JPEG alone
    sys.modules["simplejpeg"] = types.ModuleType("simplejpeg")

from uda.data.codec import IMAGE_CODECS, decode_image, decode_label, encode_label  # noqa: E402
from uda.evaluate import evaluate_images, total  # noqa: E402
from uda.inference import Inference, has_precision, ready  # noqa: E402
from uda.types import Truth  # noqa: E402

THREADS = (0, 2, 4, 8)

Scene = tuple[np.ndarray, np.ndarray]  # image and trainIds


class EncodedExamples:
    """Examples in memory as they lie in a shard; `codec` "" keeps them decoded."""

    path, class_list = "memory", "cityscapes19"

    def __init__(self, scenes: list[Scene], codec: str, count: int) -> None:
        encode = IMAGE_CODECS[codec] if codec else np.asarray
        with ThreadPoolExecutor() as pool:
            self._images = list(pool.map(encode, (image for image, _ in scenes)))
            self._labels = list(pool.map(encode_label, (label for _, label in scenes)))
        self._size = scenes[0][1].shape
        self._codec = codec
        self.keys = [f"scene_{number:06d}" for number in range(count)]

    def __len__(self) -> int:
        return len(self.keys)

    def pair(self, index: int) -> tuple[np.ndarray, Truth]:
        image = self._images[index % len(self._images)]
        return decode_image(image) if self._codec else image, self.truth(index)

    def truth(self, index: int) -> Truth:
        data = self._labels[index % len(self._labels)]
        return Truth(label=decode_label(data, *self._size))


def measure_images(
    network: nn.Module, scenes: list[Scene], device: str, count: int
) -> Iterator[dict[str, Any]]:
    """One line for each way to evaluate `count` images, the most interesting first.

    As `uda evaluate` does it: in the layout that `uda.inference` chooses.
    """
    ways = [("tf32", 1, "exact"), ("bfloat16", 1, "exact"), ("bfloat16", 4, "exact")]
    ways += [("bfloat16", 1, "jpeg")] if HAS_JPEG else []
    ways += [("bfloat16", 1, ""), ("float32", 1, "exact")]
    examples_by_codec: dict[str, EncodedExamples] = {}
    for precision, batch_size, codec in ways:
        if not has_precision(precision, device):
            continue
        if codec not in examples_by_codec:
            examples_by_codec[codec] = EncodedExamples(scenes, codec, count)
        examples = examples_by_codec[codec]
        inference = Inference(precision=precision, batch_size=batch_size)
        prepared = ready(network, inference, device)
        list(evaluate_images(prepared, examples, range(2 * batch_size), inference))  # warm
        for threads in THREADS:
            started = time.perf_counter()
            done = evaluate_images(prepared, examples, range(count), inference, threads=threads)
            tally = total(done)  # counts, which are on the CPU: nothing is left to wait for
            seconds = time.perf_counter() - started
            assert tally.images == count
            yield {
                "precision": precision,
                "batch_size": batch_size,
                "codec": codec or "none, decoded in memory",
                "threads": threads,
                "images_per_s": round(count / seconds, 2),
            }
