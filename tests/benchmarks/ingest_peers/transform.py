"""What all pipelines do to a sample: decode, random scale, 512x512 crop, flip; and the batch."""

import functools
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
import torch
from PIL import Image

from tests.benchmarks.ingest_peers import Take
from uda.data.codec import decode_label

HEIGHT, WIDTH = 1024, 2048  # of the stored images, as in Cityscapes
CROP = 512
BATCH = 4
SCALES = (0.5, 1.0)

Pair = tuple[np.ndarray, np.ndarray]  # image, label

cv2.setNumThreads(0)  # the pipelines have threads or processes of their own
torch.set_num_threads(1)

# ImageNet's normalisation as a table, which OpenCV applies in a fifth of the time of NumPy.
_MEAN, _DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
_NORMALIZED = ((np.arange(256)[:, None] / 255 - _MEAN) / _DEVIATION).astype(np.float32)[:, None]


class Window(NamedTuple):
    """A square of the stored image, and whether it is flipped."""

    top: int
    left: int
    side: int
    flip: bool

    def of(self, array: np.ndarray) -> np.ndarray:
        return array[self.top : self.top + self.side, self.left : self.left + self.side]


def draw_window(draws: np.random.Generator) -> Window:
    side = min(round(CROP / draws.uniform(*SCALES)), HEIGHT)
    top, left = draws.integers(HEIGHT - side + 1), draws.integers(WIDTH - side + 1)
    return Window(int(top), int(left), side, bool(draws.random() < 0.5))


@functools.cache
def process_draws() -> np.random.Generator:
    """Random numbers of a worker process of torch, which has seeded each differently."""
    return np.random.default_rng(torch.initial_seed())


def load_jpeg(image: bytes, label: bytes, draws: np.random.Generator) -> Pair:
    """The crop of encoded values, both (512, 512[, 3]) uint8; decodes the whole image."""
    window = draw_window(draws)
    return cut(
        window.of(simplejpeg.decode_jpeg(image, colorspace="RGB")),
        window.of(decode_label(label, HEIGHT, WIDTH)),
        window,
    )


def load_png(image: bytes, label: bytes, draws: np.random.Generator) -> Pair:
    """The same from PNG files, by PIL."""
    window = draw_window(draws)
    whole = [np.asarray(Image.open(io.BytesIO(data))) for data in (image, label)]
    return cut(window.of(whole[0]), window.of(whole[1]), window)


def cut(image: np.ndarray, label: np.ndarray, window: Window) -> Pair:
    """Resizes what lies in the window to the crop and flips it."""
    if window.side != CROP:
        image = cv2.resize(image, (CROP, CROP), interpolation=cv2.INTER_LINEAR)
        label = cv2.resize(label, (CROP, CROP), interpolation=cv2.INTER_NEAREST_EXACT)
    if window.flip:
        return cv2.flip(image, 1), cv2.flip(label, 1)
    return np.ascontiguousarray(image), np.ascontiguousarray(label)


def as_float(pair: Pair) -> Pair:
    """Normalised float32 and int64: what most training loops ask their data loader for."""
    return cv2.LUT(pair[0], _NORMALIZED), pair[1].astype(np.int64)


def as_uint8(pair: Pair) -> Pair:
    """As it is; the device normalises."""
    return pair


def stack(pairs: Sequence[Pair]) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*pairs, strict=True)
    return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(labels))


def taking(batches: Iterable[Sequence]) -> Take:
    """Takes from an endless iterable of (images, labels); refuses what is not a whole batch."""
    iterator = iter(batches)

    def take(count: int) -> None:
        for _ in range(count):
            images, labels = next(iterator)[:2]
            assert len(images) == len(labels) == BATCH
            assert images.nbytes // images.itemsize == BATCH * CROP * CROP * 3
            assert labels.nbytes // labels.itemsize == BATCH * CROP * CROP

    return take


def encoded_files(folder: Path) -> list[tuple[Path, Path]]:
    """The pairs of files in `images` and `labels`, by name."""
    images, labels = (sorted((folder / kind).iterdir()) for kind in ("images", "labels"))
    assert [f.stem for f in images] == [f.stem for f in labels]
    return list(zip(images, labels, strict=True))
