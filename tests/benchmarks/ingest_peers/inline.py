"""No framework: one loop in one thread, over encoded values in memory.

With the crop's decode it is the floor of our pipelines, with the whole image's that of the peers.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from tests.benchmarks.ingest_peers import Take
from tests.benchmarks.ingest_peers.transform import (
    BATCH,
    CROP,
    HEIGHT,
    WIDTH,
    Pair,
    cut,
    draw_window,
    encoded_files,
    load_jpeg,
    taking,
)
from uda.data.codec import decode_label, decode_window

Load = Callable[[bytes, bytes, np.random.Generator], Pair]


@contextmanager
def open_crop(data: Path, threads: int) -> Iterator[Take]:
    yield taking(_batches(data, _load_window))


@contextmanager
def open_whole(data: Path, threads: int) -> Iterator[Take]:
    yield taking(_batches(data, load_jpeg))


def _batches(data: Path, load: Load) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    samples = [(i.read_bytes(), k.read_bytes()) for i, k in encoded_files(data / "jpeg")]
    draws = np.random.default_rng(0)
    while True:
        images = torch.empty((BATCH, CROP, CROP, 3), dtype=torch.uint8)
        labels = torch.empty((BATCH, CROP, CROP), dtype=torch.uint8)
        for i in range(BATCH):
            crop = load(*samples[draws.integers(len(samples))], draws)
            images.numpy()[i], labels.numpy()[i] = crop
        yield images, labels


def _load_window(image: bytes, label: bytes, draws: np.random.Generator) -> Pair:
    window = draw_window(draws)
    part = decode_window(image, window.top, window.left, window.side, window.side)
    return cut(part, window.of(decode_label(label, HEIGHT, WIDTH)), window)
