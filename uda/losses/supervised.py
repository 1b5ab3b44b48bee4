"""Cross-entropy on labels: the source domain's own loss."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from uda.classes import IGNORE
from uda.schedule import Schedule, constant


def pixel_cross_entropy(
    logits: Float[Tensor, "B K H W"],
    labels: Int64[Tensor, "B H W"],
    weights: Float[Tensor, "B H W"] | None = None,
) -> Float[Tensor, ""]:
    """Mean over *all* pixels of the (weighted) cross-entropy; ignored pixels contribute zero.

    Dividing by all pixels instead of the valid ones (as DAFormer does) keeps the mean of two
    halves of a batch equal to the mean of the whole, so the loss does not depend on how many
    workers share a batch, and a batch without any valid pixel gives zero instead of NaN.
    """
    loss = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="none")
    return (loss if weights is None else loss * weights).mean()


@dataclass(frozen=True, kw_only=True)
class Supervised:
    """L = mean over pixels of -log p(label) on the augmented source images."""

    name: ClassVar[str] = "supervised"
    weight: Schedule = field(default_factory=lambda: constant(1.0))

    def __call__(
        self, source_logits: Float[Tensor, "B K H W"], source_labels: Int64[Tensor, "B H W"]
    ) -> Float[Tensor, ""]:
        return pixel_cross_entropy(source_logits, source_labels)

    def health(self) -> dict[str, Float[Tensor, ""]]:
        """Nothing but the loss itself tells how supervision goes."""
        return {}
