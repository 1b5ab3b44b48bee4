"""Whether a network says the same of an image that is perturbed: class-balanced IoU of both."""

import numpy as np
from jaxtyping import Int64

from uda.quality.statistics import Evidence


def consistency(evidence: Evidence) -> float:
    """Mean over the perturbed views (after CTE, 2503.00450, which has pixel shares).

    Each expected class counts alike, and one that no view shows counts 0: a constant prediction,
    perfectly consistent by pixels, gets one class of all. NaN without views.
    """
    values = [balanced_iou(counts, evidence.expected) for counts in evidence.target.views.values()]
    return float(np.mean(values)) if values else float("nan")


def of_view(evidence: Evidence, name: str) -> float:
    """The same of one view; NaN where it was not looked at."""
    counts = evidence.target.views.get(name)
    return float("nan") if counts is None else balanced_iou(counts, evidence.expected)


def balanced_iou(counts: Int64[np.ndarray, "K K"], classes: np.ndarray) -> float:
    """Mean IoU of two predictions over `classes`; 0 for one that neither shows."""
    hits = counts.diagonal()[classes]
    union = counts.sum(0)[classes] + counts.sum(1)[classes] - hits
    return float(np.mean(hits / np.maximum(union, 1))) if len(classes) else float("nan")
