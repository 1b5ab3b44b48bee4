"""What one pass over images leaves of them: counts, sums and a sample of pixels that add up.

Everything is a whole number or a sample that is chosen by lottery numbers, so that the sum over any
number of images or actors depends neither on their order nor on how they were grouped.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64, UInt8

from uda.classes import NUM_CLASSES
from uda.metrics import Confusion
from uda.quality.sample import PixelSample

FIXED = 2**20  # sums of fractions are kept as whole numbers of this part of one


def no_counts() -> np.ndarray:
    return np.zeros(NUM_CLASSES, np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Statistics:
    """Of images whose labels nobody has seen. Adds with `+`.

    - `images`: how many; `broken` of them had scores that are no numbers, and count nowhere else.
    - `predicted`: pixels by predicted class.
    - `mass`: sum of the class probabilities over `positions` pixels at even distances, and
      `entropy` the sum of their entropies in nats; both times `FIXED`.
    - `views`: by name of a perturbation, pixels by class predicted without (rows) and with it.
    - `sample`: pixels with their features and probabilities, some of every predicted class.
    - `impressions`: by number of an image its class probabilities on a coarse grid, times 255;
      empty where nobody asked for them.
    """

    images: int = 0
    broken: int = 0
    predicted: Int64[np.ndarray, "K"] = field(default_factory=no_counts)
    positions: int = 0
    mass: Int64[np.ndarray, "K"] = field(default_factory=no_counts)
    entropy: int = 0
    views: dict[str, Int64[np.ndarray, "K K"]] = field(default_factory=dict)
    sample: PixelSample = field(default_factory=PixelSample)
    impressions: dict[int, UInt8[np.ndarray, "K h w"]] = field(default_factory=dict)

    def __add__(self, other: "Statistics") -> "Statistics":
        assert not self.impressions.keys() & other.impressions.keys(), "an image was seen twice"
        names = self.views.keys() | other.views.keys()
        zeros = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
        return Statistics(
            images=self.images + other.images,
            broken=self.broken + other.broken,
            predicted=self.predicted + other.predicted,
            positions=self.positions + other.positions,
            mass=self.mass + other.mass,
            entropy=self.entropy + other.entropy,
            views={n: self.views.get(n, zeros) + other.views.get(n, zeros) for n in sorted(names)},
            sample=self.sample + other.sample,
            impressions=self.impressions | other.impressions,
        )

    @property
    def whole(self) -> float:
        """Share of the images whose scores are numbers; 0 where none was seen."""
        return (self.images - self.broken) / self.images if self.images else 0.0

    @property
    def mean_probabilities(self) -> np.ndarray:
        """(K,) float64; all 0 where nothing was seen."""
        return self.mass / (FIXED * max(1, self.positions))

    @property
    def mean_entropy(self) -> float:
        """In nats, of a pixel; NaN where nothing was seen."""
        return self.entropy / (FIXED * self.positions) if self.positions else float("nan")


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceStatistics:
    """The same of labelled source images: there `sample` has pixels of every *labelled* class."""

    seen: Statistics = field(default_factory=Statistics)
    confusion: Confusion = field(default_factory=Confusion.empty)

    def __add__(self, other: "SourceStatistics") -> "SourceStatistics":
        return SourceStatistics(
            seen=self.seen + other.seen, confusion=self.confusion + other.confusion
        )

    @property
    def prior(self) -> np.ndarray:
        """Share of the labelled pixels by class (K,) float64."""
        counts = self.confusion.matrix.sum(1) + self.confusion.outside
        return counts / max(1, counts.sum())


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """All that a measure of adaptation quality may look at; nothing of it is a target label.

    `ensemble` are impressions of the same target images, the mean of other networks' (see
    `uda.quality.agreement`); empty where there are none.
    """

    target: Statistics
    source: SourceStatistics
    ensemble: dict[int, UInt8[np.ndarray, "K h w"]] = field(default_factory=dict)

    @property
    def expected(self) -> np.ndarray:
        """Classes (N,) that are in the source's labels, and so expected of the target."""
        return np.flatnonzero(self.source.prior > 0)
