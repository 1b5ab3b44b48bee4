"""The official scores against loops over pixels, and against what the official program wrote."""

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests import reference
from uda.classes import LABEL_IDS, lookup_table
from uda.data.cityscapes import Cityscapes
from uda.data.raw import read_ids
from uda.metrics import Confusion
from uda.official import IdConfusion, InstanceCounts, official_scores
from uda.types import UserError

ROOT = Path(__file__).parent.parent
OFFICIAL = ROOT.parent / "shared" / "golden" / "cityscapes_eval"
GOLDEN = Path(__file__).parent / "golden" / "cityscapes_official.json"

TRAIN_IDS = lookup_table({raw: train_id for train_id, raw in enumerate(LABEL_IDS)})
OBJECTS = [24, 25, 26, 27, 28, 31, 32, 33]
# Few values, so that they meet: stuff, objects, ignored stuff, ignored objects.
SOME_IDS = [0, 3, 7, 9, 11, 24, 25, 26, 29, 30, 33]
SOME_INSTANCES = [0, 7, 24, 1000, 1001, 4003, 24000, 24001, 25999, 26007, 26008, 29001, 33999]
SHAPE = (5, 23)
ID_MAPS = hnp.arrays(np.uint8, SHAPE, elements=st.sampled_from(SOME_IDS))
ANY_MAPS = hnp.arrays(np.uint8, SHAPE, elements=st.integers(0, 33))
INSTANCE_MAPS = hnp.arrays(np.int32, SHAPE, elements=st.sampled_from(SOME_INSTANCES))


