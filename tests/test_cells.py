"""Labels of cells: a share of pixels decides."""

import numpy as np
import pytest
import torch

from tests import reference_prototypes as reference
from uda.losses.cells import cell_labels


@pytest.mark.parametrize("purity", [0.51, 0.75, 1.0])
@pytest.mark.parametrize("size", [(3, 4), (2, 3), (5, 7), (6, 8), (7, 9)])
def test_a_cell_has_the_label_of_enough_of_its_pixels(size, purity):
    draws = np.random.default_rng(0)
    labels = draws.choice([0, 7, 18, 255], (3, 2, 4)).repeat(3, 1).repeat(2, 2)
    labels[draws.random(labels.shape) < 0.15] = 7
    expected = reference.cell_labels(labels, size, purity)
    assert len(np.unique(expected)) > 2, "the test must see several labels"
    cells = cell_labels(torch.tensor(labels), torch.Size(size), purity)
    np.testing.assert_array_equal(cells.numpy(), expected)


def test_three_of_four_pixels_are_enough_and_ignored_ones_count():
    labels = torch.tensor([[[5, 5, 5, 5, 5, 255], [5, 6, 6, 6, 255, 255]]])
    assert cell_labels(labels, torch.Size((1, 3)), 0.75).tolist() == [[[5, 255, 255]]]


def test_a_cell_without_pixels_has_no_label():
    labels = torch.full((1, 2, 2), 4)
    assert cell_labels(labels, torch.Size((3, 2)), 0.75).tolist() == [[[4, 4], [4, 4], [255, 255]]]
