"""Similarities of class distributions, and the weights that make rare classes count."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from tests import reference_contrast
from uda.losses.similarity import (
    inverse_frequency,
    pairwise_similarity,
    present_classes,
    reweight,
)

K = 19
KINDS = ("overlap", "jaccard", "bhattacharyya", "jensen_shannon")
EVEN = torch.ones(K)


def draw(count: int, seed: int) -> np.ndarray:
    """Distributions with some shares that are exactly zero."""
    draws = np.random.default_rng(seed)
    p = draws.dirichlet(np.full(K, 0.5), count) * (draws.random((count, K)) < 0.5)
    return p / p.sum(1, keepdims=True)


@pytest.mark.parametrize("kind", KINDS)
def test_every_pair_as_defined(kind):
    p, q = draw(5, 0), draw(7, 1)
    expected = [
        [reference_contrast.similarity(tuple(x), tuple(y), kind) for y in q.tolist()]
        for x in p.tolist()
    ]
    assert np.ptp(expected) > 0.3, "the pairs must differ"
    alike = pairwise_similarity(torch.tensor(p).float(), torch.tensor(q).float(), kind)
    assert alike.dtype == torch.float32
    np.testing.assert_allclose(alike, expected, atol=1e-6)


def test_jensen_shannon_is_that_of_scipy():
    p, q = draw(4, 0), draw(3, 1)
    expected = [[1 - jensenshannon(x, y, base=2) ** 2 for y in q] for x in p]
    alike = pairwise_similarity(torch.tensor(p), torch.tensor(q), "jensen_shannon")
    np.testing.assert_allclose(alike, expected, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_one_if_equal_zero_if_disjoint_and_the_same_both_ways(kind):
    p = torch.tensor(draw(200, 2)).float()
    alike = pairwise_similarity(p, p, kind)
    torch.testing.assert_close(alike.diagonal(), torch.ones(200), atol=1e-6, rtol=0)
    torch.testing.assert_close(alike, alike.T, atol=1e-6, rtol=0)
    assert (alike >= 0).all()
    assert (alike <= 1).all()
    disjoint = (p[:, None] * p == 0).all(2)
    assert disjoint.any()
    assert alike[disjoint].max() < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_compare_with_and_nothing_at_all(kind):
    p = torch.tensor(draw(3, 0)).float()
    assert pairwise_similarity(p, p[:0], kind).shape == (3, 0)
    assert pairwise_similarity(p, torch.zeros(2, K), kind).isfinite().all()


def test_reweight_is_a_power_that_sums_to_one_again():
    p = torch.zeros(3, K)
    p[0, :3] = torch.tensor([0.81, 0.09, 0.1])
    p[2, 10] = 1
    q = reweight(p, 0.0, 0.5, EVEN)
    roots = np.sqrt([0.81, 0.09, 0.1])
    np.testing.assert_allclose(q[0, :3], roots / roots.sum(), rtol=1e-6)
    assert not q[1].any(), "what has no labels keeps no distribution"
    torch.testing.assert_close(q[2], p[2])
    torch.testing.assert_close(reweight(p, 0.0, 1.0, EVEN), p)


def test_presence_comes_before_the_power_and_the_rarity_after_it():
    p = torch.zeros(1, K)
    p[0, :3] = torch.tensor([0.64, 0.355, 0.005])
    rarity = torch.full((K,), 9.0)
    rarity[1] = 3.0
    q = reweight(p, 0.01, 0.5, rarity)[0]
    weights = np.array([9 * np.sqrt(0.64), 3 * np.sqrt(0.355), 0])
    np.testing.assert_allclose(q[:3], weights / weights.sum(), rtol=1e-6)


def test_presence_is_met_by_equality_and_never_by_nothing():
    p = torch.tensor([0.0, 12 / 1200, 11 / 1200, 1.0])
    assert present_classes(p, 0.01).tolist() == [False, True, False, True]
    assert present_classes(p, 0.0).tolist() == [False, True, True, True]


def test_inverse_frequency_is_even_at_first_and_finite_and_positive_for_ever():
    first = inverse_frequency(torch.zeros(K, dtype=torch.int64), torch.tensor(0))
    torch.testing.assert_close(first, torch.full((K,), np.log(2.0)).float())
    containing = torch.tensor([0, 1, 500, 999, 1000])
    expected = [np.log(1001 / (n + 0.5)) for n in containing.tolist()]
    later = inverse_frequency(containing, torch.tensor(1000))
    np.testing.assert_allclose(later, expected, rtol=1e-5)
    huge = 10**12
    everywhere = inverse_frequency(torch.tensor([huge, 0]), torch.tensor(huge))
    assert everywhere.isfinite().all()
    assert everywhere[0] > 0


def test_a_region_with_nothing_but_what_is_everywhere_keeps_its_distribution():
    total = torch.tensor(10**12)
    containing = torch.full((K,), 5)
    containing[:2] = total
    p = torch.zeros(1, K)
    p[0, :2] = torch.tensor([0.75, 0.25])
    q = reweight(p, 0.01, 1.0, inverse_frequency(containing, total))
    torch.testing.assert_close(q, p)
