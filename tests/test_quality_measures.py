"""Measures of adaptation quality: against slow versions of them, and what they prefer."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tests import reference_quality as reference
from tests.test_quality_statistics import added, random_image
from uda.metrics import Confusion
from uda.quality import MEASURES, VIEWS, Evidence, SourceStatistics, Statistics, measure
from uda.quality.agreement import mean_of
from uda.quality.alignment import confusability, proximity
from uda.quality.certainty import certainty, information, nuclear_norm
from uda.quality.consistency import balanced_iou, consistency
from uda.quality.density import density, separation
from uda.quality.prior import DEAD_ZONE, coverage, prior_fit
from uda.quality.sample import PixelSample
from uda.quality.statistics import FIXED

K = 19
CLOSE = {"rel": 1e-4, "abs": 1e-5, "nan_ok": True}  # features are float32 there


def random_source(seed: int, num_images: int = 4) -> SourceStatistics:
    """Labelled images of some of the classes, a few pixels predicted as none of the 19."""
    draws = np.random.default_rng([seed, 7])
    labelled = draws.random(K) < 0.7
    matrix = draws.integers(0, 50, (K, K)) * labelled[:, None]
    confusion = Confusion(matrix, draws.integers(0, 5, K) * labelled)
    images = [random_image(100 * seed + 50 + n, views=()) for n in range(num_images)]
    return SourceStatistics(seen=replace(added(images), impressions={}), confusion=confusion)


def random_evidence(seed: int, num_images: int = 4) -> Evidence:
    images = [random_image(100 * seed + n) for n in range(num_images)]
    others = [random_image(100 * seed + n, seed=1).impressions for n in range(1, num_images)]
    ensemble = {image: shown for member in others for image, shown in member.items()}
    return Evidence(target=added(images), source=random_source(seed), ensemble=ensemble)


def of_class(sample: PixelSample, k: int) -> np.ndarray:
    return sample.features[sample.classes == k].astype(np.float64)


def expected_measures(evidence: Evidence) -> dict[str, float]:
    """All by the slow versions, from the raw numbers of the evidence."""
    target, confusion = evidence.target, evidence.source.confusion
    pixels = confusion.matrix.sum(1) + confusion.outside
    prior = pixels / pixels.sum()
    classes = [k for k in range(K) if pixels[k]]
    sample = target.sample
    rows = sample.probabilities.astype(np.float64)
    chosen = {n: reference.balanced(sample.classes, sample.lottery, n) for n in (32, 64)}
    mean = target.mass / FIXED / target.positions
    mean_entropy = target.entropy / FIXED / target.positions
    source, aligned = ({k: of_class(s, k) for k in classes}
                       for s in (evidence.source.seen.sample, sample))  # fmt: skip
    return {
        "consistency": reference.consistency(list(target.views.values()), classes),
        **{
            f"consistency_{name}": reference.balanced_iou(target.views[name], classes)
            if name in target.views
            else math.nan
            for name in VIEWS
        },
        "agreement": reference.agreement(target.impressions, evidence.ensemble, classes),
        "density": reference.density(rows[chosen[64]]),
        "separation": reference.separation(
            sample.features.astype(np.float64), sample.classes, classes
        ),
        "confusability": reference.by_class(reference.confusability, source, aligned),
        "proximity": reference.by_class(
            lambda s, t: math.exp(-max(0.0, reference.squared_mmd(s, t)) / 0.5), source, aligned
        ),
        "prior_fit": reference.prior_fit(target.predicted / target.predicted.sum(), prior),
        "coverage": reference.coverage(target.predicted, prior),
        "certainty": 1 - mean_entropy / math.log(K),
        "information": (reference.entropy(mean) - mean_entropy) / math.log(K),
        "nuclear_norm": reference.nuclear_norm(rows[chosen[32]]),
        "source_miou": reference.miou(confusion.matrix, confusion.outside),
    }


@pytest.mark.parametrize("seed", range(3))
def test_every_measure_is_that_of_its_definition(seed):
    evidence = random_evidence(seed)
    expected = expected_measures(evidence)
    assert expected.keys() == MEASURES.keys()
    assert measure(evidence) == {k: pytest.approx(v, **CLOSE) for k, v in expected.items()}


def test_the_random_evidence_has_every_case():
    """Unseen and unexpected classes, one with too few pixels, a view that was not looked at."""
    evidence = random_evidence(0)
    sampled = set(evidence.target.sample.classes.tolist())
    classes = set(evidence.expected.tolist())
    assert classes - sampled
    assert sampled - classes
    counts = [len(of_class(evidence.target.sample, k)) for k in classes]
    assert any(0 < n < 8 for n in counts)
    assert np.bincount(evidence.target.sample.classes).max() > 64
    assert set(VIEWS) - evidence.target.views.keys()
    assert 0 < len(evidence.ensemble) < len(evidence.target.impressions)


@pytest.mark.parametrize("seed", range(3))
def test_measures_lie_between_nought_and_one(seed):
    for name, value in measure(random_evidence(seed, num_images=2)).items():
        assert math.isnan(value) or -1e-6 <= value <= 1 + 1e-6, name


@pytest.mark.parametrize("name", MEASURES)
def test_the_order_of_images_is_not_seen(name):
    images = [random_image(n) for n in range(5)]
    ensemble = {n: random_image(n, seed=1).impressions[n] for n in range(5)}
    values = set()
    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 4, 0, 3, 1]):
        target = added([images[n] for n in order])
        backwards = {n: ensemble[n] for n in order}
        evidence = Evidence(target=target, source=random_source(0), ensemble=backwards)
        values.add(repr(MEASURES[name](evidence)))
    assert len(values) == 1, "to the last bit"


# --- what each prefers -------------------------------------------------------------------------


def clusters(seed: int, *, spread: float, shift: float = 0.0, num_classes: int = 4) -> PixelSample:
    """40 pixels per class about a centre of its own, moved by `shift` in one more direction."""
    draws = np.random.default_rng(seed)
    classes = np.repeat(np.arange(num_classes, dtype=np.uint8), 40)
    features = np.eye(8)[classes] + spread * draws.normal(size=(len(classes), 8))
    features[:, 7] += shift
    logits = 8 * np.eye(K)[classes] + 8 * spread * draws.normal(size=(len(classes), K))
    powers = np.exp(logits)
    return PixelSample(
        classes=classes,
        lottery=draws.permutation(len(classes)).astype(np.uint64),
        features=features.astype(np.float16),
        probabilities=(powers / powers.sum(1, keepdims=True)).astype(np.float16),
    )


def doubtful(sample: PixelSample) -> PixelSample:
    """Half of every pixel's probabilities spread over all classes."""
    mixed = sample.probabilities / 2 + np.float16(0.5 / K)
    return replace(sample, probabilities=mixed.astype(np.float16))


