"""Contrast between images, and parts of images, by the classes that their labels already tell.

Each region, an image or a cell of a grid over it, has a class distribution: the share of its pixels
in each class, from labels in the source and from the teacher in the target. Regions of similar
distributions attract in embedding space, those of different ones repel, within and across domains.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from uda.classes import NUM_CLASSES
from uda.distributed import gather
from uda.losses.pairs import Comparison, mean_where, regression, supcon
from uda.losses.regions import (
    Grid,
    Past,
    Regions,
    class_counts,
    class_shares,
    known_share,
    labels_at,
    weighted_class_means,
)
from uda.losses.similarity import (
    Similarity,
    inverse_frequency,
    pairwise_similarity,
    reweight,
)
from uda.schedule import Schedule, constant
from uda.types import UserError, check_choices, check_least

Pooling = Literal["class", "mean"]
Objective = Literal["supcon", "regression"]

# The regions of one kind, and how they compare with each other and those before.
Compared = tuple[Regions, Comparison]


@dataclass(frozen=True, kw_only=True)
class Contrastive:
    """Contrast graded by the similarity of class distributions; ours, there is no paper.

    Regions: the cells of `grid` (rows, columns) and, with `whole_image`, the images themselves.
    Cells are compared with cells and images with images, each kind with its own statistics, and the
    loss is the mean over the kinds: the same class is common among images and rare among cells.
    Regions of one image are no pair, they look alike for other reasons. One with less than
    `min_known` of its pixels labelled takes no part.

    Distributions: a class with a share p_c below `presence` counts as absent; for the others
    q_c ~ rarity_c p_c ** `power`, which sums to 1. With `idf` the rarity is
    log((N + 1) / (n_c + 1/2)), where n_c of the N regions of this kind, in both domains and all
    steps before in which the loss was active, contained the class; else it is 1.

    Embeddings: z = normalise(sum_c q_c m_c), m_c the mean embedding of the region's positions of
    class c, so that road does not drown the rest; `pooling` "mean" is the mean of all labelled.

    Candidates for the regions i of the batch are j of the batch and of the queues, which hold the
    latest `queue` regions of each domain and kind. With S_ij the `similarity` of q_i and q_j,
    "supcon" (after Khosla et al., SupCon, NeurIPS 2020, eq. 2, with graded positives) is

        L_i = - sum_{j in P_i} S_ij / sum_{k in P_i} S_ik * log( e_ij / sum_{k in P_i u N_i} e_ik )
        e_ij = exp(z_i . z_j / temperature), P_i = {S_ij >= positive}, N_i = {S_ij <= negative}

    Pairs between the thresholds count nowhere, and a region without a positive or without a
    negative is no anchor. "regression" has no thresholds (they then only serve `health`): it is
    KL(softmax_j(S_ij / target_temperature) || softmax_j(z_i . z_j / temperature)) over all pairs,
    a cross-entropy less its smallest value (as Hinton et al., 2015, 1503.02531, distil).

    The mean is over all regions, with or without a part: finite if there is none, and a single
    anchor is no louder than it is among many. The thresholds are for "overlap": the other
    similarities have other values for the same pair ("jaccard" smaller, the rest larger ones).
    """

    name: ClassVar[str] = "contrastive"
    weight: Schedule = field(default_factory=lambda: constant(0.1))
    grid: Grid = (2, 4)
    whole_image: bool = True
    min_known: float = 0.2
    presence: float = 0.01
    power: float = 0.5
    idf: bool = True
    pooling: Pooling = "class"
    similarity: Similarity = "overlap"
    queue: int = 256
    objective: Objective = "supcon"
    temperature: float = 0.1
    target_temperature: float = 0.1
    positive: float = 0.6
    negative: float = 0.15

    def __post_init__(self) -> None:
        if len(self.grid) != 2 or min(self.grid) < 1:
            raise ValueError(f"grid: got {self.grid}, want (rows, columns) of 1 or more")
        if not 0 <= self.min_known <= 1:
            raise ValueError(f"min_known: got {self.min_known}, want 0 to 1")
        if not 0 <= self.presence < 1 / NUM_CLASSES:  # so that some class always is present
            raise ValueError(f"presence: got {self.presence}, want 0 <= presence < 1/{NUM_CLASSES}")
        if not 0 < self.power <= 1:
            raise ValueError(f"power: got {self.power}, want 0 < power <= 1")
        if self.queue < 0:
            raise ValueError(f"queue: got {self.queue}, want 0 or more")
        check_least(self, 1e-3, "temperature", "target_temperature")
        if not 0 <= self.negative < self.positive <= 1:
            raise ValueError(
                f"negative, positive: got {self.negative}, {self.positive}, "
                "want 0 <= negative < positive <= 1"
            )
        check_choices(self, pooling=Pooling, similarity=Similarity, objective=Objective)

    @property
    def grids(self) -> tuple[Grid, ...]:
        """One for each kind of region."""
        return (self.grid, (1, 1)) if self.whole_image and self.grid != (1, 1) else (self.grid,)

    def new_memory(self, embedding_width: int) -> nn.ModuleList:
        """A `Past` for each kind of region."""
        return nn.ModuleList(Past(self.queue, embedding_width) for _ in self.grids)

    def prepare(
        self,
        memory: nn.ModuleList,
        source_embeddings: Float[Tensor, "B D h w"],
        source_labels: Int64[Tensor, "B H W"],
        target_embeddings: Float[Tensor, "B D h w"],
        trusted_labels: Int64[Tensor, "B H W"],
    ) -> list[Compared]:
        """The regions of each kind, of all workers, with all they may be compared with."""
        embeddings = torch.cat([source_embeddings, target_embeddings])
        regions = self.regions(memory, embeddings, torch.cat([source_labels, trusted_labels]))
        kinds = zip(regions, _kinds(memory), strict=True)
        return [(now, self._compare(now, past)) for now, past in kinds]

    def __call__(self, prepared: list[Compared]) -> Float[Tensor, ""]:
        return torch.stack([self._value(pairs) for _, pairs in prepared]).mean()

    def health(self, prepared: list[Compared]) -> dict[str, Float[Tensor, ""]]:
        """Whether there is something to learn from, and whether it is learned.

        - `anchors`: share of the regions that have a positive and a negative.
        - `trusted`: share of the target's regions that take part.
        - `across`: share of the positive pairs that are of different domains.
        - `positive_similarity`, `negative_similarity`: (1 + cosine) / 2 of the embeddings, mean
          over the pairs; 0 if there are none, 1/2 is a right angle.
        """
        each = [_figures(pairs) for _, pairs in prepared]
        return {name: torch.stack([of[name] for of in each]).mean() for name in each[0]}

    def remember(self, memory: nn.ModuleList, prepared: list[Compared]) -> None:
        """Puts the regions of the global batch into the queues and counts their classes."""
        for (now, _), past in zip(prepared, _kinds(memory), strict=True):
            past.add(now, self.presence)

    def regions(
        self,
        memory: nn.ModuleList,
        embeddings: Float[Tensor, "B2 D h w"],
        labels: Int64[Tensor, "B2 H W"],
    ) -> list[Regions]:
        """The regions of each kind, of all workers. Given: source images, then the target's."""
        size = embeddings.shape[2:]
        if self.grid[0] > size[0] or self.grid[1] > size[1]:
            raise UserError(
                f"losses.contrastive.grid: got {self.grid[0]} x {self.grid[1]}, want at most the "
                f"{size[0]} x {size[1]} positions of the feature map that projection.reads names"
            )
        pixels, positions = class_counts(labels, self.grid), labels_at(labels, embeddings)
        seen = class_counts(positions, self.grid)
        kinds = []
        for grid, past in zip(self.grids, _kinds(memory), strict=True):
            if grid != self.grid:  # the counts of an image are those of its cells together
                pixels, seen = pixels.sum(1, keepdim=True), seen.sum(1, keepdim=True)
            shares = class_shares(pixels)
            weights = (
                self._reweight(shares, past) if self.pooling == "class" else class_shares(seen)
            )
            pooled = weighted_class_means(embeddings.float(), positions, grid, seen, weights)
            # Of a class that no position shows there is no embedding.
            takes_part = (weights * seen[..., :-1]).sum(-1) > 0
            takes_part = takes_part & (known_share(pixels) >= self.min_known)
            known = torch.cat([F.normalize(pooled, dim=-1), shares], -1)
            kinds.append(known * takes_part[..., None])
        return self._of_all_workers(torch.cat(kinds, 1))

    def _of_all_workers(self, local: Float[Tensor, "B2 R F"]) -> list[Regions]:
        """By one exchange for all kinds."""
        images_first = local.unflatten(0, (2, -1)).transpose(0, 1)
        domains_first = gather(images_first).transpose(0, 1)
        counts = [rows * columns for rows, columns in self.grids]
        kinds = [kind.flatten(0, 2) for kind in domains_first.split(counts, 2)]
        return [
            Regions(kind[:, :-NUM_CLASSES], kind[:, -NUM_CLASSES:], count)
            for kind, count in zip(kinds, counts, strict=True)
        ]

    def _compare(self, now: Regions, past: Past) -> Comparison:
        shares = torch.cat([now.shares, past.shares.flatten(0, 1)])
        embeddings = torch.cat([now.embeddings, past.embeddings.flatten(0, 1)])
        count, device = len(now.shares), shares.device
        image = torch.arange(count, device=device) // now.num_per_image
        same_image = F.pad(image[:, None] == image, (0, len(shares) - count))
        taking_part = shares.sum(1) > 0
        pair = taking_part[:count, None] & taking_part & ~same_image
        of_target = [torch.arange(n, device=device) >= n // 2 for n in (count, len(shares) - count)]
        weighted = self._reweight(shares, past)
        similarity = pairwise_similarity(weighted[:count], weighted, self.similarity)
        return Comparison(
            taking_part=taking_part[:count],
            similarity=similarity,
            cosine=now.embeddings @ embeddings.T,
            pair=pair,
            positive=(similarity >= self.positive) & pair,
            negative=(similarity <= self.negative) & pair,
            across=of_target[0][:, None] != torch.cat(of_target),
        )

    def _reweight(self, shares: Float[Tensor, "*N K"], past: Past) -> Float[Tensor, "*N K"]:
        rarity = inverse_frequency(past.containing, past.total)
        rarity = rarity if self.idf else torch.ones_like(rarity)
        return reweight(shares, self.presence, self.power, rarity)

    def _value(self, pairs: Comparison) -> Float[Tensor, ""]:
        if self.objective == "supcon":
            return supcon(pairs, self.temperature)
        return regression(pairs, self.temperature, self.target_temperature)


def _kinds(memory: nn.ModuleList) -> list[Past]:
    return cast(list[Past], list(memory))


def _figures(pairs: Comparison) -> dict[str, Float[Tensor, ""]]:
    """`health` of one kind of region."""
    halfway = ((1 + pairs.cosine) / 2).clamp(0, 1)
    target = pairs.taking_part[len(pairs.taking_part) // 2 :]
    return {
        "anchors": pairs.anchors.float().mean(),
        "trusted": target.float().mean(),
        "across": mean_where(pairs.across.float(), pairs.positive),
        "positive_similarity": mean_where(halfway, pairs.positive),
        "negative_similarity": mean_where(halfway, pairs.negative),
    }
