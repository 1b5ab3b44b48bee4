"""Self-training on class-mixed images with an EMA teacher's pseudo-labels (DACS)."""

from dataclasses import dataclass, field
from typing import ClassVar

from jaxtyping import Float, Int64
from torch import Tensor

from uda.losses.supervised import pixel_cross_entropy
from uda.schedule import Schedule, constant


@dataclass(frozen=True, kw_only=True)
class SelfTraining:
    """Cross-entropy of the student on mixed images (Tranheden et al., DACS, WACV 2021, eq. 2-4).

    Pixels pasted from the source carry their true label and weight 1. Target pixels carry the
    teacher's label and the image's trust: the share of its pixels whose teacher probability is at
    least `teacher.threshold`. DACS computes one such share for the whole batch; ours is one per
    image, so that one easy image does not vouch for a hard one.
    """

    name: ClassVar[str] = "self_training"
    weight: Schedule = field(default_factory=lambda: constant(1.0))

    def __call__(
        self,
        mixed_logits: Float[Tensor, "B K H W"],
        mixed_labels: Int64[Tensor, "B H W"],
        mixed_weights: Float[Tensor, "B H W"],
    ) -> Float[Tensor, ""]:
        return pixel_cross_entropy(mixed_logits, mixed_labels, mixed_weights)

    def health(self, trust: Float[Tensor, "B"]) -> dict[str, Float[Tensor, ""]]:
        """Mean trust in the teacher: near 0 nothing is learned from the target."""
        return {"trust": trust.mean()}
