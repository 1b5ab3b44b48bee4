"""Distance from the features of the start on things: what they knew is not to be forgotten."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from uda.distributed import gather
from uda.losses.cells import cell_labels, check_purity
from uda.schedule import Schedule, constant

# DAFormer's, by trainId: light, sign, person, rider, car, truck, bus, train, motorcycle, bicycle.
THINGS = (6, 7, 11, 12, 13, 14, 15, 16, 17, 18)


@dataclass(frozen=True, kw_only=True)
class FeatureDistance:
    """Thing-class feature distance (Hoyer et al., DAFormer, CVPR 2022, L_FD).

    Mean of ||F(x) - F_0(x)||_2 over the cells of the last map of the backbone that one thing class
    fills to at least `purity`. F_0 is the backbone that training starts from: of ImageNet, as in
    DAFormer, unless `model.pretrained` is a checkpoint. ImageNet teaches things well and stuff
    badly, so only cells of things hold the backbone back.

    DAFormer takes the mean over the cells of one process and leaves it NaN where there are none.
    Here it is over the cells of the global batch, so that two workers compute what one computes,
    and 0 without any; its weight means the same.
    """

    name: ClassVar[str] = "feature_distance"
    weight: Schedule = field(default_factory=lambda: constant(0.005))
    purity: float = 0.75

    def __post_init__(self) -> None:
        check_purity(self.purity)

    def __call__(
        self,
        source_backbone: Float[Tensor, "B C h w"],
        pretrained_backbone: Float[Tensor, "B C h w"],
        source_labels: Int64[Tensor, "B H W"],
    ) -> Float[Tensor, ""]:
        cells = self.cells(source_labels, source_backbone).float()
        # Where nothing has moved yet PyTorch's gradient of the norm is 0, not 0 / 0.
        distance = torch.linalg.vector_norm(source_backbone - pretrained_backbone, dim=1)
        own = torch.stack([(distance * cells).sum((1, 2)), cells.sum((1, 2))], 1)
        total, count = gather(own).sum(0)
        return total / count.clamp_min(1)

    def cells(
        self, source_labels: Int64[Tensor, "B H W"], features: Float[Tensor, "B C h w"]
    ) -> Bool[Tensor, "B h w"]:
        """Cells of the map whose pixels are of one thing class to at least `purity`."""
        labels = cell_labels(source_labels, features.shape[2:], self.purity)
        return torch.stack([labels == thing for thing in THINGS]).any(0)

    def health(
        self,
        source_backbone: Float[Tensor, "B C h w"],
        source_labels: Int64[Tensor, "B H W"],
    ) -> dict[str, Float[Tensor, ""]]:
        """Share of cells that are held back."""
        return {"cells": self.cells(source_labels, source_backbone).float().mean()}
