"""What a search remembers: its trials and what was drawn, in plain files, so that any end will do.

DIR/search.json   the trials with all their scores, see `cluster.search_file`
DIR/draws.jsonl   what the sampler was asked for and told, see `cluster.tune_draws`
DIR/best.json     the config of the best trial, for `uda train`
DIR/trials/0007   the run of a trial

Nothing here knows how trials are run.
"""

import dataclasses
import json
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.search_file import read_search, write_search
from cluster.trials import Point, Search, Status, Trial, Value
from cluster.tune_draws import DRAWS_FILE, Changes, Draws, Sampler
from uda.checkpoint import checkpoints
from uda.config import Config
from uda.data.write import atomic
from uda.run import CONFIG_FILE
from uda.types import UserError

SEARCH_FILE, BEST_FILE = "search.json", "best.json"


class BookClosed(Exception):  # noqa: N818  # no failure: who asks is late
    """The search has ended, and nobody reads any more what happens to its trials."""


class Book:
    """The trials of a search in `folder`; everything that happens to them is written down at once.

    Called again for a folder that holds a search, it goes on with that: trials that have ended are
    not run again, the others are the first that `next_trial` gives out.

    - `config_of`: the config of a point; its UserError fails the trial.
    - `num_trials`: how many in all.
    - `num_kept`: trials whose checkpoints stay, the best ones; the others have their records only.

    Raises:
        UserError: what is in the folder cannot be read, or the draws would be others now.
    """

    def __init__(
        self,
        folder: Path,
        search: Search,
        sampler: Sampler,
        config_of: Callable[[Changes], Config],
        *,
        num_trials: int,
        num_kept: int,
    ) -> None:
        self._folder = folder
        self._draws = Draws(sampler, folder / DRAWS_FILE)
        self._config_of = config_of
        self._num_trials = num_trials
        self._num_kept = num_kept
        self._lock = threading.RLock()
        self._is_closed = False
        self._began: dict[int, tuple[float, float]] = {}  # when, and the minutes before
        self._changes: dict[int, Changes] = {}
        self._search = self._with_old_trials(search)
        self._waiting = deque(self._settle())

    @property
    def search(self) -> Search:
        """As it is now."""
        return self._search

    @property
    def folder(self) -> Path:
        return self._folder

    def trial(self, number: int) -> Trial:
        with self._lock:
            return next(trial for trial in self._search.trials if trial.number == number)

    @property
    def running(self) -> list[Trial]:
        """Given out, or to be given out again, and not ended."""
        return [trial for trial in self._search.trials if trial.status == "running"]

    @property
    def ended(self) -> list[Trial]:
        return [trial for trial in self._search.trials if trial.status != "running"]

    @property
    def is_over(self) -> bool:
        return not self.num_left

    @property
    def num_left(self) -> int:
        """Trials that have not ended, or not begun."""
        with self._lock:
            drawn = self._draws.count if self._draws.is_exhausted else 0
            return max(drawn or self._num_trials, len(self._search.trials)) - len(self.ended)

    def next_trial(self) -> Trial | None:
        """The next one to run, with its config.json in its folder; None when there is no more."""
        with self._writing():
            while (drawn := self._next_point()) is not None:
                number, changes = drawn
                trial = self._record(number, changes)
                try:
                    config = self._config_of(changes)
                except UserError as error:
                    self.end(number, "failed", str(error))
                    continue
                self._write_config(trial, config)
                return trial
            return None

    def begin(self, number: int) -> None:
        """A trial is being run from now on."""
        with self._writing():
            self._began[number] = (time.monotonic(), self.trial(number).minutes)

    def add(self, number: int, point: Point) -> None:
        """A scored checkpoint; those of later steps are forgotten, their run went back."""
        with self._writing():
            trial = self.trial(number)
            if point in trial.curve:
                return  # told again after a failure
            before = tuple(each for each in trial.curve if each.step < point.step)
            self._put(trial, curve=(*before, point))
            self._write_best()

    def retry(self, number: int, reason: str) -> None:
        """It has failed, and is started again."""
        with self._writing():
            trial = self.trial(number)
            self._put(trial, retries=trial.retries + 1, reason=reason)

    def changes(self, number: int) -> Changes:
        """Of a trial, as they were drawn or have been changed since."""
        with self._lock:
            return self._changes[number]

    def change(self, number: int, changes: Changes, reason: str, *, since: int) -> None:
        """A trial that runs goes on from a step with other settings; config.json is its own."""
        with self._writing():
            trial = self.trial(number)
            if (changes, since) != (self._changes[number], trial.since):
                self._changes[number] = changes
                self._put(trial, changes=_shown(changes), reason=reason, since=since)

    def end(self, number: int, status: Status, reason: str = "") -> None:
        """It will not be run again: "finished", "stopped" early or "failed"."""
        with self._writing():
            trial = self.trial(number)
            value = trial.value(self._search.metric)
            if value is None and status != "failed":
                status, reason = "failed", "none of its checkpoints has a score"
            self._put(trial, status=status, reason=reason)
            self._began.pop(number, None)
            self._draws.tell(number, None if status == "failed" else value)
            self._write_best()
            self._remove_checkpoints()

    def pause(self, number: int) -> None:
        """It has saved and stopped, and will be gone on with: `next_trial` gives it out again."""
        with self._writing():
            self._put(self.trial(number))
            self._began.pop(number, None)
            self._waiting.append((number, self._changes[number]))

    def close(self) -> None:
        """Whatever happens to trials from now on is not written down; BookClosed is raised."""
        with self._lock:
            self._is_closed = True

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock:
            if self._is_closed:
                raise BookClosed(f"the search in {self._folder} has ended")
            yield

    def __getstate__(self) -> dict[str, Any]:
        """Empty: Ray Tune pickles whoever has a book, to restore it; a book is in its files."""
        return {}

    # What was before

    def _with_old_trials(self, search: Search) -> Search:
        file = self._folder / SEARCH_FILE
        if not file.exists():
            return search
        return dataclasses.replace(search, trials=read_search(file).trials)

    def _settle(self) -> list[tuple[int, Changes]]:
        """Tells the sampler of trials that had ended; those that are left to run."""
        status = {trial.number: trial.status for trial in self._search.trials}
        left = []
        for number, changes in sorted(self._draws.pending.items()):
            if status.get(number, "running") == "running":
                left.append((number, changes))
                continue
            trial = self.trial(number)
            self._draws.tell(
                number, None if trial.status == "failed" else trial.value(self.search.metric)
            )
        return left

    # Files

    def _next_point(self) -> tuple[int, Changes] | None:
        if self._waiting:
            return self._waiting.popleft()
        return self._draws.draw() if self._draws.count < self._num_trials else None

    def _record(self, number: int, changes: Changes) -> Trial:
        """The record of a trial that is to be run."""
        known = [trial for trial in self._search.trials if trial.number == number]
        trial = known[0] if known else Trial(
            number=number, changes=_shown(changes), status="running", folder=f"trials/{number:04d}"
        )  # fmt: skip
        self._changes[number] = _drawn(known[0].changes) if known else changes
        self._put(trial)
        return trial

    def _put(self, trial: Trial, **fields: Any) -> None:
        since, minutes = self._began.get(trial.number, (time.monotonic(), trial.minutes))
        minutes += (time.monotonic() - since) / 60
        changed = dataclasses.replace(trial, minutes=minutes, **fields)
        self._search = self._search.with_trial(changed)
        write_search(self._search, self._folder / SEARCH_FILE)

    def _write_config(self, trial: Trial, config: Config) -> None:
        file = self._folder / trial.folder / CONFIG_FILE
        if not file.exists():  # a run that goes on has its own, which may have changed since
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic(file) as partial:
                partial.write_text(config.to_json())

    def _write_best(self) -> None:
        """Under a name of its own, so that `uda train` takes it for no run that there was."""
        if (best := self._search.best) is None:
            (self._folder / BEST_FILE).unlink(missing_ok=True)  # the best one has failed since
            return
        config = Config.from_json(self._folder / best.folder / CONFIG_FILE)
        by = "" if self._search.metric == "quality" else "_by_oracle"
        named = dataclasses.replace(config, name=f"{config.name}_{self._search.space}{by}")
        with atomic(self._folder / BEST_FILE) as partial:
            partial.write_text(named.to_json())

    def _remove_checkpoints(self) -> None:
        """Of all trials that have ended, but for the best."""

        def rank(trial: Trial) -> tuple[bool, float, int, int]:
            value = trial.value(self._search.metric)
            return (trial.status == "failed", -(value or 0.0), -trial.step, trial.number)

        for trial in sorted(self.ended, key=rank)[self._num_kept :]:
            for checkpoint in checkpoints(self._folder / trial.folder):
                shutil.rmtree(checkpoint)


def _shown(changes: Changes) -> dict[str, Value]:
    return {path: shown(value) for path, value in changes.items()}


def _drawn(changes: Mapping[str, Value]) -> Changes:
    """What `shown` has made these of."""
    return {
        path: tuple(json.loads(value)) if isinstance(value, str) and value[:1] == "[" else value
        for path, value in changes.items()
    }


def shown(value: Any) -> Value:
    """As the records have it: what is no plain value is its JSON text, as `--set` takes it."""
    return json.dumps(value) if isinstance(value, tuple | list) else value
