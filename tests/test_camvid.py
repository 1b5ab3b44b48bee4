import numpy as np
import pytest
from PIL import Image

from tests.camvid_like import write_camvid
from tests.raw_layouts import stripes, write_palette
from uda.classes import CLASS_LISTS
from uda.data.camvid import CamVid
from uda.types import UserError


@pytest.fixture
def root(tmp_path):
    return write_camvid(tmp_path, count=3, height=16, width=24)


def load(root, key="seq_000"):
    return CamVid().load(str(root), "train", key)


def test_its_classes_are_those_of_its_class_list(root):
    write_palette(root / "trainannot" / "seq_000.png", stripes(range(11), 16, 24))
    assert set(np.unique(load(root).label)) == set(CLASS_LISTS["camvid11"].scored)
    assert CamVid().class_list(str(root)) == "camvid11"


def test_a_palette_image_is_read_by_its_indices(root):
    ids = stripes(range(12), 16, 24)
    Image.fromarray(ids).save(root / "trainannot" / "seq_000.png")
    grey = load(root).label
    write_palette(root / "trainannot" / "seq_000.png", ids)
    assert np.array_equal(load(root).label, grey)


def test_a_grey_image_becomes_rgb(root):
    grey = np.arange(16 * 24, dtype=np.uint8).reshape(16, 24)
    (root / "train" / "seq_000.jpg").unlink()
    Image.fromarray(grey).save(root / "train" / "seq_000.png")
    sample = load(root)
    assert np.array_equal(sample.image, np.stack([grey] * 3, axis=-1))
    assert sample.source_path == "train/seq_000.png"


def test_two_images_of_one_name_are_one_sample_that_does_not_load(root):
    image = Image.open(root / "train" / "seq_001.jpg")
    image.save(root / "train" / "seq_001.png")
    assert CamVid().keys(str(root), "train") == ["seq_000", "seq_001", "seq_002"]
    with pytest.raises(UserError, match=r"seq_001.jpg: has the same name as seq_001.png, want one"):
        load(root, "seq_001")


def test_missing_folders_are_named_with_what_exists(root):
    camvid = CamVid()
    with pytest.raises(UserError, match=r"no folder val; have \['train', 'trainannot'\]"):
        camvid.keys(str(root), "val")
    (root / "val").mkdir()
    with pytest.raises(UserError, match="no folder valannot"):
        camvid.keys(str(root), "val")
    (root / "valannot").mkdir()
    with pytest.raises(UserError, match="got no images"):
        camvid.keys(str(root), "val")
