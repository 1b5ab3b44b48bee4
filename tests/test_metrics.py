"""Confusion against pixel-by-pixel references and against the official script's output."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from tests import reference
from uda.classes import CLASS_LISTS, CLASS_NAMES, IGNORE, LABEL_IDS, NUM_CLASSES
from uda.label_maps import read_prediction
from uda.metrics import Confusion
from uda.types import UserError

ROOT = Path(__file__).parent.parent
OFFICIAL = ROOT.parent / "shared" / "golden" / "cityscapes_eval"
CITYSCAPES = CLASS_LISTS["cityscapes19"]
CAMVID = CLASS_LISTS["camvid11"]

VALUES = [*range(NUM_CLASSES), IGNORE]
MAPS = hnp.arrays(np.uint8, (2, 6, 9), elements=st.sampled_from(VALUES))


def random_maps(seed: int, shape: tuple[int, ...] = (40, 50), num_classes: int = NUM_CLASSES):
    """A prediction and a label that agree about half of the time; both use 255 too."""
    random = np.random.default_rng(seed)
    values = np.array([*range(num_classes), IGNORE], np.uint8)
    label = random.choice(values, shape)
    prediction = np.where(random.random(shape) < 0.5, label, random.choice(values, shape))
    return prediction, label


@given(MAPS, MAPS)
def test_counts_equal_reference(prediction, label):
    expected = reference.confusion(prediction, label)
    confusion = Confusion.of(prediction, label)
    assert np.array_equal(confusion.matrix, expected[:, :NUM_CLASSES])
    assert np.array_equal(confusion.outside, expected[:, NUM_CLASSES])
    assert confusion.num_pixels == (label != IGNORE).sum()
    assert confusion.matrix.dtype == np.int64


@given(MAPS, MAPS, st.integers(0, 6), st.integers(0, 9))
def test_sum_of_parts_is_the_whole(prediction, label, row, column):
    parts = [
        (slice(None), slice(0, row)),
        (slice(None), slice(row, None), slice(0, column)),
        (slice(None), slice(row, None), slice(column, None)),
    ]
    total = sum((Confusion.of(prediction[p], label[p]) for p in parts), Confusion.empty())
    whole = Confusion.of(prediction, label)
    assert np.array_equal(total.matrix, whole.matrix)
    assert np.array_equal(total.outside, whole.outside)


@pytest.mark.parametrize("name", CLASS_LISTS)
@pytest.mark.parametrize("num_classes", [3, NUM_CLASSES])
def test_scores_equal_reference(name, num_classes):
    class_list = CLASS_LISTS[name]
    prediction, label = random_maps(len(name), num_classes=num_classes)
    confusion = Confusion.of(prediction, label)
    expected = reference.iou_by_class(prediction, label, class_list)
    got = confusion.iou(class_list)
    assert tuple(got) == class_list.scored
    np.testing.assert_allclose(list(got.values()), list(expected.values()), rtol=1e-12)
    assert confusion.miou(class_list) == pytest.approx(np.nanmean(list(expected.values())), 1e-12)
    merge = {255: -1, **{k: k for k in range(NUM_CLASSES)}, **class_list.merge}
    same = [
        merge[p] == merge[t]
        for p, t in zip(prediction.ravel().tolist(), label.ravel().tolist(), strict=True)
        if t != IGNORE
    ]
    assert confusion.pixel_accuracy(class_list) == pytest.approx(np.mean(same), rel=1e-12)


@pytest.mark.parametrize("name", CLASS_LISTS)
def test_merging_twice_changes_nothing_more(name):
    merged = Confusion.of(*random_maps(0)).merged(CLASS_LISTS[name])
    again = merged.merged(CLASS_LISTS[name])
    assert np.array_equal(merged.matrix, again.matrix)
    folded = list(CLASS_LISTS[name].merge)
    assert not merged.matrix[folded].any()
    assert not merged.matrix[:, folded].any()
    assert merged.num_pixels == Confusion.of(*random_maps(0)).num_pixels


@pytest.mark.parametrize("name", CLASS_LISTS)
def test_perfect_prediction_scores_one(name):
    _, label = random_maps(1)
    confusion = Confusion.of(label, label)
    assert confusion.miou(CLASS_LISTS[name]) == 1.0
    assert confusion.pixel_accuracy(CLASS_LISTS[name]) == 1.0


@pytest.mark.parametrize("name", CLASS_LISTS)
def test_nothing_labelled_has_no_score(name):
    nothing = np.full((4, 5), IGNORE, np.uint8)
    for confusion in (Confusion.empty(), Confusion.of(np.zeros_like(nothing), nothing)):
        assert confusion.num_pixels == 0
        assert math.isnan(confusion.miou(CLASS_LISTS[name]))
        assert math.isnan(confusion.pixel_accuracy(CLASS_LISTS[name]))
        assert all(math.isnan(value) for value in confusion.iou(CLASS_LISTS[name]).values())


def test_train_on_a_car_is_right_for_camvid_only():
    car, train = np.uint8([[13]]), np.uint8([[16]])
    confusion = Confusion.of(train, car)
    assert confusion.iou(CITYSCAPES)[13] == 0
    assert confusion.iou(CAMVID)[13] == 1


def test_prediction_outside_the_list_is_a_miss():
    """Truth: two cars. Predicted: one car, one terrain (not in SYNTHIA's list)."""
    confusion = Confusion.of(np.uint8([13, 9]), np.uint8([13, 13]))
    scores = confusion.iou(CLASS_LISTS["synthia16"])
    assert scores[13] == 0.5
    assert 9 not in scores
    assert confusion.miou(CLASS_LISTS["synthia16"]) == 0.5


def test_truth_outside_the_list_is_still_a_false_positive():
    """Truth: car, terrain. Predicted: car on both: the full matrix makes the car 1 of 2."""
    confusion = Confusion.of(np.uint8([13, 13]), np.uint8([13, 9]))
    assert confusion.iou(CLASS_LISTS["synthia16"])[13] == 0.5


def test_predicted_but_absent_class_scores_zero():
    confusion = Confusion.of(np.uint8([0, 16]), np.uint8([0, 0]))
    scores = confusion.iou(CITYSCAPES)
    assert (scores[0], scores[16]) == (0.5, 0.0)
    assert math.isnan(scores[1])
    assert confusion.miou(CITYSCAPES) == 0.25


def test_none_of_the_classes_is_a_miss_and_no_false_positive():
    confusion = Confusion.of(np.uint8([0, 255, 5]), np.uint8([0, 0, 255]))
    assert confusion.outside[0] == 1
    assert confusion.iou(CITYSCAPES)[0] == 0.5
    assert math.isnan(confusion.iou(CITYSCAPES)[5])
    assert confusion.pixel_accuracy(CITYSCAPES) == 0.5


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64, np.uint32])
def test_any_integer_type_and_layout(dtype):
    prediction, label = random_maps(2)
    expected = Confusion.of(prediction, label).matrix
    strided = np.repeat(prediction.astype(dtype), 2, axis=1)[:, ::2]
    transposed = np.asfortranarray(label)
    read_only = label.copy()
    read_only.flags.writeable = False
    assert np.array_equal(Confusion.of(strided, transposed).matrix, expected)
    assert np.array_equal(Confusion.of(prediction.astype(dtype), read_only).matrix, expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_tensors_count_like_arrays(dtype):
    prediction, label = random_maps(3)
    expected = Confusion.of(prediction, label).matrix
    tensors = torch.from_numpy(prediction).to(dtype), torch.from_numpy(label)
    assert np.array_equal(Confusion.of(*tensors).matrix, expected)
    assert np.array_equal(Confusion.of(tensors[0].T, tensors[1].T).matrix, expected)
    assert np.array_equal(Confusion.of(tensors[0], label).matrix, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_counts_on_a_gpu():
    prediction, label = random_maps(4, (1024, 2048))
    on_gpu = [torch.from_numpy(values).cuda() for values in (prediction, label)]
    expected = Confusion.of(prediction, label).matrix
    assert np.array_equal(Confusion.of(*on_gpu).matrix, expected)
    assert np.array_equal(Confusion.of(on_gpu[0].long(), on_gpu[1]).matrix, expected)


def test_empty_maps_count_nothing():
    nothing = np.zeros((0, 5), np.int64)
    assert Confusion.of(nothing, nothing).num_pixels == 0


@pytest.mark.parametrize(
    ("prediction", "label", "message"),
    [
        (np.uint8([0, 19]), np.uint8([0, 0]), "prediction: got value 19"),
        (np.uint8([0, 19]), np.uint8([0, 255]), "prediction: got value 19"),  # below ignored too
        (np.uint8([0, 1]), np.uint8([0, 33]), "label: got value 33"),
        (np.int64([0, -1]), np.uint8([0, 0]), "prediction: got values -1..0"),
        (np.uint8([0, 1]), np.int64([0, 256]), "label: got values 0..256"),
        (np.uint8([0, 1]), np.uint8([[0, 1]]), r"got shape \(2,\), want .* \(1, 2\)"),
    ],
)
def test_wrong_values_are_refused(prediction, label, message):
    with pytest.raises(UserError, match=message):
        Confusion.of(prediction, label)
    with pytest.raises(UserError, match=message):
        Confusion.of(torch.from_numpy(prediction), torch.from_numpy(label))


def test_logits_are_refused():
    with pytest.raises(TypeError, match="argmax"):
        Confusion.of(torch.rand(4), torch.zeros(4, dtype=torch.uint8))


def test_official_iou_from_official_counts():
    """IoU of every class from the 34x34 counts that the official script wrote."""
    golden = json.loads((Path(__file__).parent / "golden" / "cityscapes_official.json").read_text())
    counts = np.array(golden["confMatrix"], np.int64)
    ids = list(LABEL_IDS)
    others = [k for k in range(len(counts)) if k not in ids]
    matrix = counts[np.ix_(ids, ids)]
    outside = counts[np.ix_(ids, others)].sum(axis=1)
    assert outside.sum() > 0, "the golden data must exercise it"
    _assert_official(Confusion(matrix, outside), golden)


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="needs ../shared/golden/cityscapes_eval")
def test_official_iou_from_official_pictures():
    confusion = Confusion.empty()
    for truth in sorted((OFFICIAL / "gtFine").rglob("*_gtFine_labelIds.png")):
        name = truth.name.removesuffix("_gtFine_labelIds.png")
        shape = (1024, 2048)
        file = OFFICIAL / "results" / f"{name}_pred.png"
        prediction = read_prediction(file, "labelids", shape).train_ids
        label = np.array(Image.open(truth.with_name(f"{name}_gtFine_labelTrainIds.png")))
        assert np.array_equal(read_prediction(truth, "labelids", shape).train_ids, label)
        confusion += Confusion.of(prediction, label)
    official = json.loads((OFFICIAL / "official_result.json").read_text())
    counts = np.array(official["confMatrix"])[np.ix_(LABEL_IDS, LABEL_IDS)]
    assert np.array_equal(confusion.matrix, counts)
    _assert_official(confusion, official)


def _assert_official(confusion: Confusion, official: dict) -> None:
    scores = confusion.iou(CITYSCAPES)
    for train_id, name in enumerate(CLASS_NAMES):
        expected = official["classScores"][name]
        expected = float("nan") if expected is None else expected
        assert scores[train_id] == pytest.approx(expected, abs=1e-12, nan_ok=True), name
    mean = official["averageScoreClasses"]
    assert confusion.miou(CITYSCAPES) == pytest.approx(mean, abs=1e-12)
