"""Counting pairs of pixels: how often each value of one map lies where another has which value.

Two maps of labels go in, exact counts come out. It takes a fraction of the time that decoding
the maps takes, because people's labels and predictions are the same along most of a row.
"""

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Int64, Shaped, UInt8
from torch import Tensor

from uda.types import UserError

Values = Shaped[np.ndarray, "..."] | Shaped[Tensor, "..."]

# OpenCV's histograms hold floats of 32 bits, which count up to here without a gap.
_EXACT_PIXELS = 2**24
_PIXELS_IN_CACHE = 2**17


def count_pairs(
    prediction: Values, label: Values, want: str, *, size: int = 256
) -> Int64[np.ndarray, "S S"]:
    """Pixels by value of the label (rows) and of the prediction (columns).

    Arrays or tensors of one shape whose values are bytes; UserError otherwise, with `want` for the
    values that make sense. A label on a GPU is counted there. S is 256, or may be `size` where all
    values are below `size`, which is quicker.

    On one core, 1024x2048 pixels of streets take 2 ms, where OpenCV's histogram takes 5 and
    `torch.bincount` 8.
    """
    if prediction.shape != label.shape:
        raise UserError(
            f"prediction: got shape {tuple(prediction.shape)}, want that of the label, "
            f"{tuple(label.shape)}"
        )
    rows, columns = _bytes_of(label, "label", want), _bytes_of(prediction, "prediction", want)
    if isinstance(rows, Tensor):
        return _counted_on_device(rows, columns)
    if isinstance(columns, Tensor):
        columns = columns.cpu().numpy()
    flat_rows, flat_columns = rows.ravel(), columns.ravel()  # contiguous
    counts = np.zeros((size, size), np.int64)
    for start in range(0, flat_rows.size, _EXACT_PIXELS):
        part = slice(start, start + _EXACT_PIXELS)
        counts += _by_runs(flat_rows[part], flat_columns[part], size)
    if counts.sum() < flat_rows.size:
        return count_pairs(columns, rows, want)
    return counts


def _bytes_of(values: Values, name: str, want: str) -> np.ndarray | Tensor:
    """The same values as uint8, in an array unless they are on a device; others are an error."""
    if isinstance(values, Tensor):
        is_integer, is_byte = not values.is_floating_point(), values.dtype == torch.uint8
    else:
        is_integer, is_byte = values.dtype.kind in "bui", values.dtype == np.uint8
    if not is_integer:
        raise TypeError(f"{name}: got {values.dtype}, want integers (class scores need an argmax)")
    if not is_byte and min(values.shape, default=1) > 0:
        lowest, highest = int(values.min()), int(values.max())
        if lowest < 0 or highest > 255:
            raise UserError(f"{name}: got values {lowest}..{highest}, want {want}")
    if isinstance(values, np.ndarray):
        return values.astype(np.uint8, copy=False)
    values = values.to(torch.uint8)
    return values.numpy() if values.device.type == "cpu" else values


def _counted_on_device(rows: Tensor, columns: np.ndarray | Tensor) -> np.ndarray:
    """One histogram of pairs, without masks: leaving out pixels first takes 10 times longer."""
    pairs = rows.to(torch.int32).mul_(256)
    pairs += torch.as_tensor(columns, device=rows.device)
    return torch.bincount(pairs.reshape(-1), minlength=256 * 256).view(256, 256).cpu().numpy()


def _by_runs(
    rows: UInt8[np.ndarray, "N"], columns: UInt8[np.ndarray, "N"], size: int
) -> Int64[np.ndarray, "S S"]:
    """Counts the pixels in words of 8, singly only in words that a change touches.

    All words between two such words are alike, down to the first pixel of the second, and count at
    once. A plain histogram waits at every pixel for its last addition, to the same bin.

    Values from `size` on are lost or count for others; then the sum is less than N, as every value
    is also in a word that is touched, and `_histogram` drops it there.
    """
    end = rows.size - rows.size % 8
    is_touched = _touched(rows[:end], columns[:end])
    if 2 * np.count_nonzero(is_touched) > is_touched.size:  # noise: a plain histogram is quicker
        return _histogram(rows, columns, size)
    touched = np.flatnonzero(is_touched)
    in_rows = rows[:end].view(np.uint64)[touched].view(np.uint8)
    in_columns = columns[:end].view(np.uint64)[touched].view(np.uint8)
    cells = in_rows[::8].astype(np.int64) * size + in_columns[::8]
    words_before = np.diff(touched, prepend=-1) - 1
    counts = np.bincount(cells, words_before, size * size)[: size * size].astype(np.int64) * 8
    counts = counts.reshape(size, size) + _histogram(in_rows, in_columns, size)
    return counts + _histogram(rows[end:], columns[end:], size) if end < rows.size else counts


def _touched(
    rows: UInt8[np.ndarray, "N"], columns: UInt8[np.ndarray, "N"]
) -> Bool[np.ndarray, "N//8"]:
    """The words that hold a pixel unlike its successor in either map; the last word is one."""
    touched = np.empty(rows.size // 8, bool)
    changes, column_changes = np.zeros((2, _PIXELS_IN_CACHE), np.uint8)
    for start in range(0, rows.size, _PIXELS_IN_CACHE):
        size = min(_PIXELS_IN_CACHE, rows.size - start)
        row, column = (a[start : start + size + 1] for a in (rows, columns))
        pairs = row.size - 1
        np.bitwise_xor(row[1:], row[:-1], out=changes[:pairs])
        np.bitwise_xor(column[1:], column[:-1], out=column_changes[:pairs])
        changes |= column_changes
        words = changes[:size].view(np.uint64)
        np.not_equal(words, 0, out=touched[start // 8 : (start + size) // 8])
    touched[-1:] = True
    return touched


def _histogram(
    rows: UInt8[np.ndarray, "N"], columns: UInt8[np.ndarray, "N"], size: int
) -> Int64[np.ndarray, "S S"]:
    """Of at most _EXACT_PIXELS, without those with a value from `size` on."""
    if rows.size == 0:
        return np.zeros((size, size), np.int64)
    counts = cv2.calcHist([rows, columns], [0, 1], None, [size, size], [0, size, 0, size])
    return counts.astype(np.int64)
