import numpy as np
import pytest
from PIL import Image

from tests.camvid_like import write_camvid
from uda.classes import CLASS_LISTS, CLASS_NAMES
from uda.data import DATASETS
from uda.data.camvid import CamVid
from uda.data.raw import GeneratedDataset, RawDataset
from uda.types import UserError

# CamVid's own names with those of Cityscapes, written down independently of the table.
NAMES = {
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
}


@pytest.fixture
def root(tmp_path):
    return write_camvid(tmp_path, count=3, height=16, width=24)


def write_ids(root, ids, key="seq_000"):
    Image.fromarray(np.asarray(ids, np.uint8)).save(root / "trainannot" / f"{key}.png")


def load(root, key="seq_000"):
    return CamVid().load(str(root), "train", key)


def test_ids_become_train_ids(root):
    ids = np.zeros((16, 24), np.uint8)
    ids[0, :12] = range(12)
    write_ids(root, ids)
    sample = load(root)
    names = [CLASS_NAMES[t] for t in sample.label[0, :11]]
    assert names == list(NAMES.values())
    assert sample.label[0, 11] == 255
    assert sample.unknown_label_pixels == 0
    assert sorted(sample.label[0, :11].tolist()) == sorted(CLASS_LISTS["camvid11"].scored)


def test_ids_outside_the_table_are_counted_and_ignored(root):
    ids = np.full((16, 24), 3, np.uint8)
    ids[2, :5] = [12, 13, 100, 254, 255]
    write_ids(root, ids)
    sample = load(root)
    assert sample.unknown_label_pixels == 5
    assert (sample.label[2, :5] == 255).all()
    assert (sample.label == 255).sum() == 5


def test_a_palette_image_is_read_by_its_indices(root):
    ids = np.full((16, 24), 3, np.uint8)
    image = Image.fromarray(ids)
    image.putpalette([c for n in range(256) for c in (255 - n, n, 7)])
    image.save(root / "trainannot" / "seq_000.png")
    assert (load(root).label == 0).all()


def test_image_and_source(root):
    sample = load(root, "seq_001")
    want = np.array(Image.open(root / "train" / "seq_001.jpg").convert("RGB"))
    assert np.array_equal(sample.image, want)
    assert (sample.key, sample.source_path) == ("seq_001", "train/seq_001.jpg")


def test_a_grey_image_becomes_rgb(root):
    Image.fromarray(np.full((16, 24), 77, np.uint8)).save(root / "train" / "seq_000.jpg")
    assert load(root).image.shape == (16, 24, 3)


def test_keys_are_sorted(root):
    (root / "train" / "notes.txt").write_text("not an image")
    assert CamVid().keys(str(root), "train") == ["seq_000", "seq_001", "seq_002"]


def test_missing_folders_are_named_with_what_exists(root, tmp_path):
    camvid = CamVid()
    with pytest.raises(UserError, match=r"no folder val; have \['train', 'trainannot'\]"):
        camvid.keys(str(root), "val")
    with pytest.raises(UserError, match=r"split: got all, want one of \['train', 'val', 'test'\]"):
        camvid.keys(str(root), "all")
    with pytest.raises(UserError, match="no such folder"):
        camvid.keys(str(tmp_path / "nowhere"), "train")
    (root / "val").mkdir()
    with pytest.raises(UserError, match="no folder valannot"):
        camvid.keys(str(root), "val")
    (root / "valannot").mkdir()
    with pytest.raises(UserError, match="got no images"):
        camvid.keys(str(root), "val")


def test_sizes_that_differ_are_both_named(root):
    write_ids(root, np.zeros((8, 24)))
    with pytest.raises(UserError, match=r"24x16 of .*seq_000.jpg but 24x8 of .*seq_000.png"):
        load(root)


@pytest.mark.parametrize("name", ["train/seq_000.jpg", "trainannot/seq_000.png"])
@pytest.mark.parametrize("keep", [0, 20, 100])
def test_damaged_files_are_named(root, name, keep):
    file = root / name
    file.write_bytes(file.read_bytes()[: min(keep, file.stat().st_size - 30)])
    with pytest.raises(UserError, match=f"{name}: does not decode"):
        load(root)


def test_missing_files_are_named(root):
    (root / "trainannot" / "seq_000.png").unlink()
    with pytest.raises(UserError, match=r"trainannot/seq_000.png: is missing"):
        load(root)
    with pytest.raises(UserError, match=r"train/other.jpg: is missing"):
        load(root, "other")


def test_a_label_in_colour_is_refused(root):
    image = Image.fromarray(np.zeros((16, 24, 3), np.uint8))
    image.save(root / "trainannot" / "seq_000.png")
    with pytest.raises(UserError, match=r"seq_000.png: mode: got RGB"):
        load(root)


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_keeps_the_protocol(name):
    raw = DATASETS[name]
    assert isinstance(raw, RawDataset)
    assert raw.name == name
    assert raw.class_list in CLASS_LISTS
    assert raw.splits


def test_streets_is_generated_and_camvid_is_not():
    assert isinstance(DATASETS["streets"], GeneratedDataset)
    assert not isinstance(DATASETS["camvid"], GeneratedDataset)
