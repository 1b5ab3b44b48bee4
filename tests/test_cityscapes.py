import shutil

import numpy as np
import pytest
from PIL import Image

from tests.raw_layouts import stripes, write_cityscapes, write_grey, write_image, write_png
from uda.classes import LABEL_IDS
from uda.data import DATASETS
from uda.data.cityscapes import Cityscapes
from uda.data.official import OfficialDataset
from uda.label_maps import prediction_files
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


def write_instances(root, ids, split="val"):
    file = label_file(root, split, "instanceIds")
    write_png(file, np.asarray(ids, np.uint16)[..., None], depth=16)
    return file


class TestTruth:
    """What evaluation reads: labels, without looking for images."""

    @pytest.fixture
    def root(self, tmp_path):
        return write_cityscapes(tmp_path, "val")

    def test_only_cityscapes_has_it(self):
        have = [name for name, raw in DATASETS.items() if isinstance(raw, OfficialDataset)]
        assert have == ["cityscapes"]

    @pytest.mark.parametrize("label", ["labelIds", "labelTrainIds"])
    def test_keys_need_no_images(self, tmp_path, label):
        root = write_cityscapes(tmp_path, "val", label=label)
        assert CITY.truth_keys(str(root), "val") == FRAMES
        shutil.rmtree(root / "leftImg8bit")
        assert CITY.truth_keys(str(root), "val") == FRAMES
        label_file(root, "val", label).unlink()
        assert CITY.truth_keys(str(root), "val") == FRAMES[1:]

    def test_ids_become_train_ids(self, root):
        shutil.rmtree(root / "leftImg8bit")
        truth = CITY.truth(str(root), "val", FRAMES[0])
        ids = np.array(Image.open(label_file(root, "val")))
        assert np.array_equal(truth.label_ids, ids)
        assert truth.instance_ids is None
        for train_id, raw in enumerate(LABEL_IDS):
            assert (truth.label[ids == raw] == train_id).all()
        assert (truth.label[~np.isin(ids, LABEL_IDS)] == 255).all()

    def test_instances_lie_beside(self, root):
        instances = 24_000 + np.arange(40 * 56).reshape(40, 56)
        write_instances(root, instances)
        truth = CITY.truth(str(root), "val", FRAMES[0])
        assert truth.instance_ids.dtype == np.int32
        assert np.array_equal(truth.instance_ids, instances)
        assert CITY.truth(str(root), "val", FRAMES[1]).instance_ids is None
        assert CITY.truth_keys(str(root), "val") == FRAMES

    def test_train_ids_alone(self, tmp_path):
        root = write_cityscapes(tmp_path, "val", label="labelTrainIds")
        write_instances(root, np.full((40, 56), 24_000))
        truth = CITY.truth(str(root), "val", FRAMES[0])
        ids = np.array(Image.open(label_file(root, "val", "labelTrainIds")))
        assert np.array_equal(truth.label, ids)
        assert truth.label_ids is truth.instance_ids is None

    def test_an_image_and_its_truth(self, root):
        image, truth = CITY.pair(str(root), "val", FRAMES[0])
        sample = CITY.load(str(root), "val", FRAMES[0])
        assert np.array_equal(image, sample.image)
        assert np.array_equal(truth.label, sample.label)
        assert truth.label_ids is not None
        write_grey(label_file(root, "val"), stripes([7], 39, 56))
        with pytest.raises(UserError, match=r"56x40 of .*leftImg8bit.png but 56x39 of .*labelIds"):
            CITY.pair(str(root), "val", FRAMES[0])
        label_file(root, "val").unlink()
        with pytest.raises(UserError, match=r"leftImg8bit.png: has no label, want .*labelIds.png"):
            CITY.pair(str(root), "val", FRAMES[0])

    @pytest.mark.parametrize("raw", [34, 255])
    def test_ids_that_there_are_not(self, root, raw):
        write_grey(label_file(root, "val"), stripes([7, raw], 40, 56))
        with pytest.raises(UserError, match=rf"labelIds.png: label: .*ids {raw} at 1120 pixels"):
            CITY.truth(str(root), "val", FRAMES[0])

    def test_instances_of_another_size(self, root):
        write_instances(root, np.full((40, 55), 24_000))
        want = r"56x40 of .*_labelIds.png but 55x40 of .*_instanceIds.png"
        with pytest.raises(UserError, match=want):
            CITY.truth(str(root), "val", FRAMES[0])

    def test_instances_beyond_the_table(self, root):
        write_instances(root, np.full((40, 56), 34_000))
        with pytest.raises(UserError, match=r"instanceIds.png: instances: got 34000, want 1000 \*"):
            CITY.truth(str(root), "val", FRAMES[0])

    def test_a_label_of_16_bits(self, root):
        write_png(label_file(root, "val"), np.full((40, 56, 1), 7, np.uint16), depth=16)
        with pytest.raises(UserError, match=r"labelIds.png: mode: got I;16, want ids: grey .* 8"):
            CITY.truth(str(root), "val", FRAMES[0])

    def test_instances_of_8_bits(self, root):
        write_grey(label_file(root, "val", "instanceIds"), stripes([7], 40, 56))
        with pytest.raises(UserError, match=r"instanceIds.png: mode: got L, want ids: grey .* 16"):
            CITY.truth(str(root), "val", FRAMES[0])

    @pytest.mark.parametrize("encoding", ["labelIds", "instanceIds"])
    def test_damage_is_named(self, root, encoding):
        write_instances(root, np.full((40, 56), 24_000))
        file = label_file(root, "val", encoding)
        data = bytearray(file.read_bytes())
        data[-20] ^= 1
        file.write_bytes(data)
        with pytest.raises(UserError, match=rf"{encoding}.png: does not decode"):
            CITY.truth(str(root), "val", FRAMES[0])

    def test_a_frame_without_label(self, root):
        with pytest.raises(UserError, match=r"ulm_1_2_gtFine_labelIds.png: is missing"):
            CITY.truth(str(root), "val", "ulm_1_2")

    @pytest.mark.parametrize("split", ["test", "train_extra"])
    def test_splits_without_labels(self, root, split):
        with pytest.raises(UserError, match=rf"got {split}, want one with labels: \['train', 'val"):
            CITY.truth_keys(str(root), split)
        with pytest.raises(UserError, match="want one of"):
            CITY.truth_keys(str(root), "night")

    def test_folders_without_labels(self, root):
        with pytest.raises(UserError, match=r"gtFine: got no folder train; have \['val'\]"):
            CITY.truth_keys(str(root), "train")
        (root / "gtFine" / "train").mkdir()
        with pytest.raises(
            UserError, match=r"got no labels, want CITY/CITY_\*_gtFine_labelIds.png"
        ):
            CITY.truth_keys(str(root), "train")
