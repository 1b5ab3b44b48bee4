"""The epoch plan: which sample stands at which position of a run's endless stream.

A plan is a pure function of (statistics, config, seed, position). So any number of workers sees
the same stream, and to resume means to ask for a later position.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from uda.classes import ClassDistribution
from uda.data.predictions import Predictions
from uda.data.shards import SampleStatistics
from uda.randomness import generator
from uda.types import UserError

SAMPLING_KINDS = ("uniform", "rare_class", "matched")


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How samples are drawn.

    - `kind`: "uniform" takes a new random order of all samples in every epoch. "rare_class" takes
      a class, rare ones more often, then an image that shows it. "matched" takes for each target
      image a source image whose classes are divided alike.
    - `temperature`: smaller is stricter. rare_class: 0.01 in DAFormer; at 0.1 the classes of
      Cityscapes are nearly alike. matched: there is no published value; of rendered streets, 0.01
      chooses among a tenth of the images and 0.1 among nearly all.
    - `min_fraction`: rare_class: of an image's pixels, to show a class (DAFormer: 3000 of 2 Mpx).
    - `predictions`: matched: the file that `uda distributions` wrote for the target's shards.
    """

    kind: str = "uniform"
    temperature: float = 0.01
    min_fraction: float = 0.0015
    predictions: str = ""

    def __post_init__(self) -> None:
        if self.kind not in SAMPLING_KINDS:
            raise UserError(f"kind: got {self.kind}, want one of {list(SAMPLING_KINDS)}")
        if not self.temperature > 0:
            raise UserError(f"temperature: got {self.temperature}, want above 0")
        if not 0 <= self.min_fraction <= 1:
            raise UserError(f"min_fraction: got {self.min_fraction}, want 0 to 1")
        if bool(self.predictions) != (self.kind == "matched"):
            got = self.predictions or "none"
            raise UserError(
                f"predictions: got {got} with kind {self.kind}, want a file of "
                "`uda distributions` with kind matched, and none with any other"
            )


@dataclass(frozen=True)
class PlanItem:
    """One draw: everything random about the crop follows from `crop_seed`."""

    sample: int
    crop_seed: int
    wanted_class: int = -1  # -1: none


class EpochPlan:
    """The stream of one data set; give the two domains different seeds."""

    def __init__(
        self,
        statistics: SampleStatistics,
        config: SamplingConfig,
        seed: int,
        target: "PredictedTarget | None" = None,
    ) -> None:
        """`target` is what matched sampling goes by, and no other kind."""
        self.num_samples = len(statistics.pixels)
        if not self.num_samples:
            raise UserError("samples: got 0, want at least one to draw")
        self._seed = seed
        self._samples = _samples(statistics, config, seed, target)

    def items(self, first: int, count: int) -> list[PlanItem]:
        """The draws at positions first .. first + count - 1; earlier ones cost nothing."""
        return [self._item(position) for position in range(first, first + count)]

    def _item(self, position: int) -> PlanItem:
        draws = generator(self._seed, "plan.item", position)
        crop_seed = int(draws.integers(2**63))
        sample, wanted_class = self._samples.draw(position, draws)
        return PlanItem(sample, crop_seed, wanted_class)


@dataclass(frozen=True, kw_only=True)
class PredictedTarget:
    """The target as a plan of the source may know it: what is drawn, and what a network sees there.

    There is no field for labels or their statistics, on purpose.
    """

    plan: EpochPlan
    predictions: Predictions

    def __post_init__(self) -> None:
        got, want = len(self.predictions.class_pixels), self.plan.num_samples
        assert got == want, f"predictions: got {got}, want {want} as planned"


