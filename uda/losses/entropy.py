"""Minimum entropy: the student should be sure of the target."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from uda.losses.prior import mean_prediction
from uda.schedule import Schedule, constant


def pixel_entropy(logits: Float[Tensor, "B K H W"]) -> Float[Tensor, "B H W"]:
    """-sum_c p_c log p_c / log K: 0 where sure, 1 where every class is as likely."""
    log_p = logits.float().log_softmax(1)
    return -(log_p.exp() * log_p).sum(1) / math.log(logits.shape[1])


def diversity(logits: Float[Tensor, "B K H W"]) -> Float[Tensor, ""]:
    """Entropy of the mean prediction / log K: near 0 the network says one class everywhere."""
    mean = mean_prediction(logits.detach())
    return -(mean.xlogy(mean).sum() / math.log(len(mean))).clamp(-1, 0)


@dataclass(frozen=True, kw_only=True)
class Entropy:
    """Mean entropy of the target's pixels (Vu et al., ADVENT, CVPR 2019, MinEnt, eq. 2-3).

    `robust`: the exponent eta of the Charbonnier penalty (x^2 + 0.001^2)^eta of an entropy x, which
    dwells on what is uncertain (Yang and Soatto, FDA, CVPR 2020, L_ent; they take 2, at weight
    0.005). 0 leaves the entropy as it is. Their code adds 1e-8 where the paper has 1e-6.
    """

    name: ClassVar[str] = "entropy"
    weight: Schedule = field(default_factory=lambda: constant(1e-3))
    robust: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.robust < math.inf:
            raise ValueError(f"robust: got {self.robust}, want 0 (off) or an exponent")

    def __call__(self, target_logits: Float[Tensor, "B K H W"]) -> Float[Tensor, ""]:
        entropy = pixel_entropy(target_logits)
        if self.robust:
            entropy = (entropy**2 + 1e-6) ** self.robust
        return entropy.mean()

    def health(self, target_logits: Float[Tensor, "B K H W"]) -> dict[str, Float[Tensor, ""]]:
        """Diversity of the predictions: one class everywhere has no entropy either."""
        return {"diversity": diversity(target_logits)}
