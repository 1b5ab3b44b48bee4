"""The pixels of a row, or a UserError that names the row which does not have them."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from jaxtyping import UInt8

from uda.data.codec import decode_image, decode_label, decode_window, image_size
from uda.data.rows import EncodedRow
from uda.types import UserError


def decode_row(row: EncodedRow) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]:
    """The whole RGB image and its label."""
    label = row_label(row)
    with _naming(row):
        _check_size(row)
        return decode_image(row.image), label


def row_window(
    row: EncodedRow, top: int, left: int, height: int, width: int
) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """A window of the RGB image; it may be a view of a larger array."""
    with _naming(row):
        _check_size(row)
        return decode_window(row.image, top, left, height, width)


def row_label(row: EncodedRow) -> UInt8[np.ndarray, "H W"]:
    """The whole label (read-only)."""
    if row.label is None:
        raise UserError(f"{row.where}: {row.key} has no label, want labelled data here")
    with _naming(row):
        return decode_label(row.label, row.height, row.width)


def _check_size(row: EncodedRow) -> None:
    """The size of the image must be the one that window and label go by."""
    height, width = image_size(row.image)
    if (height, width) != (row.height, row.width):
        raise ValueError(f"got {width}x{height} pixels, want {row.width}x{row.height} as listed")


@contextmanager
def _naming(row: EncodedRow) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{row.where}: {row.key} does not decode: {reason}") from error
