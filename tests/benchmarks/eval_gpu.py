"""The reference network on a GPU, for a machine that has one but neither Ray nor our environment.

    python3 -m tests.benchmarks.eval_gpu --out FILE.json

Milliseconds from normalised images on the GPU to their labels there, upsampling and argmax
included, with the GPU waited for before and after; then whole evaluations of encoded images. It
needs PyTorch, torchvision, timm and jaxtyping; what else is missing is left out, and said. What
was measured is written after each part, and what no time was left for is listed.
"""

import argparse
import json
import os
import platform
import subprocess
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tests.benchmarks.eval_parts.gpu_timing import Clock, labels_by, measured, normalised
from tests.benchmarks.eval_parts.network import (
    LAYOUTS,
    Case,
    ask_module,
    reference_network,
    say_result,
)
from uda.inference import has_precision

CASES = [
    Case(precision=precision, layout=layout)
    for precision in ("float32", "tf32", "bfloat16")
    for layout in LAYOUTS
]
COMPILED = [
    Case(precision="bfloat16", layout="channels_last", compiled=True),
    Case(precision="tf32", compiled=True),
    Case(precision="bfloat16", compiled=True),
]
BATCH_SIZES = (1, 2, 4, 8)
COMPILED_BATCH_SIZES = (1, 4)  # each is compiled for itself
SCENES = 16
IMAGES = 64  # of a whole evaluation, which sees every scene again and again
_COMPILE_LIMIT_S = 75


def main() -> None:
    arguments = _arguments()
    scenes_file = arguments.out.with_suffix(".scenes.npz")
    if arguments.case:
        _compiled_case(Case(**json.loads(arguments.case)), arguments.device, scenes_file)
        return
    clock = Clock(arguments.limit_s)
    scenes = _scenes(*arguments.size, clock)
    np.savez(scenes_file, *[image for image, _ in scenes[: max(BATCH_SIZES)]])
    network = reference_network(scenes[0][0])
    record: dict[str, Any] = {**_about(arguments), "cases": {}, "left_out": []}
    clock.say(f"on {record['machine']}")
    parts = {"the cases": _cases, "whole evaluation": _images, "compiled cases": _compiled}
    for title, part in parts.items():
        part(record, network, scenes, arguments, clock)
        arguments.out.write_text(json.dumps(record, indent=2) + "\n")
        clock.say(f"{title}: written to {arguments.out}")
    scenes_file.unlink()
    for line in record["left_out"]:
        clock.say(f"left out: {line}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--limit-s", type=float, default=190)
    parser.add_argument("--device", default="cuda", help="cpu: to try this script")
    parser.add_argument("--size", type=int, nargs=2, default=(1024, 2048), metavar=("H", "W"))
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--commit", default=_commit(), help="where there is no git to ask")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    return parser.parse_args()


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _about(arguments: argparse.Namespace) -> dict[str, Any]:
    on_gpu = arguments.device != "cpu"
    device = torch.cuda.get_device_name() if on_gpu else "CPU"
    versions = f"Python {platform.python_version()}, PyTorch {torch.__version__}"
    return {
        "name": "eval-gpu",
        "command": "python3 -m tests.benchmarks.eval_gpu",
        "commit": arguments.commit,
        "machine": f"one {device}, {os.cpu_count()} cores, {versions}",
        "device": device,
        "cudnn": torch.backends.cudnn.version() if on_gpu else None,
        "size": "x".join(map(str, reversed(arguments.size))),
    }