def seen(sample: PixelSample, *, shares: list[float], doubt: float = 0.0) -> Statistics:
    """Predictions of these shares; `doubt` is the part of the probabilities that is spread out."""
    mean = np.zeros(K)
    mean[: len(shares)] = shares
    mean = (1 - doubt) * mean + doubt / K
    own = np.full(K, doubt / K)
    own[0] += 1 - doubt
    return Statistics(
        images=1,
        predicted=np.array([round(1000 * share) for share in shares] + [0] * (K - len(shares))),
        positions=1000,
        mass=(mean * 1000 * FIXED).round().astype(np.int64),
        entropy=round(1000 * FIXED * reference.entropy(own)),
        sample=sample,
    )


def evidence_of(target: Statistics, source: PixelSample | None = None) -> Evidence:
    """Four classes are expected, alike frequent."""
    sample = source or clusters(9, spread=0.1)
    counts = np.zeros((K, K), np.int64)
    counts[range(4), range(4)] = 100
    return Evidence(
        target=target,
        source=SourceStatistics(
            seen=Statistics(images=1, sample=sample), confusion=Confusion(counts)
        ),
    )


ALIKE = [0.25] * 4
CERTAIN = seen(clusters(0, spread=0.1), shares=ALIKE)


@pytest.mark.parametrize(
    ("function", "worse"),
    [
        (separation, seen(clusters(0, spread=0.6), shares=ALIKE)),
        (separation, seen(clusters(0, spread=0.1, num_classes=2), shares=[0.5, 0.5])),
        (density, seen(clusters(0, spread=0.6), shares=ALIKE)),
        (confusability, seen(clusters(0, spread=0.1, shift=1.0), shares=ALIKE)),
        (confusability, seen(clusters(0, spread=0.1, num_classes=2), shares=[0.5, 0.5])),
        (proximity, seen(clusters(0, spread=0.1, shift=1.0), shares=ALIKE)),
        (proximity, seen(clusters(0, spread=0.1, num_classes=2), shares=[0.5, 0.5])),
        (prior_fit, seen(clusters(0, spread=0.1), shares=[0.9, 0.1])),
        (coverage, seen(clusters(0, spread=0.1), shares=[0.5, 0.4, 0.1])),
        (certainty, seen(clusters(0, spread=0.1), shares=ALIKE, doubt=0.5)),
        (information, seen(clusters(0, spread=0.1), shares=ALIKE, doubt=0.5)),
        (information, seen(clusters(0, spread=0.1), shares=[1.0])),
        (nuclear_norm, seen(doubtful(clusters(0, spread=0.1)), shares=ALIKE)),
        (nuclear_norm, seen(clusters(0, spread=0.1, num_classes=1), shares=[1.0])),
    ],
)
def test_the_obviously_better_network_has_more(function, worse):
    assert function(evidence_of(CERTAIN)) > function(evidence_of(worse)) + 0.02


