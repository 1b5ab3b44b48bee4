import numpy as np
import pytest
from PIL import Image

from tests.raw_layouts import stripes, write_cityscapes, write_grey, write_image
from uda.data.cityscapes import Cityscapes
from uda.evaluate import prediction_files
from uda.types import UserError

CITY = Cityscapes()
FRAMES = [
    "aachen_000000_000019",
    "aachen_000002_000019",
    "bad-honnef_000001_000019",
    "bad-honnef_000003_000019",
]


def label_file(root, split, encoding="labelIds"):
    return root / "gtFine" / split / "aachen" / f"{FRAMES[0]}_gtFine_{encoding}.png"


@pytest.mark.parametrize("split", ["train", "val", "test", "train_extra"])
def test_keys_are_the_names_of_frames(tmp_path, split):
    root = str(write_cityscapes(tmp_path, split))
    assert CITY.keys(root, split) == FRAMES
    assert CITY.splits(root) == ("train", "val", "test", "train_extra")


def test_predictions_of_the_official_naming_are_found(tmp_path):
    for frame in FRAMES:
        (tmp_path / f"{frame}_pred_labelIds.png").touch()
    found = prediction_files(tmp_path, FRAMES)
    assert [found[frame].name for frame in FRAMES] == [f"{f}_pred_labelIds.png" for f in FRAMES]


@pytest.mark.parametrize("split", ["test", "train_extra"])
def test_splits_without_usable_labels(tmp_path, split):
    """The dummies of `test` are not looked at: neither as labels nor as inputs to count."""
    root = write_cityscapes(tmp_path, split)
    (root / "gtFine" / split / "berlin").mkdir(parents=True)
    write_grey(
        root / "gtFine" / split / "berlin" / "berlin_0_0_gtFine_labelIds.png", stripes([0], 4, 4)
    )
    for key in CITY.keys(str(root), split):
        assert CITY.load(str(root), split, key).label is None
    assert len(CITY.keys(str(root), split)) == 4


def test_train_ids_are_read_where_label_ids_are_absent(tmp_path):
    root = write_cityscapes(tmp_path, "val", label="labelTrainIds")
    assert CITY.keys(str(root), "val") == FRAMES
    ids = np.array(Image.open(label_file(root, "val", "labelTrainIds")))
    assert set(ids.ravel()) == {*range(19), 255}
    assert np.array_equal(CITY.load(str(root), "val", FRAMES[0]).label, ids)


def test_label_ids_go_before_train_ids(tmp_path):
    """Both lie side by side once csCreateTrainIdLabelImgs has run; 8 is a sidewalk only in one."""
    root = write_cityscapes(tmp_path, "val")
    write_grey(label_file(root, "val"), stripes([7, 8], 40, 56))
    write_grey(label_file(root, "val", "labelTrainIds"), stripes([8, 7], 40, 56))
    assert CITY.keys(str(root), "val") == FRAMES
    assert np.array_equal(CITY.load(str(root), "val", FRAMES[0]).label, stripes([0, 1], 40, 56))


@pytest.mark.parametrize("raw", [19, 33, 254])
def test_label_ids_in_a_file_of_train_ids(tmp_path, raw):
    root = write_cityscapes(tmp_path, "val", label="labelTrainIds")
    write_grey(label_file(root, "val", "labelTrainIds"), stripes([0, raw], 40, 56))
    with pytest.raises(UserError, match=rf"labelTrainIds.png: .*unknown ids {raw} at 1120 pixels"):
        CITY.load(str(root), "val", FRAMES[0])


def test_a_frame_in_the_folder_of_another_city(tmp_path):
    root = write_cityscapes(tmp_path)
    file = root / "leftImg8bit" / "train" / "aachen" / "ulm_000000_000019_leftImg8bit.png"
    write_image(file, [0, 40, 56])
    with pytest.raises(UserError, match=r"aachen: got ulm_000000_000019, want only frames aachen_"):
        CITY.keys(str(root), "train")


def test_missing_folders_are_named_with_what_exists(tmp_path):
    root = write_cityscapes(tmp_path)
    with pytest.raises(UserError, match=r"leftImg8bit: got no folder val; have \['train'\]"):
        CITY.keys(str(root), "val")
    (root / "leftImg8bit" / "val").mkdir()
    with pytest.raises(UserError, match=r"gtFine: got no folder val; have \['train'\]"):
        CITY.keys(str(root), "val")
    with pytest.raises(UserError, match=r"got no folder leftImg8bit; have \['aachen'"):
        CITY.keys(str(root / "leftImg8bit" / "train"), "train")
