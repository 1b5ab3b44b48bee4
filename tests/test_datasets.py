"""What holds for every data set that is read from files, on tiny ones in the published form."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.raw_layouts import LAYOUTS, write_grey
from uda.classes import CLASS_LISTS, CLASS_NAMES
from uda.data import DATASETS
from uda.data.raw import GeneratedDataset, RawDataset, check_content
from uda.types import Sample, UserError

# Raw id -> class, copied from the publications and independent of the readers' tables.
CITYSCAPES = {
    **dict.fromkeys([0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30], "ignore"),
    7: "road",
    8: "sidewalk",
    11: "building",
    12: "wall",
    13: "fence",
    17: "pole",
    19: "traffic light",
    20: "traffic sign",
    21: "vegetation",
    22: "terrain",
    23: "sky",
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}
PUBLISHED = {
    "camvid": {
        0: "sky",
        1: "building",
        2: "pole",
        3: "road",
        4: "sidewalk",
        5: "vegetation",
        6: "traffic sign",
        7: "fence",
        8: "car",
        9: "person",
        10: "bicycle",
        11: "ignore",
    },
    "cityscapes": CITYSCAPES,
    "folder": {0: "road", 1: "car", 7: "vegetation", 200: "ignore", 255: "sky"},
    "gta5": {**CITYSCAPES, 34: "ignore"},
    "synthia": {
        0: "ignore",
        1: "sky",
        2: "building",
        3: "road",
        4: "sidewalk",
        5: "fence",
        6: "vegetation",
        7: "pole",
        8: "car",
        9: "traffic sign",
        10: "person",
        11: "bicycle",
        12: "motorcycle",
        13: "ignore",
        14: "ignore",
        15: "traffic light",
        16: "terrain",
        17: "rider",
        18: "truck",
        19: "bus",
        20: "train",
        21: "wall",
        22: "ignore",
    },
}


class Case:
    """A tiny data set of one kind, and its first sample."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.raw, self.layout = name, DATASETS[name], LAYOUTS[name]
        self.root = self.layout.write(folder / "raw")
        self.image = self.layout.image_file(self.root)
        self.label = self.layout.label_file(self.root)

    def keys(self, split: str = "") -> list[str]:
        return self.raw.keys(str(self.root), split or self.layout.split)

    def load(self, key: str = "") -> Sample:
        return self.raw.load(str(self.root), self.layout.split, key or self.layout.key)

    def write_label(self, ids) -> None:
        self.layout.write_label(self.label, np.asarray(ids))


@pytest.fixture(params=LAYOUTS)
def case(request, tmp_path):
    return Case(request.param, tmp_path)


def test_every_data_set_that_is_read_has_a_layout_and_a_table_here():
    read = {name for name, raw in DATASETS.items() if not isinstance(raw, GeneratedDataset)}
    assert read == set(LAYOUTS) == set(PUBLISHED)
    assert isinstance(DATASETS["streets"], GeneratedDataset)


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_keeps_the_protocol(name, tmp_path):
    raw = DATASETS[name]
    root = str(LAYOUTS[name].write(tmp_path)) if name in LAYOUTS else "game"
    assert isinstance(raw, RawDataset)
    assert raw.name == name
    assert raw.domain(root) == ("game" if name == "streets" else name)
    assert raw.class_list(root) in CLASS_LISTS
    assert bool(raw.settings(root)) == (name in ("folder", "streets"))
    assert len(set(raw.splits(root))) == len(raw.splits(root)) > 0


def test_every_key_loads(case):
    keys = case.keys()
    assert keys == sorted(set(keys))
    assert len(keys) == len(list(case.root.glob(f"{Path(case.layout.image).parts[0]}/**/*.*g")))
    assert case.layout.key == keys[0]
    for key in keys:
        sample = case.load(key)
        assert sample.key == key
        assert sample.image.shape == (*sample.label.shape, 3) == (40, 56, 3)
        assert sample.label.flags.c_contiguous
        assert (case.root / sample.source_path).is_file()
        check_content(sample)


def test_the_image_is_that_of_the_file(case):
    sample = case.load()
    assert np.array_equal(sample.image, np.array(Image.open(case.image).convert("RGB")))
    assert sample.source_path == case.layout.image


def test_published_ids_become_their_classes(case):
    table = PUBLISHED[case.name]
    ids = np.zeros((40, 56), np.uint8)
    ids[:] = np.resize(list(table), 56)  # a column of each id
    case.write_label(ids)
    label = case.load().label
    for raw, name in table.items():
        got = set(label[ids == raw].tolist())
        assert got == {255 if name == "ignore" else CLASS_NAMES.index(name)}, (raw, name)


def test_every_other_id_is_an_error_that_names_it(case):
    table = PUBLISHED[case.name]
    for raw in set(range(256)) - set(table):
        ids = np.full((40, 56), min(table), np.uint8)
        ids[5, 7:10] = raw
        case.write_label(ids)
        with pytest.raises(UserError, match=rf"{case.layout.label}: .* ids {raw} at 3 pixels"):
            case.load()


def test_many_unknown_ids_are_listed_in_short(case):
    case.write_label(np.full((40, 56), 100) + np.arange(56))
    with pytest.raises(UserError, match=r"ids 100, 101, 102, 103, 104 and 51 more at 2240 pixels"):
        case.load()


