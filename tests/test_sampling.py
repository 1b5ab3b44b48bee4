import pickle
from collections import Counter
from math import e, sqrt

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from uda.data.codec import IMAGE_CODECS, encode_label
from uda.data.crop import CropConfig
from uda.data.crops import RowCrops
from uda.data.loader import CropLoader, Share
from uda.data.predictions import Predictions
from uda.data.rows import EncodedRow
from uda.data.sampling import (
    EpochPlan,
    PlanItem,
    PredictedTarget,
    SamplingConfig,
    rare_class_probabilities,
)
from uda.data.shards import SampleStatistics
from uda.types import UserError

PIXELS = 10_000
KINDS = ["uniform", "rare_class", "matched"]


def statistics(*images):
    """Statistics of images that are given as {class: pixels}."""
    class_pixels = np.zeros((len(images), 19), np.int64)
    for number, image in enumerate(images):
        for c, count in image.items():
            class_pixels[number, c] = count
    return SampleStatistics(
        class_pixels=class_pixels, pixels=np.full(len(images), PIXELS, np.int64)
    )


STREETS = statistics(
    {0: 6000, 1: 3000, 17: 600},
    {0: 7000, 1: 2000},
    {0: 5000, 12: 900, 17: 14},  # 14 pixels of class 17: less than min_fraction
    {0: 8000, 1: 1500, 18: 14},
)
SEEN = [{0: 900, 1: 300}, {0: 10, 12: 80, 17: 5}, {17: 40}, {5: 1}, {0: 1, 18: 3}]


def predicted_target(*images, seed=9):
    """Target images that a network divides like this; there are no labels."""
    unlabelled = statistics(*[{}] * len(images))
    return PredictedTarget(
        plan=EpochPlan(unlabelled, SamplingConfig(), seed),
        predictions=Predictions(
            class_pixels=statistics(*images).class_pixels, checkpoint="net", digest="0"
        ),
    )


def plan(kind="uniform", seed=0, source=STREETS, seen=SEEN, **options):
    target = predicted_target(*seen) if kind == "matched" else None
    predictions = "file.parquet" if kind == "matched" else ""
    config = SamplingConfig(kind=kind, predictions=predictions, **options)
    return EpochPlan(source, config, seed, target)


def assert_rates(drawn, want):
    """Each value was drawn as often as expected, within four standard errors.

    And two draws, because the number of times that something improbable happens is not normal.
    """
    counts = Counter(drawn)
    assert counts.keys() <= want.keys()
    assert sum(want.values()) == pytest.approx(1)
    for value, probability in want.items():
        expected = probability * len(drawn)
        error = sqrt(expected * (1 - probability))
        assert counts[value] == pytest.approx(expected, abs=4 * error + 2), value


