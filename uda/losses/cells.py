"""Labels at the resolution of a feature map, for losses on single cells."""

import torch
from jaxtyping import Int64
from torch import Tensor

from uda.classes import IGNORE, NUM_CLASSES


def check_purity(purity: float) -> None:
    """Refuses a share of pixels that two classes of a cell could have at once.

    Raises:
        ValueError: it is not above one half, or is above 1.
    """
    if not 0.5 < purity <= 1:
        raise ValueError(f"purity: got {purity}, want 0.5 < purity <= 1")


def cell_labels(
    labels: Int64[Tensor, "B H W"], size: torch.Size, purity: float
) -> Int64[Tensor, "B h w"]:
    """The class that has at least `purity` of a cell's pixels, 255 where none has.

    Pixel y belongs to row y * h // H of `size` = (h, w), likewise in x. Ignored pixels count among
    the cell's, so that a cell at the edge of the labelled area is no purer than it looks
    (SePiCo, Xie et al., TPAMI 2023, with 0.75; there by pooling one-hot maps).
    """
    (height, width), (h, w) = labels.shape[1:], size
    rows = torch.arange(height, device=labels.device) * h // height
    columns = torch.arange(width, device=labels.device) * w // width
    # One slot for each class of each cell; counting needs no one-hot map of the whole image.
    slots = (rows[:, None] * w + columns) * (NUM_CLASSES + 1) + labels.clamp_max(NUM_CLASSES)
    counts = torch.zeros(len(labels), h * w * (NUM_CLASSES + 1), device=labels.device)
    counts = counts.scatter_add(1, slots.flatten(1), torch.ones_like(slots.flatten(1)).to(counts))
    counts = counts.view(len(labels), h, w, NUM_CLASSES + 1)
    most, label = counts[..., :NUM_CLASSES].max(-1)
    # A cell without a pixel, of a map finer than its labels, has no label either.
    return torch.where(most >= purity * counts.sum(-1).clamp_min(1), label, IGNORE)
