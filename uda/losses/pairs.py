"""What pairs of regions, alike or not by their classes, ask of their embeddings."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Comparison:
    """Regions of the batch (rows) against those of the batch and of the queues (columns)."""

    taking_part: Bool[Tensor, "N"]
    similarity: Float[Tensor, "N M"]  # of the distributions
    cosine: Float[Tensor, "N M"]  # of the embeddings
    pair: Bool[Tensor, "N M"]  # both take part, and they are not of one image
    positive: Bool[Tensor, "N M"]
    negative: Bool[Tensor, "N M"]
    across: Bool[Tensor, "N M"]  # of different domains

    @property
    def anchors(self) -> Bool[Tensor, "N"]:
        """Regions with something to attract and something to repel."""
        return self.positive.any(1) & self.negative.any(1)


def supcon(pairs: Comparison, temperature: float) -> Float[Tensor, ""]:
    """The "supcon" of `Contrastive`: mean over all rows, those that are no anchor counting 0."""
    scores = _only(pairs.positive | pairs.negative, pairs.cosine / temperature)
    strength = pairs.similarity * pairs.positive
    strength = strength / strength.sum(1, keepdim=True).clamp_min(1e-12)
    return (-(strength * scores.log_softmax(1)).sum(1) * pairs.anchors).mean()


def regression(
    pairs: Comparison, temperature: float, target_temperature: float
) -> Float[Tensor, ""]:
    """The "regression" of `Contrastive`: mean over all rows, those without a pair counting 0."""
    wanted = _only(pairs.pair, pairs.similarity / target_temperature).log_softmax(1)
    ours = _only(pairs.pair, pairs.cosine / temperature).log_softmax(1)
    return ((wanted.exp() * (wanted - ours)).sum(1) * pairs.pair.any(1)).mean()


def mean_where(values: Float[Tensor, "N M"], where: Bool[Tensor, "N M"]) -> Float[Tensor, ""]:
    """Mean of the values at some places; 0 if there are none."""
    return (values * where).sum() / where.sum().clamp_min(1)


def _only(where: Bool[Tensor, "N M"], scores: Float[Tensor, "N M"]) -> Float[Tensor, "N M"]:
    """Scores for a softmax that leaves out the others.

    By a finite number: -inf in the whole of a row would give NaN.
    """
    return scores.masked_fill(~where, torch.finfo(scores.dtype).min / 2)
