"""Terms of structure: pixels near a boundary, and neighbours that look alike."""

import numpy as np
import pytest
import torch

from tests import reference_terms
from tests.test_losses import K
from tests.test_terms import arrays, block_labels, noise
from uda.losses.affinity import Affinity
from uda.losses.boundary import Boundary
from uda.losses.supervised import Supervised, pixel_cross_entropy

# --- boundary ------------------------------------------------------------------------------------


@pytest.mark.parametrize("radius_px", [1, 2, 5])
def test_near_a_boundary_against_the_reference(radius_px):
    labels = block_labels(3, 14, 17, side=7)
    near = Boundary(radius_px=radius_px).near(labels)
    expected = reference_terms.near_boundary(labels.numpy(), radius_px)
    np.testing.assert_array_equal(near.numpy(), expected)
    share = Boundary(radius_px=radius_px).health(labels)["pixels"].item()
    assert share == pytest.approx(expected.mean())


def test_only_pixels_beside_another_label_and_never_for_an_ignored_one():
    labels = torch.tensor([[[0, 0, 0, 1, 255, 2], [0, 0, 0, 0, 255, 2]]])
    near = Boundary(radius_px=1).near(labels).int()
    assert near.tolist() == [[[0, 0, 1, 1, 0, 0], [0, 0, 0, 1, 0, 0]]]
    assert Boundary(radius_px=2).near(labels).int().tolist() == [[[0, 1, 1, 1, 1, 0]] * 2]


def test_with_the_supervised_loss_pixels_near_a_boundary_count_more():
    logits, labels = noise(2, K, 8, 9), block_labels(2, 8, 9)
    loss = Boundary(radius_px=1)
    weights = 1 + 0.7 * loss.near(labels).float()
    together = Supervised()(logits, labels) + 0.7 * loss(logits, labels)
    torch.testing.assert_close(together, pixel_cross_entropy(logits, labels, weights))


# --- affinity ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "settings"),
    [
        ((7, 10), {"stride": 2, "dilations": (1,)}),
        ((5, 6), {"stride": 1, "dilations": (1, 3), "sigma_colour": 0.4}),
        ((9, 5), {"stride": 4, "dilations": (2, 4)}),  # 3 x 2 cells: few offsets fit
        ((1, 6), {"stride": 1}),
    ],
)
def test_affinity_of_any_size_against_the_reference(size, settings):
    logits = noise(2, K, *size, scale=2.0)
    colours = torch.tensor(np.random.default_rng(2).random((2, 3, *size)), dtype=torch.float32)
    expected = reference_terms.affinity(*arrays(colours, logits), **settings)
    assert Affinity(**settings)(colours, logits).item() == pytest.approx(expected, rel=1e-4)
    assert expected > 1e-3


@pytest.mark.parametrize("size", [(1, 1), (3, 4)])
def test_a_single_cell_has_no_neighbour(size):
    logits, colours = noise(2, K, *size), torch.rand(2, 3, *size)
    value = Affinity()(colours, logits)
    value.backward()
    assert value.item() == 0.0
    assert not logits.grad.any()
    assert Affinity().health(colours)["alike"].item() == 0.0


def test_predictions_may_differ_only_where_the_colours_do():
    sides = torch.tensor([0, 0, 1, 1]).expand(1, 4, 4)
    logits = 50 * torch.nn.functional.one_hot(sides, K).movedim(-1, 1).float()
    flat = torch.full((1, 3, 4, 4), 0.5)
    edge = sides[:, None].repeat(1, 3, 1, 1).float()
    loss = Affinity(stride=1, dilations=(1,))
    assert loss(flat, logits).item() > 0.1
    assert loss(edge, logits).item() == pytest.approx(0.0, abs=1e-6)
    assert loss.health(flat)["alike"].item() == 1.0
    assert 0.5 < loss.health(edge)["alike"].item() < 1.0


def test_descent_carries_a_label_to_alike_neighbours_and_not_across_an_edge():
    sides = torch.tensor([0.0, 0, 0, 1, 1, 1])
    colours = sides.expand(1, 3, 2, 6).contiguous()
    logits = torch.zeros(1, K, 2, 6)
    logits[0, 7, :, 0] = 2.0  # a hint of one class at one end, of another at the other
    logits[0, 2, :, 5] = 2.0
    logits.requires_grad_()
    loss = Affinity(stride=1, dilations=(1,))
    optimiser = torch.optim.Adam([logits], lr=0.2)
    for _ in range(60):
        optimiser.zero_grad()
        loss(colours, logits).backward()
        optimiser.step()
    assert logits.argmax(1)[0].tolist() == [[7, 7, 7, 2, 2, 2]] * 2
