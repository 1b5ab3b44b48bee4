"""The label table, its look-up tables, class lists and class counts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from uda.classes import (
    CLASS_LISTS,
    CLASS_NAMES,
    IGNORE,
    LABEL_IDS,
    NUM_CLASSES,
    PALETTE,
    ClassDistribution,
    lookup_table,
)

# Typed from the definition of Cityscapes (cityscapesScripts, labels.py), not from our table.
CITYSCAPES = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)),
    "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}


def test_table_is_that_of_cityscapes():
    assert tuple(CITYSCAPES) == CLASS_NAMES
    assert tuple(label_id for label_id, _ in CITYSCAPES.values()) == LABEL_IDS
    assert PALETTE[:NUM_CLASSES].tolist() == [list(color) for _, color in CITYSCAPES.values()]
    assert not PALETTE[NUM_CLASSES:].any()


def test_colors_differ():
    assert len({tuple(color) for color in PALETTE[: NUM_CLASSES + 1].tolist()}) == NUM_CLASSES + 1


def test_unknown_ids_become_ignore():
    table = lookup_table({7: 0, 33: 18, 0: IGNORE})
    assert table.dtype == np.uint8
    assert (table[7], table[33]) == (0, 18)
    assert set(np.delete(table, [7, 33]).tolist()) == {IGNORE}


@pytest.mark.parametrize("mapping", [{256: 0}, {-1: 0}, {7: 19}, {7: 254}, {7: -1}])
def test_lookup_table_refuses_ids_that_do_not_exist(mapping):
    with pytest.raises(ValueError, match="label table"):
        lookup_table(mapping)


@pytest.mark.parametrize("name", CLASS_LISTS)
def test_class_list_is_consistent(name):
    class_list = CLASS_LISTS[name]
    scored = set(class_list.scored)
    assert class_list.name == name
    assert list(class_list.scored) == sorted(scored)
    assert scored <= set(range(NUM_CLASSES))
    assert set(class_list.merge.values()) <= scored, "folds into a class that is not scored"
    assert not set(class_list.merge) & scored, "folds away a scored class"
    assert set(class_list.renamed) <= scored
    names = [class_list.class_name(k) for k in class_list.scored]
    assert len(set(names)) == len(names)


def test_sizes_of_class_lists():
    sizes = {name: len(class_list.scored) for name, class_list in CLASS_LISTS.items()}
    assert sizes == {"cityscapes19": 19, "synthia16": 16, "synthia13": 13, "camvid11": 11}


def test_synthia_lists_leave_out_the_right_classes():
    def left_out(name: str) -> set[str]:
        return {CLASS_NAMES[k] for k in range(NUM_CLASSES) if k not in CLASS_LISTS[name].scored}

    assert left_out("synthia16") == {"terrain", "truck", "train"}
    assert left_out("synthia13") == left_out("synthia16") | {"wall", "fence", "pole"}


def test_camvid_accounts_for_every_class():
    camvid = CLASS_LISTS["camvid11"]
    assert set(camvid.scored) | set(camvid.merge) == set(range(NUM_CLASSES))
    assert camvid.class_name(18) == "bicyclist"
    assert camvid.class_name(0) == "road"


LABELS = hnp.arrays(np.uint8, (5, 7), elements=st.sampled_from([*range(NUM_CLASSES), IGNORE]))


@given(LABELS, LABELS)
def test_class_distribution_counts_and_adds(first, second):
    together = ClassDistribution.of_label(np.concatenate([first, second]))
    added = ClassDistribution.of_label(first) + ClassDistribution.of_label(second)
    counted = [int((first == k).sum() + (second == k).sum()) for k in range(NUM_CLASSES)]
    assert together.pixels.tolist() == added.pixels.tolist() == counted
    assert (added + ClassDistribution.empty()).pixels.tolist() == counted
    if sum(counted):
        assert added.frequencies.sum() == pytest.approx(1)


def test_nothing_labelled_has_no_frequencies():
    label = np.full((3, 4), IGNORE, np.uint8)
    assert ClassDistribution.of_label(label).frequencies.tolist() == [0.0] * NUM_CLASSES
