"""The official pixel-level scores of Cityscapes, number for number: IoU and iIoU, with averages.

The rules are those of cityscapesScripts, `evalPixelLevelSemanticLabeling`; see Cordts et al., 2016,
section 4.1 (https://arxiv.org/abs/1604.01685). Counting and scoring are apart, and counts are
integers: the sum over images is the same, bit for bit, in any order and grouping.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from uda.classes import LABEL_IDS, NUM_LABEL_IDS
from uda.counting import Values, count_pairs
from uda.instances import ID_TABLE, INSTANCE_CLASSES, INSTANCE_GROUPS, InstanceCounts
from uda.metrics import Confusion
from uda.types import UserError

__all__ = ["IdConfusion", "InstanceCounts", "official_scores"]

_SCORED_IDS = [c.id for c in ID_TABLE if not c.ignore_in_eval]
_CATEGORIES = tuple(dict.fromkeys(c.category for c in ID_TABLE))

# Mean pixels of an instance, from the official program: what an instance's pixels are weighed by.
_MEAN_SIZE_PX = {
    "person": 3462.4756337644,
    "rider": 3930.4788056518,
    "car": 12794.0202738185,
    "truck": 27855.1264367816,
    "bus": 35732.1511111111,
    "train": 67583.7075812274,
    "motorcycle": 6298.7200839748,
    "bicycle": 4672.3249222261,
}


@dataclass(frozen=True, eq=False)
class IdConfusion:
    """Pixel counts by Cityscapes id of the truth (rows) and of the prediction (columns).

    All ids 0..33 count, also those that are ignored in scores. Adds with `+`.
    """

    matrix: Int64[np.ndarray, "I I"]

    @classmethod
    def empty(cls) -> "IdConfusion":
        return cls(np.zeros((NUM_LABEL_IDS, NUM_LABEL_IDS), np.int64))

    @classmethod
    def of(cls, prediction_ids: Values, label_ids: Values) -> "IdConfusion":
        """Counts of one image or of a batch, two arrays or tensors of one shape of ids 0..33."""
        want = f"Cityscapes ids 0..{NUM_LABEL_IDS - 1}"
        counts = count_pairs(prediction_ids, label_ids, want, size=NUM_LABEL_IDS)
        _check_ids(counts.sum(axis=1), "label", want)
        _check_ids(counts.sum(axis=0), "prediction", want)
        return cls(counts[:NUM_LABEL_IDS, :NUM_LABEL_IDS].copy())

    def __add__(self, other: "IdConfusion") -> "IdConfusion":
        return IdConfusion(self.matrix + other.matrix)

    @property
    def confusion(self) -> Confusion:
        """What `Confusion.of` counts in the same maps as trainIds."""
        rows = self.matrix[list(LABEL_IDS)]
        matrix = rows[:, LABEL_IDS]
        return Confusion(matrix, rows.sum(axis=1) - matrix.sum(axis=1))


def official_scores(ids: IdConfusion, instances: InstanceCounts | None) -> dict[str, Any]:
    """The result file of the official program, with None for its NaN: ready to be written as JSON.

    Scores are in 0..1 by name of class and category. Without `instances` no iIoU has a value.
    """
    matrix = ids.matrix
    total = int(matrix.sum())
    class_scores = {c.name: _iou_of_class(matrix, c.id) for c in ID_TABLE}
    category_scores = {name: _iou_of_category(matrix, name) for name in _CATEGORIES}
    class_instance_scores: dict[str, float | None] = dict.fromkeys(class_scores)
    category_instance_scores: dict[str, float | None] = dict.fromkeys(category_scores)
    if instances is not None:
        class_instance_scores |= _instance_iou_of_classes(matrix, instances)
        category_instance_scores |= _instance_iou_of_categories(matrix, instances)
    return {
        "confMatrix": matrix.tolist(),
        "priors": {c.name: _ratio(int(matrix[c.id].sum()), total) for c in ID_TABLE},
        "labels": {c.name: c.id for c in ID_TABLE},
        "classScores": class_scores,
        "classInstScores": class_instance_scores,
        "categoryScores": category_scores,
        "categoryInstScores": category_instance_scores,
        "averageScoreClasses": _mean(class_scores),
        "averageScoreInstClasses": _mean(class_instance_scores),
        "averageScoreCategories": _mean(category_scores),
        "averageScoreInstCategories": _mean(category_instance_scores),
    }


def _iou_of_class(matrix: Int64[np.ndarray, "I I"], label_id: int) -> float | None:
    """tp / (tp + fp + fn); predictions where the truth is ignored are no false positives."""
    if label_id not in _SCORED_IDS:
        return None
    truth = int(matrix[label_id].sum())
    return _ratio(int(matrix[label_id, label_id]), truth + _false_positives(matrix, [label_id]))


def _iou_of_category(matrix: Int64[np.ndarray, "I I"], category: str) -> float | None:
    """As of a class, all of a category's scored classes being one."""
    members = [c.id for c in ID_TABLE if c.category == category and not c.ignore_in_eval]
    hits = int(matrix[np.ix_(members, members)].sum())
    return _ratio(hits, int(matrix[members].sum()) + _false_positives(matrix, members))


def _instance_iou_of_classes(
    matrix: Int64[np.ndarray, "I I"], instances: InstanceCounts
) -> dict[str, float | None]:
    """iIoU: hits and misses weigh mean size / size of their instance, false positives weigh 1."""
    scores = {}
    for k, c in enumerate(INSTANCE_CLASSES):
        hits = _MEAN_SIZE_PX[c.name] * instances.hit_share(k)
        misses = _MEAN_SIZE_PX[c.name] * instances.missed_share(k)
        scores[c.name] = _ratio(hits, hits + _false_positives(matrix, [c.id]) + misses)
    return scores


def _instance_iou_of_categories(
    matrix: Int64[np.ndarray, "I I"], instances: InstanceCounts
) -> dict[str, float | None]:
    """As of classes; a category's false positives include predictions of its ignored classes."""
    scores = {}
    for category, members in INSTANCE_GROUPS.items():
        hits = misses = 0.0
        for k, c in enumerate(INSTANCE_CLASSES):
            if c.category == category:
                hits += _MEAN_SIZE_PX[c.name] * instances.hit_share(k, by_category=True)
                misses += _MEAN_SIZE_PX[c.name] * instances.missed_share(k, by_category=True)
        scores[category] = _ratio(hits, hits + _false_positives(matrix, members) + misses)
    return scores


def _false_positives(matrix: Int64[np.ndarray, "I I"], members: Iterable[int]) -> int:
    """Pixels predicted as a member whose truth is scored and none of the members."""
    columns = list(members)
    return int(matrix[np.ix_([k for k in _SCORED_IDS if k not in columns], columns)].sum())


def _ratio(part: int | float, whole: int | float) -> float | None:
    return part / whole if whole else None


def _mean(scores: Mapping[str, float | None]) -> float | None:
    valid = [score for score in scores.values() if score is not None]
    return _ratio(sum(valid), len(valid))


def _check_ids(counts: Int64[np.ndarray, "S"], name: str, want: str) -> None:
    wrong = np.flatnonzero(counts[NUM_LABEL_IDS:]) + NUM_LABEL_IDS
    if wrong.size:
        values = ", ".join(map(str, wrong[:5])) + (", ..." if wrong.size > 5 else "")
        raise UserError(f"{name}: got id {values}, want {want}")
