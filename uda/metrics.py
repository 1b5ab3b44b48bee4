"""Confusion: what was predicted where, counted in integers; IoU, mean IoU and pixel accuracy.

The rule is the official one of Cityscapes (cityscapesScripts, `evalPixelLevelSemanticLabeling`):
pixels whose ground truth is ignored count nowhere, a class absent from ground truth and prediction
has no score (NaN) and is left out of the mean. Counts are exact, so the sum over any number of
images, actors or ranks does not depend on their order.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64

from uda.classes import IGNORE, NUM_CLASSES, ClassList
from uda.counting import Values, count_pairs
from uda.types import UserError


def _no_counts() -> np.ndarray:
    return np.zeros(NUM_CLASSES, np.int64)


@dataclass(frozen=True, eq=False)
class Confusion:
    """Pixel counts by ground-truth class (rows) and predicted class (columns). Adds with `+`.

    `outside` counts, by ground-truth class, the pixels predicted as none of the 19 classes. A
    network never does that; label maps written by other programs may, and it costs them recall.
    """

    matrix: Int64[np.ndarray, "K K"]
    outside: Int64[np.ndarray, "K"] = field(default_factory=_no_counts)

    @classmethod
    def empty(cls) -> "Confusion":
        return cls(np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64))

    @classmethod
    def of(cls, prediction: Values, label: Values) -> "Confusion":
        """Counts of one image or of a batch, two arrays or tensors of the same shape.

        `label` holds trainIds, 255 = ignored. `prediction` holds trainIds, 255 = none of the 19.
        Any other value is an error, also below ignored labels: it shows a wrong label table.
        A label on a GPU is counted there.
        """
        counts = count_pairs(prediction, label, want="0..18 or 255")
        _check_values(counts.sum(axis=1), "label", "ignored")
        _check_values(counts.sum(axis=0), "prediction", "none of the classes")
        rows = counts[:NUM_CLASSES]
        return cls(rows[:, :NUM_CLASSES].copy(), rows[:, IGNORE].copy())

    def __add__(self, other: "Confusion") -> "Confusion":
        return Confusion(self.matrix + other.matrix, self.outside + other.outside)

    @property
    def num_pixels(self) -> int:
        """How many pixels have a ground truth that counts."""
        return int(self.matrix.sum() + self.outside.sum())

    def merged(self, class_list: ClassList) -> "Confusion":
        """The confusion of a data set that does not tell the classes of `class_list.merge` apart.

        A folded class leaves an empty row and column. Its pixels count for the class it joins.
        """
        fold = np.eye(NUM_CLASSES, dtype=np.int64)
        for old, new in class_list.merge.items():
            fold[old], fold[old, new] = 0, 1
        return Confusion(fold.T @ self.matrix @ fold, fold.T @ self.outside)

    def iou(self, class_list: ClassList) -> dict[int, float]:
        """IoU in 0..1 by trainId of the scored classes; NaN where absent from truth and prediction.

        tp / (tp + fp + fn) of the full, merged matrix: a pixel predicted as a class that the list
        does not score, or as none of the 19, is a miss (fn) of its true class; a pixel of a class
        that the list does not score is still a false positive (fp) of the scored class predicted
        there. For SYNTHIA's 16 and 13 classes this is the usual protocol: take the IoUs of all 19
        classes, then average those in the list (DAFormer, https://arxiv.org/abs/2111.14887).
        """
        confusion = self.merged(class_list)
        hits = confusion.matrix.diagonal()
        truth = confusion.matrix.sum(axis=1) + confusion.outside
        union = truth + confusion.matrix.sum(axis=0) - hits
        scored = list(class_list.scored)
        with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that we want
            values = hits[scored] / union[scored]
        return dict(zip(scored, values.tolist(), strict=True))

    def miou(self, class_list: ClassList) -> float:
        """Mean IoU in 0..1 over the classes of the list that are present; NaN when none is."""
        present = [value for value in self.iou(class_list).values() if not np.isnan(value)]
        return float(np.mean(present)) if present else float("nan")

    def pixel_accuracy(self, class_list: ClassList) -> float:
        """Share in 0..1 of pixels predicted as their own (merged) class; NaN without pixels.

        All pixels count whose ground truth is one of the 19 classes, scored by the list or not.
        """
        if self.num_pixels == 0:
            return float("nan")
        return int(self.merged(class_list).matrix.trace()) / self.num_pixels


def _check_values(counts: Int64[np.ndarray, "256"], name: str, meaning: str) -> None:
    wrong = np.flatnonzero(counts[NUM_CLASSES:IGNORE]) + NUM_CLASSES
    if wrong.size:
        values = ", ".join(map(str, wrong[:5])) + (", ..." if wrong.size > 5 else "")
        raise UserError(f"{name}: got value {values}, want trainIds 0..18 or 255 ({meaning})")
