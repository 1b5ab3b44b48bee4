"""Masked image consistency: what a hidden block shows must follow from what surrounds it (MIC)."""

from dataclasses import dataclass, field
from typing import ClassVar

from jaxtyping import Float, Int64
from torch import Tensor

from uda.losses.supervised import pixel_cross_entropy
from uda.schedule import Schedule, constant


@dataclass(frozen=True, kw_only=True)
class Masked:
    """Cross-entropy of the student on masked target images (Hoyer et al., MIC, CVPR 2023, L^M).

    The teacher labels the whole image, the student sees it with blocks hidden (`augment.mask`) and
    other colours (`augment.masked`); every pixel counts, hidden or not, by `teacher.weighting`. MIC
    has one weight for the batch, its share of trusted pixels; ours is per image or per pixel.
    """

    name: ClassVar[str] = "masked"
    weight: Schedule = field(default_factory=lambda: constant(1.0))

    def __call__(
        self,
        masked_logits: Float[Tensor, "B K H W"],
        pseudo_labels: Int64[Tensor, "B H W"],
        target_weights: Float[Tensor, "B H W"],
    ) -> Float[Tensor, ""]:
        return pixel_cross_entropy(masked_logits, pseudo_labels, target_weights)

    def health(
        self,
        masked_logits: Float[Tensor, "B K H W"],
        pseudo_labels: Int64[Tensor, "B H W"],
        target_weights: Float[Tensor, "B H W"],
    ) -> dict[str, Float[Tensor, ""]]:
        """Mean trust in the teacher, and the share of pixels on which the student agrees with it.

        Full agreement says that the masks hide too little to teach anything.
        """
        agrees = masked_logits.detach().argmax(1) == pseudo_labels
        return {"trust": target_weights.float().mean(), "agreement": agrees.float().mean()}
