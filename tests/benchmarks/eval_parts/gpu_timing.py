"""Timing of the network on a GPU (or, to try it, on the CPU)."""

import time

import numpy as np
import torch
from torch import Tensor, nn

from tests.benchmarks.eval_parts.network import Case, share_differing
from uda.inference import class_scores, labels_of

_LEAST_S, _LEAST_TIMES = 0.5, 3  # of measuring, for each figure


class Clock:
    """How much of the time for everything is left."""

    def __init__(self, limit_s: float) -> None:
        self._start, self._limit_s = time.perf_counter(), limit_s

    def left_s(self) -> float:
        return self._limit_s - (time.perf_counter() - self._start)

    def say(self, words: str) -> None:
        print(f"[{time.perf_counter() - self._start:6.1f} s] {words}", flush=True)


def normalised(network: nn.Module, images: list[np.ndarray], device: str) -> Tensor:
    pixels = torch.from_numpy(np.stack(images)).to(device)
    return network.normalise(pixels.permute(0, 3, 1, 2))


def labels_by(network: nn.Module, images: Tensor, case: Case) -> Tensor:
    return labels_of(class_scores(network, images, case.inference))


def measured(network: nn.Module, images: Tensor, case: Case, expected: Tensor) -> dict[str, float]:
    on_gpu = images.is_cuda
    started = time.perf_counter()
    labels = labels_by(network, images, case)  # cuDNN chooses, and a compiled case compiles
    share = share_differing(labels, expected[: len(labels)])
    first_s = time.perf_counter() - started
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds: list[float] = []
    while len(seconds) < _LEAST_TIMES or sum(seconds) < _LEAST_S:
        if on_gpu:
            torch.cuda.synchronize()
        started = time.perf_counter()
        labels_by(network, images, case)
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return {
        "ms_per_image": round(1000 * float(np.median(seconds)) / len(images), 3),
        "ms_quickest": round(1000 * min(seconds) / len(images), 3),
        "first_s": round(first_s, 2),
        "peak_mb": round(torch.cuda.max_memory_allocated() / 1e6) if on_gpu else 0,
        "share_differing": round(share, 5),
    }
