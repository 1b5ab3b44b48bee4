"""Images cut into a grid of regions: their class shares, pooled embeddings, and a memory of both.

A grid has (rows, columns) and its cells are numbered row by row; (1, 1) is the whole image. A pixel
or a position of a feature map belongs to the cell in which its centre lies. Counts have a column
more than there are classes, L = K + 1, for the ignored positions.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from uda.classes import NUM_CLASSES
from uda.losses.similarity import present_classes

Grid = tuple[int, int]


@dataclass(frozen=True)
class Regions:
    """All of one kind in the global batch: those of the source images, then of the target's.

    `embeddings` have unit length, `shares` sum to 1; both are 0 in a region that takes no part.
    """

    embeddings: Float[Tensor, "N D"]
    shares: Float[Tensor, "N K"]
    num_per_image: int

    @property
    def taking_part(self) -> Bool[Tensor, "N"]:
        return self.shares.sum(1) > 0

    def by_domain(self, rows: Float[Tensor, "N F"]) -> Float[Tensor, "2 M F"]:
        return rows.unflatten(0, (2, -1))


class Past(nn.Module):
    """The latest regions of one kind by domain, newest first, and how many had each class.

    An empty place in a queue holds zeros, like a region that takes no part.
    """

    embeddings: Tensor
    shares: Tensor
    containing: Tensor
    total: Tensor

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.register_buffer("embeddings", torch.zeros(2, length, width))
        self.register_buffer("shares", torch.zeros(2, length, NUM_CLASSES))
        self.register_buffer("containing", torch.zeros(NUM_CLASSES, dtype=torch.int64))
        self.register_buffer("total", torch.zeros((), dtype=torch.int64))

    def add(self, regions: Regions, presence: float) -> None:
        length = self.shares.shape[1]
        shares = torch.cat([regions.by_domain(regions.shares), self.shares], 1)
        embeddings = torch.cat([regions.by_domain(regions.embeddings), self.embeddings], 1)
        # Those that take no part go to the end and are cut off: a fixed shape, yet no holes.
        order = (shares.sum(2) > 0).to(torch.uint8).argsort(dim=1, descending=True, stable=True)
        rows = torch.arange(2, device=order.device)[:, None], order[:, :length]
        # In place: data-parallel training holds on to the buffers that it saw first.
        self.shares.copy_(shares[rows])
        self.embeddings.copy_(embeddings[rows])
        self.containing += present_classes(regions.shares, presence).sum(0)
        self.total += regions.taking_part.sum()


def class_counts(labels: Int64[Tensor, "B H W"], grid: Grid) -> Float[Tensor, "B R L"]:
    """Positions of each class in each region, and of none."""
    rows, columns = _cells(labels, grid)
    width = NUM_CLASSES + 1
    # Row by row first: so many additions to few places would wait for each other on a GPU.
    index = columns * width + labels.clamp_max(NUM_CLASSES)
    one = torch.ones((), device=labels.device)
    by_row = one.new_zeros(*labels.shape[:2], grid[1] * width)
    by_row = by_row.scatter_add(2, index, one.expand(index.shape))
    counts = one.new_zeros(len(labels), grid[0], grid[1] * width).index_add(1, rows, by_row)
    return counts.view(len(labels), grid[0] * grid[1], width)


def class_shares(counts: Float[Tensor, "*B L"]) -> Float[Tensor, "*B K"]:
    """Share of each class among the labelled positions; all 0 if there are none."""
    labelled = counts[..., :-1]
    return labelled / labelled.sum(-1, keepdim=True).clamp_min(1)


def known_share(counts: Float[Tensor, "*B L"]) -> Float[Tensor, "*B"]:
    """Share of the positions that are labelled."""
    return counts[..., :-1].sum(-1) / counts.sum(-1).clamp_min(1)


def labels_at(
    labels: Int64[Tensor, "B H W"], embeddings: Float[Tensor, "B D h w"]
) -> Int64[Tensor, "B h w"]:
    """The labels at the centres of a feature map's positions."""
    (height, width), (h, w) = labels.shape[1:], embeddings.shape[2:]
    rows = (2 * torch.arange(h, device=labels.device) + 1) * height // (2 * h)
    columns = (2 * torch.arange(w, device=labels.device) + 1) * width // (2 * w)
    return labels[:, rows[:, None], columns]


def weighted_class_means(
    embeddings: Float[Tensor, "B D h w"],
    labels: Int64[Tensor, "B h w"],
    grid: Grid,
    counts: Float[Tensor, "B R L"],
    weights: Float[Tensor, "B R K"],
) -> Float[Tensor, "B R D"]:
    """sum_c weights_c m_c of each region, m_c its mean embedding of class c (0 if it has none).

    `counts` are the class counts of `labels`. Written as one weighted sum over positions: the K
    means themselves are never held.
    """
    rows, columns = _cells(labels, grid)
    of_position = F.pad(weights / counts[..., :-1].clamp_min(1), (0, 1))  # ignored ones weigh 0
    cells = rows[:, None] * grid[1] + columns
    index = cells * (NUM_CLASSES + 1) + labels.clamp_max(NUM_CLASSES)
    factors = of_position.flatten(1).gather(1, index.flatten(1)).view(labels.shape)
    # Sums over cells as products with 0/1 matrices: the same bits each time, also on a GPU.
    in_row, in_column = (
        (torch.arange(count, device=labels.device) == cell[:, None]).to(embeddings.dtype)
        for cell, count in zip((rows, columns), grid, strict=True)
    )
    sums = in_row.T @ (embeddings * factors[:, None] @ in_column)
    return sums.flatten(2).transpose(1, 2)


def _cells(labels: Int64[Tensor, "B h w"], grid: Grid) -> tuple[Tensor, Tensor]:
    """The grid's row of each row of a map, and its column of each column."""
    rows, columns = (
        (2 * torch.arange(n, device=labels.device) + 1) * cells // (2 * n)
        for n, cells in zip(labels.shape[1:], grid, strict=True)
    )
    return rows, columns
