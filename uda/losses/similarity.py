"""How alike class distributions are, and the weights that keep road and sky from deciding alone."""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

Similarity = Literal["overlap", "jaccard", "bhattacharyya", "jensen_shannon"]


def pairwise_similarity(
    p: Float[Tensor, "N K"], q: Float[Tensor, "M K"], kind: Similarity
) -> Float[Tensor, "N M"]:
    """How alike each p and each q are: 1 if equal, 0 if they share no class.

    - "overlap": O = sum_c min(p_c, q_c), which is 1 minus the total variation.
    - "jaccard": sum_c min / sum_c max = O / (2 - O), the weighted form of Ruzicka (1958).
    - "bhattacharyya": sum_c sqrt(p_c q_c) (Bhattacharyya, 1943).
    - "jensen_shannon": 1 - JSD(p, q) / ln 2 (Lin, IEEE Trans. Inf. Theory 1991, eq. 4.1).

    No array of N x M x K is made. Takes part in no gradient.
    """
    p, q = p.detach(), q.detach()
    if kind == "bhattacharyya":
        alike = p.sqrt() @ q.sqrt().T
    elif kind == "jensen_shannon":
        alike = 1 - _jensen_shannon(p, q) / math.log(2)
    else:
        # Of two numbers the smaller is half of what is left of their sum after their distance.
        alike = 1 - torch.cdist(p, q, p=1) / 2
        if kind == "jaccard":
            alike = alike / (2 - alike)
    return alike.clamp(0, 1)  # rounding


def _jensen_shannon(p: Float[Tensor, "N K"], q: Float[Tensor, "M K"]) -> Float[Tensor, "N M"]:
    """Class by class, so that equal distributions give an exact 0."""
    divergence = p.new_zeros(len(p), len(q))
    for mine, other in zip(p.T[:, :, None], q.T[:, None, :], strict=True):
        middle = torch.special.entr((mine + other) / 2)
        divergence += middle - (torch.special.entr(mine) + torch.special.entr(other)) / 2
    return divergence


def present_classes(p: Float[Tensor, "*N K"], presence: float) -> Bool[Tensor, "*N K"]:
    """Classes with at least the share `presence`, and any at all."""
    return (p >= presence) & (p > 0)


def reweight(
    p: Float[Tensor, "*N K"], presence: float, power: float, rarity: Float[Tensor, "K"]
) -> Float[Tensor, "*N K"]:
    """rarity_c * p_c ** power of the classes that are present, normalised to sum 1.

    The largest of K shares is at least 1 / K: with a `presence` below that and positive rarities
    something is always left, but for a p of zeros, which stays one.
    """
    kept = p**power * present_classes(p, presence) * rarity
    return kept / kept.sum(-1, keepdim=True).clamp_min(torch.finfo(p.dtype).tiny)


def inverse_frequency(containing: Int64[Tensor, "K"], total: Int64[Tensor, ""]) -> Tensor:
    """log((N + 1) / (n_c + 1/2)) of classes that n_c of N regions contain, shape (K,).

    Inverse document frequency (Sparck Jones, J. Documentation 1972), smoothed: finite for a class
    that was never seen, just above 0 for one that is everywhere, the same for all at the start.
    """
    without = (total - containing).float()
    return torch.log1p((without + 0.5) / (containing.float() + 0.5))
