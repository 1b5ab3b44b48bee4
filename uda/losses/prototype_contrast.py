"""Contrast between feature cells and the classes: what the source's embeddings are like by class.

Every labelled cell, of the source and where the teacher is sure of the target, is drawn to its
class and driven from all others. The classes are described by running statistics of the source.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from uda.classes import NUM_CLASSES
from uda.distributed import gather
from uda.losses.cells import cell_labels, check_purity
from uda.schedule import Schedule, constant
from uda.types import check_choices, check_least

Kind = Literal["mean", "gaussian"]

# What a class that has not been seen for long still weighs, in cells: its next batch replaces it.
_TRACE = 1e-6


class Prototypes(nn.Module):
    """Mean and variance of the embeddings of each class; older cells weigh less and less."""

    count: Float[Tensor, "K"]
    mean: Float[Tensor, "K D"]
    variance: Float[Tensor, "K D"]

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(NUM_CLASSES))
        self.register_buffer("mean", torch.zeros(NUM_CLASSES, width))
        self.register_buffer("variance", torch.zeros(NUM_CLASSES, width))

    @property
    def known(self) -> Tensor:
        """Whether each class has been seen at all."""
        return self.count > 0

    def add(
        self,
        count: Float[Tensor, "K"],
        total: Float[Tensor, "K D"],
        squares: Float[Tensor, "K D"],
        momentum: float,
    ) -> None:
        """Merges `count` new cells of each class, given their sum and the sum of their squares."""
        kept = momentum * self.count
        kept = torch.where(self.known, kept.clamp_min(_TRACE), kept)
        share = (count / (kept + count).clamp_min(_TRACE))[:, None]
        mean = total / count.clamp_min(1)[:, None]
        variance = (squares / count.clamp_min(1)[:, None] - mean**2).clamp_min(0)
        shift = mean - self.mean
        # The variance of two populations: that within them and that between their means.
        variance = (1 - share) * (self.variance + share * shift**2) + share * variance
        self.variance.copy_(variance)
        self.mean.add_(share * shift)
        self.count.copy_(kept + count)


@dataclass(frozen=True)
class Cells:
    """The cells of this worker, those of the source images first, against all classes."""

    labels: Int64[Tensor, "B2 h w"]  # 255 without one
    counting: Bool[Tensor, "B2 h w"]  # those with something to learn
    closeness: Float[Tensor, "B2 K h w"]  # q.mu / t
    logits: Float[Tensor, "B2 K h w"]


@dataclass(frozen=True, kw_only=True)
class PrototypeContrast:
    """Contrast with class prototypes (SePiCo, Xie et al., TPAMI 2023: ProtoCL and DistCL).

    For a cell of unit embedding q and class y, with t the temperature and the sums over the classes
    c that have been seen so far:

    - kind "mean" (ProtoCL): L = - q.mu_y / t + log sum_c exp(q.mu_c / t)
    - kind "gaussian" (DistCL): L = - q.mu_y / t + log sum_c exp(q.mu_c / t + q'S_c q / 2t^2), that
      is, cross-entropy of the exponents as logits, plus q'S_y q / 2t^2.

    The second bounds the loss against infinitely many members m ~ N(mu_c, S_c) of every class c,
    of which those of class y are positives and those of the others negatives, each class counted
    once. With e(m) = exp(q.m / t), m of class y and n of class c, the moment generating function
    of a Gaussian gives E_n e(n) = exp(q.mu_c / t + q'S_c q / 2t^2), and so

        E_m [ - log( e(m) / (e(m) + sum_{c != y} E_n e(n)) ) ]
        =  - q.mu_y / t + E_m log( e(m) + sum_{c != y} E_n e(n) )
        <= - q.mu_y / t + log( sum_c E_n e(n) )     (Jensen: the logarithm is concave)

    S_c is diagonal. Gradients reach q alone; mu and S are the memory, of the source's cells before
    this step. A cell of either domain counts if it has a label (`purity`; the target's are trusted
    ones), its class has been seen, and another class too. The mean is over all cells, so that the
    mean over workers is that of the whole batch.

    - `momentum`: what a cell in memory weighs is multiplied by this each step, so 0.99 looks back
      about a hundred steps. The paper averages over everything ever seen, which is 1.0: late
      features then hardly move a prototype.
    - `temperature`: the paper's code has 100, nearly flat for unit vectors; ours is the usual 0.1.

    The paper's third term, on the mean embedding's distribution over prototypes, is left out: as
    released it has the sign that drives this distribution away from uniform, without a bound.
    """

    name: ClassVar[str] = "prototype_contrast"
    weight: Schedule = field(default_factory=lambda: constant(0.1))
    kind: Kind = "gaussian"
    temperature: float = 0.1
    momentum: float = 0.99
    purity: float = 0.75

    def __post_init__(self) -> None:
        check_choices(self, kind=Kind)
        check_least(self, 1e-3, "temperature")
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"momentum: got {self.momentum}, want 0 <= momentum <= 1")
        check_purity(self.purity)

    def prepare(
        self,
        memory: Prototypes,
        source_embeddings: Float[Tensor, "B D h w"],
        source_labels: Int64[Tensor, "B H W"],
        target_embeddings: Float[Tensor, "B D h w"],
        trusted_labels: Int64[Tensor, "B H W"],
    ) -> Cells:
        """Labels of the cells, and how close each is to every class."""
        q = torch.cat([source_embeddings, target_embeddings]).float()
        labels = torch.cat([source_labels, trusted_labels])
        labels = cell_labels(labels, q.shape[2:], self.purity)
        known = memory.known & (memory.known.sum() > 1)  # of one class there is nothing to learn
        known = torch.cat([known, torch.zeros_like(known[:1])])
        return Cells(labels, known[labels.clamp_max(NUM_CLASSES)], *self._compare(q, memory))

    def __call__(self, prepared: Cells) -> Float[Tensor, ""]:
        own = torch.where(prepared.counting, prepared.labels, 0)[:, None]
        loss = prepared.logits.logsumexp(1) - prepared.closeness.gather(1, own)[:, 0]
        return (loss * prepared.counting).mean()

    def health(self, prepared: Cells) -> dict[str, Float[Tensor, ""]]:
        """Share of cells that count, and the share of these whose best logit is their class's."""
        counting = prepared.counting
        right = (prepared.logits.argmax(1) == prepared.labels) & counting
        # Counted over all workers: they differ in how many of their cells count.
        own = torch.stack([right.sum(), counting.sum()]).float()
        num_right, num_counting = gather(own[None]).sum(0)
        accuracy = num_right / num_counting.clamp_min(1)
        return {"cells": counting.float().mean(), "accuracy": accuracy}

    def new_memory(self, embedding_width: int) -> Prototypes:
        return Prototypes(embedding_width)

    def remember(
        self,
        memory: Prototypes,
        prepared: Cells,
        source_embeddings: Float[Tensor, "B D h w"],
    ) -> None:
        """Adds the source's labelled cells of all workers."""
        embeddings = source_embeddings.float()
        labels = prepared.labels[: len(embeddings)]
        one_hot = F.one_hot(labels.clamp_max(NUM_CLASSES), NUM_CLASSES + 1)
        one_hot = one_hot[..., :NUM_CLASSES].to(embeddings)
        total, squares = (
            torch.einsum("bhwk,bdhw->bkd", one_hot, e) for e in (embeddings, embeddings**2)
        )
        rows = torch.cat([one_hot.sum((1, 2))[..., None], total, squares], -1)
        width = embeddings.shape[1]
        count, total, squares = gather(rows).sum(0).split([1, width, width], 1)
        memory.add(count[:, 0], total, squares, self.momentum)

    def _compare(self, q: Tensor, memory: Prototypes) -> tuple[Tensor, Tensor]:
        """q.mu / t and the logits, of every cell with every class."""
        t = self.temperature
        # The quotients are copies: `remember` writes into the memory before the backward pass.
        closeness = torch.einsum("bdhw,kd->bkhw", q, memory.mean / t)
        logits = closeness
        if self.kind == "gaussian":
            logits = logits + torch.einsum("bdhw,kd->bkhw", q**2, memory.variance / (2 * t**2))
        # A finite stand-in for "not in the sum": a row of -inf alone would give NaN.
        nothing = torch.finfo(logits.dtype).min / 2
        return closeness, logits.masked_fill(~memory.known[:, None, None], nothing)
