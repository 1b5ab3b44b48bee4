import struct
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uda.data.tiles import decode_tiles, decode_tiles_window, encode_tiles, tiles_size


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def decode_slowly(data: bytes) -> np.ndarray:
    """The format, read in the plainest way."""
    magic, version, height, width = struct.unpack("<4sIII", data[:16])
    assert (magic, version) == (b"tile", 1)
    rows, columns = -(-height // 128), -(-width // 128)
    offsets = struct.unpack(f"<{rows * columns + 1}I", data[16 : 20 + 4 * rows * columns])
    assert offsets[-1] == len(data)
    image = np.zeros((rows * 128, columns * 128, 3), np.uint8)
    for row in range(rows):
        for column in range(columns):
            shape = (3, min(128, height - 128 * row), min(128, width - 128 * column))
            number = row * columns + column
            frame = data[offsets[number] : offsets[number + 1]]
            raw = pa.decompress(frame, np.prod(shape), codec="zstd", asbytes=True)
            planes = np.frombuffer(raw, np.uint8).reshape(shape).astype(int).cumsum(axis=1)
            planes[[0, 2]] += planes[1]
            tile = (planes % 256).transpose(1, 2, 0)
            image[128 * row :, 128 * column :][: shape[1], : shape[2]] = tile
    return image[:height, :width]


SIZES = [(1, 1), (1, 300), (300, 1), (15, 17), (128, 128), (129, 127), (256, 384), (350, 201)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_every_value_survives(height, width):
    image = noise(height, width)
    data = encode_tiles(image)
    assert tiles_size(data) == (height, width)
    assert np.array_equal(decode_slowly(data), image)
    assert np.array_equal(decode_tiles(data), image)
    assert np.array_equal(decode_tiles(memoryview(data)), image)


def test_images_of_real_size_that_compress():
    rows, columns = np.mgrid[0:1052, 0:1914]
    image = np.stack([rows // 5, columns // 9, (rows + columns) // 12], -1).astype(np.uint8)
    data = encode_tiles(image)
    assert len(data) < image.size // 50
    assert np.array_equal(decode_tiles(data), image)
    assert np.array_equal(decode_tiles_window(data, 540, 1402, 512, 512), image[540:, 1402:])


@st.composite
def windows(draw) -> tuple[int, int, int, int, int, int]:
    height, width = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    spans = []
    for length in (height, width):
        near_edges = sorted({0, 127, 128, 129, length - 1} & set(range(length)))
        first = draw(st.sampled_from(near_edges) | st.integers(0, length - 1))
        spans.append((first, draw(st.integers(1, length - first))))
    (top, rows), (left, columns) = spans
    return height, width, top, left, rows, columns


@given(windows())
def test_a_window_is_a_part_of_the_whole(window):
    height, width, top, left, rows, columns = window
    image = noise(height, width)
    got = decode_tiles_window(encode_tiles(image), top, left, rows, columns)
    assert np.array_equal(got, image[top : top + rows, left : left + columns])


@pytest.mark.parametrize(
    "window",
    [(0, 0, 41, 50), (0, 0, 40, 51), (-1, 0, 5, 5), (0, -1, 5, 5), (40, 0, 1, 1), (0, 0, 0, 5)],
)
def test_a_window_outside_is_refused(window):
    with pytest.raises(ValueError, match=r"window: got .* want some inside 50x40 pixels"):
        decode_tiles_window(encode_tiles(noise(40, 50)), *window)


IMAGE = noise(150, 300)
DATA = encode_tiles(IMAGE)
TABLE_END = 16 + 4 * (6 + 1)


def test_a_damaged_tile_spoils_only_itself():
    """The last of 2 x 3 tiles begins at row 128, column 256."""
    start = struct.unpack_from("<I", DATA, 16 + 4 * 5)[0]
    damaged = DATA[:start] + b"poison" + DATA[start + 6 :]
    whole_tiles = decode_tiles_window(damaged, 0, 0, 128, 300)
    assert np.array_equal(whole_tiles, IMAGE[:128])
    assert np.array_equal(decode_tiles_window(damaged, 0, 0, 150, 256), IMAGE[:, :256])
    with pytest.raises(ValueError, match="tile 5 of the image is damaged"):
        decode_tiles_window(damaged, 100, 200, 29, 57)


def test_a_cut_image_is_refused():
    for length in [*range(TABLE_END + 9), len(DATA) // 2, len(DATA) - 1]:
        with pytest.raises(ValueError, match=r"ends within its header|cannot have|not fit"):
            decode_tiles(DATA[:length])


def test_no_damage_in_header_and_table_goes_unnoticed():
    """A size of the same number of tiles is noticed by tiles that are not as large."""
    for place in range(TABLE_END):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(DATA)
            damaged[place] ^= flip
            with pytest.raises(ValueError, match=r"^[^\n]+$"):
                decode_tiles(bytes(damaged))


@given(st.integers(TABLE_END, len(DATA) - 1), st.integers(1, 255))
def test_no_damage_in_a_tile_does_more_than_raise(place, flip):
    damaged = bytearray(DATA)
    damaged[place] ^= flip
    with suppress(ValueError):
        assert decode_tiles(bytes(damaged)).shape == (150, 300, 3)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((0, 300), "300x0 pixels, want at least one"),
        ((150, 0), "0x150 pixels, want at least one"),
        ((2**32 - 1, 2**32 - 1), r"cannot have 1125899906842624 tiles"),
    ],
)
def test_an_impossible_size_is_refused(size, message):
    damaged = DATA[:8] + struct.pack("<II", *size) + DATA[16:]
    for decode in (decode_tiles, lambda data: decode_tiles_window(data, 0, 0, 1, 1)):
        with pytest.raises(ValueError, match=message):
            decode(damaged)
