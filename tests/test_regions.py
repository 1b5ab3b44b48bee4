"""Counting and pooling by the cells of a grid, and the queue of past regions."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests import reference_contrast
from uda.losses.regions import (
    Past,
    Regions,
    class_counts,
    class_shares,
    known_share,
    labels_at,
    weighted_class_means,
)

K = 19
GRIDS = [(1, 1), (2, 4), (3, 2), (6, 9), (1, 5)]


def draw_labels(height: int, width: int, count: int = 3) -> np.ndarray:
    draws = np.random.default_rng(height * width)
    labels = draws.integers(0, K, (count, height, width))
    labels[draws.random(labels.shape) < 0.3] = 255
    labels[0] = 255
    return labels


@pytest.mark.parametrize("size", [(6, 9), (13, 10)])
@pytest.mark.parametrize("grid", GRIDS)
def test_counts_pixel_by_pixel(grid, size):
    labels = draw_labels(*size)
    counts = class_counts(torch.tensor(labels), grid)
    expected = np.stack([reference_contrast.counted(one, grid) for one in labels])
    np.testing.assert_array_equal(counts, expected)


def test_cells_of_an_image_that_divides_are_its_blocks():
    labels = torch.zeros(1, 4, 8, dtype=torch.int64)
    labels[0, 2:, 6:] = 5
    counts = class_counts(labels, (2, 4))
    assert counts[0, :, 5].tolist() == [0, 0, 0, 0, 0, 0, 0, 4]
    assert counts.sum(2).tolist() == [[4.0] * 8]


def test_counts_are_exact_above_what_float16_holds():
    labels = torch.full((1, 700, 700), 3)
    labels[0, 0, 0] = 255
    assert class_counts(labels, (1, 1))[0, 0, [3, -1]].tolist() == [489_999, 1]


def test_shares_are_of_the_labelled_and_known_says_how_many_they_are():
    counts = torch.zeros(2, 1, K + 1)
    counts[0, 0, [1, 4, K]] = torch.tensor([1.0, 3.0, 4.0])
    counts[1, 0, K] = 8
    shares = class_shares(counts)
    assert shares[0, 0, [1, 4]].tolist() == [0.25, 0.75]
    assert not shares[1].any()
    assert known_share(counts).tolist() == [[0.5], [0.0]]


@pytest.mark.parametrize("size", [(4, 6), (3, 5), (7, 11), (20, 30)])
def test_labels_at_centres(size):
    labels = draw_labels(12, 18)
    found = labels_at(torch.tensor(labels), torch.zeros(3, 2, *size))
    expected = np.stack([reference_contrast.shrunk(one, size) for one in labels])
    np.testing.assert_array_equal(found, expected)
    nearest = F.interpolate(torch.tensor(labels)[:, None].double(), size, mode="nearest-exact")
    torch.testing.assert_close(found, nearest[:, 0].long())


@pytest.mark.parametrize("grid", GRIDS)
def test_weighted_means_class_by_class(grid):
    draws = np.random.default_rng(4)
    labels, embeddings = draw_labels(6, 9) % 4, draws.normal(size=(3, 5, 6, 9))
    weights = draws.random((3, grid[0] * grid[1], K))
    labels_, embeddings_ = torch.tensor(labels), torch.tensor(embeddings)
    counts = class_counts(labels_, grid)
    pooled = weighted_class_means(embeddings_, labels_, grid, counts, torch.tensor(weights).float())
    expected = np.stack(
        [
            np.einsum("rk,rkd->rd", w, reference_contrast.class_means(e, y, grid))
            for w, e, y in zip(weights, embeddings, labels, strict=True)
        ]
    )
    assert abs(expected).max() > 0.1
    np.testing.assert_allclose(pooled, expected, atol=1e-6)


def test_ignored_positions_and_absent_classes_count_nowhere():
    labels = torch.tensor([[[2, 255, 2]]])
    embeddings = torch.randn(1, 4, 1, 3, generator=torch.Generator().manual_seed(0))
    embeddings.requires_grad_()
    weights = torch.zeros(1, 1, K)
    weights[..., [2, 7]] = torch.tensor([0.25, 0.75])
    pooled = weighted_class_means(embeddings, labels, (1, 1), class_counts(labels, (1, 1)), weights)
    torch.testing.assert_close(pooled[0, 0], 0.25 * embeddings[0, :, 0, [0, 2]].mean(1))
    pooled.sum().backward()
    assert embeddings.grad[0, 0, 0].tolist() == [0.125, 0.0, 0.125]


# --- what is remembered ------------------------------------------------------------------------


def regions(*marks: int) -> Regions:
    """One region for each mark, whose embedding and only class it is; 0 takes no part."""
    marks_ = torch.tensor(marks)
    return Regions(
        embeddings=marks_[:, None].float().repeat(1, 2),
        shares=F.one_hot(marks_, K).float() * (marks_ > 0)[:, None],
        num_per_image=1,
    )


def held(past: Past) -> list[list[float]]:
    assert torch.equal(past.shares.argmax(2), past.embeddings[..., 0].long())
    return past.embeddings[..., 0].tolist()


def test_the_newest_come_first_and_the_oldest_go_each_domain_by_itself():
    past = Past(3, 2)
    past.add(regions(1, 2, 11, 12), 0.01)
    assert held(past) == [[1, 2, 0], [11, 12, 0]]
    past.add(regions(3, 4, 13, 14), 0.01)
    assert held(past) == [[3, 4, 1], [13, 14, 11]]


def test_a_region_that_takes_no_part_takes_no_place():
    past = Past(3, 2)
    past.add(regions(1, 2, 11, 0), 0.01)
    past.add(regions(0, 3, 0, 0), 0.01)
    assert held(past) == [[3, 1, 2], [11, 0, 0]]


def test_more_than_a_queue_holds_and_no_queue():
    past = Past(2, 2)
    past.add(regions(1, 0, 2, 3, 11, 12, 13, 14), 0.01)
    assert held(past) == [[1, 2], [11, 12]]
    nothing = Past(0, 2)
    nothing.add(regions(1, 11), 0.01)
    assert nothing.embeddings.shape == (2, 0, 2)


def test_the_buffers_stay_the_same_tensors():
    """Data-parallel training copies the buffers that it found at the start to all workers."""
    past = Past(2, 2)
    before = {name: tensor.data_ptr() for name, tensor in past.named_buffers()}
    past.add(regions(1, 11), 0.01)
    assert {name: tensor.data_ptr() for name, tensor in past.named_buffers()} == before


def test_regions_that_show_a_class_are_counted_over_all_steps():
    past = Past(0, 2)
    shares = torch.zeros(4, K)
    shares[0, [0, 5]] = torch.tensor([0.995, 0.005])
    shares[1, [0, 5]] = torch.tensor([0.98, 0.02])
    shares[2, 7] = 1.0
    for _ in range(2):
        past.add(Regions(torch.zeros(4, 2), shares, 1), presence=0.01)
    assert past.total.item() == 6, "the last one takes no part"
    counted: Tensor = past.containing
    assert counted[[0, 5, 7]].tolist() == [4, 2, 2]
    assert counted.sum() == 8
