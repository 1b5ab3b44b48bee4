"""Windows of JPEGs, always compared with Pillow's decoding of the whole image."""

import io
import re
import struct

import cv2
import numpy as np
import pytest
import simplejpeg
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.io import ImageReadMode
from torchvision.io import decode_jpeg as torchvision_decode

from uda.data import jpeg
from uda.data.jpeg import (
    decode_jpeg,
    decode_jpeg_window,
    encode_jpeg,
    jpeg_size,
    restart_interval,
)


def colours(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Blocks of wild colours and some noise: chroma differs wherever one looks."""
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 200, (-(-height // 3), -(-width // 3), 3))
    image = np.kron(blocks, np.ones((3, 3, 1), int))[:height, :width]
    return (image + random.integers(0, 56, image.shape)).astype(np.uint8)


def whole(data: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


def saved(image: np.ndarray, mode: str = "RGB", **options) -> bytes:
    """By Pillow, without an index."""
    file = io.BytesIO()
    Image.fromarray(image).convert(mode).save(file, "JPEG", **({"quality": 90} | options))
    return file.getvalue()


def segment(data: bytes) -> tuple[int, int]:
    """Where our application segment begins and ends."""
    start = data.index(b"\xff\xe9")
    return start, start + 2 + int.from_bytes(data[start + 2 : start + 4])


def without_index(data: bytes) -> bytes:
    start, end = segment(data)
    return data[:start] + data[end:]


def with_lengths(data: bytes, change) -> bytes:
    """The JPEG with the list of lengths in its index changed."""
    start, end = segment(data)
    lengths = np.frombuffer(data[start + 12 : end], ">u2").astype(int)
    return data[: start + 12] + change(lengths).astype(">u2").tobytes() + data[end:]


def scan_start(data: bytes) -> int:
    """Behind the scan's header, which has 12 bytes for three components."""
    return data.index(b"\xff\xda\x00\x0c") + 14


KINDS = {
    "index": encode_jpeg,
    "markers": lambda image: without_index(encode_jpeg(image)),
    "nothing": lambda image: saved(image, subsampling="4:2:0"),
    "a marker per unit": lambda image: saved(image, subsampling="4:2:0", restart_marker_blocks=1),
    "a marker per row": lambda image: saved(image, subsampling="4:2:0", restart_marker_rows=1),
    "two rows, no division": lambda image: saved(image, subsampling="4:2:0", restart_marker_rows=2),
    "extended": lambda image: encode_jpeg(image).replace(b"\xff\xc0", b"\xff\xc1", 1),
    "progressive": lambda image: saved(
        image, subsampling="4:2:0", progressive=True, restart_marker_blocks=2
    ),
    "4:4:4": lambda image: saved(image, subsampling="4:4:4", restart_marker_blocks=2),
    "4:2:2": lambda image: saved(image, subsampling="4:2:2", restart_marker_blocks=2),
    "grey": lambda image: saved(image, "L", restart_marker_blocks=2),
}


@pytest.mark.parametrize(
    ("width", "units"),
    [
        (2048, 4),  # 64 px, as everywhere where the width allows it
        (256, 4),
        (1914, 4),  # GTA5: 120 units
        (480, 5),  # 30 units: 5 divides them, 4 does not
        (720, 5),
        (32, 2),
        (544, 2),  # 34 units: 2 or 17
        (272, 17),  # 17 units are prime: the whole row
        (16, 1),
        (1, 1),
    ],
)
def test_restart_interval(width, units):
    assert restart_interval(width) == units


SIZES = [(1, 1), (15, 17), (16, 16), (37, 53), (128, 256), (33, 271), (50, 720)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_index_holds_the_lengths_of_the_restart_intervals(height, width):
    data = encode_jpeg(colours(height, width))
    scan = data[scan_start(data) :]
    ends = [match.end() for match in re.finditer(b"\xff[\xd0-\xd7\xd9]", scan)]
    start, end = segment(data)
    assert data[start + 4 : start + 12] == b"uda-rst\0"
    assert np.frombuffer(data[start + 12 : end], ">u2").tolist() == np.diff([0, *ends]).tolist()
    units = -(-width // 16) * -(-height // 16)
    assert len(ends) == units // restart_interval(width)
    assert ends[-1] == len(scan)


DECODERS = {
    "Pillow": whole,
    "OpenCV": lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB),
    "simplejpeg": lambda data: simplejpeg.decode_jpeg(data, colorspace="RGB"),
    "torchvision": lambda data: (
        torchvision_decode(torch.tensor(list(data), dtype=torch.uint8), mode=ImageReadMode.RGB)
        .permute(1, 2, 0)
        .numpy()
    ),
}


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_other_program_reads_it_as_if_there_were_no_index(decoder):
    data = encode_jpeg(colours(90, 150))
    pixels = DECODERS[decoder](data)
    assert pixels.shape == (90, 150, 3)
    assert np.array_equal(pixels, DECODERS[decoder](without_index(data)))
    assert np.array_equal(pixels, decode_jpeg(data))


def test_it_is_a_baseline_jpeg_of_high_quality():
    rows, columns = np.mgrid[0:90, 0:150]
    image = np.stack([rows, columns, (rows + columns) // 2], -1).astype(np.uint8)
    data = encode_jpeg(image)
    opened = Image.open(io.BytesIO(data))
    assert (opened.format, opened.size, opened.mode) == ("JPEG", (150, 90), "RGB")
    assert "progression" not in opened.info
    assert opened.info["jfif_version"] == (1, 1)
    assert np.abs(whole(data).astype(int) - image).mean() < 2


@st.composite
def windows(draw) -> tuple[int, int, int, int, int, int]:
    """Size of an image and a window in it; many touch the edges of image and intervals."""
    height, width = draw(st.integers(1, 80)), draw(st.integers(1, 300))
    spans = []
    for length, cell in ((height, 16), (width, 64)):
        near_edges = sorted({0, 1, cell - 1, cell, cell + 1, length - 1} & set(range(length)))
        first = draw(st.sampled_from(near_edges) | st.integers(0, length - 1))
        spans.append((first, draw(st.integers(1, length - first))))
    (top, rows), (left, columns) = spans
    return height, width, top, left, rows, columns


@pytest.mark.parametrize("kind", KINDS)
@given(windows())
def test_a_window_is_a_part_of_the_whole(kind, window):
    height, width, top, left, rows, columns = window
    data = KINDS[kind](colours(height, width))
    want = whole(data)
    assert jpeg_size(data) == (height, width)
    assert np.array_equal(decode_jpeg(data), want)
    got = decode_jpeg_window(memoryview(data), top, left, rows, columns)
    assert np.array_equal(got, want[top : top + rows, left : left + columns])


@pytest.mark.parametrize("kind", ["index", "a marker per unit"])
@pytest.mark.parametrize("width", [17, 18, 19, 20, 21, 132, 147])
def test_windows_of_few_pixels_anywhere(kind, width):
    """A last column of up to 4 px must not be decoded alone: libjpeg would not interpolate."""
    data = KINDS[kind](colours(34, width))
    want = whole(data)
    for left in range(width):
        for top, rows in ((0, 1), (14, 3), (16, 1), (31, 3)):
            for columns in {1, min(2, width - left)}:
                got = decode_jpeg_window(data, top, left, rows, columns)
                assert np.array_equal(got, want[top : top + rows, left : left + columns])


@pytest.mark.parametrize(("height", "width"), [(1052, 1914), (1024, 2048), (545, 1033)])
def test_crops_of_real_sizes(height, width):
    data = encode_jpeg(colours(height, width))
    want = whole(data)
    random = np.random.default_rng(0)
    corners = [(0, 0), (0, width - 512), (height - 512, 0), (height - 512, width - 512)]
    corners += [(random.integers(height - 511), random.integers(width - 511)) for _ in range(4)]
    for top, left in corners:
        got = decode_jpeg_window(data, int(top), int(left), 512, 512)
        assert np.array_equal(got, want[top : top + 512, left : left + 512])


@pytest.mark.parametrize("kind", ["index", "markers", "extended"])
def test_only_the_intervals_of_the_window_are_decoded(kind):
    data = KINDS[kind](colours(160, 640))
    inside = decode_jpeg_window(data, 33, 65, 30, 62)  # with one pixel around it: 32 x 64
    assert inside.base.shape == (32, 64, 3)
    assert decode_jpeg_window(data, 32, 64, 1, 1).base.shape == (32, 128, 3)
    assert decode_jpeg_window(data, 0, 0, 1, 1).base.shape == (16, 64, 3)
    assert decode_jpeg_window(data, 159, 639, 1, 1).base.shape == (16, 64, 3)


def test_cmyk():
    """No two programs agree on the last bit of this conversion."""
    data = saved(colours(40, 50), "CMYK")
    got = decode_jpeg_window(data, 3, 4, 20, 30).astype(int)
    assert np.abs(got - whole(data)[3:23, 4:34]).max() <= 2


def test_without_room_for_the_index_the_markers_are_searched(monkeypatch):
    image = colours(64, 256)
    bare = without_index(encode_jpeg(image))
    monkeypatch.setattr(jpeg, "_LARGEST_UINT16", 30)
    data = encode_jpeg(image)
    assert data == bare
    assert decode_jpeg_window(data, 33, 65, 10, 10).base.shape == (16, 64, 3)


@pytest.mark.parametrize(
    "window",
    [
        (0, 0, 41, 50),
        (0, 0, 40, 51),
        (-1, 0, 5, 5),
        (0, -1, 5, 5),
        (40, 0, 1, 1),
        (0, 0, 0, 5),
        (5, 5, 3, -2),
    ],
)
def test_a_window_outside_is_refused(window):
    with pytest.raises(ValueError, match=r"window: got .* want some inside 50x40 pixels"):
        decode_jpeg_window(encode_jpeg(colours(40, 50)), *window)


def reason(data: bytes, window: tuple[int, int, int, int]) -> str:
    """Why a damaged JPEG is refused; empty where the window could be had, in its right size."""
    try:
        pixels = decode_jpeg_window(data, *window)
    except ValueError as error:
        return str(error)
    assert pixels.shape == (*window[2:], 3)
    return ""


DATA = encode_jpeg(colours(64, 256))


@pytest.mark.parametrize("window", [(0, 0, 5, 5), (20, 70, 10, 20), (0, 0, 64, 256)])
def test_a_cut_jpeg_is_refused(window):
    for length in [*range(0, len(DATA), 37), len(DATA) - 1]:
        assert re.fullmatch(".+", reason(DATA[:length], window)), length


@pytest.mark.parametrize("window", [(20, 70, 10, 20), (0, 0, 64, 256)])
def test_no_damage_in_the_header_does_more_than_raise(window):
    reasons = []
    for place in range(scan_start(DATA)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(DATA)
            damaged[place] ^= flip
            reasons.append(reason(bytes(damaged), window))
    assert sum(map(bool, reasons)) > 300
    assert "\n" not in "".join(reasons)


@given(st.integers(scan_start(DATA), len(DATA) - 1), st.integers(1, 255))
def test_no_damage_in_the_scan_does_more_than_raise(place, flip):
    damaged = bytearray(DATA)
    damaged[place] ^= flip
    assert "\n" not in reason(bytes(damaged), (10, 60, 30, 100))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lengths: lengths + 1, "not as long as its index"),
        (lambda lengths: lengths * 0, "not as long as its index"),
        (lambda lengths: lengths * 0 + 65535, "not as long as its index"),
        (lambda lengths: lengths[::-1], "not where its index says"),
        (lambda lengths: lengths + np.resize([1, -1], lengths.shape), "not where its index says"),
        (lambda lengths: np.append(lengths[:-2], [lengths[-2:].sum(), 0]), "not where its index"),
    ],
)
def test_an_index_that_is_wrong_is_noticed(change, message):
    """All these windows end at the last interval, which each of the changes spoils."""
    with pytest.raises(ValueError, match=message):
        decode_jpeg_window(with_lengths(DATA, change), 50, 100, 14, 156)


def test_an_index_of_another_number_of_intervals_is_noticed():
    start, end = segment(DATA)
    shorter = DATA[: start + 2] + struct.pack(">H", end - start - 4) + DATA[start + 4 :]
    shorter = shorter[: end - 2] + shorter[end:]
    assert np.array_equal(whole(shorter), whole(DATA))
    with pytest.raises(ValueError, match="not as long as its index"):
        decode_jpeg_window(shorter, 0, 0, 5, 5)


def test_a_header_that_asks_for_all_memory_is_refused():
    frame = DATA.index(b"\xff\xc0") + 5
    huge = DATA[:frame] + struct.pack(">HH", 65500, 65500) + DATA[frame + 4 :]
    for decode in (decode_jpeg, jpeg_size, lambda data: decode_jpeg_window(data, 0, 0, 1, 1)):
        with pytest.raises(ValueError, match="65500x65500 in"):
            decode(huge)


@pytest.mark.parametrize("colour", [0, 255])
@pytest.mark.parametrize("options", [{}, {"progressive": True, "optimize": True}])
def test_images_of_one_colour_are_small_but_no_damage(colour, options):
    image = np.full((1000, 1000, 3), colour, np.uint8)
    for data in (encode_jpeg(image), saved(image, "L", **options), saved(image, **options)):
        assert np.array_equal(decode_jpeg(data), image)
