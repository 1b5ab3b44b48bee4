"""What to try next: points of a space at random, by what was found so far, or all of a grid."""

import math
import random
import warnings
from typing import Literal, get_args

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import Trial, TrialState

from tune_spaces.domains import Choice, Drawn, Value
from tune_spaces.space import Changes, Space
from uda.types import UserError

Kind = Literal["random", "tpe", "grid"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# Random ones before TPE looks at what was found; fewer say nothing about ten and more paths.
_RANDOM_FIRST = 10


class Sampler:
    """Points of `space`, asked for and told about in any order, several at a time.

    Equal for equal arguments and an equal order of asks and tells. Pickled and read back it goes on
    as if nothing had happened.

    - `kind`: "random", "tpe" (Bergstra et al., NeurIPS 2011) or "grid", in a random order, so that
      a search that ends early has seen no corner only.
    - `with_preset`: the first point is the preset itself, no changes; TPE learns from it where its
      values lie in the space.
    - `points`: how many numbers of each range a grid takes.

    Raises:
        UserError: there is no such kind, or the grid is too large.
    """

    def __init__(
        self, space: Space, kind: Kind, seed: int, *, with_preset: bool = True, points: int = 3
    ) -> None:
        if kind not in KINDS:
            raise UserError(f"sampler: got {kind!r}, want one of {', '.join(KINDS)}")
        if points < 1:
            raise UserError(f"points: got {points}, want 1 or more")
        self._space = space
        self._pending: dict[int, Changes] = {}
        self._count = 0
        self._preset_waits = with_preset
        start = space.start_values() if with_preset else {}
        self._start = start if with_preset and space.holds(start) else None
        self._grid = _shuffled_grid(space, points, seed, self._start) if kind == "grid" else []
        self._study = None if kind == "grid" else _new_study(kind, seed)
        if self._study is not None and self._start is not None:
            self._study.enqueue_trial(_as_parameters(space, self._start))
        self._number_in_study: dict[int, int] = {}

    @property
    def pending(self) -> dict[int, Changes]:
        """What was asked for and not told about yet, by number."""
        return dict(self._pending)

    def ask(self) -> tuple[int, Changes] | None:
        """The number of the next trial, from 0, and what it changes; None: the grid is done."""
        changes: Changes
        if self._preset_waits:
            self._preset_waits = False
            if self._study is not None and self._start is not None:
                self._draw(self._study)  # what was enqueued, and equal to no changes
            changes = {}
        elif self._study is not None:
            changes = self._draw(self._study)
        elif self._grid:
            changes = self._grid.pop()
        else:
            return None
        self._pending[self._count] = changes
        self._count += 1
        return self._count - 1, changes

    def tell(self, number: int, value: float | None) -> None:
        """How good a trial was: higher is better; None or not finite: it failed.

        A failed one counts as worse than all others: what broke a training might break the next.
        """
        assert number in self._pending, f"trial {number} is not asked for, or told about before"
        del self._pending[number]
        known = self._number_in_study.pop(number, None)
        if self._study is None or known is None:
            return
        if value is None or not math.isfinite(value):
            # FAIL would be forgotten and so tried again; pruned at once ranks behind every value.
            self._study.tell(known, state=TrialState.PRUNED)
        else:
            self._study.tell(known, value)

    def _draw(self, study: optuna.Study) -> Changes:
        trial = study.ask()
        self._number_in_study[self._count] = trial.number
        return self._space.draw(lambda path, domain: _suggest(trial, path, domain))


def _shuffled_grid(space: Space, points: int, seed: int, without: Changes | None) -> list[Changes]:
    grid = [changes for changes in space.grid(points) if changes != without]
    random.Random(seed).shuffle(grid)
    return grid


def _new_study(kind: Kind, seed: int) -> optuna.Study:
    """Without the lines that Optuna logs on every study."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(sampler=_optuna_sampler(kind, seed), direction="maximize")
    finally:
        optuna.logging.set_verbosity(verbosity)


def _optuna_sampler(kind: Kind, seed: int) -> BaseSampler:
    if kind == "random":
        return RandomSampler(seed)
    with warnings.catch_warnings():
        # `group` is called experimental; Optuna's version is pinned.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return TPESampler(
            n_startup_trials=_RANDOM_FIRST,
            multivariate=True,  # paths depend on each other: weights, rates
            group=True,  # and each group of those drawn together is learned by itself
            constant_liar=True,  # those that run count as bad, so that two do not try the same
            seed=seed,
        )


def _switch(path: str) -> str:
    """The study's name for whether `path`, which may be 0, is not."""
    return f"{path} is on"


def _suggest(trial: Trial, path: str, domain: Drawn) -> Value:
    if isinstance(domain, Choice):
        # By index, because a study takes no tuples.
        return domain.values[trial.suggest_categorical(path, range(len(domain.values)))]
    if domain.or_zero and not trial.suggest_categorical(_switch(path), (False, True)):
        return domain.zero
    if domain.whole:
        return trial.suggest_int(path, int(domain.low), int(domain.high), log=domain.log)
    return trial.suggest_float(path, domain.low, domain.high, log=domain.log)


def _as_parameters(space: Space, changes: Changes) -> dict[str, Value]:
    """What `_suggest` must be suggested for these changes to be drawn."""
    parameters: dict[str, Value] = {}
    for path, value in changes.items():
        domain = space.resolved[path]
        if isinstance(domain, Choice):
            parameters[path] = domain.values.index(value)
            continue
        if domain.or_zero:
            parameters[_switch(path)] = bool(value)
        if value or not domain.or_zero:
            parameters[path] = value
    return parameters