def test_uniform_shows_every_sample_once_per_epoch():
    items = plan(source=statistics(*[{0: 1}] * 7)).items(0, 70)
    epochs = [[item.sample for item in items[e * 7 : e * 7 + 7]] for e in range(10)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 5
    assert all(item.wanted_class == -1 for item in items)
    assert len({item.crop_seed for item in items}) == 70


@pytest.mark.parametrize("kind", KINDS)
def test_any_position_can_be_asked_for_alone(kind):
    whole = plan(kind).items(0, 50)
    for first in (49, 3, 17, 4):
        assert plan(kind).items(first, 1) == [whole[first]]
    again = plan(kind)
    assert again.items(20, 30) + again.items(0, 20) == whole[20:] + whole[:20]
    assert pickle.loads(pickle.dumps(again)).items(5, 9) == whole[5:14]


@pytest.mark.parametrize("kind", KINDS)
def test_a_position_far_away_costs_nothing(kind):
    assert len(plan(kind).items(10**12, 3)) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_seeds_differ(kind):
    assert plan(kind, seed=1).items(0, 20) != plan(kind, seed=2).items(0, 20)


def test_formula_of_the_paper():
    """Written out naively in Python: P(c) = e^((1 - f_c) / T) / sum of these."""
    frequencies = np.array([0.5, 0.3, 0.15, 0.05])
    exponentials = [np.e ** ((1 - f) / 0.1) for f in frequencies]
    want = [e / sum(exponentials) for e in exponentials]
    np.testing.assert_allclose(rare_class_probabilities(frequencies, 0.1), want, rtol=1e-12)


def test_formula_does_not_overflow():
    probabilities = rare_class_probabilities(np.array([0.9, 0.1]), 1e-6)
    np.testing.assert_array_equal(probabilities, [0.0, 1.0])


def rare_class_rates(images, temperature, min_fraction):
    """P(class, image) by plain loops: P(c) of the paper, then each image that shows c alike.

    f_c = pixels of c / all labelled pixels;  P(c) = e^((1 - f_c) / T) / sum of these.
    """
    everything = sum(sum(image.values()) for image in images)
    weights, showing = {}, {}
    for c in range(19):
        showing[c] = [
            n for n, image in enumerate(images) if image.get(c, 0) >= min_fraction * PIXELS
        ]
        if showing[c]:
            frequency = sum(image.get(c, 0) for image in images) / everything
            weights[c] = e ** ((1 - frequency) / temperature)
    return {
        (c, n): weight / sum(weights.values()) / len(showing[c])
        for c, weight in weights.items()
        for n in showing[c]
    }


@pytest.mark.parametrize("temperature", [0.05, 0.5, 5.0])
def test_rare_class_draws_as_often_as_the_formula_says(temperature):
    images = [
        {0: 6000, 1: 3000, 17: 600},
        {0: 7000, 1: 2000},
        {0: 5000, 12: 900, 17: 14},
        {0: 8000, 1: 1500, 18: 14},
        {1: 200, 6: 50, 7: 300, 12: 20},
    ]
    drawn = plan("rare_class", source=statistics(*images), temperature=temperature).items(0, 8000)
    want = rare_class_rates(images, temperature, min_fraction=0.0015)
    assert {c for c, _ in want} == {0, 1, 6, 7, 12, 17}  # 18 is shown by no image well enough
    assert_rates([(item.wanted_class, item.sample) for item in drawn], want)


def test_min_fraction_decides_what_shows_a_class():
    items = plan("rare_class", temperature=10.0, min_fraction=0.0014).items(0, 2000)
    assert {item.wanted_class for item in items} == {0, 1, 12, 17, 18}
    assert {item.sample for item in items if item.wanted_class == 17} == {0, 2}


def test_a_class_left_out_does_not_take_the_others_along():
    """The rarest class is on no image well enough; at this temperature it had all probability."""
    items = plan("rare_class", temperature=1e-4, min_fraction=0.05).items(0, 100)
    assert {item.wanted_class for item in items} == {17}


@pytest.mark.parametrize("source", [statistics({}, {}), statistics({0: 14})])
def test_rare_class_needs_labels(source):
    with pytest.raises(UserError, match="rare_class: got no image"):
        plan("rare_class", source=source)


def matched_rates(images, seen, temperature):
    """P(i | t) = e^(BC / T) / sum of these, BC = sum_c sqrt(p_c q_c); images without labels: 0."""
    weights = {}
    for number, image in enumerate(images):
        if image:
            coefficient = 0.0
            for c in range(19):
                p = image.get(c, 0) / sum(image.values())
                q = seen.get(c, 0) / sum(seen.values())
                coefficient += sqrt(p * q)
            weights[number] = e ** (coefficient / temperature)
    return {number: weight / sum(weights.values()) for number, weight in weights.items()}


@pytest.mark.parametrize("temperature", [0.05, 0.3])
def test_matched_draws_as_often_as_the_formula_says(temperature):
    random = np.random.default_rng(0)
    images = [
        {int(c): int(random.integers(1, 900)) for c in random.choice(19, 6, replace=False)}
        for _ in range(12)
    ]
    images[4] = {}  # without labels
    drawn = plan("matched", source=statistics(*images), temperature=temperature).items(0, 5_000)
    shown = predicted_target(*SEEN).plan.items(0, 5_000)
    for t, seen in enumerate(SEEN):
        sources = [d.sample for d, s in zip(drawn, shown, strict=True) if s.sample == t]
        assert len(sources) == 1000
        assert_rates(sources, matched_rates(images, seen, temperature))
    assert all(item.wanted_class == -1 for item in drawn)
    assert len({item.crop_seed for item in drawn}) == 5_000


def test_matched_at_a_low_temperature_takes_the_most_similar_image():
    """And does not overflow. The third target image is like none: any will do."""
    images = [{0: 60, 1: 20}, {}, {12: 700, 17: 300}]
    seen = [{12: 7, 17: 4}, {0: 500, 1: 100}, {9: 3}]
    items = plan("matched", source=statistics(*images), seen=seen, temperature=1e-6).items(0, 600)
    shown = predicted_target(*seen).plan.items(0, 600)
    pairs = Counter((s.sample, item.sample) for s, item in zip(shown, items, strict=True))
    assert pairs.keys() == {(0, 2), (1, 0), (2, 0), (2, 2)}
    assert pairs[2, 0] == pytest.approx(100, abs=30)


def test_matched_needs_labels_of_the_source():
    with pytest.raises(UserError, match="matched: got no image with labels"):
        plan("matched", source=statistics({}, {}))


def test_matched_has_no_place_for_statistics_of_the_target():
    """Only what a network predicted fits in, and only for the images of the plan."""
    of_labels = statistics(*SEEN)
    unlabelled = EpochPlan(of_labels, SamplingConfig(), 0)
    with pytest.raises(TypeCheckError, match="predictions"):
        PredictedTarget(plan=unlabelled, predictions=of_labels)
    config = SamplingConfig(kind="matched", predictions="file.parquet")
    with pytest.raises(TypeCheckError, match="target"):
        EpochPlan(STREETS, config, 0, of_labels)
    with pytest.raises(AssertionError, match="predictions: got 2, want 5 as planned"):
        PredictedTarget(plan=unlabelled, predictions=predicted_target({0: 1}, {1: 1}).predictions)


@pytest.mark.parametrize("kind", KINDS)
def test_workers_share_one_stream(kind):
    one = [item for step in range(20) for item in shares(kind, step, world_size=1)]
    assert one == plan(kind).items(0, 80)
    for world_size in (2, 4):
        many = [item for step in range(20) for item in shares(kind, step, world_size)]
        assert many == one


def shares(kind, step, world_size):
    """What all workers draw in a step, each from a plan of its own."""
    items = []
    for rank in range(world_size):
        positions = Share(batch_size=4, rank=rank, world_size=world_size).positions(step)
        items += plan(kind).items(positions.start, len(positions))
    return items


class CornerRows:
    """Four images whose lower right corner shows classes 1, 12, 17 or 18; counts what is read."""

    def __init__(self):
        self.read = []

    def __len__(self):
        return 4

    def row(self, index):
        self.read.append(index)
        label = np.zeros((100, 100), np.uint8)
        label[80:, 80:] = (1, 12, 17, 18)[index]
        return EncodedRow(
            key=str(index),
            image=IMAGE_CODECS["exact"](np.full((100, 100, 3), index, np.uint8)),
            label=encode_label(label),
            height=100,
            width=100,
            where=f"row {index}",
        )


CROP = CropConfig(height=40, width=40, wanted_fraction=0.05)
CORNERS = statistics(*({0: 9600, c: 400} for c in (1, 12, 17, 18)))


def test_the_wanted_class_guides_the_crop():
    crops = RowCrops(CornerRows(), CROP, labels=True)
    items = plan("rare_class", source=CORNERS).items(0, 400)

    def rate(items, wanted):
        labels = [crops.crop(0, item)[1] for item in items]
        return np.mean(
            [(label == c).mean() > 0.05 for label, c in zip(labels, wanted, strict=True)]
        )

    wanted = [item.wanted_class for item in items]
    assert set(wanted) == {1, 12, 17, 18}
    unguided = rate([PlanItem(item.sample, item.crop_seed) for item in items], wanted)
    guided = rate(items, wanted)
    assert 0.02 < unguided < 0.15
    # Up to ten windows, each as likely to show it as an unguided one.
    assert guided == pytest.approx(1 - (1 - unguided) ** 10, abs=0.12)
    assert guided > 3 * unguided


@pytest.mark.parametrize("kind", KINDS)
def test_skipping_to_a_step_reads_nothing_and_gives_the_same(kind):
    def batches(first_step, count):
        rows = CornerRows()
        share, drawing = Share(batch_size=3), plan(kind, source=CORNERS)
        loader = CropLoader(RowCrops(rows, CROP, labels=True), drawing, CROP, share, labels=True)
        stream = loader.batches(first_step)
        return [next(stream) for _ in range(count)], rows.read

    whole, read = batches(0, 40)
    tail, read_of_tail = batches(37, 3)
    assert len(read) == 120
    assert read_of_tail == read[-9:]
    for batch, other in zip(tail, whole[37:], strict=True):
        assert np.array_equal(batch.images, other.images)
        assert np.array_equal(batch.labels, other.labels)


def test_no_samples():
    with pytest.raises(UserError, match="samples: got 0"):
        plan(source=statistics())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "random"}, "kind: got random, want one of"),
        ({"temperature": 0.0}, "temperature: got 0.0"),
        ({"temperature": float("nan")}, "temperature"),
        ({"min_fraction": 1.5}, "min_fraction: got 1.5"),
        ({"min_fraction": -0.1}, "min_fraction: got -0.1"),
        ({"kind": "matched"}, "predictions: got none with kind matched, want a file"),
        ({"predictions": "a.parquet"}, "predictions: got a.parquet with kind uniform"),
    ],
)
def test_wrong_config(options, message):
    with pytest.raises(UserError, match=message):
        SamplingConfig(**options)