def test_agreement_of_a_constant_view_is_that_of_one_class():
    """Pixel by pixel, it would be perfectly consistent."""
    steady, constant = (np.zeros((K, K), np.int64) for _ in range(2))
    steady[range(4), range(4)] = [900, 50, 30, 20]
    constant[0, 0] = 1000
    classes = np.arange(4)
    assert balanced_iou(steady, classes) == 1
    assert balanced_iou(constant, classes) == 0.25
    views = {"flip": steady, "small": constant}
    target = replace(CERTAIN, views=views)
    assert consistency(evidence_of(target)) == pytest.approx(0.625)
    assert MEASURES["consistency_flip"](evidence_of(target)) == 1
    assert math.isnan(MEASURES["consistency_dropout"](evidence_of(target)))


def test_prior_fit_has_a_dead_zone():
    """Shares that differ by little are as good as equal ones; beyond, each nat costs a factor e."""
    near, far = [0.35, 0.25, 0.2, 0.2], [0.9, 0.1, 0.0, 0.0]
    divergence = 0.9 * math.log(0.9 / 0.25) + 0.1 * math.log(0.1 / 0.25)
    values = [prior_fit(evidence_of(seen(CERTAIN.sample, shares=s))) for s in (ALIKE, near, far)]
    assert values == [1, 1, pytest.approx(math.exp(DEAD_ZONE - divergence), rel=1e-4)]


def test_a_tenth_of_its_share_is_enough_to_cover_a_class():
    assert coverage(evidence_of(seen(CERTAIN.sample, shares=[0.95, 0.025, 0.025, 0]))) == 0.75
    assert coverage(evidence_of(seen(CERTAIN.sample, shares=[0.96, 0.02, 0.02, 0]))) == 0.25


def test_the_scale_of_features_is_not_seen():
    """A network that shrinks its features comes no nearer to the source."""
    small = replace(CERTAIN.sample, features=CERTAIN.sample.features * np.float16(0.125))
    shrunk = replace(CERTAIN, sample=small)
    for function in (separation, confusability, proximity):
        value = function(evidence_of(CERTAIN))
        assert function(evidence_of(shrunk)) == pytest.approx(value, abs=1e-5)


def test_a_lone_pixel_proves_no_separation():
    """Rousseeuw (1987) sets the silhouette of an object that is alone in its cluster to 0."""
    lone = replace(CERTAIN.sample, classes=CERTAIN.sample.classes.copy())
    of_last = np.flatnonzero(lone.classes == 3)
    lone.classes[of_last[1:]] = 18  # which is not expected
    assert separation(evidence_of(replace(CERTAIN, sample=lone))) < 0.76


def test_the_ensemble_is_the_mean_of_what_all_its_members_saw():
    members = [
        {image: random_image(image, seed=seed).impressions[image] for image in images}
        for seed, images in enumerate([(3, 1, 2), (2, 1, 5), (1, 2, 4)])
    ]
    mean = mean_of(members)
    assert list(mean) == [1, 2]
    for image, values in mean.items():
        for k, y, x in np.ndindex(*values.shape):
            numbers = [int(member[image][k, y, x]) for member in members]
            assert abs(int(values[k, y, x]) - sum(numbers) / 3) <= 0.5
    assert mean_of([]) == {}
    assert mean_of([{1: mean[1]}, {2: mean[2]}]) == {}


def test_a_network_agrees_fully_with_itself_and_not_at_all_with_its_opposite():
    image = random_image(0)
    shown = image.impressions[0]
    said = shown.argmax(0)
    other = np.zeros_like(shown)
    np.put_along_axis(other, (said[None] + 1) % K, 255, 0)
    everything = np.ones((K, K), np.int64)
    source = SourceStatistics(confusion=Confusion(everything))
    for ensemble, value in (({0: shown}, len(np.unique(said)) / K), ({0: other}, 0.0)):
        evidence = Evidence(target=image, source=source, ensemble=ensemble)
        assert MEASURES["agreement"](evidence) == pytest.approx(value)
    assert math.isnan(MEASURES["agreement"](Evidence(target=image, source=source)))
