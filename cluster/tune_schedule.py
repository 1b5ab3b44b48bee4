"""Which trials are not worth going on with; they are asked to stop, and end by themselves.

Ray Tune would end the process of a trial that its scheduler stops, and kill it where that takes
longer than ten seconds. A run that is asked saves, stops, and gives back what it has first.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    TrialScheduler,
)

from cluster.trials import Metric, Trial

SCHEDULES = ("none", "asha", "median", "pbt")  # the last one is `cluster.tune_population`

_OTHERS_FOR_A_MEDIAN = 3  # fewer say little; Ray's own default
_FIELDS: dict[Metric, str] = {"quality": "quality", "oracle:miou": "oracle_miou"}


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How trials are compared while they run: by `metric`, from `grace_steps` of `steps` on.

    - "asha": of those that reach grace_steps, and then `reduction` times as many, and so on, one of
      `reduction` goes on (asynchronous successive halving, Li et al., MLSys 2020).
    - "median": whose best is below the median of the others' means ends (Golovin et al., KDD 2017).
    """

    name: str
    metric: Metric
    grace_steps: int
    reduction: float
    steps: int

    def scheduler(
        self, ask_to_stop: Callable[[int, str], None], before: Iterable[Trial]
    ) -> TrialScheduler:
        """For a search that goes on after the trials `before`, which count as if they ran now."""
        scheduler = AskingScheduler(self._rule(), self, ask_to_stop)
        for trial in before:
            scheduler.remember(trial)
        return scheduler

    def _rule(self) -> TrialScheduler:
        by: dict[str, Any] = {"time_attr": "step", "metric": _FIELDS[self.metric], "mode": "max"}
        if self.name == "asha":
            return ASHAScheduler(
                **by,
                max_t=max(self.steps, self.grace_steps),
                grace_period=self.grace_steps,
                reduction_factor=self.reduction,
                stop_last_trials=False,
            )
        if self.name == "median":
            return MedianStoppingRule(
                **by,
                grace_period=self.grace_steps,
                min_samples_required=_OTHERS_FOR_A_MEDIAN,
            )
        return FIFOScheduler()


class AskingScheduler(FIFOScheduler):
    """Passes results to a rule of Ray's, and what the rule would end is asked to stop.

    The rule knows trials by their number, so that one that is resumed is the one it was; of a
    trial that it would have ended it hears no more: Ray's rules count on that.
    """

    def __init__(
        self, rule: TrialScheduler, schedule: Schedule, ask_to_stop: Callable[[int, str], None]
    ) -> None:
        super().__init__()
        self._rule = rule
        self._schedule = schedule
        self._ask_to_stop = ask_to_stop
        self._seen: dict[int, int] = {}  # by trial, the last step that the rule knows of
        self._behind: set[int] = set()  # trials that the rule would have ended

    def remember(self, trial: Trial) -> None:
        """What a trial had reached before this search was resumed."""
        self._add(trial.number)
        for point in trial.curve:
            if (value := point.value(self._schedule.metric)) is not None:
                self._is_behind(trial.number, point.step, value)

    def on_trial_add(self, tune_controller: Any, trial: RayTrial) -> None:
        self._add(trial.config["number"])

    def on_trial_result(self, tune_controller: Any, trial: RayTrial, result: dict[str, Any]) -> str:
        step, value = result.get("step", 0), result.get(_FIELDS[self._schedule.metric])
        number = trial.config["number"]
        if value is None or step <= self._seen.get(number, 0):
            return TrialScheduler.CONTINUE  # nothing to compare, or again after a failure
        if self._is_behind(number, step, value) and step < self._schedule.steps:
            said = f"{self._schedule.name}: {value:.4f} at step {step} is behind"
            self._ask_to_stop(number, said)
        return TrialScheduler.CONTINUE

    def _add(self, number: int) -> None:
        if number not in self._seen:
            self._seen[number] = 0
            self._rule.on_trial_add(_ALONE, _known(number))

    def _is_behind(self, number: int, step: int, value: float) -> bool:
        self._seen[number] = step
        if number in self._behind:
            return True
        result = {"step": step, _FIELDS[self._schedule.metric]: value}
        decision = self._rule.on_trial_result(_ALONE, _known(number), result)
        if decision == TrialScheduler.STOP:
            self._behind.add(number)
        return decision == TrialScheduler.STOP

    def on_trial_complete(self, tune_controller: Any, trial: RayTrial, result: Any) -> None:
        """Nothing: the rule knows its last result already."""

    def on_trial_error(self, tune_controller: Any, trial: RayTrial) -> None:
        """Nothing: what it reached before is as good as that of others."""

    def on_trial_remove(self, tune_controller: Any, trial: RayTrial) -> None:
        """Nothing, as above."""


class _Alone:
    """All that the rules look at of Tune: nobody waits for the place of another."""

    def get_live_trials(self) -> list[RayTrial]:
        return []


_ALONE: Any = _Alone()


@dataclass(frozen=True)
class _Known:
    """All that the rules look at of a trial; equal ones are the same one."""

    number: int

    @property
    def trial_id(self) -> str:
        return f"{self.number:04d}"

    @property
    def config(self) -> dict[str, int]:
        return {"number": self.number}


def _known(number: int) -> Any:
    return _Known(number)
