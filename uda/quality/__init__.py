"""Measures of adaptation quality that need no target label: higher is better.

Each is a function of `Evidence`, in a file of its own, and a line of `MEASURES`. All are finite or
NaN, which says that there is nothing to judge by. What becomes of them is `uda.quality.score`'s.
"""

from collections.abc import Callable
from functools import partial

from uda.classes import CLASS_LISTS
from uda.quality.agreement import agreement
from uda.quality.alignment import confusability, proximity
from uda.quality.certainty import certainty, information, nuclear_norm
from uda.quality.consistency import consistency, of_view
from uda.quality.density import density, separation
from uda.quality.prior import coverage, prior_fit
from uda.quality.statistics import Evidence, SourceStatistics, Statistics

VIEWS = ("photometric", "flip", "small", "large", "dropout")


def source_miou(evidence: Evidence) -> float:
    """Mean IoU on labelled source images: knows nothing of the gap, and yet hard to beat."""
    return evidence.source.confusion.miou(CLASS_LISTS["cityscapes19"])


MEASURES: dict[str, Callable[[Evidence], float]] = {
    "consistency": consistency,
    **{f"consistency_{name}": partial(of_view, name=name) for name in VIEWS},
    "agreement": agreement,
    "density": density,
    "separation": separation,
    "confusability": confusability,
    "proximity": proximity,
    "prior_fit": prior_fit,
    "coverage": coverage,
    "certainty": certainty,
    "information": information,
    "nuclear_norm": nuclear_norm,
    "source_miou": source_miou,
}


def measure(evidence: Evidence) -> dict[str, float]:
    """Every measure by name."""
    return {name: function(evidence) for name, function in MEASURES.items()}


__all__ = ["MEASURES", "VIEWS", "Evidence", "SourceStatistics", "Statistics", "measure"]
