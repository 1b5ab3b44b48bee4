import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from uda.data.codec import (
    IMAGE_CODECS,
    decode_image,
    decode_label,
    decode_window,
    encode_label,
    image_size,
)


def smooth(height: int, width: int) -> np.ndarray:
    """An image that JPEG hardly changes."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows % 256, columns % 256, (rows + columns) % 256], -1).astype(np.uint8) // 2


@pytest.mark.parametrize("name", IMAGE_CODECS)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (15, 17), (130, 200)])
def test_images_survive(name, height, width):
    image = smooth(height, width)
    data = IMAGE_CODECS[name](image)
    assert isinstance(data, bytes)
    assert image_size(data) == (height, width)
    for kept in (data, memoryview(data), memoryview(bytearray(data))):
        decoded = decode_image(kept)
        assert (decoded.shape, decoded.dtype) == (image.shape, np.uint8)
        loss = np.abs(decoded.astype(int) - image)
        assert loss.max() == 0 if name == "exact" else loss.mean() < 2
        top, left = height // 3, width // 2
        assert np.array_equal(
            decode_window(kept, top, left, height - top, width - left), decoded[top:, left:]
        )


@pytest.mark.parametrize("name", IMAGE_CODECS)
def test_encoding_is_deterministic_and_takes_any_array(name):
    image = smooth(50, 70)
    turned = image.transpose(1, 0, 2)  # not contiguous
    read_only = image.copy()
    read_only.flags.writeable = False
    assert IMAGE_CODECS[name](image) == IMAGE_CODECS[name](read_only)
    assert IMAGE_CODECS[name](turned) == IMAGE_CODECS[name](turned.copy())


@pytest.mark.parametrize("name", IMAGE_CODECS)
@pytest.mark.parametrize("keep", [0, 1, 3, 4, 30, 0.5, -1])
def test_cut_images_do_not_decode(name, keep):
    data = IMAGE_CODECS[name](np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    cut = data[: int(keep * len(data)) if isinstance(keep, float) else keep]
    for decode in (decode_image, lambda data: decode_window(data, 1, 1, 9, 9)):
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            decode(cut)


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(smooth(10, 10)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("data", [b"", b"\xff", b"poison", b"til", png()])
def test_other_bytes_are_no_image(data):
    for decode in (decode_image, image_size, lambda data: decode_window(data, 0, 0, 1, 1)):
        with pytest.raises(ValueError, match="neither a JPEG nor"):
            decode(data)


ALL_CLASSES = [*range(19), 255]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_labels_survive(height, width, seed):
    label = np.random.default_rng(seed).choice(ALL_CLASSES, (height, width)).astype(np.uint8)
    assert np.array_equal(decode_label(encode_label(label), height, width), label)
    turned = label.T  # not contiguous
    data = memoryview(encode_label(turned))
    assert np.array_equal(decode_label(data, width, height), turned)


def test_a_label_of_all_classes_and_one_of_a_single():
    label = np.array(ALL_CLASSES, np.uint8).reshape(4, 5).repeat(30, axis=0).repeat(40, axis=1)
    assert np.array_equal(decode_label(encode_label(label), 120, 200), label)
    assert len(encode_label(np.zeros((1000, 1000), np.uint8))) < 200


@pytest.mark.parametrize(("height", "width"), [(37, 52), (37, 54), (1, 1)])
def test_a_label_of_another_size_is_refused(height, width):
    data = encode_label(np.zeros((37, 53), np.uint8))
    with pytest.raises(ValueError, match="not zstd"):
        decode_label(data, height, width)


@pytest.mark.parametrize("data", [b"", b"poison", encode_label(np.zeros((2, 3), np.uint8))[:-1]])
def test_garbage_is_no_label(data):
    with pytest.raises(ValueError, match="not zstd"):
        decode_label(data, 2, 3)