def rare_class_probabilities(
    frequencies: Float64[np.ndarray, "C"], temperature: float
) -> Float64[np.ndarray, "C"]:
    """P(c) = softmax((1 - f_c) / T) over the given classes; f_c is a class's share of all pixels.

    Rare Class Sampling of DAFormer (Hoyer et al., CVPR 2022, section 3.3).
    """
    # Softmax does not change when all exponents move alike; so the largest is 0: no overflow.
    weights = np.exp((frequencies.min() - frequencies) / temperature)
    return weights / weights.sum()


def _samples(
    statistics: SampleStatistics,
    config: SamplingConfig,
    seed: int,
    target: PredictedTarget | None,
) -> "_Uniform | _RareClasses | _Matched":
    assert (target is not None) == (config.kind == "matched"), "only matched wants the target"
    if target is not None:
        return _Matched(statistics, config, target)
    if config.kind == "rare_class":
        return _RareClasses(statistics, config)
    return _Uniform(len(statistics.pixels), seed)


class _Uniform:
    """Each sample once per epoch, in an order that is new in every epoch.

    `draw` gives, as that of the other kinds, the sample at a position of the plan and the class
    that its crop shall show; -1: none.
    """

    def __init__(self, num_samples: int, seed: int) -> None:
        self._num_samples = num_samples
        self._seed = seed
        self._order = (-1, np.empty(0, np.int64))  # the epoch asked for last, and its order

    def draw(self, position: int, _: np.random.Generator) -> tuple[int, int]:
        epoch, place = divmod(position, self._num_samples)
        return int(self._permutation(epoch)[place]), -1

    def _permutation(self, epoch: int) -> np.ndarray:
        if self._order[0] != epoch:
            draws = generator(self._seed, "plan.epoch", epoch)
            self._order = (epoch, draws.permutation(self._num_samples))
        return self._order[1]


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
        self._cumulative = _cumulative(rare_class_probabilities(frequencies, config.temperature))

    def draw(self, _: int, draws: np.random.Generator) -> tuple[int, int]:
        choice = _choice(self._cumulative, draws)
        images = self._images[choice]
        return int(images[draws.integers(len(images))]), int(self._classes[choice])


class _Matched:
    """A source image by P(i | t) = softmax_i(BC(p_i, q_t) / T), over the labelled images i.

    t is the target image that the target's plan has at the same position, q_t what a network
    predicts for it, p_i the labels of i, and BC(p, q) = sum_c sqrt(p_c q_c) the Bhattacharyya
    coefficient: 1 for equal distributions, 0 without a class in common.
    """

    def __init__(
        self, statistics: SampleStatistics, config: SamplingConfig, target: PredictedTarget
    ) -> None:
        self._images = np.flatnonzero(statistics.class_pixels.any(axis=1))
        if not len(self._images):
            raise UserError("matched: got no image with labels, want labelled shards")
        self._plan = target.plan
        self._temperature = config.temperature
        self._source = np.ascontiguousarray(_roots(statistics.class_pixels[self._images]).T)
        self._target = _roots(target.predictions.class_pixels)

    def draw(self, position: int, draws: np.random.Generator) -> tuple[int, int]:
        (shown,) = self._plan.items(position, 1)
        # Not `@`: a BLAS may sum in another order on another machine, and starts threads for it.
        similarity = np.einsum("kn,k->n", self._source, self._target[shown.sample])
        weights = np.exp((similarity - similarity.max()) / self._temperature)
        return int(self._images[_choice(_cumulative(weights), draws)]), -1


def _roots(class_pixels: Int64[np.ndarray, "N K"]) -> Float64[np.ndarray, "N K"]:
    """Square roots of each row's shares; every row has pixels."""
    return np.sqrt(class_pixels / class_pixels.sum(axis=1, keepdims=True))


def _cumulative(weights: np.ndarray) -> np.ndarray:
    sums = np.cumsum(weights)
    return sums / sums[-1]  # ends at exactly 1, draws are below it


def _choice(cumulative: np.ndarray, draws: np.random.Generator) -> int:
    return int(np.searchsorted(cumulative, draws.random(), side="right"))
