"""Statistics of images: whatever their order and grouping, the sum is the same to the bit."""

import pickle
from dataclasses import fields, replace
from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import reference_quality as reference
from uda.metrics import Confusion
from uda.quality.sample import PER_CLASS, PER_IMAGE, PixelSample
from uda.quality.statistics import FIXED, Evidence, SourceStatistics, Statistics
from uda.quality.subset import IMAGES, chosen_images

K = 19
SAMPLE_FIELDS = [field.name for field in fields(PixelSample)]


def random_sample(
    image: int, *, seed: int = 0, width: int = 6, per_class: int | None = None
) -> PixelSample:
    """Up to 24 pixels a class (a real image gives 8); classes 15 to 18 are in no image at all."""
    draws = np.random.default_rng([seed, image, 1])
    counts = draws.integers(0, 25, K) * (draws.random(K) < 0.6) * (np.arange(K) < 15)
    counts[[2, 3]] = [24, image % 2]  # one class that is everywhere, one that is rare
    if per_class is not None:
        counts[:] = per_class
    classes = np.repeat(np.arange(K, dtype=np.uint8), counts)
    lottery = draws.integers(2**63, size=len(classes)).astype(np.uint64)
    centres = np.random.default_rng(seed).normal(size=(K, width))
    logits = draws.normal(size=(len(classes), K)) + 2 * np.eye(K)[classes]
    order = np.lexsort((lottery, classes))
    return PixelSample(
        classes=classes,
        lottery=lottery[order],
        features=(centres[classes] + draws.normal(size=(len(classes), width))).astype(np.float16),
        probabilities=np.array([softmax(row) for row in logits]).reshape(-1, K).astype(np.float16),
    )


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(0))
    return powers / powers.sum(0)


def random_image(
    image: int, *, seed: int = 0, views: tuple[str, ...] = ("photometric", "flip", "small")
) -> Statistics:
    """What might be seen of one image; of its 5x7 grid, too, only some classes are predicted."""
    draws = np.random.default_rng([seed, image])
    grid = softmax(3 * draws.normal(size=(K, 5, 7)) - 9 * (draws.random((K, 1, 1)) < 0.3))
    entropy = sum(reference.entropy(grid[:, y, x]) for y, x in np.ndindex(5, 7))
    matrices = {name: draws.integers(0, 9, (K, K)) * draws.integers(0, 2, (K, 1)) for name in views}
    return Statistics(
        images=1,
        predicted=draws.integers(0, 200, K) * draws.integers(0, 2, K),
        positions=35,
        mass=(grid.sum((1, 2)) * FIXED).round().astype(np.int64),
        entropy=round(entropy * FIXED),
        views=matrices,
        sample=random_sample(image, seed=seed),
        impressions={image: (255 * grid).round().astype(np.uint8)},
    )


def added(parts: list[Statistics]) -> Statistics:
    return sum(parts, Statistics())


def plain(statistics: Statistics) -> dict[str, object]:
    """Every number of it by name, with the types of the arrays, for comparison to the bit."""
    values: dict[str, object] = {
        name: getattr(statistics, name) for name in ("images", "broken", "positions", "entropy")
    }
    arrays = {name: getattr(statistics, name) for name in ("predicted", "mass")}
    arrays |= {f"view {name}": counts for name, counts in statistics.views.items()}
    arrays |= {f"sample {name}": getattr(statistics.sample, name) for name in SAMPLE_FIELDS}
    arrays |= {f"image {number}": shown for number, shown in statistics.impressions.items()}
    return values | {k: (str(v.dtype), v.shape, v.tobytes()) for k, v in arrays.items()}


IMAGES_OF_ALL_KINDS = [
    *(random_image(n) for n in range(9)),
    random_image(9, views=("flip", "dropout")),
    Statistics(images=1, broken=1),
]
WHOLE = plain(added(IMAGES_OF_ALL_KINDS))


@st.composite
def trees(draw, leaves):
    """The sum of the leaves in a random order with random brackets."""
    parts = [IMAGES_OF_ALL_KINDS[n] for n in draw(st.permutations(leaves))]
    while len(parts) > 1:
        place = draw(st.integers(0, len(parts) - 2))
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts[0]


@given(trees(range(len(IMAGES_OF_ALL_KINDS))))
def test_any_order_and_grouping_gives_the_same_bits(statistics):
    assert plain(statistics) == WHOLE


def test_nothing_added_changes_nothing():
    one = IMAGES_OF_ALL_KINDS[0]
    for total in (one + Statistics(), Statistics() + one):
        assert plain(total) == plain(one)
    assert plain(Statistics() + Statistics()) == plain(Statistics())


def test_sums_are_those_of_the_parts():
    total = added(IMAGES_OF_ALL_KINDS)
    for name in ("images", "broken", "positions", "entropy"):
        assert getattr(total, name) == sum(getattr(part, name) for part in IMAGES_OF_ALL_KINDS)
    for k in range(K):
        assert total.predicted[k] == sum(int(p.predicted[k]) for p in IMAGES_OF_ALL_KINDS)
        assert total.mass[k] == sum(int(p.mass[k]) for p in IMAGES_OF_ALL_KINDS)
    assert (total.images, total.broken) == (11, 1)
    assert list(total.views) == ["dropout", "flip", "photometric", "small"]
    assert np.array_equal(total.views["dropout"], IMAGES_OF_ALL_KINDS[9].views["dropout"])
    assert total.mean_probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert 0 < total.mean_entropy < np.log(K)