def striped_maps(seed: int, shape: tuple[int, int] = (61, 203)):
    """Prediction, label, instances in runs of 1 to 60 pixels; half of the objects are found."""
    draws = np.random.default_rng(seed)

    def runs(values):
        lengths = draws.integers(1, 61, math.prod(shape))
        drawn = draws.choice(values, lengths.size)
        return np.repeat(drawn, lengths)[: math.prod(shape)].reshape(shape)

    numbers = runs(np.arange(24000, 34000, 37))
    numbers = np.where(np.isin(numbers // 1000, [29, 30]), 29000, numbers)
    objects = runs([False, True])
    label = np.where(objects, numbers // 1000, runs(np.arange(34))).astype(np.uint8)
    instances = np.where(objects, numbers, label).astype(np.int32)
    prediction = np.where(runs([False, True]), label, runs(np.arange(34))).astype(np.uint8)
    return prediction, label, instances


def loops(prediction: np.ndarray, label: np.ndarray) -> np.ndarray:
    counts = np.zeros((34, 34), np.int64)
    for p, t in zip(prediction.ravel().tolist(), label.ravel().tolist(), strict=True):
        counts[t, p] += 1
    return counts


def assert_equal(got: Any, want: Any, where: str = "") -> None:
    """Same keys, same whole numbers, other numbers to 1e-12; None for NaN."""
    if isinstance(want, dict):
        assert got.keys() == want.keys(), where
        for key, value in want.items():
            assert_equal(got[key], value, f"{where}/{key}")
    elif want is None or (isinstance(want, float) and math.isnan(want)):
        assert got is None, where
    elif isinstance(want, float):
        assert got == pytest.approx(want, rel=0, abs=1e-12), where
    else:
        assert got == want, where


def expected_scores(images) -> dict[str, dict[str, float | None]]:
    """By the reference, for (prediction, label, instances) of each image."""
    pairs = [image[:2] for image in images]
    names = {k: name for name, k in official_scores(IdConfusion.empty(), None)["labels"].items()}
    categories = reference.CITYSCAPES_CATEGORIES
    nothing = dict.fromkeys(categories)
    return {
        "classScores": {names[k]: reference.official_iou(pairs, [k]) for k in range(34)},
        "categoryScores": {
            name: reference.official_iou(pairs, members) for name, members in categories.items()
        },
        "classInstScores": dict.fromkeys(names.values())
        | {names[k]: reference.official_instance_iou(images, [k], [k]) for k in OBJECTS},
        "categoryInstScores": nothing
        | {
            name: reference.official_instance_iou(
                images, [k for k in categories[name] if k in OBJECTS], categories[name]
            )
            for name in ("human", "vehicle")
        },
    }


def check_scores(images) -> None:
    ids = sum((IdConfusion.of(p, t) for p, t, _ in images), IdConfusion.empty())
    instances = sum((InstanceCounts.of(p, i) for p, _, i in images), InstanceCounts.empty())
    got = official_scores(ids, instances)
    want = expected_scores(images)
    assert_equal({name: got[name] for name in want}, want)
    for mean, scores in (
        ("averageScoreClasses", "classScores"),
        ("averageScoreInstClasses", "classInstScores"),
        ("averageScoreCategories", "categoryScores"),
        ("averageScoreInstCategories", "categoryInstScores"),
    ):
        valid = [score for score in want[scores].values() if score is not None]
        assert_equal(got[mean], float(np.mean(valid)) if valid else None, mean)
    labels = np.concatenate([label.ravel() for _, label, _ in images])
    for name, k in got["labels"].items():
        assert_equal(got["priors"][name], float((labels == k).mean()), name)
    json.dumps(got, allow_nan=False)


@given(ANY_MAPS, ANY_MAPS)
def test_counts_equal_reference(prediction, label):
    ids = IdConfusion.of(prediction, label)
    assert np.array_equal(ids.matrix, loops(prediction, label))
    assert ids.matrix.dtype == np.int64


@given(ID_MAPS, ID_MAPS, INSTANCE_MAPS, ID_MAPS, ID_MAPS, INSTANCE_MAPS)
def test_scores_equal_reference(p1, t1, i1, p2, t2, i2):
    check_scores([(p1, t1, i1), (p2, t2, i2)])


@pytest.mark.parametrize("seed", range(3))
def test_scores_of_runs_equal_reference(seed):
    check_scores([striped_maps(seed), striped_maps(seed + 10, (8, 40))])


@pytest.mark.parametrize("size", [1, 7, 8, 9, 64, 2**17 - 1, 2**17, 2**17 + 8, 2**17 + 13, 300_001])
def test_runs_that_end_anywhere(size):
    """Around the borders of words and of blocks."""
    draws = np.random.default_rng(size)
    longest = min(size, 50_000)
    maps = [np.repeat(draws.integers(0, 34, size), draws.integers(1, longest + 1, size))[:size]
            if size < 100 else
            np.repeat(draws.integers(0, 34, 9000), draws.integers(1, 200, 9000))[:size]
            for _ in range(2)]  # fmt: skip
    prediction, label = (np.resize(m, size).astype(np.uint8) for m in maps)
    want = np.bincount(label.astype(int) * 34 + prediction, minlength=34 * 34).reshape(34, 34)
    assert np.array_equal(IdConfusion.of(prediction, label).matrix, want)
    alike = np.full(size, 33, np.uint8)
    assert IdConfusion.of(alike, alike).matrix[33, 33] == size


def test_more_pixels_than_a_float_counts():
    zeros = np.zeros((4097, 4100), np.uint8)
    ids = IdConfusion.of(zeros + np.uint8(7), zeros)
    assert ids.matrix[0, 7] == ids.matrix.sum() == zeros.size > 2**24
    stripes = zeros.copy()
    stripes[:, ::2] = 7
    ids = IdConfusion.of(zeros, stripes)
    assert ids.matrix[0, 0] == ids.matrix[7, 0] == zeros.size // 2


@given(ANY_MAPS, ANY_MAPS)
def test_confusion_is_that_of_the_train_ids(prediction, label):
    got = IdConfusion.of(prediction, label).confusion
    want = Confusion.of(TRAIN_IDS[prediction], TRAIN_IDS[label])
    assert np.array_equal(got.matrix, want.matrix)
    assert np.array_equal(got.outside, want.outside)


def test_sums_do_not_depend_on_order_or_grouping():
    maps = [striped_maps(seed, (16, 200)) for seed in range(12)]
    ids = [IdConfusion.of(p, t) for p, t, _ in maps]
    instances = [InstanceCounts.of(p, i) for p, _, i in maps]
    whole = sum(instances, InstanceCounts.empty())
    scores = official_scores(sum(ids, IdConfusion.empty()), whole)
    assert scores["averageScoreInstClasses"] > 0
    for seed in range(5):
        order = random.Random(seed).sample(range(12), 12)
        cut = order[0] % 10 + 1
        halves = [
            [sum((counts[n] for n in part), type(counts[0]).empty()) for counts in (ids, instances)]
            for part in (order[:cut], order[cut:])
        ]
        total = halves[0][0] + halves[1][0], halves[0][1] + halves[1][1]
        assert total[1] == whole
        assert official_scores(*total) == scores


def test_parts_of_an_image_are_the_image_where_no_object_is_cut():
    prediction, _, instances = striped_maps(3)
    instances[31:] = np.where(instances[31:] > 1000, instances[31:] + 1, instances[31:])
    instances[31:][np.isin(instances[31:], instances[:31])] = 0
    parts = [InstanceCounts.of(prediction[s], instances[s]) for s in (slice(31), slice(31, None))]
    assert parts[0] + parts[1] == InstanceCounts.of(prediction, instances)


def test_one_third_of_a_car():
    """And the rest of it a caravan: as good as a car to its category."""
    prediction = np.uint8([[26, 29, 29, 26]])
    counts = InstanceCounts.of(prediction, np.int32([[26000, 26000, 26000, 26]]))
    car = OBJECTS.index(26)
    assert counts.num_instances == tuple(int(k == 26) for k in OBJECTS)
    assert counts.hit_share(car) == pytest.approx(1 / 3, rel=1e-15)
    assert counts.missed_share(car) == pytest.approx(2 / 3, rel=1e-15)
    assert counts.hit_share(car, by_category=True) == 1
    assert counts.missed_share(car, by_category=True) == 0
    scores = official_scores(IdConfusion.of(prediction, np.full((1, 4), 26, np.uint8)), counts)
    assert scores["classInstScores"]["car"] == pytest.approx(1 / 3, rel=1e-15)
    assert scores["categoryInstScores"]["vehicle"] == 1


def test_what_is_no_instance_counts_nowhere():
    instances = np.int32([[0, 24, 255, 999, 1000, 1001, 3005, 29001, 30999]])
    counts = InstanceCounts.of(np.full(instances.shape, 26, np.uint8), instances)
    assert counts == InstanceCounts.empty()


def test_without_instances_no_instance_score():
    prediction, label, _ = striped_maps(0)
    scores = official_scores(IdConfusion.of(prediction, label), None)
    assert set(scores["classInstScores"].values()) == {None}
    assert set(scores["categoryInstScores"].values()) == {None}
    assert scores["averageScoreInstClasses"] is scores["averageScoreInstCategories"] is None
    assert scores["averageScoreClasses"] > 0


@pytest.mark.parametrize("instances", [None, InstanceCounts.empty()])
def test_nothing_counted_has_no_score(instances):
    scores = official_scores(IdConfusion.empty(), instances)
    golden = json.loads(GOLDEN.read_text())
    assert scores.keys() == golden.keys() - {"about"}
    for name, value in scores.items():
        if name == "labels":
            assert value == golden["labels"]
        elif name == "confMatrix":
            assert np.array_equal(value, np.zeros((34, 34)))
        elif isinstance(value, dict):
            assert set(value.values()) == {None}
        else:
            assert value is None


def test_official_scores_from_official_counts():
    golden = json.loads(GOLDEN.read_text())
    got = official_scores(IdConfusion(np.array(golden["confMatrix"], np.int64)), None)
    for name in got:
        if "Inst" not in name:
            assert_equal(got[name], golden[name], name)


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="needs ../shared/golden/cityscapes_eval")
def test_official_result_from_official_pictures():
    ids, instances = IdConfusion.empty(), InstanceCounts.empty()
    cityscapes, root = Cityscapes(), str(OFFICIAL)
    keys = cityscapes.truth_keys(root, "val")
    assert len(keys) == 20
    for key in keys:
        truth = cityscapes.truth(root, "val", key)
        prediction = read_ids(OFFICIAL / "results" / f"{key}_pred.png")
        ids += IdConfusion.of(prediction, truth.label_ids)
        instances += InstanceCounts.of(prediction, truth.instance_ids)
    official = json.loads((OFFICIAL / "official_result.json").read_text())
    assert_equal(official_scores(ids, instances), official)


@pytest.mark.parametrize("to", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("wrong", [34, 63, 64, 255])
@pytest.mark.parametrize("size", [3, 8, 4001])
def test_ids_that_there_are_not(to, wrong, size):
    right, bad = np.full((2, size), 7, np.uint8)
    bad[-1] = wrong
    with pytest.raises(UserError, match=rf"^prediction: got id {wrong}, want Cityscapes ids 0..33"):
        IdConfusion.of(to(bad), to(right))
    with pytest.raises(UserError, match=rf"^label: got id {wrong}, want Cityscapes ids 0..33"):
        IdConfusion.of(to(right), to(bad))
    with pytest.raises(UserError, match=rf"^prediction: got id {wrong}, want 0..33"):
        InstanceCounts.of(to(bad), to(right.astype(np.int32)))


@pytest.mark.parametrize("wrong", [-1, 34000, 65535, 2**31 - 1])
def test_instances_that_there_are_not(wrong):
    instances = np.full((3, 5), 26001, np.int32)
    instances[1, 1] = wrong
    with pytest.raises(UserError, match=rf"^instances: got id {wrong}, want 0..33999$"):
        InstanceCounts.of(np.zeros((3, 5), np.uint8), instances)


@pytest.mark.parametrize(("wrong", "name"), [(7001, "road"), (23999, "sky"), (21000, "vegetation")])
def test_objects_of_a_class_without_objects(wrong, name):
    with pytest.raises(UserError, match=rf"got {wrong}, an object of {name}; have person, rider"):
        InstanceCounts.of(np.uint8([[0, 0]]), np.int32([[26001, wrong]]))


def test_maps_of_different_shapes():
    map_a, map_b = np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8)
    with pytest.raises(UserError, match=r"prediction: got shape \(2, 3\), want .* \(3, 2\)"):
        IdConfusion.of(map_a, map_b)
    with pytest.raises(UserError, match=r"prediction: got shape \(2, 3\), want .* \(3, 2\)"):
        InstanceCounts.of(map_a, map_b.astype(np.int32))


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.uint32, np.int64])
def test_any_integer_type_layout_and_tensor(dtype):
    prediction, label, instances = striped_maps(5)
    want_ids = IdConfusion.of(prediction, label).matrix
    want = InstanceCounts.of(prediction, instances)
    assert np.array_equal(IdConfusion.of(prediction.astype(dtype), label).matrix, want_ids)
    flat = np.asfortranarray(prediction.astype(dtype)), np.repeat(label, 2, axis=1)[:, ::2]
    assert np.array_equal(IdConfusion.of(*flat).matrix, want_ids)
    if dtype != np.int16:
        assert InstanceCounts.of(flat[0], np.asfortranarray(instances.astype(dtype))) == want
    read_only = instances.copy()
    read_only.flags.writeable = False
    assert InstanceCounts.of(prediction.T, read_only.T) == want
    assert InstanceCounts.of(torch.from_numpy(prediction), torch.from_numpy(instances)) == want
    tensors = torch.from_numpy(prediction), torch.from_numpy(label)
    assert np.array_equal(IdConfusion.of(*tensors).matrix, want_ids)
    assert np.array_equal(IdConfusion.of(tensors[0], label).matrix, want_ids)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_counts_on_a_gpu():
    prediction, label, instances = striped_maps(6)
    on_gpu = [torch.from_numpy(values).cuda() for values in (prediction, label, instances)]
    want = IdConfusion.of(prediction, label).matrix
    assert np.array_equal(IdConfusion.of(on_gpu[0], on_gpu[1]).matrix, want)
    assert np.array_equal(IdConfusion.of(on_gpu[0], label).matrix, want)
    assert InstanceCounts.of(on_gpu[0], on_gpu[2]) == InstanceCounts.of(prediction, instances)
    on_gpu[0][0, 0] = 34
    with pytest.raises(UserError, match="prediction: got id 34"):
        IdConfusion.of(on_gpu[0], on_gpu[1])


def test_empty_maps_count_nothing():
    nothing = np.zeros((0, 5), np.uint8)
    assert not IdConfusion.of(nothing, nothing).matrix.any()
    assert InstanceCounts.of(nothing, nothing.astype(np.int32)) == InstanceCounts.empty()
