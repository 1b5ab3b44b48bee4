"""Entropy and maximum squares: how sure is sure, what it weighs, and what it would not see."""

import pytest
import torch

from tests import reference_terms
from tests.test_losses import K
from tests.test_terms import arrays, noise
from uda.losses.entropy import Entropy, diversity
from uda.losses.max_square import MaxSquare


@pytest.mark.parametrize("robust", [0.0, 0.5, 2.0])
def test_entropy_with_and_without_the_robust_penalty(robust):
    logits = noise(2, K, 4, 5, scale=2.0)
    value = Entropy(robust=robust)(logits)
    assert value.item() == pytest.approx(reference_terms.entropy(*arrays(logits), robust), rel=1e-4)


def test_entropy_is_one_where_all_is_possible_and_zero_where_sure():
    unsure, sure = torch.zeros(1, K, 2, 2), torch.zeros(1, K, 2, 2)
    sure[:, 3] = 200.0
    assert Entropy()(unsure).item() == pytest.approx(1.0)
    assert Entropy()(sure).item() == 0.0
    assert Entropy(robust=2.0)(unsure).item() == pytest.approx(1.0, rel=1e-5)


def test_robust_entropy_dwells_on_what_is_uncertain():
    logits = torch.zeros(1, K, 1, 2)
    logits[0, 3] = torch.tensor([3.0, 6.0])  # unsure, nearly sure

    def ratio(loss: Entropy) -> float:
        given = logits.clone().requires_grad_()
        loss(given).backward()
        unsure, sure = given.grad[0, :, 0].norm(dim=0).tolist()
        return unsure / sure

    assert ratio(Entropy(robust=2.0)) > 5 * ratio(Entropy())


def test_diversity_tells_one_class_everywhere_from_all_classes():
    alike, mixed = torch.zeros(1, K, 1, K), torch.zeros(1, K, 1, K)
    alike[:, 3] = 100.0
    mixed[0, :, 0] = 100 * torch.eye(K)
    for loss in (Entropy(), MaxSquare()):
        assert loss.health(alike)["diversity"].item() < 1e-6
        assert loss.health(mixed)["diversity"].item() == pytest.approx(1.0)
    assert loss(alike).item() == pytest.approx(-0.5), "which the loss alone would praise"
    assert diversity(mixed.requires_grad_()).requires_grad is False


@pytest.mark.parametrize("balance", [0.0, 0.2, 1.0])
def test_max_square_with_any_balance(balance):
    logits = noise(3, K, 4, 5, scale=2.0)
    value = MaxSquare(balance=balance)(logits)
    expected = reference_terms.max_square(*arrays(logits), balance)
    assert value.item() == pytest.approx(expected, rel=1e-4)


def test_balance_weighs_classes_of_an_image_by_their_size_there():
    logits = torch.zeros(2, K, 1, 4)
    logits[0, 0, 0, :3] = logits[0, 5, 0, 3] = 5.0
    logits[1, 5] = 5.0
    weights = MaxSquare(balance=1.0).weights(logits)[:, 0]
    torch.testing.assert_close(weights, torch.tensor([[4 / 3, 4 / 3, 4 / 3, 4], [1.0, 1, 1, 1]]))


def test_max_square_pushes_sure_pixels_less_far_ahead_of_unsure_ones_than_entropy_does():
    """Of two classes: the gradient with respect to the probability is linear, not a logarithm."""
    p = torch.tensor([0.6, 0.999], dtype=torch.float64).requires_grad_()
    logits = torch.stack([p.log(), (1 - p).log()])[None, :, None]
    ratios = []
    for loss in (MaxSquare(balance=0.0), Entropy()):
        (grad,) = torch.autograd.grad(loss(logits), p, retain_graph=True)
        ratios.append((grad[1] / grad[0]).item())
    assert ratios[0] == pytest.approx((2 * 0.999 - 1) / (2 * 0.6 - 1), rel=1e-3)
    assert ratios[1] > 3 * ratios[0]