def _scenes(height: int, width: int, clock: Clock) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rendered, by all cores, before CUDA starts; noise where the renderer cannot be imported."""
    try:
        from uda.data.streets import DOMAINS, render
    except ImportError as error:
        clock.say(f"the renderer is not to be had ({error}): images are smooth noise")
        random = np.random.default_rng(0)
        coarse = random.integers(0, 256, (SCENES, height // 16, width // 16, 3), np.uint8)
        images = coarse.repeat(16, axis=1).repeat(16, axis=2)
        return [(image, np.zeros((height, width), np.uint8)) for image in images]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        draw = partial(render, DOMAINS["camera"], 0, height=height, width=width)
        scenes = list(pool.map(draw, range(SCENES)))
    clock.say(f"rendered {SCENES} scenes")
    return scenes


def _cases(
    record: dict[str, Any],
    network: nn.Module,
    scenes: list[tuple[np.ndarray, np.ndarray]],
    arguments: argparse.Namespace,
    clock: Clock,
) -> None:
    images = [image for image, _ in scenes[: max(BATCH_SIZES)]]
    batch = normalised(network, images, arguments.device)
    expected = None
    for case in CASES:
        if not has_precision(case.precision, arguments.device):
            record["left_out"].append(f"{case.precision}: this {arguments.device} lacks it")
            continue
        with case.in_force():
            prepared = case.prepared(network, arguments.device)
            if expected is None:  # of float32, and one by one
                expected = torch.cat([labels_by(prepared, image[None], case) for image in batch])
            rows = record["cases"][case.name] = {}
            for batch_size in BATCH_SIZES:
                rows[str(batch_size)] = measured(prepared, batch[:batch_size], case, expected)
                clock.say(f"{case.name}, batch {batch_size}: {rows[str(batch_size)]}")
    np.save(arguments.out.with_suffix(".labels.npy"), expected.cpu().numpy())


def _images(
    record: dict[str, Any],
    network: nn.Module,
    scenes: list[tuple[np.ndarray, np.ndarray]],
    arguments: argparse.Namespace,
    clock: Clock,
) -> None:
    record["evaluate_images"] = lines = []
    try:
        from tests.benchmarks.eval_parts.gpu_images import HAS_JPEG, measure_images
    except ImportError as error:
        record["left_out"].append(f"whole evaluation: {error}")
        return
    if not HAS_JPEG:
        record["left_out"].append("whole evaluation of JPEG: no simplejpeg here")
    for line in measure_images(network, scenes, arguments.device, arguments.images):
        lines.append(line)
        clock.say(str(line))
        if clock.left_s() < _COMPILE_LIMIT_S / 2:
            record["left_out"].append("more ways of whole evaluation: no time left")
            return


def _compiled(
    record: dict[str, Any],
    network: nn.Module,
    scenes: list[tuple[np.ndarray, np.ndarray]],
    arguments: argparse.Namespace,
    clock: Clock,
) -> None:
    """Each in a process of its own, which can be ended when its time is over."""
    for case in COMPILED:
        limit_s = min(_COMPILE_LIMIT_S, clock.left_s() - 2)
        if not has_precision(case.precision, arguments.device):
            continue
        if limit_s < 15:
            record["left_out"].append(f"{case.name}: no time left")
            continue
        options = [f"--out={arguments.out}", f"--device={arguments.device}"]
        options.append(f"--case={json.dumps(asdict(case))}")
        answer = ask_module("tests.benchmarks.eval_gpu", *options, limit_s=limit_s)
        if answer.result is not None:
            record["cases"][case.name] = answer.result
            clock.say(f"{case.name}: {answer.result}")
        if answer.failed:
            batch_sizes = [
                str(b) for b in COMPILED_BATCH_SIZES if str(b) not in (answer.result or {})
            ]
            missing = f"{case.name}, batch {' and '.join(batch_sizes)}"
            record["left_out"].append(f"{missing}: {answer.failed}")
    arguments.out.with_suffix(".labels.npy").unlink()


def _compiled_case(case: Case, device: str, scenes_file: Path) -> None:
    with np.load(scenes_file) as scenes:
        pixels = list(scenes.values())
    labels_file = scenes_file.with_suffix("").with_suffix(".labels.npy")
    expected = torch.from_numpy(np.load(labels_file)).to(device)
    network = reference_network(pixels[0])
    images = normalised(network, pixels, device)
    rows = {}
    with case.in_force():
        prepared = case.prepared(network, device)
        for batch_size in COMPILED_BATCH_SIZES:
            rows[str(batch_size)] = measured(prepared, images[:batch_size], case, expected)
            say_result(rows)  # the last line counts, and may be this one


if __name__ == "__main__":
    main()
