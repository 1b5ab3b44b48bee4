"""What is special to masked images, the feature distance and the prior, and common to all terms.

`test_losses` compares all with their references; `test_certainty` and `test_structure` have the
other terms.
"""

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import reference_terms
from tests.test_losses import H, K, W, call, make, tensors
from tests.test_resume import stop_after, unequal_tensors
from tests.tiny import run_training, tiny_config
from uda.checkpoint import find_checkpoint
from uda.losses import LOSSES, feature_distance
from uda.losses.affinity import Affinity
from uda.losses.boundary import Boundary
from uda.losses.entropy import Entropy
from uda.losses.feature_distance import THINGS, FeatureDistance
from uda.losses.masked import Masked
from uda.losses.max_square import MaxSquare
from uda.losses.prior import Prior

TERMS = ("masked", "feature_distance", "prior", "entropy", "max_square", "boundary", "affinity")


def noise(*shape: int, scale: float = 1.0, seed: int = 0) -> Tensor:
    draws = np.random.default_rng(seed)
    return torch.tensor(draws.normal(0, scale, shape), dtype=torch.float32).requires_grad_()


def arrays(*given: Tensor) -> list[np.ndarray]:
    return [x.detach().numpy().astype(np.float64 if x.is_floating_point() else int) for x in given]


def block_labels(*sizes: int, seed: int = 0, side: int = 4) -> Tensor:
    """Squares of random labels, some ignored, with some single pixels of others."""
    draws = np.random.default_rng(seed)
    blocks = draws.choice([0, 3, 6, 13, 18, 255], [sizes[0], *(-(-s // side) for s in sizes[1:])])
    labels = blocks.repeat(side, 1).repeat(side, 2)[:, : sizes[1], : sizes[2]].copy()
    single = draws.random(labels.shape) < 0.15
    labels[single] = draws.choice([0, 13, 255], single.sum())
    return torch.from_numpy(labels)


# --- all of them ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["masked", "entropy", "max_square", "boundary", "affinity"])
def test_mean_of_two_halves_is_the_whole(name):
    """So the number of workers that share a batch does not matter."""
    inputs = make("one_ignored_image", size=6)
    for logits in ("masked_logits", "target_logits", "source_logits"):
        inputs[logits][:3] *= 2
    ours, loss = tensors(inputs), LOSSES[name]()
    whole = call(loss, ours)
    halves = [call(loss, {k: v[part] for k, v in ours.items()}) for part in (slice(3), slice(3, 6))]
    assert (halves[0] - halves[1]).abs() > 0.01, "the halves must differ for the test to say much"
    torch.testing.assert_close(sum(halves) / 2, whole)


@pytest.mark.parametrize("name", TERMS)
def test_extreme_inputs_have_a_finite_value_and_gradient(name):
    inputs = make("ordinary")
    wanted = ("source_logits", "masked_logits", "target_logits", "source_backbone")
    for key in wanted:
        inputs[key] = inputs[key] * 1e4
    ours = tensors(inputs)
    value = call(LOSSES[name](), ours)
    value.backward()
    assert torch.isfinite(value)
    grads = [ours[key].grad for key in wanted if ours[key].grad is not None]
    assert len(grads) == 1
    assert torch.isfinite(grads[0]).all()


@pytest.mark.parametrize("name", TERMS)
def test_bfloat16_is_computed_in_float32(name):
    ours = {k: v.detach() for k, v in tensors(make("ordinary")).items()}
    logits = [k for k in ours if k.endswith("_logits")]
    short = ours | {k: ours[k].bfloat16() for k in logits}
    value = call(LOSSES[name](), short)
    assert value.dtype == torch.float32
    expected = call(LOSSES[name](), ours | {k: short[k].float() for k in logits})
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (FeatureDistance, {"purity": 0.5}),
        (FeatureDistance, {"purity": 1.1}),
        (Prior, {"dead_zone": -0.1}),
        (Prior, {"dead_zone": float("nan")}),
        (Prior, {"decay": 1.0}),
        (Entropy, {"robust": -1.0}),
        (Entropy, {"robust": float("inf")}),
        (MaxSquare, {"balance": -0.1}),
        (MaxSquare, {"balance": 1.1}),
        (Boundary, {"radius_px": 0}),
        (Affinity, {"sigma_colour": 0.0}),
        (Affinity, {"dilations": ()}),
        (Affinity, {"dilations": (1, 0)}),
        (Affinity, {"stride": 0}),
    ],
)
def test_bad_settings_are_refused(kind, settings):
    with pytest.raises(ValueError, match=f"^{next(iter(settings))}: got"):
        kind(**settings)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"teacher.batch_norm": "target", "model.norm": "batch"}])
