"""Contrast between feature cells of the whole batch, across images and domains."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from uda.classes import IGNORE, NUM_CLASSES
from uda.distributed import gather
from uda.losses.cells import cell_labels, check_purity
from uda.schedule import Schedule, constant
from uda.types import check_least


def draw_balanced(
    labels: Int64[Tensor, "B n"], lottery: Float[Tensor, "B n"], samples: int
) -> Int64[Tensor, "B s"]:
    """Positions of at most `samples` cells of each image, one class after the other in turn.

    The cell with the lowest ticket of every class, then the second of every class and so on: rare
    classes give all they have and the common ones share the rest. Ignored cells come last, so that
    the number of positions does not depend on the labels.
    """
    order = lottery.argsort(dim=1, stable=True)
    drawn = labels.gather(1, order)
    classes = F.one_hot(drawn.clamp_max(NUM_CLASSES), NUM_CLASSES + 1)
    turn = (classes.cumsum(1) * classes).sum(-1)  # the how-manieth cell of its class
    turn = turn.masked_fill(drawn == IGNORE, labels.shape[1] + 1)
    return order.gather(1, turn.argsort(dim=1, stable=True)[:, :samples])


@dataclass(frozen=True)
class Draw:
    """Cells of the global batch. Class 255 fills up and is related to nothing."""

    embeddings: Float[Tensor, "N D"]
    classes: Float[Tensor, "N"]

    @cached_property
    def cosines(self) -> Float[Tensor, "N N"]:
        return self.embeddings @ self.embeddings.T

    @cached_property
    def pairs(self) -> Bool[Tensor, "N N"]:
        """All pairs of labelled cells, of which none is with itself."""
        labelled = self.classes != IGNORE
        itself = torch.eye(len(labelled), dtype=torch.bool, device=labelled.device)
        return labelled[:, None] & labelled & ~itself

    @cached_property
    def same(self) -> Bool[Tensor, "N N"]:
        return self.classes[:, None] == self.classes

    @cached_property
    def anchors(self) -> Bool[Tensor, "N"]:
        """Cells with something to attract and something to repel."""
        return (self.pairs & self.same).any(1) & (self.pairs & ~self.same).any(1)


@dataclass(frozen=True, kw_only=True)
class PixelContrast:
    """Supervised contrast between labelled cells (the pixel-wise part of PiPa, Chen et al., 2023).

    Of each image `samples` cells are drawn, balanced by class. Over the cells of the global batch,
    with y_i the class and z_i the unit embedding (Khosla et al., SupCon, NeurIPS 2020, eq. 2):

        L_i = - 1 / |P_i| sum_{j in P_i} log( e_ij / sum_{k != i} e_ik )
        e_ij = exp(z_i . z_j / temperature), P_i = {j != i: y_j = y_i}

    Wang et al. (ICCV 2021, eq. 3) leave the other positives out of the sum in the denominator, and
    draw half of their samples from wrongly predicted pixels. A cell without a positive or without a
    negative is no anchor; the mean is over all places, filled or not, so it is always finite.

    PiPa draws from the source alone, whose labels are true. Ours also draws cells of the target of
    which the teacher is sure: only pairs across the domains say that they should be alike.

    `purity` is the share of its pixels that must agree for a cell to have a label (`cell_labels`).
    """

    name: ClassVar[str] = "pixel_contrast"
    weight: Schedule = field(default_factory=lambda: constant(0.1))
    temperature: float = 0.1
    samples: int = 128
    purity: float = 0.75

    def __post_init__(self) -> None:
        check_least(self, 1e-3, "temperature")
        if self.samples < 1:
            raise ValueError(f"samples: got {self.samples}, want 1 or more")
        check_purity(self.purity)

    def prepare(
        self,
        source_embeddings: Float[Tensor, "B D h w"],
        source_labels: Int64[Tensor, "B H W"],
        target_embeddings: Float[Tensor, "B D h w"],
        trusted_labels: Int64[Tensor, "B H W"],
        lottery: Float[Tensor, "B h w"],
    ) -> Draw:
        """The drawn cells of all workers; those of the target hold the tickets of the source's."""
        embeddings = torch.cat([source_embeddings, target_embeddings]).float()
        labels = torch.cat([source_labels, trusted_labels])
        classes = cell_labels(labels, embeddings.shape[2:], self.purity).flatten(1)
        tickets = torch.cat([lottery, lottery]).flatten(1)
        places = draw_balanced(classes, tickets, self.samples)
        channels = places[:, None].expand(-1, embeddings.shape[1], -1)
        drawn = embeddings.flatten(2).gather(2, channels).movedim(1, 2)
        # One collective for both: classes are exact in a float.
        rows = torch.cat([drawn, classes.gather(1, places)[..., None].to(drawn)], -1)
        rows = gather(rows).flatten(0, 1)
        return Draw(rows[:, :-1], rows[:, -1])

    def __call__(self, prepared: Draw) -> Float[Tensor, ""]:
        pairs, scores = prepared.pairs, prepared.cosines / self.temperature
        # A finite stand-in for "not in the sum": a row of -inf alone would give NaN.
        scores = scores.masked_fill(~pairs, torch.finfo(scores.dtype).min / 2)
        positive = (pairs & prepared.same).to(scores)
        attraction = (positive * scores.log_softmax(1)).sum(1) / positive.sum(1).clamp_min(1)
        return (-attraction * prepared.anchors).mean()

    def health(self, prepared: Draw) -> dict[str, Float[Tensor, ""]]:
        """Share of drawn cells that are anchors, and of these whose nearest cell is a positive."""
        nearest = prepared.cosines.masked_fill(~prepared.pairs, -2).argmax(1)
        anchors = prepared.anchors
        right = (prepared.classes[nearest] == prepared.classes) & anchors
        accuracy = right.sum() / anchors.sum().clamp_min(1)
        return {"anchors": anchors.float().mean(), "accuracy": accuracy}
