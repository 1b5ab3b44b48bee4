from dataclasses import replace

import numpy as np
import pytest

from uda.data.codec import IMAGE_CODECS, encode_label
from uda.data.decode import decode_row, row_label, row_window
from uda.data.rows import EncodedRow
from uda.types import UserError

IMAGE = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
LABEL = np.random.default_rng(1).integers(0, 19, (32, 48)).astype(np.uint8)
ROW = EncodedRow(
    key="town_7",
    image=IMAGE_CODECS["exact"](IMAGE),
    label=encode_label(LABEL),
    height=32,
    width=48,
    where="shard-00003.parquet row 5",
)


def test_what_a_row_holds():
    image, label = decode_row(ROW)
    assert np.array_equal(image, IMAGE)
    assert np.array_equal(label, LABEL)
    assert np.array_equal(row_label(ROW), LABEL)
    assert np.array_equal(row_window(ROW, 3, 5, 20, 30), IMAGE[3:23, 5:35])


BAD_IMAGES = [
    ({"image": b""}, "neither a JPEG nor"),
    ({"image": b"\xff\xd8 no picture"}, "does not decode: the JPEG"),
    ({"image": ROW.image[:-1]}, "does not decode: the image's table"),
    ({"image": IMAGE_CODECS["jpeg"](IMAGE)[:-9]}, "does not decode: "),
    ({"image": IMAGE_CODECS["jpeg"](IMAGE[:16])}, "got 48x16 pixels, want 48x32"),
    ({"image": IMAGE_CODECS["exact"](IMAGE[:, :40])}, "got 40x32 pixels, want 48x32"),
]
BAD_LABELS = [
    ({"label": b"no label"}, "does not decode: the label is not zstd"),
    ({"height": 31}, "does not decode: the label is not zstd"),
    ({"label": None}, "has no label, want"),
]


def named(message: str) -> str:
    return rf"^shard-00003\.parquet row 5: town_7 [^\n]*{message}[^\n]*$"


@pytest.mark.parametrize(("change", "message"), BAD_IMAGES)
def test_a_row_with_a_bad_image_is_named(change, message):
    row = replace(ROW, **change)
    with pytest.raises(UserError, match=named(message)):
        row_window(row, 0, 0, 8, 8)
    with pytest.raises(UserError, match=named(message)):
        decode_row(row)
    assert np.array_equal(row_label(row), LABEL)


@pytest.mark.parametrize(("change", "message"), BAD_LABELS)
def test_a_row_with_a_bad_label_is_named(change, message):
    for decode in (row_label, decode_row):
        with pytest.raises(UserError, match=named(message)):
            decode(replace(ROW, **change))