def test_stop_and_resume_is_bit_equal(changes, tmp_path):
    """With the running prior, the frozen backbone and the teacher's own statistics."""
    config = tiny_config("all_terms", {"steps": 8, "evaluated": "teacher", **changes})
    assert run_training(config, tmp_path / "whole") == 8
    stop_after(config, tmp_path / "parts", 5)
    assert run_training(config, tmp_path / "parts", resume=True) == 8
    whole, parts = (find_checkpoint(tmp_path / name) for name in ("whole", "parts"))
    assert unequal_tensors(config, whole, parts) == []


# --- masked --------------------------------------------------------------------------------------


def test_masked_health_is_trust_and_agreement_with_the_teacher():
    labels = torch.tensor([[[0, 1, 2, 3]]])
    logits = torch.nn.functional.one_hot(torch.tensor([[[0, 1, 2, 5]]]), K).movedim(-1, 1).float()
    weights = torch.tensor([[[1.0, 1.0, 0.0, 0.0]]])
    figures = Masked().health(logits, labels, weights)
    assert {name: float(value) for name, value in figures.items()} == {
        "trust": 0.5,
        "agreement": 0.75,
    }


def test_masked_learns_nothing_where_the_teacher_is_not_trusted():
    logits, labels = noise(2, K, 3, 4), torch.zeros(2, 3, 4, dtype=torch.int64)
    weights = torch.ones(2, 3, 4)
    weights[1] = 0
    Masked()(logits, labels, weights).backward()
    assert logits.grad[0].any()
    assert not logits.grad[1].any()


# --- feature distance ----------------------------------------------------------------------------


@pytest.mark.parametrize("purity", [0.55, 0.75, 0.8, 1.0])
def test_feature_distance_of_cells_of_many_pixels(purity):
    labels, student, pretrained = (
        block_labels(3, 16, 24),
        noise(3, 5, 4, 6),
        noise(3, 5, 4, 6, seed=1),
    )
    loss = FeatureDistance(purity=purity)
    value = loss(student, pretrained, labels)
    expected = reference_terms.feature_distance(*arrays(student, pretrained, labels), purity)
    assert value.item() == pytest.approx(expected, rel=1e-5)
    if purity == 0.55:
        assert expected > 0.5


def test_a_cell_counts_from_exactly_its_purity_on_and_only_for_things():
    features = torch.zeros(1, 2, 1, 1)
    for label in range(K):
        labels = torch.full((1, 4, 4), 255)
        labels[0, :3] = label  # 12 of 16 pixels
        assert FeatureDistance().cells(labels, features).item() == (label in THINGS)
        labels[0, 0, 0] = 255
        assert not FeatureDistance().cells(labels, features).any()
    # Two things that fill the cell together are not one.
    labels = torch.tensor([[11, 12]]).repeat(4, 2)[None]
    assert not FeatureDistance().cells(labels, features).any()
    assert set(THINGS) == reference_terms.THING_CLASSES


def test_feature_distance_starts_at_zero_with_a_zero_gradient():
    """At the first step the student is the pretrained network."""
    student = noise(1, 5, 2, 3)
    labels = torch.full((1, 4, 6), THINGS[0])
    value = FeatureDistance()(student, student.detach().clone(), labels)
    value.backward()
    assert value.item() == 0.0
    assert not student.grad.any()


def test_feature_distance_pulls_every_cell_of_a_thing_back_by_the_same_length():
    student = noise(1, 5, 2, 2)
    labels = torch.tensor([[[11, 11], [0, 255]]])
    FeatureDistance()(student, torch.zeros(1, 5, 2, 2), labels).backward()
    lengths = student.grad.norm(dim=1)[0]
    torch.testing.assert_close(lengths, torch.tensor([[0.5, 0.5], [0.0, 0.0]]))


