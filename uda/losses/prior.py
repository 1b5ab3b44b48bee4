"""Alignment with the class prior: the target as a whole should hold what the source holds."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from uda.classes import NUM_CLASSES
from uda.distributed import gather
from uda.losses.regions import class_counts, class_shares
from uda.schedule import Schedule, constant


class RunningPrior(nn.Module):
    """An exponential mean of class shares; before the first it is no distribution but zeros."""

    shares: Tensor
    mass: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shares", torch.zeros(NUM_CLASSES))
        # What the weights of all steps sum to; dividing by it takes the zeros of the start out.
        self.register_buffer("mass", torch.zeros(()))

    def forward(self) -> Float[Tensor, "K"]:
        return self.shares.float() / self.mass.float().clamp_min(1e-12)


@dataclass(frozen=True, kw_only=True)
class Prior:
    """max(0, KL(p || q) - dead_zone): p the prior of the source, q the mean target prediction.

    Label distributions as a constraint on the target: Zhang et al., Curriculum Domain Adaptation,
    ICCV 2017 (1707.09465), and Lian et al., PyCDA, ICCV 2019 (1908.09547). They constrain each
    image (PyCDA: each region, too) by a distribution inferred for it; ours is one for the global
    batch: no image must look like the mean of all, and the domains need not agree exactly, so that
    a divergence of up to `dead_zone` nats costs nothing. A batch of a few crops differs from the
    prior by chance alone.

    p is a running mean, `decay` per step, of the class shares of the source images as they are
    drawn. Rare-class sampling and crops that avoid one class skew it towards rare classes: it is
    then a prior of the training images, not of the streets. At its first step p is unknown and the
    loss 0.
    """

    name: ClassVar[str] = "prior"
    weight: Schedule = field(default_factory=lambda: constant(0.1))
    dead_zone: float = 0.2
    decay: float = 0.99

    def __post_init__(self) -> None:
        if not 0 <= self.dead_zone < math.inf:
            raise ValueError(f"dead_zone: got {self.dead_zone}, want 0 or more")
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay: got {self.decay}, want [0, 1)")

    def __call__(
        self, memory: RunningPrior, target_logits: Float[Tensor, "B K H W"]
    ) -> Float[Tensor, ""]:
        prior, predicted = memory(), mean_prediction(target_logits)
        divergence = (torch.xlogy(prior, prior) - prior * predicted.clamp_min(1e-12).log()).sum()
        return (divergence - self.dead_zone).relu()

    def new_memory(self, embedding_width: int) -> RunningPrior:
        return RunningPrior()

    def remember(self, memory: RunningPrior, source_labels: Int64[Tensor, "B H W"]) -> None:
        """Adds the mean class shares of the labelled source images of the global batch."""
        shares = gather(class_shares(class_counts(source_labels, (1, 1)))[:, 0])
        labelled = shares.sum()  # an image's shares sum to 1, or to 0 where all is ignored
        rate = (1 - self.decay) * (labelled > 0)
        memory.shares += rate * (shares.sum(0) / labelled.clamp_min(1) - memory.shares)
        memory.mass += rate * (1 - memory.mass)

    def health(
        self, memory: RunningPrior, target_logits: Float[Tensor, "B K H W"]
    ) -> dict[str, Float[Tensor, ""]]:
        """Overlap of prior and mean prediction: 1 if equal, 0 if no class is shared."""
        predicted = mean_prediction(target_logits.detach())
        return {"overlap": torch.minimum(memory(), predicted).sum().clamp_max(1)}


def mean_prediction(logits: Float[Tensor, "B K H W"]) -> Float[Tensor, "K"]:
    """Probability of each class over all pixels of all images of the global batch."""
    return gather(logits.float().softmax(1).mean((2, 3))).mean(0)
