"""The score: what spoils a network never raises it; nothing breaks it; and its verb."""

import copy
import functools
import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.painted import Reader, scene
from tests.small_models import small_model
from tests.test_quality_statistics import added
from uda.classes import NUM_CLASSES
from uda.metrics import Confusion
from uda.models import DeepLabV3Plus
from uda.observe import observe_image, observe_labelled
from uda.quality import MEASURES, Evidence, SourceStatistics, Statistics
from uda.quality.score import GUARDS, WEIGHTS, Score, combined, score
from uda.report import json_text

ROUNDING = 1e-6


def evidence_of(model: DeepLabV3Plus, num_images: int = 4) -> Evidence:
    """What a network says of scenes in eight classes, those of the target with twice the noise."""
    labelled = (scene(n, 64, 96) for n in range(num_images))
    plain = (scene(10 + n, 64, 96, noise=10)[0] for n in range(num_images))
    return Evidence(
        source=sum(
            (observe_labelled(model, *pair, n) for n, pair in enumerate(labelled)),
            SourceStatistics(),
        ),
        target=added([observe_image(model, image, n) for n, image in enumerate(plain)]),
    )


# --- failures that are planted -----------------------------------------------------------------


def collapse(model: DeepLabV3Plus) -> None:
    """Road is what it always answers, though it still knows better."""
    model.classifier.bias[0] += 1000


def forget(model: DeepLabV3Plus) -> None:
    """The head gives the same answer whatever it is shown."""
    nn.init.zeros_(model.classifier.weight)
    model.classifier.bias[:] = torch.arange(NUM_CLASSES) / 10.0


def forget_all(model: DeepLabV3Plus) -> None:
    nn.init.zeros_(model.classifier.weight)
    nn.init.zeros_(model.classifier.bias)


def swap(model: DeepLabV3Plus, first: int = 0, second: int = 7) -> None:
    """Two classes change places: the most frequent one with the rarest."""
    for parameter in model.classifier.parameters():
        parameter[[first, second]] = parameter[[second, first]].clone()


def swap_like(model: DeepLabV3Plus) -> None:
    """Two classes that are about as frequent."""
    swap(model, 2, 3)


def exaggerate(model: DeepLabV3Plus) -> None:
    model.classifier.weight *= 5
    model.classifier.bias *= 5


def shake(model: DeepLabV3Plus) -> None:
    """Statistics of BatchNorm that belong to no data."""
    draws = torch.Generator().manual_seed(0)
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        noise = torch.randn(2, norm.num_features, generator=draws)
        norm.running_mean += 0.5 * noise[0] * norm.running_var.sqrt()
        norm.running_var *= (0.5 * noise[1]).exp()


def spoil(model: DeepLabV3Plus) -> None:
    next(model.classifier.parameters()).view(-1)[3] = math.nan


# By name, with the share of the healthy network's quality that may be left.
PLANTED: dict[str, tuple[Callable[[DeepLabV3Plus], None], float]] = {
    "collapse": (collapse, 0.06),  # one class of eight is still said as before
    "forget": (forget, 0.06),
    "forget_all": (forget_all, 0.06),
    "swap": (swap, 0.9),
    # Nothing but labels could tell these two: they leave what classes are said where, or how often.
    "swap_like": (swap_like, 1 + ROUNDING),
    "exaggerate": (exaggerate, 1 + ROUNDING),
    "shake": (shake, 0.9),
    "spoil": (spoil, 0.0),
}


def assert_no_better(network: DeepLabV3Plus, before: Score, name: str) -> None:
    model = copy.deepcopy(network)
    plant, left = PLANTED[name]
    with torch.no_grad():
        plant(model)
    after = score(evidence_of(model))
    assert 0.6 < before.quality <= 1, "in order, or there is nothing to lose"
    assert before.notes == ()
    assert 0 <= after.quality <= left * before.quality, (before, after)


@pytest.mark.parametrize("name", PLANTED)
def test_no_failure_raises_the_quality(name):
    assert_no_better(Reader(), score(healthy()), name)


@pytest.fixture(scope="module")
def trained() -> tuple[DeepLabV3Plus, Score]:
    """The tiny network after 150 steps on such scenes, most of which it knows; and its score."""
    model = small_model()
    pairs = [scene(100 + n, 64, 96) for n in range(16)]
    images = torch.from_numpy(np.stack([image for image, _ in pairs])).permute(0, 3, 1, 2)
    labels = torch.from_numpy(np.stack([label for _, label in pairs])).long()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(150):
        part = [(4 * step + place) % 16 for place in range(4)]
        logits = model(model.normalise(images[part])).logits
        optimiser.zero_grad()
        F.cross_entropy(logits, labels[part]).backward()
        optimiser.step()
    return model.eval(), score(evidence_of(model.eval()))


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTED)
def test_no_failure_raises_the_quality_of_a_trained_network(trained, name):
    assert_no_better(*trained, name)


