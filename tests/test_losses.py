"""Every loss against its slow reference, on ordinary batches and on those at the edge.

What is special to contrast has its own file, `test_contrastive`, and so have the terms of
self-training and of structure, `test_terms`, `test_certainty` and `test_structure`.
"""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import calling, reference, reference_contrast, reference_prototypes, reference_terms
from tests.calling import inputs_of, names_of, remembering
from uda.losses import LOSSES
from uda.losses.memory import Prepares, Remembers
from uda.losses.self_training import SelfTraining
from uda.losses.supervised import Supervised, pixel_cross_entropy
from uda.scene import Scene

K, D, H, W = 19, 5, 3, 4
REFERENCES = {
    "supervised": lambda x: reference.pixel_cross_entropy(x["source_logits"], x["source_labels"]),
    "self_training": lambda x: reference.pixel_cross_entropy(
        x["mixed_logits"], x["mixed_labels"], x["mixed_weights"]
    ),
    "contrastive": lambda x: reference_contrast.contrastive(
        [
            (
                (x[f"{step}source_embeddings"], x["source_labels"]),
                (x[f"{step}target_embeddings"], x["trusted_labels"]),
            )
            for step in ("remembered_", "")
        ]
    ),
    "masked": lambda x: reference.pixel_cross_entropy(
        x["masked_logits"], x["pseudo_labels"], x["target_weights"]
    ),
    "feature_distance": lambda x: reference_terms.feature_distance(
        x["source_backbone"], x["pretrained_backbone"], x["source_labels"]
    ),
    "prior": lambda x: reference_terms.prior(x["source_labels"], x["target_logits"]),
    "entropy": lambda x: reference_terms.entropy(x["target_logits"]),
    "max_square": lambda x: reference_terms.max_square(x["target_logits"]),
    "boundary": lambda x: reference.pixel_cross_entropy(
        x["source_logits"], x["source_labels"], reference_terms.near_boundary(x["source_labels"])
    ),
    "affinity": lambda x: reference_terms.affinity(x["target_colours"], x["target_logits"]),
    "prototype_contrast": lambda x: reference_prototypes.prototype_contrast(
        [
            (x["source_embeddings"], x["source_labels"]),
            (x["target_embeddings"], x["trusted_labels"]),
        ],
        # What is remembered takes no gradient, so it is not what a difference is taken of.
        reference_prototypes.after_one_step(x["remembered_source_embeddings"], x["source_labels"]),
    ),
    "pixel_contrast": lambda x: reference_prototypes.pixel_contrast(
        [
            (x["source_embeddings"], x["source_labels"]),
            (x["target_embeddings"], x["trusted_labels"]),
        ],
        x["lottery"],
    ),
}
DIFFERENTIABLE = (
    "source_logits", "mixed_logits",
    "masked_logits", "target_logits", "source_backbone",
    "source_embeddings", "target_embeddings",
)  # fmt: skip
UNLABELLED = {"entropy", "max_square", "affinity"}  # without labels they learn all the same
CASES = ("ordinary", "all_ignore", "one_class", "one_image", "one_ignored_image")


def make(case: str, size: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    """Everything that a loss asks for, in float64, for one kind of batch."""
    draws = np.random.default_rng(seed)
    size = 1 if case == "one_image" else size
    labels = draws.integers(0, K, (size, H, W))
    labels[draws.random(labels.shape) < 0.2] = 255
    if case == "all_ignore":
        labels[:] = 255
    elif case == "one_class":
        labels[:] = 3
    elif case == "one_ignored_image":
        labels[0] = 255
    inputs = {
        "source_logits": draws.normal(0, 3, (size, K, H, W)),
        "source_labels": labels,
        "mixed_logits": draws.normal(0, 3, (size, K, H, W)),
        "mixed_labels": labels,
        "mixed_weights": draws.random((size, H, W)),
        "trust": draws.random(size),
        "masked_logits": draws.normal(0, 3, (size, K, H, W)),
        "pseudo_labels": draws.integers(0, K, (size, H, W)),
        "target_weights": draws.random((size, H, W)) * (case != "all_ignore"),
        "source_backbone": draws.normal(size=(size, D, H, W)),
        "pretrained_backbone": draws.normal(size=(size, D, H, W)),
        "target_logits": draws.normal(0, 3, (size, K, 3 * H, 3 * W)),
        "target_colours": draws.random((size, 3, 3 * H, 3 * W)),
    }
    embeddings = draws.normal(size=(2, size, D, H, W))
    embeddings /= np.linalg.norm(embeddings, axis=2, keepdims=True)
    return inputs | {
        "source_embeddings": embeddings[0],
        "remembered_source_embeddings": embeddings[0],
        "remembered_target_embeddings": embeddings[1],
        "target_embeddings": embeddings[1],
        "trusted_labels": np.roll(labels, 1),
        "lottery": draws.random((size, H, W)),
    }


def tensors(inputs: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """The same for the code under test: float32 and int64, wanting gradients."""
    made = {k: torch.tensor(v) for k, v in inputs.items()}
    made = {k: t.float() if t.is_floating_point() else t for k, t in made.items()}
    for name in DIFFERENTIABLE:
        made[name].requires_grad_()
    return made


def call(function: Any, inputs: dict[str, Tensor]) -> Any:
    """A loss or its health, where the step before had the same inputs."""
    loss = getattr(function, "__self__", function)  # of a method, its object
    return calling.call(function, inputs, remembering(loss, D, inputs))


def gradient_of(tensor: Tensor) -> Tensor:
    """Zero where nothing depends on it."""
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_asks_only_for_what_a_scene_has(name):
    loss = LOSSES[name]()
    assert loss.name == name
    asked = {*inputs_of(loss), *names_of(loss.health)}
    if isinstance(loss, Remembers):
        asked |= {*names_of(loss.remember)}
        asked -= {"memory"}
    if isinstance(loss, Prepares):
        asked -= {"prepared"}
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
        assert abs(REFERENCES[name](make("ordinary"))) > 0.05
    assert REFERENCES["contrastive"](make("one_ignored_image")) > 0.05


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", LOSSES)
def test_gradient_equals_finite_differences_of_the_reference(name, case):
    loss, inputs = LOSSES[name](), make(case)
    ours = tensors(inputs)
    call(loss, ours).backward()
    draws, step = np.random.default_rng(1), 1e-5
    for wanted in (n for n in inputs_of(loss) if n in DIFFERENTIABLE):
        gradient = gradient_of(ours[wanted]).double().numpy()
        assert np.isfinite(gradient).all()
        direction = draws.normal(size=gradient.shape)
        for one in (direction, direction * (draws.random(gradient.shape) < 0.1)):
            ahead, behind = (
                REFERENCES[name]({**inputs, wanted: inputs[wanted] + sign * step * one})
                for sign in (1, -1)
            )
            slope = (ahead - behind) / (2 * step)
            assert (gradient * one).sum() == pytest.approx(slope, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("name", sorted(set(LOSSES) - UNLABELLED))
def test_nothing_to_learn_from_gives_zero_and_a_zero_gradient(name):
    loss, ours = LOSSES[name](), tensors(make("all_ignore"))
    value = call(loss, ours)
    value.backward()
    assert value.item() == 0.0
    grads = [gradient_of(ours[n]) for n in inputs_of(loss) if n in DIFFERENTIABLE]
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