def test_an_image_without_label_is_counted_and_says_so(case):
    keys = case.keys()
    case.label.unlink()
    assert case.keys() == keys
    with pytest.raises(UserError, match=f"{case.layout.image}: has no label, want .*{case.label}"):
        case.load()


def test_a_label_without_image_is_counted_and_says_so(case):
    keys = case.keys()
    case.image.unlink()
    assert case.keys() == keys
    with pytest.raises(UserError, match=f"{case.layout.label}: has no image, want .*/raw/"):
        case.load()
    case.label.unlink()
    assert case.keys() == keys[1:]
    with pytest.raises(UserError, match="is missing"):
        case.load()


def test_sizes_that_differ_are_both_named(case):
    case.write_label(np.full((39, 56), min(PUBLISHED[case.name])))
    want = f"56x40 of .*{case.layout.image} but 56x39 of .*{case.layout.label}"
    with pytest.raises(UserError, match=want):
        case.load()


@pytest.mark.parametrize("which", ["image", "label"])
@pytest.mark.parametrize("keep", [0, 20, 60, -14])
def test_cut_files_are_named(case, which, keep):
    file = getattr(case, which)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(UserError, match=rf"{getattr(case.layout, which)}: does not decode"):
        case.load()


@pytest.mark.parametrize("which", ["image", "label"])
def test_a_flipped_bit_of_a_png_is_found(case, which):
    """Only its checksum tells: many of these files decode, with some pixels wrong."""
    file = getattr(case, which)
    if file.suffix != ".png":
        return
    data = file.read_bytes()
    for place in range(40, len(data) - 12, max(1, len(data) // 50)):
        file.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(UserError, match=rf"{getattr(case.layout, which)}: does not decode"):
            case.load()


def test_text_named_like_an_image_is_no_image(case):
    case.image.write_text("<html>404</html>")
    with pytest.raises(UserError, match=r"does not decode: is no image of a known format$"):
        case.load()


def test_a_label_in_colours_is_refused(case):
    Image.fromarray(np.zeros((40, 56, 3), np.uint8)).save(case.label)
    with pytest.raises(UserError, match=rf"{case.layout.label}: .*(RGB|colours of 8 bits)"):
        case.load()


def test_an_image_of_16_bits_in_one_channel_is_refused(case):
    Image.fromarray(np.full((40, 56), 1000, np.uint16)).save(case.image, format="png")
    with pytest.raises(UserError, match=rf"{case.layout.image}: mode: got I;16"):
        case.load()


def test_other_files_are_no_samples(case):
    keys = case.keys()
    for file in (case.image, case.label):
        (file.parent / "notes.txt").write_text("not an image")
        shutil.copy(file, file.with_name(f"._{file.name}"))  # as some archive programs leave
        (file.parent / ".DS_Store").write_text("")
    assert case.keys() == keys


def test_a_wrong_split_lists_those_that_exist(case):
    with pytest.raises(UserError, match=r"split: got night, want one of \['\w+'.*\]$"):
        case.keys("night")


def test_no_such_root(case):
    with pytest.raises(UserError, match="nowhere: got no such folder"):
        case.raw.keys(str(case.root / "nowhere"), case.layout.split)


def test_folders_without_samples(case):
    for file in case.root.rglob("*.*g"):
        file.unlink()
    with pytest.raises(UserError, match=r"got no (images|frame)"):
        case.keys()


def some_sample(image=None, label=None, **options):
    draws = np.random.default_rng(0)
    noise = draws.integers(0, 256, (50, 60, 3), np.uint8)
    return Sample(key="k", image=noise if image is None else image, label=label, **options)


def test_blank_images_are_refused():
    image = np.full((50, 60, 3), (0, 128, 255), np.uint8)
    message = r"a/b.png: image: got one colour all over"
    with pytest.raises(UserError, match=message):
        check_content(some_sample(image, source_path="a/b.png"))
    image[10:12, 5:15] = 90  # 20 of 3000 pixels
    image[20:, :, 2] -= 4
    with pytest.raises(UserError, match=message):
        check_content(some_sample(image, source_path="a/b.png"))


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_dark_images_are_not_blank(channel):
    """A hundredth and a half of the pixels shows something, or a channel has a faint ramp."""
    image = np.zeros((50, 60, 3), np.uint8)
    image[:3, :15, channel] = 30
    check_content(some_sample(image))
    ramp = np.zeros((50, 60, 3), np.uint8)
    ramp[:, :, channel] = np.arange(60) // 10
    check_content(some_sample(ramp))


@pytest.mark.parametrize(("value", "name"), [(0, "road"), (18, "bicycle"), (255, "ignored")])
def test_labels_of_one_class_are_refused(value, name):
    label = np.full((50, 60), value, np.uint8)
    with pytest.raises(UserError, match=f"k: label: got {name} at every pixel"):
        check_content(some_sample(label=label))
    label[-1, -1] = 1
    check_content(some_sample(label=label))


def test_an_image_without_label_may_pass():
    check_content(some_sample())


def test_grey_labels_of_few_bits_do_not_pass_for_ids(case):
    """PIL stretches the values of grey PNGs of 1 bit to 0 and 255: no ids any more."""
    write_grey(case.label, np.zeros((40, 56)))
    Image.fromarray(np.eye(40, 56, dtype=bool)).save(case.label)
    with pytest.raises(UserError, match=rf"{case.layout.label}: (mode|label): got"):
        case.load()
