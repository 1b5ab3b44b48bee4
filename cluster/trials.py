"""What is known of a hyper-parameter search: its trials with their scored checkpoints.

Nothing here knows how trials are run. Quality needs no labels of the target. What does is called
oracle, and a search that was not allowed to look at it cannot even hold it.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePosixPath
from typing import Literal, get_args

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from uda.types import UserError, check_choices

Value = float | int | str | bool
Status = Literal["running", "finished", "stopped", "failed"]
Metric = Literal["quality", "oracle:miou"]
Kind = Literal["linear", "log", "choice"]

STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True, kw_only=True)
class Point:
    """A scored checkpoint. What is not finite has no value: None, or missing in `measures`."""

    step: int
    quality: float | None
    measures: dict[str, float]
    oracle_miou: float | None = None

    def __post_init__(self) -> None:
        known = {name: _finite(value) for name, value in self.measures.items()}
        if named_so := [name for name in known if name.startswith("oracle")]:
            raise UserError(f"measures: got {named_so[0]}, want none that needs labels")
        cleaned = {
            "quality": _finite(self.quality),
            "oracle_miou": _finite(self.oracle_miou),
            "measures": {name: value for name, value in known.items() if value is not None},
        }
        for name, value in cleaned.items():
            object.__setattr__(self, name, value)

    def value(self, metric: Metric) -> float | None:
        return self.quality if metric == "quality" else self.oracle_miou


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A training run of a search.

    - `changes`: of the preset, by dotted path; none for the hand-set preset itself.
    - `reason`: why it was stopped or has failed; empty where there is nothing to say.
    - `curve`: its scored checkpoints, by step.
    - `folder`: relative to the search's.
    - `retries`: how often it was started again after a failure.
    - `since`: the step that it went on from with these `changes`. What was scored until then, it
      had reached with others, and does not count as its own.
    """

    number: int
    changes: dict[str, Value]
    status: Status
    folder: str
    reason: str = ""
    curve: tuple[Point, ...] = ()
    minutes: float = 0.0
    retries: int = 0
    since: int = 0

    def __post_init__(self) -> None:
        check_choices(self, status=Status)
        steps = [point.step for point in self.curve]
        if steps != sorted(set(steps)):
            raise ValueError(f"curve: got steps {steps}, want them ascending")
        if not all(math.isfinite(value) for value in (self.minutes, *_numbers(self.changes))):
            raise ValueError("changes, minutes: got a number that is not finite, want finite ones")
        place = PurePosixPath(self.folder)
        if not self.folder or place.is_absolute() or ".." in place.parts:
            raise ValueError(f"folder: got {self.folder!r}, want one inside the search's folder")

    @property
    def step(self) -> int:
        """Of the last scored checkpoint; 0 where there is none."""
        return self.curve[-1].step if self.curve else 0

    @property
    def best(self) -> Point | None:
        """The checkpoint of the highest quality; of equals the later one."""
        return self.best_by("quality")

    def best_by(self, metric: Metric) -> Point | None:
        """The checkpoint of the highest `metric`, after `since`; of equals the later one."""
        own = [point for point in self.curve if point.step > self.since]
        known = [(v, p.step, p) for p in own if (v := p.value(metric)) is not None]
        return max(known, key=lambda each: each[:2])[2] if known else None

    def value(self, metric: Metric) -> float | None:
        """The highest `metric` of its checkpoints after `since`."""
        point = self.best_by(metric)
        return point.value(metric) if point else None


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What may stand at a path: numbers from `low` to `high`, or one of the `values`.

    - `whole`: whole numbers only.
    - `or_zero`: or 0, which switches something off.
    - `preset`: what the hand-set preset has there, None where that is not known.
    """

    path: str
    kind: Kind
    low: float = 0.0
    high: float = 0.0
    whole: bool = False
    or_zero: bool = False
    values: tuple[Value, ...] = ()
    preset: Value | None = None

    def __post_init__(self) -> None:
        check_choices(self, kind=Kind)
        if self.kind == "choice" and not self.values:
            raise ValueError(f"{self.path}: got no values, want some to choose from")
        if not (self.kind == "choice" or self.low <= self.high):
            raise ValueError(f"{self.path}: got {self.low} to {self.high}, want low <= high")
        if self.kind != "choice" and isinstance(self.preset, bool | str):
            raise ValueError(f"{self.path}: got {self.preset!r} in the preset, want a number")
        if self.kind == "log" and self.low <= 0:
            raise ValueError(f"{self.path}: got {self.low} to {self.high}, want log above 0")

    @property
    def domain(self) -> BaseDistribution:
        """The Optuna distribution of this axis, without the 0 of `or_zero`."""
        if self.kind == "choice":
            return CategoricalDistribution(self.values)
        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.kind == "log")
        return FloatDistribution(self.low, self.high, log=self.kind == "log")


@dataclass(frozen=True, kw_only=True)
class Search:
    """A question to a preset, and what has come of it so far.

    - `space`, `question`: which one, and in words.
    - `config_digest`: of the preset that everything changes.
    - `metric`: what trials are compared by.
    - `steps`: of a trial that is not stopped.
    - `axes`: what may be changed, in order.

    Raises:
        UserError: there are oracle values or an oracle metric, and `allow_oracle` is False.
    """

    space: str
    question: str
    preset: str
    config_digest: str
    metric: Metric
    allow_oracle: bool
    steps: int
    axes: tuple[Axis, ...]
    trials: tuple[Trial, ...] = ()

    def __post_init__(self) -> None:
        check_choices(self, metric=Metric)
        if not self.allow_oracle:
            self._refuse_oracle()
        numbers = [trial.number for trial in self.trials]
        if numbers != sorted(set(numbers)):
            raise ValueError(f"trials: got numbers {numbers}, want them ascending")

    def with_trial(self, trial: Trial) -> "Search":
        """This search with a trial added, or in place of the one of its number."""
        trials = {each.number: each for each in self.trials} | {trial.number: trial}
        return replace(self, trials=tuple(trials[number] for number in sorted(trials)))

    @cached_property
    def best(self) -> Trial | None:
        """The highest value of the metric, of those that have not failed; of equals the longer."""
        known = [
            (value, trial.step, -trial.number, trial)
            for trial in self.trials
            if trial.status != "failed" and (value := trial.value(self.metric)) is not None
        ]
        return max(known, key=lambda each: each[:3])[3] if known else None

    @cached_property
    def hand_set(self) -> Trial | None:
        """The trial of the preset as it is; None where there is none."""
        return next((trial for trial in self.trials if not trial.changes), None)

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """All that may be changed, and what else was."""
        changed = (path for trial in self.trials for path in trial.changes)
        return tuple(dict.fromkeys([*(axis.path for axis in self.axes), *changed]))

    @property
    def num_by_status(self) -> dict[Status, int]:
        """How many trials there are, by the statuses that occur."""
        counts = Counter(trial.status for trial in self.trials)
        return {status: counts[status] for status in STATUSES if counts[status]}

    def values_of(self, trial: Trial) -> Mapping[str, Value]:
        """Its changes; of the hand-set preset what it has at the axes, as far as is known."""
        if trial.changes:
            return trial.changes
        return {axis.path: axis.preset for axis in self.axes if axis.preset is not None}

    def _refuse_oracle(self) -> None:
        if self.metric != "quality":
            raise UserError(
                f"metric: got {self.metric}, want quality: the other needs labels of the target, "
                "which this search may not look at"
            )
        for trial in self.trials:
            if any(point.oracle_miou is not None for point in trial.curve):
                raise UserError(
                    f"trial {trial.number}: got oracle values, want none: this search may not "
                    "look at labels of the target"
                )


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _numbers(changes: Mapping[str, Value]) -> list[float]:
    return [value for value in changes.values() if isinstance(value, float)]
