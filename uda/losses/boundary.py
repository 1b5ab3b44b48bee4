"""More weight for the source's pixels near a boundary between labels."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from uda.classes import IGNORE
from uda.losses.supervised import pixel_cross_entropy
from uda.schedule import Schedule, constant


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """Cross-entropy of the source pixels near a boundary, as a mean over all pixels.

    Beside the supervised loss of weight 1 every such pixel so counts 1 + weight, as in the weight
    map of Ronneberger et al., U-Net, MICCAI 2015, eq. 2, with a step for its Gaussian. Near is a
    pixel that touches another label above, below, left or right, and all within `radius_px` - 1
    rows and columns of one that does. An ignored pixel makes no boundary.
    """

    name: ClassVar[str] = "boundary"
    weight: Schedule = field(default_factory=lambda: constant(0.5))
    radius_px: int = 3

    def __post_init__(self) -> None:
        if self.radius_px < 1:
            raise ValueError(f"radius_px: got {self.radius_px}, want 1 or more")

    def __call__(
        self, source_logits: Float[Tensor, "B K H W"], source_labels: Int64[Tensor, "B H W"]
    ) -> Float[Tensor, ""]:
        near = self.near(source_labels).float()
        return pixel_cross_entropy(source_logits, source_labels, near)

    def near(self, labels: Int64[Tensor, "B H W"]) -> Bool[Tensor, "B H W"]:
        """The pixels that count."""
        touching = torch.zeros_like(labels, dtype=torch.bool)
        for axis in (1, 2):
            size = labels.shape[axis] - 1
            one, other = labels.narrow(axis, 0, size), labels.narrow(axis, 1, size)
            differ = (one != other) & (one != IGNORE) & (other != IGNORE)
            touching.narrow(axis, 0, size).logical_or_(differ)
            touching.narrow(axis, 1, size).logical_or_(differ)
        reach = self.radius_px - 1
        return F.max_pool2d(touching.float(), 2 * reach + 1, stride=1, padding=reach) > 0

    def health(self, source_labels: Int64[Tensor, "B H W"]) -> dict[str, Float[Tensor, ""]]:
        """Share of pixels that count."""
        return {"pixels": self.near(source_labels).float().mean()}
