"""Every loss against its slow reference, on ordinary batches and on those at the edge.

What is special to contrast has its own file, `test_contrastive`.
"""

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import reference
from uda.losses import LOSSES
from uda.losses.self_training import SelfTraining
from uda.losses.supervised import Supervised, pixel_cross_entropy
from uda.scene import Scene

K, D, H, W = 19, 5, 3, 4
REFERENCES = {
    "supervised": lambda x: reference.pixel_cross_entropy(x["source_logits"], x["source_labels"]),
    "self_training": lambda x: reference.pixel_cross_entropy(
        x["mixed_logits"], x["mixed_labels"], x["mixed_weights"]
    ),
    "contrastive": lambda x: reference.contrastive(x["class_embeddings"], x["class_distributions"]),
}
DIFFERENTIABLE = ("source_logits", "mixed_logits", "class_embeddings")
CASES = ("ordinary", "all_ignore", "one_class", "one_image", "one_ignored_image")


def make(case: str, size: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    """Everything that a loss asks for, in float64, for one kind of batch."""
    draws = np.random.default_rng(seed)
    size = 1 if case == "one_image" else size
    labels = draws.integers(0, K, (size, H, W))
    labels[draws.random(labels.shape) < 0.2] = 255
    # Pairs of images with nearly the same two classes, the pairs of different ones.
    shares = np.zeros((2 * size, K))
    for i in range(2 * size):
        first = 4 * (i // 2 % 2)
        shares[i, first : first + 2] = draws.dirichlet([8, 8])
    if case == "all_ignore":
        labels[:], shares[:] = 255, 0
    elif case == "one_class":
        labels[:], shares[:] = 3, np.eye(K)[3]
    elif case == "one_image":
        shares = shares[:2]
    elif case == "one_ignored_image":
        labels[0], shares[0] = 255, 0
    return {
        "source_logits": draws.normal(0, 3, (size, K, H, W)),
        "source_labels": labels,
        "mixed_logits": draws.normal(0, 3, (size, K, H, W)),
        "mixed_labels": labels,
        "mixed_weights": draws.random((size, H, W)),
        "trust": draws.random(size),
        "class_embeddings": draws.normal(size=(len(shares), K, D)),
        "class_distributions": shares,
    }


def tensors(inputs: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """The same for the code under test: float32 and int64, wanting gradients."""
    made = {k: torch.tensor(v) for k, v in inputs.items()}
    made = {k: t.float() if t.is_floating_point() else t for k, t in made.items()}
    for name in DIFFERENTIABLE:
        made[name].requires_grad_()
    return made


def names_of(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def call(function: Any, inputs: dict[str, Tensor]) -> Any:
    return function(**{name: inputs[name] for name in names_of(function)})


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_asks_only_for_what_a_scene_has(name):
    loss = LOSSES[name]()
    assert loss.name == name
    asked = {*names_of(loss), *names_of(loss.health)}
    assert {a for a in asked if not hasattr(Scene, a)} == set()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", LOSSES)
def test_value_equals_the_reference_and_is_finite(name, case):
    inputs = make(case)
    value = call(LOSSES[name](), tensors(inputs))
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert value.item() == pytest.approx(REFERENCES[name](inputs), rel=1e-4, abs=1e-6)


def test_the_ordinary_batch_makes_every_loss_work():
    for name in LOSSES:
        assert REFERENCES[name](make("ordinary")) > 0.05
    assert REFERENCES["contrastive"](make("one_ignored_image")) > 0.05


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", LOSSES)
def test_gradient_equals_finite_differences_of_the_reference(name, case):
    loss, inputs = LOSSES[name](), make(case)
    (wanted,) = [n for n in names_of(loss) if n in DIFFERENTIABLE]
    ours = tensors(inputs)
    call(loss, ours).backward()
    gradient = ours[wanted].grad.double().numpy()
    assert np.isfinite(gradient).all()
    draws, step = np.random.default_rng(1), 1e-5
    direction = draws.normal(size=gradient.shape)
    for one in (direction, direction * (draws.random(gradient.shape) < 0.1)):
        ahead, behind = (
            REFERENCES[name]({**inputs, wanted: inputs[wanted] + sign * step * one})
            for sign in (1, -1)
        )
        slope = (ahead - behind) / (2 * step)
        assert (gradient * one).sum() == pytest.approx(slope, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_to_learn_from_gives_zero_and_a_zero_gradient(name):
    loss, ours = LOSSES[name](), tensors(make("all_ignore"))
    value = call(loss, ours)
    value.backward()
    assert value.item() == 0.0
    grads = [ours[n].grad for n in names_of(loss) if n in DIFFERENTIABLE]
    assert all(not grad.any() for grad in grads)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", LOSSES)
def test_health_is_a_finite_share(name, case):
    for figure in call(LOSSES[name]().health, tensors(make(case))).values():
        assert 0.0 <= figure.item() <= 1.0


@pytest.mark.parametrize("name", ["supervised", "self_training"])
def test_mean_of_two_halves_is_the_whole_however_much_is_ignored(name):
    """So the number of workers that share a batch does not matter."""
    ours = tensors(make("one_ignored_image", size=6))
    loss = LOSSES[name]()
    whole = call(loss, ours)
    halves = [call(loss, {k: v[part] for k, v in ours.items()}) for part in (slice(3), slice(3, 6))]
    assert (halves[0] - halves[1]).abs() > 0.01, "the halves must differ for the test to say much"
    torch.testing.assert_close(sum(halves) / 2, whole)


# --- cross-entropy -----------------------------------------------------------------------------


def test_equal_logits_cost_log_k_per_valid_pixel():
    labels = torch.zeros(2, 2, 2, dtype=torch.int64)
    labels[0] = 255
    value = Supervised()(torch.zeros(2, K, 2, 2), labels)
    assert value.item() == pytest.approx(np.log(K) / 2)


def test_ignored_pixels_get_no_gradient_and_valid_ones_softmax_minus_one_hot():
    ours = tensors(make("ordinary"))
    logits, labels = ours["source_logits"], ours["source_labels"]
    Supervised()(logits, labels).backward()
    valid = labels != 255
    one_hot = torch.nn.functional.one_hot(labels.clamp_max(K), K + 1)[..., :K].movedim(-1, 1)
    expected = (logits.detach().softmax(1) - one_hot) * valid[:, None] / labels.numel()
    torch.testing.assert_close(logits.grad, expected)
    assert not logits.grad.movedim(1, -1)[~valid].any()


def test_extreme_logits_stay_finite():
    logits = torch.full((1, K, 1, 2), -1e4)
    logits[:, 0] = 1e4
    logits.requires_grad_()
    value = pixel_cross_entropy(logits, torch.tensor([[[0, 1]]]))
    value.backward()
    assert value.item() == pytest.approx(1e4)
    assert torch.isfinite(logits.grad).all()


def test_bfloat16_logits_are_summed_in_float32():
    ours = tensors(make("ordinary"))
    rounded = ours["source_logits"].detach().bfloat16()
    value = Supervised()(rounded, ours["source_labels"])
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, Supervised()(rounded.float(), ours["source_labels"]))


def test_weights_scale_pixel_by_pixel_and_zero_mutes():
    ours = tensors(make("ordinary"))
    logits, labels = ours["mixed_logits"], ours["mixed_labels"]
    ones = torch.ones(labels.shape)
    torch.testing.assert_close(SelfTraining()(logits, labels, ones), Supervised()(logits, labels))
    muted = ones.clone()
    muted[1] = 0
    SelfTraining()(logits, labels, muted).backward()
    assert not logits.grad[1].any()
    assert logits.grad[0].any()


def test_health_of_self_training_is_the_mean_trust():
    assert SelfTraining().health(torch.tensor([0.5, 1.0]))["trust"].item() == 0.75