def test_actors_that_see_no_image_add_nothing():
    source = SourceStatistics(seen=replace(random_image(3), impressions={}))
    total = sum([SourceStatistics(), source, SourceStatistics()], SourceStatistics())
    assert plain(total.seen) == plain(source.seen)


def test_an_image_that_is_seen_twice_is_refused():
    parts = [random_image(n) for n in (0, 1, 2)]
    with pytest.raises(AssertionError, match="an image was seen twice"):
        reduce(add, [*parts, random_image(1)])


# --- the sample --------------------------------------------------------------------------------


@pytest.mark.parametrize("num_images", [1, 6, 40])
def test_the_sample_is_the_lowest_numbers_of_each_class(num_images):
    parts = [random_sample(n) for n in range(num_images)]
    total = reduce(add, parts)
    columns = {name: np.concatenate([getattr(p, name) for p in parts]) for name in SAMPLE_FIELDS}
    chosen = reference.balanced(columns["classes"], columns["lottery"], PER_CLASS)
    for name in SAMPLE_FIELDS:
        assert np.array_equal(getattr(total, name), columns[name][chosen]), name
    assert len(total) <= K * PER_CLASS
    assert np.bincount(total.classes).max() == min(PER_CLASS, 24 * num_images)


def test_the_sample_is_uniform_over_images():
    """Of 100 images with 8 pixels each, about as many of every image are among the 128."""
    sample = random_sample(0, width=1, per_class=8)
    draws = np.random.default_rng(0)
    counts = np.zeros(100, int)
    for _ in range(4):
        kept = PixelSample()
        for image in range(100):
            lottery = draws.integers(2**63, size=len(sample)).astype(np.uint64)
            features = np.full_like(sample.features, image)
            kept += replace(sample, lottery=lottery, features=features)
        assert len(kept) == K * PER_CLASS
        counts += np.bincount(kept.features[:, 0].astype(int), minlength=100)
    mean = 4 * K * PER_CLASS / 100
    chi_square = float(((counts - mean) ** 2 / mean).sum())
    assert chi_square < 150, "99 degrees of freedom"


def test_a_balanced_part_of_the_sample():
    sample = reduce(add, (random_sample(n) for n in range(5)))
    part = sample.balanced(10)
    chosen = reference.balanced(sample.classes, sample.lottery, 10)
    for name in SAMPLE_FIELDS:
        assert np.array_equal(getattr(part, name), getattr(sample, name)[chosen])
    assert np.bincount(part.classes).max() == 10
    assert len(PixelSample().balanced(5)) == len(PixelSample()) == 0


def test_features_of_a_class_are_float32():
    sample = random_sample(2)
    of_second = sample.of(2)
    assert (of_second.dtype, of_second.shape) == (np.float32, (24, 6))
    assert np.array_equal(of_second, sample.features[sample.classes == 2].astype(np.float32))
    assert sample.of(255 - 1).shape == (0, 6)


def test_two_thousand_images_take_little_memory():
    """With impressions of full size and the features of a full-size decoder."""
    sample = random_sample(0, width=256, per_class=PER_IMAGE)
    draws = np.random.default_rng(0)
    shown = draws.integers(0, 256, (K, 32, 64), np.uint8)
    image = random_image(0)
    total, part = Statistics(), Statistics()
    for number in range(2000):
        lottery = draws.integers(2**63, size=len(sample)).astype(np.uint64)
        changed = replace(sample, lottery=lottery) if number % 10 == 0 else PixelSample()
        part += replace(image, sample=changed, impressions={number: shown + np.uint8(number % 7)})
        if number % 100 == 99:  # as an actor's chunk
            total, part = total + part, Statistics()
    assert total.images == len(total.impressions) == 2000
    assert len(total.sample) == K * PER_CLASS
    assert len(pickle.dumps(total)) < 200 * 2**20


# --- source and evidence -----------------------------------------------------------------------


def test_expected_classes_are_those_of_the_sources_labels():
    """Also one of which every pixel is predicted as something else, but not one only predicted."""
    matrix, outside = np.zeros((K, K), np.int64), np.zeros(K, np.int64)
    matrix[0, [0, 5]] = [6, 2]
    matrix[4, 0] = 1
    outside[7] = 1
    source = SourceStatistics(confusion=Confusion(matrix, outside))
    evidence = Evidence(target=Statistics(), source=source + SourceStatistics())
    assert evidence.expected.tolist() == [0, 4, 7]
    assert evidence.source.prior[[0, 4, 5, 7]].tolist() == [0.8, 0.1, 0, 0.1]


def test_nothing_seen_has_no_numbers():
    nothing = Statistics()
    assert np.isnan(nothing.mean_entropy)
    assert nothing.mean_probabilities.tolist() == [0] * K
    assert SourceStatistics().prior.tolist() == [0] * K


@pytest.mark.parametrize("have", [0, 1, IMAGES, IMAGES + 1, 2975])
def test_the_same_images_are_chosen_for_every_network(have):
    chosen = chosen_images(have)
    assert chosen == chosen_images(have) == sorted(set(chosen))
    assert len(chosen) == min(have, IMAGES)
    assert set(chosen) <= set(range(have))
    assert chosen_images(have, 3) == chosen_images(have, 3)[:3]
    assert set(chosen_images(have, 3)) <= set(chosen), "fewer are a part of more"


def test_chosen_images_come_from_all_of_them():
    counts = np.histogram(chosen_images(3000, 300), bins=6, range=(0, 3000))[0]
    assert counts.min() > 25
