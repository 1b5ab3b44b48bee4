import numpy as np
import pytest
from PIL import Image

from tests.raw_layouts import (
    stripes,
    write_grey,
    write_palette,
    write_png,
    write_synthia,
    write_synthia_label,
)
from uda.classes import CLASS_LISTS
from uda.data.synthia import Synthia
from uda.types import UserError

SYNTHIA = Synthia()
CLASSES = stripes(range(23), 40, 56)


@pytest.fixture
def root(tmp_path):
    return write_synthia(tmp_path, count=2)


def label_file(root):
    return root / "GT" / "LABELS" / "0000000.png"


def load(root):
    return SYNTHIA.load(str(root), "all", "0000000").label


def test_pil_makes_every_class_void(root):
    """Why the reader does not use it; should PIL learn 16 bits, this says so."""
    with Image.open(label_file(root)) as image:
        assert image.mode == "RGB"
        assert (np.array(image)[:, :, 0] == 0).all()
    assert len(np.unique(load(root))) > 15


def test_instances_are_not_classes(root):
    want = load(root)
    instances = np.random.default_rng(0).integers(0, 2000, CLASSES.shape)
    write_png(label_file(root), np.stack([CLASSES, instances, instances], -1), depth=16)
    assert np.array_equal(load(root), want)


def test_the_class_is_the_first_channel_of_every_colour_type(root):
    write_synthia_label(label_file(root), CLASSES)
    want, rest = load(root), np.full_like(CLASSES, 7)
    for channels in ([CLASSES, rest], [CLASSES, rest, rest, rest], [CLASSES, rest, rest, 0 * rest]):
        write_png(label_file(root), np.stack(channels, -1), depth=16)
        assert np.array_equal(load(root), want)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_an_id_in_the_high_byte_is_not_lost(root, channels):
    classes = CLASSES.astype(np.uint16)
    classes[3, 4:9] = 256 + 3
    write_png(label_file(root), np.stack([classes] * channels, -1), depth=16)
    with pytest.raises(UserError, match=r"0000000.png: label: got unknown ids 259 at 5 pixels"):
        load(root)


def test_labels_in_another_encoding_say_what_they_may_be(root):
    file = label_file(root)
    write_grey(file, CLASSES)
    mapped = r"0000000.png: label: got one channel of 8 bits \(perhaps mapped to other ids already"
    with pytest.raises(UserError, match=mapped):
        load(root)
    write_palette(file, CLASSES)
    with pytest.raises(UserError, match="one channel of 8 bits"):
        load(root)
    write_png(file, CLASSES[:, :, None], depth=16)
    with pytest.raises(UserError, match="one channel of 16 bits"):
        load(root)
    write_png(file, np.stack([CLASSES] * 3, -1), depth=8)
    with pytest.raises(UserError, match=r"got colours of 8 bits \(perhaps of GT/COLOR\)"):
        load(root)
    Image.fromarray(CLASSES).save(file, format="tiff")
    with pytest.raises(UserError, match="got no PNG, want a PNG of several 16-bit channels"):
        load(root)


def test_its_classes_are_those_of_its_class_list(root):
    """Terrain, truck and train are in the table, and in no published image."""
    found = set(load(root).ravel().tolist()) - {255}
    assert found - {9, 14, 16} == set(CLASS_LISTS["synthia16"].scored)
    assert SYNTHIA.class_list(str(root)) == "synthia16"


def test_splits_are_blocks_of_a_hundred_frames(tmp_path):
    for kind in ("RGB", "GT/LABELS"):
        (tmp_path / kind).mkdir(parents=True)
        for number in range(9400):
            (tmp_path / kind / f"{number:07d}.png").touch()
    parts = {split: SYNTHIA.keys(str(tmp_path), split) for split in ("all", "train", "val")}
    assert sorted(parts["train"] + parts["val"]) == parts["all"]
    assert len(parts["all"]) == 9400
    assert parts["val"] == [f"{n:07d}" for n in range(9400) if str(n).zfill(7)[4] == "9"]


def test_missing_folders_are_named_with_what_exists(root):
    (root / "GT" / "LABELS").rename(root / "GT" / "COLOR")
    with pytest.raises(UserError, match=r"GT: got no folder LABELS; have \['COLOR'\]"):
        SYNTHIA.keys(str(root), "all")
