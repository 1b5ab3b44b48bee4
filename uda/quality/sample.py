"""A bounded sample of pixels, the same whatever order images come in."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float16, UInt8, UInt64

from uda.classes import NUM_CLASSES

PER_CLASS = 128  # pixels of a class that are kept
PER_IMAGE = 8  # at most so many of one class come from one image


@dataclass(frozen=True, kw_only=True, eq=False)
class PixelSample:
    """Pixels of at most `PER_CLASS` per class: those of the lowest lottery numbers. Adds with `+`.

    `features` are those of the network's decoder, `probabilities` its softmax.
    """

    classes: UInt8[np.ndarray, "N"] = field(default_factory=lambda: np.zeros(0, np.uint8))
    lottery: UInt64[np.ndarray, "N"] = field(default_factory=lambda: np.zeros(0, np.uint64))
    features: Float16[np.ndarray, "N D"] = field(
        default_factory=lambda: np.zeros((0, 0), np.float16)
    )
    probabilities: Float16[np.ndarray, "N K"] = field(
        default_factory=lambda: np.zeros((0, NUM_CLASSES), np.float16)
    )

    def __len__(self) -> int:
        return len(self.classes)

    def __add__(self, other: "PixelSample") -> "PixelSample":
        if not len(self) or not len(other):
            return self if len(self) else other
        both = {
            name: np.concatenate([getattr(self, name), getattr(other, name)])
            for name in ("classes", "lottery", "features", "probabilities")
        }
        kept = lowest(both["classes"], both["lottery"], PER_CLASS)
        return PixelSample(**{name: values[kept] for name, values in both.items()})

    def of(self, class_id: int) -> np.ndarray:
        """Features (M, D) float32 of the sampled pixels of a class."""
        return self.features[self.classes == class_id].astype(np.float32)

    def balanced(self, most: int) -> "PixelSample":
        """At most `most` pixels of each class, those of the lowest numbers."""
        kept = lowest(self.classes, self.lottery, most)
        return PixelSample(
            classes=self.classes[kept],
            lottery=self.lottery[kept],
            features=self.features[kept],
            probabilities=self.probabilities[kept],
        )


def lowest(classes: np.ndarray, lottery: np.ndarray, most: int) -> np.ndarray:
    """Indices of the `most` lowest numbers of each class, by class and then by number."""
    order = np.lexsort((lottery, classes))
    ordered = classes[order]
    first = np.searchsorted(ordered, ordered)  # where the own class begins
    return order[np.arange(len(order)) - first < most]
