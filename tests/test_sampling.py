import pickle

import numpy as np
import pytest

from uda.data.sampling import EpochPlan, SamplingConfig, rare_class_probabilities
from uda.data.shards import SampleStatistics
from uda.types import UserError

PIXELS = 10_000


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


def plan(kind="uniform", seed=0, source=STREETS, **options):
    return EpochPlan(source, SamplingConfig(kind=kind, **options), seed)


def test_uniform_shows_every_sample_once_per_epoch():
    items = plan(source=statistics(*[{0: 1}] * 7)).items(0, 70)
    epochs = [[item.sample for item in items[e * 7 : e * 7 + 7]] for e in range(10)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 5
    assert all(item.wanted_class == -1 for item in items)
    assert len({item.crop_seed for item in items}) == 70


@pytest.mark.parametrize("kind", ["uniform", "rare_class"])
def test_any_position_can_be_asked_for_alone(kind):
    whole = plan(kind).items(0, 50)
    for first in (49, 3, 17, 4):
        assert plan(kind).items(first, 1) == [whole[first]]
    again = plan(kind)
    assert again.items(20, 30) + again.items(0, 20) == whole[20:] + whole[:20]
    assert pickle.loads(pickle.dumps(again)).items(5, 9) == whole[5:14]


@pytest.mark.parametrize("kind", ["uniform", "rare_class"])
def test_a_position_far_away_costs_nothing(kind):
    assert len(plan(kind).items(10**12, 3)) == 3


@pytest.mark.parametrize("kind", ["uniform", "rare_class"])
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


def test_rare_class_draws_as_often_as_the_formula_says():
    items = plan("rare_class", temperature=0.5).items(0, 8000)
    pixels = STREETS.class_pixels.sum(axis=0)
    classes = [0, 1, 12, 17]  # 18 is shown by no image well enough
    want = rare_class_probabilities((pixels / pixels.sum())[classes], 0.5)
    got = [np.mean([item.wanted_class == c for item in items]) for c in classes]
    assert sum(got) == 1
    np.testing.assert_allclose(got, want, atol=4 * np.sqrt(0.25 / len(items)))


def test_rare_class_takes_all_images_that_show_the_class_alike():
    items = plan("rare_class", temperature=0.5).items(0, 4000)
    shown = {0: {0, 1, 2, 3}, 1: {0, 1, 3}, 12: {2}, 17: {0}}
    for c, images in shown.items():
        drawn = [item.sample for item in items if item.wanted_class == c]
        assert set(drawn) == images
        shares = np.bincount(drawn, minlength=4)[sorted(images)] / len(drawn)
        np.testing.assert_allclose(shares, 1 / len(images), atol=0.08)


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
    ],
)
def test_wrong_config(options, message):
    with pytest.raises(UserError, match=message):
        SamplingConfig(**options)
