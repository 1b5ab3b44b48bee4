"""Population based training (Jaderberg et al., 2017): what is behind goes on from what is ahead.

A trial that goes on from another takes its latest checkpoint and, of its settings, changed ones. So
only what leaves the networks and their state in shape can be searched like this.
"""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from cluster.trial_run import Adoption
from cluster.trials import Metric, Trial
from cluster.tune_book import Book
from cluster.tune_bridge import Stops
from tune_spaces.domains import Choice, Drawn, Value
from tune_spaces.space import Space
from uda.checkpoint import last_step
from uda.config import Config
from uda.optim import Optimisers
from uda.task import AdaptationTask
from uda.types import UserError

_QUARTER = 0.25  # of the population is behind, and as much ahead
_RESAMPLE = 0.25  # of all changes are drawn anew
_FACTORS = (0.8, 1.25)  # what a number is else multiplied by
_RESOLUTION = 101  # numbers of a range that may be drawn anew
_LEAST = 4  # trials that a quarter of is one


class PopulationScheduler(FIFOScheduler):
    """At each score from `grace_steps` on, a trial of the worst quarter adopts one of the best."""

    def __init__(
        self,
        book: Book,
        stops: Stops,
        space: Space,
        *,
        metric: Metric,
        grace_steps: int,
        seed: int,
    ) -> None:
        super().__init__()
        self._book = book
        self._stops = stops
        self._space = space
        self._compared_by = metric
        self._grace_steps = grace_steps
        self._seed = seed

    def on_trial_result(self, tune_controller: Any, trial: RayTrial, result: dict[str, Any]) -> str:
        own, step = self._book.trial(trial.config["number"]), result["step"]
        is_news = step > own.step or not own.curve  # else it tells again what was before a failure
        if is_news and self._grace_steps <= step < self._space.run_steps:
            with self._stops.search_ends_on_error():  # such as a full disk
                self._compare(own, step, result[self._field])
        return TrialScheduler.CONTINUE

    @property
    def _field(self) -> str:
        return "quality" if self._compared_by == "quality" else "oracle_miou"

    def _compare(self, own: Trial, step: int, value: float | None) -> None:
        others = {
            other.number: reached
            for other in self._book.running
            if other.number != own.number and (reached := self._value_at(other, step)) is not None
        }
        if value is None or len(others) + 1 < _LEAST:
            return
        quarter = int((len(others) + 1) * _QUARTER)
        if sum(reached < value for reached in others.values()) >= quarter:
            return
        ahead = sorted(others, key=lambda number: (-others[number], number))[:quarter]
        draws = random.Random(f"{self._seed} {own.number} {step}")
        donor = self._book.trial(draws.choice(ahead))
        folder = self._book.folder / donor.folder
        if 0 < last_step(folder) < self._space.run_steps:
            self._adopt(own, donor, folder, draws)

    def _value_at(self, trial: Trial, step: int) -> float | None:
        """What it had reached at a step."""
        known = [point.value(self._compared_by) for point in trial.curve if point.step <= step]
        return known[-1] if known else None

    def _adopt(self, own: Trial, donor: Trial, folder: Path, draws: random.Random) -> None:
        start = self._space.start_values()
        changes = explore(self._space, self._book.changes(donor.number) or start, draws)
        adoption = Adoption(
            donor=donor.number,
            folder=str(folder),
            changes=changes,
            config=self._space.config(changes),
        )
        adoption.ask(self._book.folder / own.folder)


def explore(space: Space, changes: Mapping[str, Any], draws: random.Random) -> dict[str, Value]:
    """Another point of the space, near this one."""

    def suggest(path: str, domain: Drawn) -> Value:
        if path not in changes or draws.random() < _RESAMPLE:
            found: Value = draws.choice(domain.grid(_RESOLUTION))
            return found
        value: Value = changes[path]
        if isinstance(domain, Choice):
            return tuple(value) if isinstance(value, list) else value
        assert isinstance(value, int | float)
        if value == 0 and domain.or_zero:
            return domain.zero
        moved = min(domain.high, max(domain.low, value * draws.choice(_FACTORS)))
        return round(moved) if domain.whole else moved

    return space.draw(suggest)


def check_population(space: Space) -> None:
    """UserError where something that may be drawn changes what a checkpoint holds."""
    own = _shapes(space.config({}))
    for path, domain in space.resolved.items():
        for value in domain.ends:
            if path == "steps" or _shapes(space.config({path: value})) != own:
                raise UserError(
                    f"--schedule pbt: got the space's {path}, which changes the networks or their "
                    "state, want only what does not; fix it with --set or choose another schedule"
                )


def _shapes(config: Config) -> dict[str, Any]:
    """What a checkpoint of this config holds: tensors by name, parameters by optimiser group."""
    with torch.device("meta"):
        task = AdaptationTask(config)
        groups = Optimisers(task, config).state_dict()
    tensors = {name: (tuple(t.shape), t.dtype) for name, t in task.state_dict().items()}
    sizes = {
        name: [(group["name"], len(group["params"])) for group in state["param_groups"]]
        for name, state in groups.items()
    }
    return {"tensors": tensors, "groups": sizes}
