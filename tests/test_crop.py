import cv2
import numpy as np
import pytest

from uda.data.codec import IMAGE_CODECS, decode_image, encode_label
from uda.data.crop import CropConfig, load_crop
from uda.data.rows import EncodedRow
from uda.data.sampling import PlanItem
from uda.types import UserError

HEIGHT, WIDTH = 60, 100


def position_image(height=HEIGHT, width=WIDTH):
    """Every pixel says where it is: red its row, green its column; blue is 200."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows, columns, np.full_like(rows, 200)], -1).astype(np.uint8)


def stored(pixels=None, **changes):
    """A row with the position image and the label map `pixels` (default: slanted stripes)."""
    image = position_image()
    pixels = (image[..., 0] // 10 + image[..., 1] // 10) % 19 if pixels is None else pixels
    values = {
        "key": "a",
        "image": IMAGE_CODECS["exact"](image),
        "label": encode_label(pixels.astype(np.uint8)),
        "height": image.shape[0],
        "width": image.shape[1],
        "where": "shard-00003.parquet row 5",
    }
    return EncodedRow(**(values | changes))


def crops(config, row=None, *, count=200, wanted=-1, labels=True):
    row = stored() if row is None else row
    return [load_crop(row, PlanItem(0, s, wanted), config, labels=labels) for s in range(count)]


def test_a_plain_crop_is_a_window_of_the_image_and_its_label():
    """Reference: read the window's corner from the pixels, then slice the original there."""
    image = position_image()
    label = (image[..., 0] // 10 + image[..., 1] // 10) % 19
    corners = set()
    for crop, got in crops(CropConfig(height=20, width=30, flip=0.0)):
        top, left = int(crop[0, 0, 0]), int(crop[0, 0, 1])
        assert np.array_equal(crop, image[top : top + 20, left : left + 30])
        assert np.array_equal(got, label[top : top + 20, left : left + 30])
        corners.add((top, left))
    tops, lefts = np.array(list(corners)).T
    assert (tops.min(), lefts.min()) <= (2, 3)  # all of the image is reached
    assert (tops.max(), lefts.max()) >= (HEIGHT - 22, WIDTH - 33)
    assert len(corners) > 150


def test_flip_turns_image_and_label_and_happens_as_often_as_asked():
    flips = 0
    for crop, label in crops(CropConfig(height=20, width=30, flip=0.3), count=600):
        flipped = bool(crop[0, 0, 1] > crop[0, -1, 1])
        flips += flipped
        assert np.array_equal(label, (crop[..., 0] // 10 + crop[..., 1] // 10) % 19)
    assert flips / 600 == pytest.approx(0.3, abs=0.08)


@pytest.mark.parametrize("scale", [0.4, 0.5, 0.8, 1.3, 2.0])
def test_scale_is_the_ratio_of_crop_to_image(scale):
    config = CropConfig(height=20, width=30, scale=(scale, scale), flip=0.0)
    for crop, label in crops(config, count=20):
        step = np.diff(crop[10, :, 1].astype(float)).mean()  # image columns per crop column
        assert step == pytest.approx(1 / scale, abs=0.06)
        assert crop.shape == (20, 30, 3)
        assert label.shape == (20, 30)
        assert not (label == 255).any()


@pytest.mark.parametrize("scale", [0.7, 1.6])
def test_image_and_label_stay_aligned_when_resized(scale):
    """Labels are vertical stripes of 10 columns; the image says which column it shows."""
    label = position_image()[..., 1] // 10
    config = CropConfig(height=20, width=30, scale=(scale, scale))
    for crop, got in crops(config, stored(label), count=50):
        inside = np.abs(crop[..., 1] % 10 - 4.5) < 3.6  # not at a stripe's edge
        assert np.array_equal(got[inside], crop[..., 1][inside] // 10)


def test_an_image_smaller_than_the_crop_is_padded_below_and_right():
    config = CropConfig(height=80, width=120, flip=0.0)
    (crop, label), *_ = crops(config, count=1)
    assert np.array_equal(crop[:HEIGHT, :WIDTH], position_image())
    assert not crop[HEIGHT:].any()
    assert not crop[:, WIDTH:].any()
    assert (label[HEIGHT:] == 255).all()
    assert (label[:, WIDTH:] == 255).all()
    assert (label[:HEIGHT, :WIDTH] != 255).all()


def test_an_image_that_scaling_makes_too_small_is_padded():
    config = CropConfig(height=20, width=60, scale=(0.5, 0.5), flip=0.0)
    for crop, label in crops(config, count=10):  # 30 x 50 after scaling
        assert (crop[:, :50, 2] == 200).all()
        assert not crop[:, 50:].any()
        assert (label[:, 50:] == 255).all()
        assert (label[:, :50] != 255).all()


def test_everything_random_follows_from_the_crop_seed():
    config = CropConfig(height=20, width=30, scale=(0.5, 2.0))
    first, again = crops(config, count=30), crops(config, count=30)
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(first, again, strict=True))
    assert len({a[0].tobytes() for a in first}) == 30


def test_a_crop_of_a_jpeg_is_cut_from_the_whole_and_then_resized():
    """As it would be if its pixels were stored one by one."""
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (110, 330, 3), np.uint8)
    jpeg = stored(np.zeros((110, 330)), image=IMAGE_CODECS["jpeg"](image), height=110, width=330)
    exact = stored(
        np.zeros((110, 330)),
        image=IMAGE_CODECS["exact"](decode_image(jpeg.image)),
        height=110,
        width=330,
    )
    for scale in ((1.0, 1.0), (0.7, 1.6), (0.2, 0.4)):
        config = CropConfig(height=40, width=60, scale=scale)
        for (a, _), (b, _) in zip(crops(config, jpeg), crops(config, exact), strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize(
    ("scale", "method"), [(0.4, cv2.INTER_AREA), (0.5, cv2.INTER_LINEAR), (1.7, cv2.INTER_LINEAR)]
)
def test_the_method_of_resizing(scale, method):
    """A crop as large as the scaled image is the whole image resized."""
    size = (round(WIDTH * scale), round(HEIGHT * scale))
    config = CropConfig(width=size[0], height=size[1], scale=(scale, scale), flip=0.0)
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    (crop, _), *_ = crops(config, stored(image=IMAGE_CODECS["exact"](image)), count=1)
    assert np.array_equal(crop, cv2.resize(image, size, interpolation=method))


def test_only_the_window_is_decoded():
    """The last tile of 256 x 256 pixels is damaged: crops that do not show it do not mind."""
    image = IMAGE_CODECS["exact"](position_image(256, 256))
    row = stored(np.zeros((256, 256)), image=image[:-9] + b"poisonous", height=256, width=256)
    config = CropConfig(height=20, width=30, flip=0.0)
    failed, shown = 0, 0
    for seed in range(40):
        try:
            crop, _ = load_crop(row, PlanItem(0, seed, -1), config, labels=False)
        except UserError:
            failed += 1
        else:
            shown += 1
            assert crop[-1, -1, 0] < 128 or crop[-1, -1, 1] < 128
    assert failed > 5
    assert shown > 5


def test_results_are_contiguous_uint8():
    for config in (CropConfig(height=HEIGHT, width=WIDTH), CropConfig(height=7, width=9)):
        for crop, label in crops(config, count=8):
            assert crop.flags.c_contiguous
            assert label.flags.c_contiguous
            assert (crop.dtype, label.dtype) == (np.uint8, np.uint8)


def test_the_wanted_class_is_searched_for():
    """Class 7 fills one corner; without the search a window rarely shows it."""
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    label[:15, :15] = 7
    config = CropConfig(height=20, width=20, wanted_tries=10, wanted_fraction=0.1)

    def rate(wanted):
        shown = [np.mean(got == 7) > 0.1 for _, got in crops(config, stored(label), wanted=wanted)]
        return np.mean(shown)

    plain = rate(-1)
    assert plain < 0.15
    # Ten independent tries: 1 - (1 - p)^10.
    assert rate(7) == pytest.approx(1 - (1 - plain) ** 10, abs=0.12)


def test_a_wanted_class_that_is_nowhere_gives_some_window():
    config = CropConfig(height=20, width=20)
    assert all(got.shape == (20, 20) for _, got in crops(config, wanted=18, count=5))


def test_the_target_needs_no_label_and_never_looks_for_a_class():
    config = CropConfig(height=20, width=30)
    unlabelled = crops(config, stored(label=None), count=20, labels=False, wanted=3)
    poisoned = crops(config, stored(label=b"poison"), count=20, labels=False)
    for (a, none), (b, _) in zip(unlabelled, poisoned, strict=True):
        assert none is None
        assert np.array_equal(a, b)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": b""}, "does not decode"),
        ({"image": IMAGE_CODECS["exact"](position_image(59))}, "100x59 pixels, want 100x60"),
        ({"label": None}, "has no label"),
        ({"label": b"poison"}, "does not decode"),
    ],
)
def test_a_damaged_row_is_named(changes, message):
    with pytest.raises(UserError, match=rf"^shard-00003.parquet row 5: a .*{message}"):
        crops(CropConfig(height=8, width=8), stored(**changes), count=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"height": 0}, "height, width: got 0, 512"),
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"scale": (2.0, 1.0)}, "scale"),
        ({"flip": 1.1}, "flip: got 1.1"),
        ({"wanted_tries": 0}, "wanted_tries: got 0"),
        ({"wanted_fraction": 2.0}, "wanted_fraction: got 2.0"),
    ],
)
def test_wrong_config(options, message):
    with pytest.raises(UserError, match=message):
        CropConfig(**options)
