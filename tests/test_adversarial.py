"""What discriminators see, what they are told, and how well they do."""

import itertools

import numpy as np
import pytest
import torch

from tests import reference
from uda.losses.adversarial import Level, accuracy, domain_loss, represent
from uda.types import Domain


def logits(seed: int = 0, scale: float = 3.0, classes: int = 5) -> torch.Tensor:
    draws = np.random.default_rng(seed)
    return torch.tensor(draws.normal(0, scale, (2, classes, 3, 2)), dtype=torch.float32)


def patches(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, 1, 1, -1)


def test_plain_is_the_tensor_itself():
    features = logits()
    assert represent(features, "plain") is features


def test_softmax_equals_the_definition():
    x = logits()
    expected = np.apply_along_axis(reference.softmax, 1, x.double().numpy())
    np.testing.assert_allclose(represent(x, "softmax").numpy(), expected, rtol=1e-5)


def test_self_information_equals_the_definition():
    x = logits()
    seen = represent(x, "self_information").numpy()
    np.testing.assert_allclose(seen, reference.self_information(x.double().numpy()), atol=1e-6)


def test_self_information_sums_to_the_normalised_entropy():
    assert represent(torch.zeros(1, 19, 1, 1), "self_information").sum() == pytest.approx(1.0)
    certain = torch.zeros(1, 19, 1, 1)
    certain[:, 4] = 200
    assert represent(certain, "self_information").sum() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("sees", ["softmax", "self_information"])
def test_saturated_logits_give_finite_maps_and_gradients(sees):
    x = logits(scale=1e4).requires_grad_()
    seen = represent(x, sees)
    seen.sum().backward()
    assert torch.isfinite(seen).all()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("sees", ["softmax", "self_information"])
def test_maps_are_float32_also_for_bfloat16_logits(sees):
    x = logits().bfloat16()
    seen = represent(x, sees)
    assert seen.dtype == torch.float32
    torch.testing.assert_close(seen, represent(x.float(), sees))


def test_bce_is_minus_log_of_the_sigmoid():
    x = logits(classes=1)
    p = 1 / (1 + np.exp(-x.double().numpy()))
    for domain, right in ((Domain.TARGET, p), (Domain.SOURCE, 1 - p)):
        value = domain_loss(x, domain, "bce")
        assert value.item() == pytest.approx(-np.log(right).mean(), rel=1e-5)


def test_least_squares_is_the_squared_distance_from_the_label():
    x = logits(classes=1)
    for domain, label in ((Domain.SOURCE, 0.0), (Domain.TARGET, 1.0)):
        value = domain_loss(x, domain, "least_squares")
        assert value.item() == pytest.approx(((x.numpy() - label) ** 2).mean(), rel=1e-5)


@pytest.mark.parametrize("objective", ["bce", "least_squares"])
@pytest.mark.parametrize("domain", list(Domain))
def test_descent_moves_patches_towards_the_domain(objective, domain):
    x = torch.full((1, 1, 2, 2), 0.5, requires_grad=True)
    domain_loss(x, domain, objective).backward()
    wanted = 1 if domain is Domain.TARGET else -1
    assert torch.equal(-x.grad.sign(), torch.full_like(x.grad, wanted))


@pytest.mark.parametrize("objective", ["bce", "least_squares"])
def test_mean_of_two_halves_is_the_whole(objective):
    x = logits(classes=1)
    halves = [domain_loss(part, Domain.TARGET, objective) for part in x.chunk(2)]
    torch.testing.assert_close(sum(halves) / 2, domain_loss(x, Domain.TARGET, objective))


def test_bce_of_confident_patches_stays_finite():
    x = patches(-1e4, 1e4).requires_grad_()
    value = domain_loss(x, Domain.TARGET, "bce")
    value.backward()
    assert value.item() == pytest.approx(5e3)
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize(
    ("objective", "source", "target", "expected"),
    [
        ("bce", [-1, -2], [1, 2], 1.0),
        ("bce", [1, 2], [-1, -2], 0.0),
        ("bce", [-1, 1], [-1, 1], 0.5),
        ("bce", [-1, 1], [1, 1], 0.75),
        ("bce", [0.3, 0.3], [0.3, 0.3], 0.5),
        ("bce", [0.0], [0.0], 0.5),
        ("least_squares", [0.3, 0.3], [0.7, 0.4], 0.75),
        ("least_squares", [0.0], [1.0], 1.0),
        ("least_squares", [0.5], [0.5], 0.5),
    ],
)
def test_accuracy_is_the_share_of_patches_on_the_right_side(objective, source, target, expected):
    assert accuracy(patches(*source), patches(*target), objective).item() == expected


def test_a_level_sees_features_plainly_and_predictions_as_a_map():
    for reads, sees in itertools.product(
        ("output", "stem", "layer1", "layer4", "aspp", "decoder"),
        ("plain", "softmax", "self_information"),
    ):
        if (reads == "output") == (sees != "plain"):
            assert Level(name="a", reads=reads, sees=sees).reads == reads
        else:
            with pytest.raises(ValueError, match=f"sees: got '{sees}' for reads = '{reads}'"):
                Level(name="a", reads=reads, sees=sees)


@pytest.mark.parametrize("name", ["", "a.b", "a b", "keys", "type", "train", "1"])
def test_a_level_needs_a_name_that_a_path_and_a_module_can_hold(name):
    with pytest.raises(ValueError, match="name: got"):
        Level(name=name)


@pytest.mark.parametrize("name", ["output", "low_level", "aspp", "entropy"])
def test_ordinary_names_of_levels_are_fine(name):
    assert Level(name=name).name == name


def test_a_level_without_width_is_refused():
    with pytest.raises(ValueError, match="width: got 0"):
        Level(name="a", width=0)
