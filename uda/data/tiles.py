"""Lossless images of which a part can be decoded: tiles of 128 x 128 pixels, each one zstd frame.

A tile is three planes, green and what red and blue have more than it, and in each plane what every
row has more than the one above; all modulo 256. That is mostly small numbers, and taking it back
is additions of whole rows. A table of where the tiles lie stands in front.
"""

import struct

import cv2
import numpy as np
import pyarrow as pa
from jaxtyping import Int64, UInt8

from uda.data.window import check_window

TILE_PX = 128
MAGIC = b"tile"
VERSION = 1

# Level 1 is the quickest to decode, and on noisy images even the smallest (levels up to 6 tried).
_LEVEL = 1
_HEADER = struct.Struct("<4sIII")  # magic, version, height, width
_OFFSET_BYTES = 4
_RUN = 8  # rows that are added up one by one, see `_add_up_rows`; divides TILE_PX

Data = bytes | memoryview


def encode_tiles(image: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """The header, where each tile begins and the last one ends (uint32), and the tiles by rows."""
    height, width = image.shape[:2]
    red, green, blue = (image[..., channel] for channel in range(3))
    planes = np.stack([red - green, green, blue - green])
    codec = pa.Codec("zstd", compression_level=_LEVEL)
    frames = []
    for top in range(0, height, TILE_PX):
        rows = planes[:, top : top + TILE_PX]
        differences = rows.copy()
        differences[:, 1:] -= rows[:, :-1]
        for left in range(0, width, TILE_PX):
            tile = np.ascontiguousarray(differences[:, :, left : left + TILE_PX])
            frames.append(codec.compress(tile, asbytes=True))
    first = _HEADER.size + _OFFSET_BYTES * (len(frames) + 1)
    offsets = first + np.cumsum([0, *map(len, frames)])
    assert offsets[-1] < 2**32
    header = _HEADER.pack(MAGIC, VERSION, height, width)
    return b"".join([header, offsets.astype("<u4").tobytes(), *frames])


def decode_tiles(data: Data) -> UInt8[np.ndarray, "H W 3"]:
    """The image; ValueError if it is damaged."""
    return decode_tiles_window(data, 0, 0, *tiles_size(data))


def decode_tiles_window(
    data: Data, top: int, left: int, height: int, width: int
) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """These pixels; ValueError if what they need is damaged or the image does not reach so far."""
    size = tiles_size(data)
    check_window(size, top, left, height, width)
    offsets = _offsets(data, size)
    rows = range(top // TILE_PX, -(-(top + height) // TILE_PX))
    columns = range(left // TILE_PX, -(-(left + width) // TILE_PX))
    planes = _planes(data, size, offsets, rows, columns)
    _add_up_rows(planes)
    top, left = top - rows.start * TILE_PX, left - columns.start * TILE_PX
    shown = planes.reshape(3, -1, planes.shape[-1])[:, top : top + height, left : left + width]
    red, green, blue = shown
    red += green
    blue += green
    return cv2.merge([red, green, blue])


def tiles_size(data: Data) -> tuple[int, int]:
    """Height and width; ValueError if the header is damaged."""
    if len(data) < _HEADER.size:
        raise ValueError("the image ends within its header")
    magic, version, height, width = _HEADER.unpack_from(data)
    if (magic, version) != (MAGIC, VERSION):
        raise ValueError(f"the image has tiles of version {version}, want {VERSION}")
    if not height or not width:
        raise ValueError(f"the image has {width}x{height} pixels, want at least one")
    return height, width


def _offsets(data: Data, size: tuple[int, int]) -> Int64[np.ndarray, "E"]:
    """Where each of the N tiles begins and the last one ends."""
    num_tiles = -(-size[0] // TILE_PX) * -(-size[1] // TILE_PX)
    first = _HEADER.size + _OFFSET_BYTES * (num_tiles + 1)
    if first > len(data):
        raise ValueError(f"the image cannot have {num_tiles} tiles in its {len(data)} bytes")
    offsets = np.frombuffer(data, "<u4", num_tiles + 1, _HEADER.size).astype(np.int64)
    if offsets[0] != first or offsets[-1] != len(data) or (np.diff(offsets) <= 0).any():
        raise ValueError(f"the image's table of tiles does not fit its {len(data)} bytes")
    return offsets


def _planes(
    data: Data,
    size: tuple[int, int],
    offsets: Int64[np.ndarray, "E"],
    rows: range,
    columns: range,
) -> UInt8[np.ndarray, "3 R T W"]:
    """The differences in R rows of tiles. Below the image's last row is what was in memory."""
    view, codec = memoryview(data), pa.Codec("zstd")
    num_columns = -(-size[1] // TILE_PX)
    first_px = columns.start * TILE_PX
    width_px = min(size[1], columns.stop * TILE_PX) - first_px
    planes = np.empty((3, len(rows), TILE_PX, width_px), np.uint8)
    for row in rows:
        height = min(TILE_PX, size[0] - row * TILE_PX)
        for column in columns:
            left = column * TILE_PX - first_px
            width = min(TILE_PX, width_px - left)
            number = row * num_columns + column
            frame = view[offsets[number] : offsets[number + 1]]
            try:
                tile = codec.decompress(frame, decompressed_size=3 * height * width)
            except OSError as error:
                raise ValueError(f"tile {number} of the image is damaged: {error}") from error
            planes[:, row - rows.start, :height, left : left + width] = np.frombuffer(
                tile, np.uint8
            ).reshape(3, height, width)
    return planes


def _add_up_rows(planes: UInt8[np.ndarray, "3 R T W"]) -> None:
    """Replaces each row of a tile by the sum of it and the rows above it, modulo 256.

    First within runs of a few rows, then run by run: few additions of many numbers each.
    """
    runs = planes.reshape(*planes.shape[:2], TILE_PX // _RUN, _RUN, planes.shape[-1])
    for row in range(1, _RUN):
        runs[:, :, :, row] += runs[:, :, :, row - 1]
    for run in range(1, TILE_PX // _RUN):
        runs[:, :, run] += runs[:, :, run - 1, -1:]
