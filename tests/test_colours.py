"""Colour transfer against its definition: afterwards the colours have the other's moments."""

import numpy as np
import pytest
import scipy.linalg
import torch

from uda.data.colours import ColourTransfer, transfer_colours


def images(seed: int, spread: float = 0.08, size: tuple[int, int] = (13, 17)) -> torch.Tensor:
    """Correlated colours around mid grey, away from the ends of the range."""
    draws = np.random.default_rng(seed)
    mixing = draws.normal(0, spread, (2, 3, 3))
    values = np.einsum("bij,bjhw->bihw", mixing, draws.normal(size=(2, 3, *size)))
    return torch.tensor(0.5 + draws.uniform(-0.1, 0.1, (2, 3, 1, 1)) + values).clamp(0.05, 0.95)


def generators(count: int = 2, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, i]) for i in range(count)]


def test_equals_the_closed_form_of_optimal_transport():
    source, target = images(1, 0.02), images(2, 0.02)
    moved = transfer_colours(source, target)
    for i in range(2):
        x, y = (t[i].reshape(3, -1).numpy() for t in (source, target))
        s, c = (np.cov(v, bias=True) + 1e-4 * np.eye(3) for v in (x, y))
        root = scipy.linalg.sqrtm(s)
        inverse = np.linalg.inv(root)
        matrix = inverse @ scipy.linalg.sqrtm(root @ c @ root) @ inverse
        expected = matrix @ (x - x.mean(1, keepdims=True)) + y.mean(1, keepdims=True)
        np.testing.assert_allclose(moved[i].reshape(3, -1).numpy(), expected, atol=1e-9)
        np.testing.assert_allclose(moved[i].mean((1, 2)), y.mean(1), atol=1e-9)


def test_an_image_in_its_own_colours_stays_as_it_is():
    source = images(3)
    torch.testing.assert_close(transfer_colours(source, source), source)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constant_and_grey_images_stay_finite_and_within_range(dtype):
    flat = torch.full((2, 3, 13, 17), 0.3, dtype=dtype)
    grey = torch.rand(2, 1, 13, 17, dtype=dtype).expand(2, 3, 13, 17)
    for source, target in ((flat, images(4).to(dtype)), (images(4).to(dtype), flat), (grey, grey)):
        moved = transfer_colours(source, target)
        assert moved.dtype == dtype
        assert moved.isfinite().all()
        assert moved.min() >= 0
        assert moved.max() <= 1


def test_fires_with_the_probability_its_name_says():
    source, target = images(5)[:1].repeat(400, 1, 1, 1), images(6)[:1].repeat(400, 1, 1, 1)
    moved = ColourTransfer(probability=0.3)(source, target, generators(400))
    share = (moved != source).flatten(1).any(1).double().mean().item()
    assert share == pytest.approx(0.3, abs=0.06)
    assert ColourTransfer()(source, target, generators(400)) is source


def test_an_image_is_changed_alike_whatever_its_neighbours():
    """So the number of workers that share a batch does not matter."""
    source, target = images(7), images(8)
    transfer = ColourTransfer(probability=0.9)
    whole = transfer(source, target, generators())
    for i in range(2):
        part = transfer(source[i : i + 1], target[i : i + 1], generators()[i : i + 1])
        torch.testing.assert_close(part, whole[i : i + 1])


def test_what_is_not_a_number_stays_in_its_image():
    source = images(9)
    source[0, 1, 2, 3] = torch.nan
    moved = transfer_colours(source, images(10))
    assert moved[0].isnan().any()
    assert moved[1].isfinite().all()


def test_single_precision_is_close_to_double_for_strong_and_for_flat_colours():
    for spread in (0.3, 0.001):
        source, target = images(11, spread), images(12)
        exact = transfer_colours(source, target)
        close = transfer_colours(source.float(), target.float())
        torch.testing.assert_close(close.double(), exact, rtol=0, atol=2e-3)


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_a_probability_is_one(probability):
    with pytest.raises(ValueError, match="probability: got"):
        ColourTransfer(probability=probability)
