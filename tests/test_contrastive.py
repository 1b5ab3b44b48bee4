"""Contrast between images: who takes part, what attracts and repels, and the temperature."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import reference
from tests.test_losses import D, K, make, tensors
from uda.losses.contrastive import Contrastive, overlap, reweight

# --- who takes part ------------------------------------------------------------------


def distributions(*rows: dict[int, float]) -> Tensor:
    p = torch.zeros(len(rows), K)
    for i, row in enumerate(rows):
        for c, share in row.items():
            p[i, c] = share
    return p


ROAD, SKY, HALF = {0: 1.0}, {10: 1.0}, {0: 0.5, 10: 0.5}


def test_overlap_is_the_sum_of_minima():
    draws = np.random.default_rng(0)
    p = draws.dirichlet(np.full(K, 0.3), 6)
    expected = [[sum(min(a, b) for a, b in zip(x, y, strict=True)) for y in p] for x in p]
    np.testing.assert_allclose(overlap(torch.tensor(p)).numpy(), expected)
    np.testing.assert_allclose(np.diag(expected), 1.0)


def test_reweight_is_a_power_that_sums_to_one_again():
    p = distributions({0: 0.81, 1: 0.09, 2: 0.1}, {}, SKY)
    shares = reweight(p, 0.5)
    roots = np.sqrt([0.81, 0.09, 0.1])
    np.testing.assert_allclose(shares[0, :3], roots / roots.sum(), rtol=1e-6)
    assert not shares[1].any(), "an image without labels keeps no distribution"
    torch.testing.assert_close(shares[2], p[2])
    torch.testing.assert_close(reweight(p, 1.0), p)


def test_an_image_is_no_pair_with_itself_and_pairs_are_mutual():
    pairs = Contrastive().pairs(distributions(ROAD, ROAD, SKY, {0: 0.6, 10: 0.4}, {}))
    for relation in (pairs.positive, pairs.negative):
        assert not relation.diagonal().any()
        assert torch.equal(relation, relation.T)
    assert not (pairs.positive & pairs.negative).any()
    assert pairs.positive.nonzero().tolist() == [[0, 1], [1, 0]]


def test_between_the_thresholds_counts_nowhere():
    # Overlap of the square roots' distributions: 0.5 with each pure image; 1 with its equal.
    p = distributions(ROAD, HALF, HALF)
    loose = Contrastive(negative=0.4, positive=0.75).pairs(p)
    assert not loose.negative.any()
    assert loose.positive.nonzero().tolist() == [[1, 2], [2, 1]]
    strict = Contrastive(negative=0.5, positive=0.75).pairs(p)
    assert strict.negative.nonzero().tolist() == [[0, 1], [0, 2], [1, 0], [2, 0]]


def test_an_image_between_the_thresholds_of_all_others_gets_no_gradient():
    loss = Contrastive(negative=0.4, positive=0.9)
    z = torch.randn(4, K, D, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss(z, distributions(ROAD, ROAD, SKY, HALF)).backward()
    assert not z.grad[3].any()
    assert z.grad[:3].flatten(1).any(1).all()


def test_anchors_need_a_positive_and_a_negative():
    loss = Contrastive()
    p = distributions(ROAD, ROAD, SKY, {})
    assert loss.pairs(p).anchors.tolist() == [True, True, False, False]
    assert loss.health(p)["anchors"].item() == 0.5


@pytest.mark.parametrize(
    "rows",
    [(ROAD, ROAD, ROAD), (ROAD, SKY, {5: 1.0}), (ROAD,), ({}, {}), (ROAD, {})],
    ids=["all alike", "all different", "one image", "no labels", "one labelled"],
)
def test_without_anchors_loss_and_gradient_are_zero(rows):
    z = torch.randn(len(rows), K, D, generator=torch.Generator().manual_seed(0)).requires_grad_()
    value = Contrastive()(z, distributions(*rows))
    value.backward()
    assert value.item() == 0.0
    assert not z.grad.any()


# --- what it does ----------------------------------------------------------------------


def pooled(z: Tensor, p: Tensor, power: float = 0.5) -> Tensor:
    embedding = torch.einsum("nk,nkd->nd", reweight(p, power), z)
    return torch.nn.functional.normalize(embedding, dim=1)


def test_a_small_step_pulls_similar_images_together_and_pushes_different_ones_apart():
    p = distributions(ROAD, ROAD, SKY, SKY)
    z = torch.randn(4, K, D, generator=torch.Generator().manual_seed(3)).requires_grad_()
    loss = Contrastive(temperature=1.0)
    before = pooled(z.detach(), p)
    loss(z, p).backward()
    after = pooled(z.detach() - 0.1 * z.grad, p)
    change = (after @ after.T - before @ before.T).tolist()
    assert change[0][1] > 0
    assert change[2][3] > 0
    assert sum(change[i][j] for i in (0, 1) for j in (2, 3)) < 0


def test_descent_ends_with_alike_images_equal_and_different_ones_opposite():
    p = distributions(ROAD, ROAD, SKY, SKY)
    z = torch.randn(4, K, D, generator=torch.Generator().manual_seed(3)).requires_grad_()
    for _ in range(200):
        (grad,) = torch.autograd.grad(Contrastive(temperature=0.5)(z, p), z)
        z = (z - grad).detach().requires_grad_()
    cosines = pooled(z.detach(), p) @ pooled(z.detach(), p).T
    assert min(cosines[0, 1], cosines[2, 3]) > 0.98
    assert cosines[:2, 2:].max() < -0.9


@pytest.mark.parametrize("temperature", [0.05, 0.5, 2.0])
def test_one_positive_and_one_negative_is_a_softplus_of_their_difference(temperature):
    p = distributions(ROAD, ROAD, SKY)
    z = torch.randn(3, K, D, generator=torch.Generator().manual_seed(1))
    cosine = (pooled(z, p) @ pooled(z, p).T).double().numpy()
    softplus = [np.log1p(np.exp((cosine[i, 2] - cosine[0, 1]) / temperature)) for i in (0, 1)]
    value = Contrastive(temperature=temperature)(z, p)
    assert value.item() == pytest.approx(sum(softplus) / 3, rel=1e-4)


def test_a_lower_temperature_dwells_on_the_nearest_negative():
    p = distributions(ROAD, ROAD, SKY, {5: 1.0})
    z = torch.randn(4, K, D, generator=torch.Generator().manual_seed(1)).requires_grad_()
    cosine = pooled(z.detach(), p)[0] @ pooled(z.detach(), p)[2:].T
    near, far = (2, 3) if cosine[0] > cosine[1] else (3, 2)

    def ratio(temperature: float) -> float:
        (grad,) = torch.autograd.grad(Contrastive(temperature=temperature)(z, p), z)
        return (grad[near].norm() / grad[far].norm()).item()

    assert ratio(0.1) > 2 * ratio(10.0)


def test_scores_far_below_zero_are_not_drowned_by_the_images_that_are_left_out():
    """All cosines -0.5 at temperature 1e-6: scores of -5e5, and still log 2."""
    angles = torch.tensor([0.0, 120.0, 240.0]).deg2rad()
    z = torch.zeros(3, K, 2)
    z[:, [0, 0, 10]] = torch.stack([angles.cos(), angles.sin()], 1)[:, None]
    value = Contrastive(temperature=1e-6)(z, distributions(ROAD, ROAD, SKY))
    assert value.item() == pytest.approx(2 * np.log(2) / 3, rel=0.2)


def test_graded_positives_share_the_pull_by_their_overlap():
    inputs = make("ordinary", size=3, seed=5)
    draws = np.random.default_rng(2)
    inputs["class_distributions"] = draws.dirichlet(np.full(4, 0.7), 6) @ np.eye(K)[:4]
    settings = {"temperature": 0.3, "positive": 0.7, "negative": 0.55, "power": 0.8}
    loss = Contrastive(**settings)
    ours = tensors(inputs)
    similarity = loss.pairs(ours["class_distributions"])
    assert (similarity.positive.sum(1) > 1).any(), "some anchor has several positives"
    expected = reference.contrastive(
        inputs["class_embeddings"], inputs["class_distributions"], **settings
    )
    assert expected > 0.1
    assert loss(ours["class_embeddings"], ours["class_distributions"]).item() == pytest.approx(
        expected, rel=1e-4
    )


def test_classes_that_an_image_does_not_show_do_not_matter():
    ours = tensors(make("ordinary"))
    absent = ours["class_distributions"] == 0
    z = ours["class_embeddings"].detach()
    other = torch.where(absent[..., None], 100.0, z)
    p = ours["class_distributions"]
    torch.testing.assert_close(Contrastive()(z, p), Contrastive()(other, p))


def test_order_of_the_images_does_not_matter():
    ours = tensors(make("ordinary"))
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    z, p = ours["class_embeddings"].detach(), ours["class_distributions"]
    torch.testing.assert_close(Contrastive()(z, p), Contrastive()(z[order], p[order]))


def test_zero_embeddings_have_a_finite_gradient():
    z = torch.zeros(4, K, D, requires_grad=True)
    Contrastive()(z, distributions(ROAD, ROAD, SKY, SKY)).backward()
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.0},
        {"temperature": -1.0},
        {"positive": 0.5, "negative": 0.5},
        {"positive": 1.1},
        {"negative": -0.1},
        {"power": 0.0},
        {"power": 1.5},
    ],
)
def test_bad_settings_of_contrast_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Contrastive(**settings)
