"""Contrast between images by the class distributions that their labels already give.

Each image has a class distribution: the share of its pixels in each class, from labels in the
source and from the teacher in the target. Images with similar distributions attract in embedding
space, images with entirely different ones repel, within and across the domains.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from uda.schedule import Schedule, constant


def overlap(p: Float[Tensor, "N K"]) -> Float[Tensor, "N N"]:
    """Pairwise sum_c min(p_c, q_c) of distributions: 1 if equal, 0 if no class is shared."""
    return torch.minimum(p[:, None], p[None]).sum(-1)


def reweight(p: Float[Tensor, "N K"], power: float) -> Float[Tensor, "N K"]:
    """p ** power, normalised again. A power below 1 keeps road and sky from deciding alone."""
    powered = p**power
    return powered / powered.sum(-1, keepdim=True).clamp_min(1e-12)


@dataclass(frozen=True)
class Pairs:
    """How the images of a batch relate; an image is no pair with itself."""

    similarity: Float[Tensor, "N N"]
    positive: Bool[Tensor, "N N"]
    negative: Bool[Tensor, "N N"]

    @property
    def anchors(self) -> Bool[Tensor, "N"]:
        """Images with something to attract and something to repel."""
        return self.positive.any(1) & self.negative.any(1)


@dataclass(frozen=True, kw_only=True)
class Contrastive:
    """Soft supervised contrast (Khosla et al., SupCon, NeurIPS 2020, eq. 2) with graded positives.

    An image's embedding is class-aware, so that road does not drown the rest: with q the
    distribution raised to `power` and m_c the mean embedding of the pixels of class c,
    z = normalise(sum_c q_c m_c). For an anchor i, with S the overlap of the q:

        L_i = - sum_{j in P_i} S_ij / sum_{k in P_i} S_ik * log( e_ij / sum_{k in P_i u N_i} e_ik )
        e_ij = exp(z_i . z_j / temperature), P_i = {S_ij >= positive}, N_i = {S_ij <= negative}

    Pairs between the thresholds count nowhere. An image without a positive or without a negative
    is no anchor; the mean is over all images, so it stays finite when there is no anchor at all.
    """

    name: ClassVar[str] = "contrastive"
    weight: Schedule = field(default_factory=lambda: constant(0.1))
    temperature: float = 0.1
    positive: float = 0.75
    negative: float = 0.6
    power: float = 0.5

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature: got {self.temperature}, want more than 0")
        if not 0 <= self.negative < self.positive <= 1:
            raise ValueError(
                f"negative, positive: got {self.negative}, {self.positive}, "
                "want 0 <= negative < positive <= 1"
            )
        if not 0 < self.power <= 1:
            raise ValueError(f"power: got {self.power}, want 0 < power <= 1")

    def __call__(
        self,
        class_embeddings: Float[Tensor, "N K D"],
        class_distributions: Float[Tensor, "N K"],
    ) -> Float[Tensor, ""]:
        """The rows are all source, then all target images of the global batch."""
        pairs = self.pairs(class_distributions)
        shares = reweight(class_distributions, self.power)
        embeddings = F.normalize(torch.einsum("nk,nkd->nd", shares, class_embeddings), dim=1)
        scores = embeddings @ embeddings.T / self.temperature
        # A finite stand-in for "not in the denominator": a row of -inf alone would give NaN.
        nothing = torch.finfo(scores.dtype).min / 2
        scores = scores.masked_fill(~(pairs.positive | pairs.negative), nothing)
        strength = pairs.similarity * pairs.positive
        strength = strength / strength.sum(1, keepdim=True).clamp_min(1e-12)
        return (-(strength * scores.log_softmax(1)).sum(1) * pairs.anchors).mean()

    def pairs(self, class_distributions: Float[Tensor, "N K"]) -> Pairs:
        """Who attracts whom and who repels whom, from the class distributions alone."""
        similarity = overlap(reweight(class_distributions, self.power))
        known = class_distributions.sum(-1) > 0  # an all-ignore image has no distribution
        pair = known[:, None] & known[None]
        pair = pair & ~torch.eye(len(known), dtype=torch.bool, device=known.device)
        return Pairs(
            similarity, (similarity >= self.positive) & pair, (similarity <= self.negative) & pair
        )

    def health(self, class_distributions: Float[Tensor, "N K"]) -> dict[str, Float[Tensor, ""]]:
        """Share of images that are anchors: a loss near zero may mean that nobody takes part."""
        return {"anchors": self.pairs(class_distributions).anchors.float().mean()}
