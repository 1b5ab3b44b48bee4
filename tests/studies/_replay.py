"""Searches over a table of what every point came to: thousands of them take minutes, not weeks.

What a search would have seen at each checkpoint is looked up instead of trained. The sampler and
asynchronous successive halving are those of `uda tune` itself, and so is trial 0, the preset. Two
trials run at a time and take the same time for a step; scoring takes none, and who is behind ends
at once. A point that is drawn twice is trained twice, as there.

Population based training is not among them: its trials go on from the networks of others with other
settings, and the table knows only networks that have had one setting from start to end.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from cluster.tune_schedule import Schedule
from tests.studies._table import Row, Table
from tune_spaces.sampler import Kind, Sampler
from tune_spaces.space import Space

CONCURRENT = 2


@dataclass(frozen=True, kw_only=True)
class Search:
    """How points are drawn, and how many; with `halving`, what is behind is stopped early.

    - `with_preset`: the first is the preset itself.
    """

    kind: Kind
    trials: int
    halving: bool = False
    with_preset: bool = True

    @property
    def is_guided(self) -> bool:
        """Whether what was found changes what comes next."""
        return self.halving or self.kind == "tpe"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A checkpoint that a search has seen: of which trial, of which row, which of its checkpoints.

    `spent`: the steps of all trials up to their last checkpoints.
    """

    trial: int
    row: Row
    index: int
    spent: int

    def value(self, measure: str) -> float:
        return self.row.values[measure][self.index]

    @property
    def step(self) -> int:
        return self.row.steps[self.index]

    @property
    def is_end(self) -> bool:
        return self.index == len(self.row.steps) - 1


def replay(
    table: Table,
    space: Space,
    search: Search,
    measure: str,
    seed: int,
    *,
    concurrent: int = CONCURRENT,
) -> list[Seen]:
    """What a search that goes by `measure` sees, in order.

    A trial is worth the best of its checkpoints, and halving compares those of the same step.
    """
    sampler = Sampler(space, search.kind, seed, with_preset=search.with_preset)
    halving = Halving(next(iter(table.values())).steps) if search.halving else None
    running: list[tuple[int, int, int]] = []  # steps since the start, trial, checkpoint
    rows: dict[int, Row] = {}
    seen: list[Seen] = []

    def begin(now: int) -> None:
        if len(rows) < search.trials and (asked := sampler.ask()):
            trial, changes = asked
            point = changes or space.start_values()
            rows[trial] = table[tuple(point.get(path) for path in space.resolved)]
            heapq.heappush(running, (now + rows[trial].steps[0], trial, 0))

    for _ in range(concurrent):
        begin(0)
    while running:
        now, trial, index = heapq.heappop(running)
        row = rows[trial]
        steps = row.steps[index] - (row.steps[index - 1] if index else 0)
        spent = seen[-1].spent + steps if seen else steps
        seen.append(Seen(trial=trial, row=row, index=index, spent=spent))
        values = row.values[measure][: index + 1]
        stops = halving is not None and halving.stops(trial, row.steps[index], values[-1])
        if seen[-1].is_end or stops:
            sampler.tell(trial, max(values))
            begin(now)
        else:
            until_next = row.steps[index + 1] - row.steps[index]
            heapq.heappush(running, (now + until_next, trial, index + 1))
    return seen


class Halving:
    """Asynchronous successive halving (Li et al., MLSys 2020) as `uda tune` has it, without a Ray.

    One of two goes on, from the first checkpoint on and then at twice as many steps each time:
    `--reduction 2`, and `--grace-steps` as many as there are until then.
    """

    def __init__(self, steps: Sequence[int]) -> None:
        schedule = Schedule(
            name="asha", metric="quality", grace_steps=steps[0], reduction=2.0, steps=steps[-1]
        )
        self._stopped: set[int] = set()
        self._scheduler = schedule.scheduler(lambda trial, _: self._stopped.add(trial), [])
        self._known: set[int] = set()

    def stops(self, trial: int, step: int, value: float) -> bool:
        """Tells it what a trial has reached; whether it is to end there."""
        nobody: Any = None  # it looks at no controller, and of a trial at this alone
        known: Any = SimpleNamespace(trial_id=str(trial), config={"number": trial})
        if trial not in self._known:
            self._known.add(trial)
            self._scheduler.on_trial_add(nobody, known)
        self._scheduler.on_trial_result(nobody, known, {"step": step, "quality": value})
        return trial in self._stopped


def incumbents(seen: Sequence[Seen], judge: str) -> Iterator[Seen]:
    """After each checkpoint, the one that would be taken if the search ended there.

    By a measure: the highest so far, of equals the longer trained one, then the earlier trial. By
    "end": the same by quality, but of networks at the end of their training alone. By "lot": the
    one that came to its end last, whatever it scored. Before any has ended, both take the latest.
    """
    best = seen[0]
    for one in seen:
        if judge in ("end", "lot") and not (one.is_end and best.is_end):
            best = one if one.is_end or not best.is_end else best
        elif judge == "lot":
            best = one
        else:
            measure = "quality" if judge == "end" else judge
            best = max(best, one, key=lambda s: (s.value(measure), s.step, -s.trial))
        yield best