def test_exaggeration_does_not_pay_for_a_network_in_doubt():
    """It says the right classes, but is not sure, so that classes that are not there get a part."""
    model = Reader()
    with torch.no_grad():
        model.classifier.weight *= 3 / 8
    before = score(evidence_of(model))
    with torch.no_grad():
        exaggerate(model)
    assert score(evidence_of(model)).quality <= before.quality + ROUNDING


@pytest.mark.slow
def test_training_raises_the_quality(trained):
    fresh = small_model().eval()
    assert score(evidence_of(fresh)).quality < 0.2 < trained[1].quality


# --- evidence that says little -----------------------------------------------------------------


BROKEN = Statistics(images=1, broken=1)
NOTHING = Evidence(target=Statistics(), source=SourceStatistics())


@functools.cache
def healthy() -> Evidence:
    return evidence_of(Reader())


def target(change: Callable[[Statistics], Statistics]) -> Evidence:
    """The healthy evidence but for what was seen in the target."""
    return replace(healthy(), target=change(healthy().target))


def source(changed: SourceStatistics) -> Evidence:
    return replace(healthy(), source=changed)


def without_class(number: int) -> Evidence:
    model = Reader()
    with torch.no_grad():
        model.classifier.bias[number] -= 1000
    return replace(healthy(), target=evidence_of(model).target)


def only_road() -> Evidence:
    model = Reader()
    with torch.no_grad():
        collapse(model)
    return evidence_of(model)


def unlabelled() -> SourceStatistics:
    return observe_labelled(Reader(), scene(0)[0], np.full((48, 64), 255, np.uint8), 0)


def of_one_class() -> SourceStatistics:
    counts = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
    counts[3, 3] = 5
    return replace(healthy().source, confusion=Confusion(counts))


# By name: the evidence, a part of what a note says of it, and whether its quality is 0.
LITTLE: dict[str, tuple[Callable[[], Evidence], str, bool]] = {
    "nothing": (lambda: NOTHING, "no target image was seen", True),
    "no target": (lambda: target(lambda _: Statistics()), "no target image was seen", True),
    "broken target": (
        lambda: target(lambda _: BROKEN + BROKEN),
        "not finite in 2 of 2 target images",
        True,
    ),
    "one broken image": (
        lambda: target(lambda seen: seen + BROKEN),
        "not finite in 1 of 5 target images",
        False,
    ),
    "no source": (lambda: source(SourceStatistics()), "no source image was seen", True),
    "broken source": (
        lambda: source(SourceStatistics(seen=BROKEN)),
        "no class is expected",
        True,
    ),
    "source without labels": (lambda: source(unlabelled()), "no class is expected", True),
    "one class expected": (lambda: source(of_one_class()), "", False),
    "one class": (only_road, "one class is predicted everywhere", False),
    "a class is missing": (lambda: without_class(2), "building", False),
    "no views": (lambda: target(lambda seen: replace(seen, views={})), "", False),
}


@pytest.mark.parametrize("name", LITTLE)
def test_any_evidence_has_a_score(name):
    evidence, note, is_worthless = LITTLE[name]
    result = score(evidence())
    assert 0 <= result.quality <= 1
    assert (result.quality == 0) == is_worthless
    written = json.loads(json_text(result.json()))
    assert written["quality"] == result.quality
    assert written["measures"].keys() == MEASURES.keys()
    for measure, value in result.measures.items():
        assert written["measures"][measure] == (value if math.isfinite(value) else None)
    assert tuple(written["notes"]) == result.notes
    assert note in " ".join(result.notes)


def test_a_network_in_order_has_no_notes_and_is_little_below_one():
    result = score(healthy())
    assert result.notes == ()
    assert 0.6 < result.quality < 1
    missing = {name for name, value in result.measures.items() if not math.isfinite(value)}
    assert missing == {"agreement"}, "there is no ensemble"


def test_broken_images_cost_their_share():
    whole, part = score(healthy()), score(target(lambda seen: seen + BROKEN))
    assert part.quality == pytest.approx(0.8 * whole.quality)
    assert part.measures == pytest.approx(whole.measures, nan_ok=True)


def test_quality_is_a_geometric_mean_times_the_guards():
    values = {name: 0.5 / (i + 1) for i, name in enumerate(WEIGHTS)}
    measures = {**values, **dict.fromkeys(GUARDS, 0.5)}
    mean = math.prod(values[n] ** w for n, w in WEIGHTS.items()) ** (1 / sum(WEIGHTS.values()))
    assert combined(measures) == pytest.approx(0.5 ** len(GUARDS) * mean)
    assert combined(measures, weights=dict.fromkeys(values, 7.0)) == (
        pytest.approx(0.5 ** len(GUARDS) * math.prod(values.values()) ** (1 / len(values)))
    ), "only the proportions of weights matter"
    for name in measures:
        for value in (0.0, math.nan, -0.5):
            assert 0 <= combined({**measures, name: value}) < 0.01, name


def test_a_score_is_plain_in_json():
    result = Score(quality=0.5, measures={"a": math.nan, "b": 1.0, "c": math.inf}, notes=("x",))
    plain = {"quality": 0.5, "measures": {"a": None, "b": 1.0, "c": None}, "notes": ["x"]}
    assert result.json() == plain
