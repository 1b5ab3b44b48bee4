"""What discriminators see, what they are told, and how well they do."""

import numpy as np
import pytest
import torch

from tests import reference, reference_adversarial
from uda.losses.adversarial import (
    accuracy,
    class_domain_loss,
    domain_logits,
    domain_loss,
    represent,
    soft_classes,
)
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


@pytest.mark.parametrize("sees", ["statistics", "softmax", "self_information"])
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


# --- statistics --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(3, 5), (1, 1), (1, 4)])
def test_statistics_equal_the_definition(size):
    draws = np.random.default_rng(3)
    maps = draws.normal(2, 3, (2, 4, *size))
    seen = represent(torch.tensor(maps, dtype=torch.float32), "statistics")
    assert seen.shape == (2, 8, 1, 1)
    np.testing.assert_allclose(seen.numpy(), reference_adversarial.statistics(maps), rtol=1e-5)


def test_statistics_do_not_know_where_and_not_of_other_images():
    maps = logits()
    shuffled = maps.flatten(2)[..., torch.randperm(6)].view(maps.shape)
    seen = represent(maps, "statistics")
    torch.testing.assert_close(represent(shuffled, "statistics"), seen)
    torch.testing.assert_close(represent(maps[1:], "statistics"), seen[1:])


@pytest.mark.parametrize("value", [0.0, 7.0, -1e4])
def test_a_channel_without_variance_has_a_small_deviation_and_no_gradient(value):
    maps = torch.full((1, 2, 4, 4), value, requires_grad=True)
    seen = represent(maps, "statistics")
    torch.testing.assert_close(seen[:, 2:], torch.full((1, 2, 1, 1), 1e-5**0.5))
    seen[:, 2:].sum().backward()
    assert not maps.grad.any()


def test_the_gradient_of_statistics_is_that_of_their_definition():
    draws = np.random.default_rng(4)
    maps, direction = draws.normal(size=(2, 2, 3, 2, 3))
    weights = draws.normal(size=(2, 6, 1, 1))[: len(maps)]
    ours = torch.tensor(maps, dtype=torch.float32, requires_grad=True)
    (represent(ours, "statistics") * torch.tensor(weights, dtype=torch.float32)).sum().backward()
    ahead, behind = (
        (reference_adversarial.statistics(maps + sign * 1e-5 * direction) * weights).sum()
        for sign in (1, -1)
    )
    slope = (ours.grad.numpy() * direction).sum()
    assert slope == pytest.approx((ahead - behind) / 2e-5, rel=1e-4)


# --- classes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(2, 3), (3, 3), (7, 9), (1, 1), (14, 18)])
def test_soft_classes_equal_the_definition(size):
    x = np.random.default_rng(5).normal(0, 5, (2, 4, 7, 9))
    told = soft_classes(torch.tensor(x, dtype=torch.float32), size)
    np.testing.assert_allclose(told, reference_adversarial.soft_classes(x, size), atol=1e-6)
    if size == (7, 9):
        assert told.max() == pytest.approx(0.9), "the test must see the ceiling"


def test_soft_classes_take_no_gradient():
    assert not soft_classes(logits().requires_grad_(), (1, 1)).requires_grad


def halves(seed: int = 0, scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of 2K = 8 for each position, and soft classes."""
    draws = np.random.default_rng(seed)
    classes = 0.9 * draws.dirichlet(np.ones(4), (2, 3, 2)).transpose(0, 3, 1, 2)
    x = draws.normal(0, scale, (2, 8, 3, 2))
    return torch.tensor(x, dtype=torch.float32), torch.tensor(classes, dtype=torch.float32)


@pytest.mark.parametrize("domain", list(Domain))
def test_the_loss_by_class_equals_the_definition(domain):
    x, classes = halves()
    expected = reference_adversarial.class_domain_loss(
        x.double().numpy(), classes.double().numpy(), domain is Domain.TARGET
    )
    assert class_domain_loss(x, classes, domain).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("domain", list(Domain))
def test_its_gradient_is_that_of_the_definition(domain):
    x, classes = halves()
    x.requires_grad_()
    class_domain_loss(x, classes, domain).backward()
    direction = np.random.default_rng(1).normal(size=x.shape)
    ahead, behind = (
        reference_adversarial.class_domain_loss(
            x.detach().double().numpy() + sign * 1e-5 * direction,
            classes.double().numpy(),
            domain is Domain.TARGET,
        )
        for sign in (1, -1)
    )
    slope = (x.grad.double().numpy() * direction).sum()
    assert slope == pytest.approx((ahead - behind) / 2e-5, rel=1e-3)


def test_descent_moves_a_position_to_its_class_of_the_domain():
    x = torch.zeros(1, 6, 1, 1, requires_grad=True)
    class_domain_loss(x, torch.tensor([0.0, 0.9, 0.0]).view(1, 3, 1, 1), Domain.TARGET).backward()
    assert (-x.grad.flatten() > 0).tolist() == [False, False, False, False, True, False]


def test_mean_of_the_losses_of_two_images_is_that_of_both():
    x, classes = halves()
    each = [class_domain_loss(x[i : i + 1], classes[i : i + 1], Domain.SOURCE) for i in (0, 1)]
    assert (each[0] - each[1]).abs() > 0.01
    torch.testing.assert_close(sum(each) / 2, class_domain_loss(x, classes, Domain.SOURCE))


def test_nothing_told_is_nothing_learned():
    x, classes = halves()
    x.requires_grad_()
    value = class_domain_loss(x, torch.zeros_like(classes), Domain.TARGET)
    value.backward()
    assert value == 0
    assert not x.grad.any()


def test_confident_positions_stay_finite():
    x, classes = halves(scale=1e4)
    x.requires_grad_()
    class_domain_loss(x, classes, Domain.TARGET).backward()
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(domain_logits(x)).all()


def test_a_position_is_assigned_to_the_half_with_the_larger_sum_of_probabilities():
    x, y = halves(1)[0], halves(2)[0]
    expected = reference_adversarial.half_accuracy(x.double().numpy(), y.double().numpy())
    assert 0 < expected < 1
    assert accuracy(domain_logits(x), domain_logits(y), "bce").item() == pytest.approx(expected)
    # Not to the half of the largest logit: 0.4 < 0.3 + 0.3.
    p = torch.tensor([0.4, 0.0, 0.3, 0.3]).clamp_min(1e-9).log().view(1, 4, 1, 1)
    assert domain_logits(p).item() == pytest.approx(np.log(1.5), rel=1e-5)
