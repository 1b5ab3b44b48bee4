"""Images and truths from shards and from data sets as they are published."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from tests.raw_layouts import LAYOUTS, write_cityscapes, write_grey, write_png
from uda.data import DATASETS
from uda.data.examples import Examples, open_examples
from uda.data.prepare import prepare
from uda.evaluate import evaluate_predictions, total
from uda.types import UserError


@pytest.mark.parametrize("name", LAYOUTS)
def test_shards_and_raw_files_are_the_same_examples(name, tmp_path):
    layout, split = LAYOUTS[name], LAYOUTS[name].split
    root = layout.write(tmp_path / "raw")
    prepare(name, str(root), tmp_path / "shards", split, codec="exact", progress=False)
    raw, shards = open_examples(root, name, split), open_examples(tmp_path / "shards")
    assert isinstance(raw, Examples)
    assert isinstance(shards, Examples)
    assert list(raw.keys) == list(shards.keys)
    assert raw.class_list == shards.class_list
    assert (raw.path, shards.path) == (str(root), str(tmp_path / "shards"))
    again = pickle.loads(pickle.dumps(raw))
    for index in range(len(raw)):
        (image, truth), (stored, kept) = raw.pair(index), shards.pair(index)
        assert np.array_equal(image, stored)
        assert np.array_equal(truth.label, kept.label)
        assert np.array_equal(raw.truth(index).label, truth.label)
        assert np.array_equal(shards.truth(index).label, truth.label)
        assert np.array_equal(again.pair(index)[0], image)
        assert (truth.label_ids is not None) == (name == "cityscapes")
        assert kept.label_ids is None


def test_truths_need_no_images(tmp_path):
    root = write_cityscapes(tmp_path, "val")
    for file in (root / "leftImg8bit").rglob("*.png"):
        file.unlink()
    with pytest.raises(UserError, match=r"leftImg8bit"):
        open_examples(root, "cityscapes", "val").pair(0)
    examples = open_examples(root, "cityscapes", "val", images=False)
    assert len(examples) == 4
    assert examples.truth(0).label_ids.max() == 33


def test_mistakes_are_one_line(tmp_path):
    with pytest.raises(UserError, match=r"dataset: got 'kitti', want one of camvid, cityscapes"):
        open_examples(tmp_path, "kitti")
    with pytest.raises(UserError, match="split: got trainval"):
        open_examples(write_cityscapes(tmp_path / "a"), "cityscapes", "trainval")
    with pytest.raises(UserError, match="got a raw data set, want shards; or say --dataset"):
        open_examples(tmp_path / "a")
    (tmp_path / "b" / "leftImg8bit" / "val").mkdir(parents=True)
    (tmp_path / "b" / "gtFine" / "val").mkdir(parents=True)
    with pytest.raises(UserError, match=r"got no images, want CITY/CITY_\*_leftImg8bit\.png"):
        open_examples(tmp_path / "b", "cityscapes")
    with pytest.raises(UserError, match="got no labels"):
        open_examples(tmp_path / "b", "cityscapes", images=False)


@pytest.mark.parametrize("wrong_id", [34, 255])
def test_unknown_label_id_names_the_file(tmp_path, wrong_id):
    root = write_cityscapes(tmp_path, "val", count=1)
    label = next(root.rglob("*_labelIds.png"))
    write_grey(label, np.full((40, 56), wrong_id, np.uint8))
    with pytest.raises(UserError, match=rf"labelIds\.png: label: got unknown ids {wrong_id}"):
        open_examples(root, "cityscapes").pair(0)


def test_image_without_label_and_label_of_another_size(tmp_path):
    root = write_cityscapes(tmp_path, "val", count=2)
    labels = sorted(root.rglob("*_labelIds.png"))
    labels[0].unlink()
    write_grey(labels[1], np.zeros((20, 30), np.uint8))
    with pytest.raises(UserError, match=r"leftImg8bit\.png: has no label, want .*labelIds\.png"):
        open_examples(root, "cityscapes")  # before the work
    write_grey(labels[0], np.zeros((40, 56), np.uint8))
    with pytest.raises(UserError, match=r"size: got 56x40 of .* but 30x20 of"):
        open_examples(root, "cityscapes").pair(1)


def test_odd_instances_name_their_image(tmp_path):
    root = write_cityscapes(tmp_path, "val", count=1)
    label = next(root.rglob("*_labelIds.png"))
    file = Path(str(label).replace("labelIds", "instanceIds"))
    write_png(file, np.full((40, 56, 1), 7001), depth=16)
    examples = open_examples(root, "cityscapes")
    files = {examples.keys[0]: label}
    with pytest.raises(UserError, match=rf"{examples.keys[0]}: instances: got 7001"):
        total(evaluate_predictions(files, examples, [0]))


def test_every_data_set_can_be_named():
    assert set(LAYOUTS) <= set(DATASETS)
