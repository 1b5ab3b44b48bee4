import io

import numpy as np
import pytest
from PIL import Image

from uda.data.codec import (
    IMAGE_CODECS,
    decode_image,
    decode_label,
    encode_jpeg,
    encode_label,
    encode_png,
    restart_interval,
)


def smooth(height: int, width: int) -> np.ndarray:
    """An image that JPEG hardly changes."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows % 256, columns % 256, (rows + columns) % 256], -1).astype(np.uint8) // 2


@pytest.mark.parametrize(
    ("width", "units"),
    [
        (2048, 8),  # 128 px, as everywhere where the width allows it
        (256, 8),
        (1914, 8),  # GTA5: 120 units
        (480, 10),  # 30 units: 10 divides them, 8 does not
        (960, 10),
        (720, 9),
        (272, 17),  # 17 units are prime: the whole row
        (16, 1),
        (1, 1),
    ],
)
def test_restart_interval(width, units):
    assert restart_interval(width) == units


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (16, 16), (37, 53), (128, 256), (360, 480), (33, 271), (50, 720)]
)
def test_image_index_points_at_the_restart_markers(height, width):
    data, index = encode_jpeg(smooth(height, width))
    units_per_row, rows = -(-width // 16), -(-height // 16)
    assert len(index) - 1 == units_per_row * rows // restart_interval(width)
    for number, offset in enumerate(index[1:-1]):
        assert data[offset] == 0xFF
        assert data[offset + 1] == 0xD0 + number % 8
    assert data[index[-1] :] == b"\xff\xd9"
    assert index == sorted(set(index))
    # The scan's header (class, table and spectral selection of 3 components) ends at index[0].
    assert data[index[0] - 14 : index[0] - 12] == b"\xff\xda"


def test_an_interval_decodes_on_its_own():
    """The promise behind `image_index`: cut one interval out, patch the size, decode it alone."""
    image = smooth(64, 512)
    data, index = encode_jpeg(image)
    number = 6  # 4 intervals of 128 px in a row: the second row's third
    header = bytearray(data[: index[0]])
    size = header.index(b"\xff\xc0") + 5
    header[size : size + 4] = (16).to_bytes(2) + (128).to_bytes(2)
    alone = decode_image(bytes(header) + data[index[number] + 2 : index[number + 1]] + b"\xff\xd9")
    whole = decode_image(data)[16:32, 256:384]
    # Chroma is interpolated across the border of an interval, so only the inside is equal.
    assert np.array_equal(alone[2:-2, 2:-2], whole[2:-2, 2:-2])


def test_jpeg_is_an_ordinary_jpeg_of_high_quality():
    image = smooth(90, 150)
    data, _ = encode_jpeg(image)
    opened = Image.open(io.BytesIO(data))
    assert (opened.format, opened.size) == ("JPEG", (150, 90))
    assert np.array_equal(np.array(opened), decode_image(data))
    assert np.abs(decode_image(data).astype(int) - image)[:, :, 1].mean() < 2


@pytest.mark.parametrize("shape", [(1, 1, 3), (37, 53, 3), (64, 128, 3)])
def test_png_keeps_every_value(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    data, index = encode_png(image)
    assert index == []
    assert np.array_equal(decode_image(data), image)
    assert np.array_equal(decode_image(memoryview(data)), image)


@pytest.mark.parametrize("name", IMAGE_CODECS)
def test_encoding_is_deterministic(name):
    image = smooth(50, 70)
    assert IMAGE_CODECS[name](image) == IMAGE_CODECS[name](image.copy())


@pytest.mark.parametrize("name", IMAGE_CODECS)
@pytest.mark.parametrize("keep", [0, 1, 30, 0.5])
def test_cut_images_do_not_decode(name, keep):
    data, _ = IMAGE_CODECS[name](np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    keep = int(keep * len(data)) if isinstance(keep, float) else keep
    with pytest.raises(ValueError, match=r"."):
        decode_image(data[:keep])


def test_labels_survive_and_small_ones_stay_small():
    label = np.random.default_rng(0).integers(0, 256, (37, 53), np.uint8)
    assert np.array_equal(decode_label(encode_label(label), 37, 53), label)
    turned = label.T  # not contiguous
    assert np.array_equal(decode_label(encode_label(turned), 53, 37), turned)
    assert len(encode_label(np.zeros((1000, 1000), np.uint8))) < 200


@pytest.mark.parametrize(("height", "width"), [(37, 52), (37, 54), (1, 1)])
def test_a_label_of_another_size_is_refused(height, width):
    data = encode_label(np.zeros((37, 53), np.uint8))
    with pytest.raises(ValueError, match="not zstd"):
        decode_label(data, height, width)


def test_garbage_is_no_label():
    with pytest.raises(ValueError, match="not zstd"):
        decode_label(b"poison", 2, 3)