def test_feature_distance_is_the_mean_over_the_cells_of_all_workers(monkeypatch):
    """One worker has three cells of things and the other one."""
    student, pretrained = noise(2, 5, 2, 2), noise(2, 5, 2, 2, seed=1)
    labels = torch.tensor([[[11, 11], [11, 0]], [[13, 0], [0, 0]]])
    loss = FeatureDistance()
    whole = loss(student, pretrained, labels)
    rows = []
    with monkeypatch.context() as patch:
        patch.setattr(feature_distance, "gather", lambda own: rows.append(own) or own)
        for one in (slice(1), slice(1, 2)):
            loss(student[one], pretrained[one], labels[one])
        patch.setattr(feature_distance, "gather", lambda own: torch.cat(rows))
        torch.testing.assert_close(loss(student[:1], pretrained[:1], labels[:1]), whole)
    assert FeatureDistance().health(student, labels)["cells"].item() == 0.5


# --- prior ---------------------------------------------------------------------------------------


def logits_of(shares: Tensor, size: int = 2) -> Tensor:
    """Images whose every pixel is predicted with these probabilities."""
    return shares.clamp_min(1e-9).log().view(1, K, 1, 1).repeat(size, 1, H, W).requires_grad_()


def test_running_prior_against_a_slow_loop():
    loss = Prior(decay=0.7)
    memory = loss.new_memory(8)
    assert not memory().any(), "before the first step there is none"
    batches = [block_labels(3, 5, 6, seed=seed) for seed in range(4)]
    batches[1][2] = 255  # one image without labels, and one batch
    batches[2][:] = 255
    total, mass = np.zeros(19), 0.0
    for labels in batches:
        loss.remember(memory, labels)
        shares = reference_terms.class_prior(labels.numpy())
        if shares.any():
            total, mass = 0.7 * total + 0.3 * shares, 0.7 * mass + 0.3
        np.testing.assert_allclose(memory().numpy(), total / mass, atol=1e-6)
    assert memory().sum().item() == pytest.approx(1.0)


def test_prior_is_zero_inside_the_dead_zone_and_the_rest_of_the_divergence_outside():
    labels = torch.tensor([[[0, 0, 0, 10]]])
    skewed = torch.zeros(K)
    skewed[0], skewed[10] = 0.5, 0.5
    divergence = 0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5)
    for dead_zone, moves in ((0.0, True), (0.1, True), (0.2, False)):
        loss, logits = Prior(dead_zone=dead_zone), logits_of(skewed)
        memory = loss.new_memory(8)
        loss.remember(memory, labels)
        value = loss(memory, logits)
        value.backward()
        assert value.item() == pytest.approx(max(0.0, divergence - dead_zone), abs=1e-5)
        assert logits.grad.any() == moves
        assert loss.health(memory, logits)["overlap"].item() == pytest.approx(0.75)


def test_prior_is_nothing_before_the_first_step():
    loss, logits = Prior(dead_zone=0.0), noise(2, K, H, W)
    memory = loss.new_memory(8)
    value = loss(memory, logits)
    value.backward()
    assert value.item() == 0.0
    assert not logits.grad.any()
    assert loss.health(memory, logits)["overlap"].item() == 0.0


def test_descent_ends_at_the_prior_and_may_remember_before_it_goes_back():
    loss, logits = Prior(dead_zone=0.0), noise(2, K, H, W, scale=2.0)
    memory, labels = loss.new_memory(8), torch.tensor([[[0, 0, 0, 10]]])
    loss.remember(memory, labels)
    optimiser = torch.optim.Adam([logits], lr=0.3)
    for _ in range(100):
        value = loss(memory, logits)
        loss.remember(memory, labels)  # as the task does, before anyone calls backward
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    assert value.item() < 0.02
    assert loss.health(memory, logits)["overlap"].item() > 0.95


def test_prior_keeps_its_memory_in_a_state_dict():
    loss, memory = Prior(), Prior().new_memory(8)
    loss.remember(memory, block_labels(2, 5, 6))
    restored = loss.new_memory(8)
    restored.load_state_dict(memory.state_dict())
    assert torch.equal(restored(), memory())
    assert list(memory.parameters()) == []
