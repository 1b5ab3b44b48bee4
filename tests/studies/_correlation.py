"""How well a score that needs no labels ranks networks whose true mIoU is known."""

import numpy as np
from jaxtyping import Float


def spearman(score: Float[np.ndarray, "N"], truth: Float[np.ndarray, "N"]) -> float:
    """Correlation of the ranks; ties share their mean rank. NaN where all are alike."""
    return _correlation(ranks(score), ranks(truth), np.ones(len(score)))


def weighted_spearman(score: Float[np.ndarray, "N"], truth: Float[np.ndarray, "N"]) -> float:
    """The same with weights for what is, or seems to be, good (Musgrave et al., 2208.07360).

    A network weighs the square of the higher of its two ranks, as a share of the highest rank:
    to mix up bad ones costs little, to think a bad one good costs much.
    """
    mine, theirs = ranks(score), ranks(truth)
    weights = np.maximum(mine / mine.max(), theirs / theirs.max()) ** 2
    return _correlation(mine, theirs, weights)


def ranked_right(score: np.ndarray, truth: np.ndarray, margin: float) -> tuple[int, float]:
    """Of the pairs whose scores differ by `margin` or more: how many, and the share in true order.

    NaN where there is none.
    """
    first, second = np.triu_indices(len(score), 1)
    difference = score[first] - score[second]
    apart = (np.abs(difference) >= margin) & (difference != 0)
    right = difference * (truth[first] - truth[second]) > 0
    return int(apart.sum()), float(right[apart].mean()) if apart.any() else float("nan")


def regret(score: Float[np.ndarray, "N"], truth: Float[np.ndarray, "N"]) -> float:
    """True score of the best minus that of the chosen; of equal choices, the worst one's."""
    chosen = truth[score == np.nanmax(score)].min()
    return float(truth.max() - chosen)


def ranks(values: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    """1 for the lowest; NaN is lower than all."""
    values = np.where(np.isnan(values), -np.inf, values)
    distinct, place, count = np.unique(values, return_inverse=True, return_counts=True)
    assert len(distinct)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def _correlation(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
    weights = weights / weights.sum()
    x, y = x - weights @ x, y - weights @ y
    deviation = np.sqrt((weights @ x**2) * (weights @ y**2))
    return float(weights @ (x * y) / deviation) if deviation > 0 else float("nan")
