"""Agreement with an ensemble of other checkpoints on the same target images."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8

from uda.classes import NUM_CLASSES
from uda.quality.consistency import balanced_iou
from uda.quality.statistics import Evidence

Impressions = Mapping[int, UInt8[np.ndarray, "K h w"]]


def agreement(evidence: Evidence) -> float:
    """Class-balanced IoU with the labels that the ensemble's mean gives (EnsV, Hu et al., 2024).

    On the coarse grid of the impressions. NaN without an ensemble.
    """
    mine, theirs = evidence.target.impressions, evidence.ensemble
    common = sorted(mine.keys() & theirs.keys())
    if not common:
        return float("nan")
    counts = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
    for image in common:
        pair = NUM_CLASSES * theirs[image].argmax(0) + mine[image].argmax(0)
        counts += np.bincount(pair.ravel(), minlength=NUM_CLASSES**2).reshape(counts.shape)
    return balanced_iou(counts, evidence.expected)


def mean_of(members: Sequence[Impressions]) -> dict[int, UInt8[np.ndarray, "K h w"]]:
    """The ensemble: the mean of the members' impressions of those images that all have seen."""
    if not members:
        return {}
    common = set(members[0]).intersection(*members[1:])
    means = {image: np.stack([m[image] for m in members]).mean(0) for image in sorted(common)}
    return {image: mean.round().astype(np.uint8) for image, mean in means.items()}
