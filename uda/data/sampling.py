"""The epoch plan: which sample stands at which position of a run's endless stream.

A plan is a pure function of (statistics, config, seed, position). So any number of workers sees
the same stream, and to resume means to ask for a later position.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from uda.classes import ClassDistribution
from uda.data.shards import SampleStatistics
from uda.randomness import generator
from uda.types import UserError

SAMPLING_KINDS = ("uniform", "rare_class")


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How samples are drawn.

    uniform: a new random order of all samples in every epoch.
    rare_class: each draw takes a class, rare ones more often, then an image that shows it.
    """

    kind: str = "uniform"
    temperature: float = 0.01  # rare_class: smaller means more of the rarest (DAFormer: 0.01)
    min_fraction: float = 0.0015  # of an image's pixels, to show a class (DAFormer: 3000 of 2 Mpx)

    def __post_init__(self) -> None:
        if self.kind not in SAMPLING_KINDS:
            raise UserError(f"kind: got {self.kind}, want one of {list(SAMPLING_KINDS)}")
        if not self.temperature > 0:
            raise UserError(f"temperature: got {self.temperature}, want above 0")
        if not 0 <= self.min_fraction <= 1:
            raise UserError(f"min_fraction: got {self.min_fraction}, want 0 to 1")


@dataclass(frozen=True)
class PlanItem:
    """One draw: everything random about the crop follows from `crop_seed`."""

    sample: int
    crop_seed: int
    wanted_class: int = -1  # -1: none


class EpochPlan:
    """The stream of one data set; give the two domains different seeds."""

    def __init__(self, statistics: SampleStatistics, config: SamplingConfig, seed: int) -> None:
        self.num_samples = len(statistics.pixels)
        if not self.num_samples:
            raise UserError("samples: got 0, want at least one to draw")
        self._seed = seed
        self._rare = _RareClasses(statistics, config) if config.kind == "rare_class" else None
        self._order = (-1, np.empty(0, np.int64))  # the epoch asked for last, and its order

    def items(self, first: int, count: int) -> list[PlanItem]:
        """The draws at positions first .. first + count - 1; earlier ones cost nothing."""
        return [self._item(position) for position in range(first, first + count)]

    def _item(self, position: int) -> PlanItem:
        draws = generator(self._seed, "plan.item", position)
        crop_seed = int(draws.integers(2**63))
        if self._rare is not None:
            sample, wanted_class = self._rare.draw(draws)
            return PlanItem(sample, crop_seed, wanted_class)
        epoch, place = divmod(position, self.num_samples)
        return PlanItem(int(self._permutation(epoch)[place]), crop_seed)

    def _permutation(self, epoch: int) -> np.ndarray:
        if self._order[0] != epoch:
            draws = generator(self._seed, "plan.epoch", epoch)
            self._order = (epoch, draws.permutation(self.num_samples))
        return self._order[1]


def rare_class_probabilities(
    frequencies: Float64[np.ndarray, "C"], temperature: float
) -> Float64[np.ndarray, "C"]:
    """P(c) = softmax((1 - f_c) / T) over the given classes; f_c is a class's share of all pixels.

    Rare Class Sampling of DAFormer (Hoyer et al., CVPR 2022, section 3.3).
    """
    # Softmax does not change when all exponents move alike; so the largest is 0: no overflow.
    weights = np.exp((frequencies.min() - frequencies) / temperature)
    return weights / weights.sum()


class _RareClasses:
    """A class by `rare_class_probabilities`, then one of the images that show it, all alike.

    Frequencies count all labelled pixels; a class that no image shows well enough is left out.
    """

    def __init__(self, statistics: SampleStatistics, config: SamplingConfig) -> None:
        counts = statistics.class_pixels
        shown = (counts > 0) & (counts >= config.min_fraction * statistics.pixels[:, None])
        self._classes = np.flatnonzero(shown.any(axis=0))
        if not len(self._classes):
            raise UserError(
                f"rare_class: got no image with a class on {config.min_fraction} of its pixels, "
                "want labelled shards or a smaller min_fraction"
            )
        self._images = [np.flatnonzero(shown[:, c]) for c in self._classes]
        frequencies = ClassDistribution(counts.sum(axis=0)).frequencies[self._classes]
        cumulative = np.cumsum(rare_class_probabilities(frequencies, config.temperature))
        self._cumulative = cumulative / cumulative[-1]  # ends at exactly 1, draws are below it

    def draw(self, draws: np.random.Generator) -> tuple[int, int]:
        """The sample and the class that it was drawn for."""
        choice = int(np.searchsorted(self._cumulative, draws.random(), side="right"))
        images = self._images[choice]
        return int(images[draws.integers(len(images))]), int(self._classes[choice])
