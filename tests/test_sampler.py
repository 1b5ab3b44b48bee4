"""The sampler: reproducible, resumable, and TPE finds more than chance does."""

import itertools
import math
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from tune_spaces.domains import choice, integers, loguniform, uniform
from tune_spaces.sampler import KINDS, Kind, Sampler
from tune_spaces.space import Changes, Space, where
from uda.types import UserError

LR, FACTOR, CLIP, DECAY = "optim.lr", "optim.head_factor", "optim.clip_norm", "optim.decay"
WARMUP = "optim.warmup"

# Every kind of domain, and one path below another.
SPACE = Space(
    question="?",
    preset="demo_source_only",
    domains={
        LR: loguniform(1e-5, 1e-1),
        CLIP: loguniform(0.1, 10, or_zero=True),
        "data.crop.scale": choice((0.75, 1.5), (1.0, 1.0)),
        DECAY: choice("none", "linear", "poly"),
        WARMUP: integers(0, 40),
        FACTOR: uniform(1, 11),
    },
    conditions={FACTOR: where(CLIP)},
)
PLANE = Space(
    question="?",
    preset="demo_source_only",
    domains={LR: loguniform(1e-5, 1e-1), FACTOR: uniform(1, 11)},
)


def quality(changes: Changes) -> float:
    """Best at a rate of 1e-3 and a factor of 4, where it is 0; no changes are the preset's."""
    rate, factor = changes.get(LR, 2e-3), changes.get(FACTOR, 2.0)
    assert isinstance(rate, float)
    assert isinstance(factor, float)
    return -((math.log10(rate) + 3) ** 2) - ((factor - 4) / 5) ** 2


def search(
    sampler: Sampler, count: int, value: Callable[[Changes], float | None] = quality
) -> list[Changes]:
    """One trial after the other."""
    found = []
    for number, changes in filter(None, (sampler.ask() for _ in range(count))):
        sampler.tell(number, value(changes))
        found.append(changes)
    return found


def in_parallel(sampler: Sampler, events: range) -> list[Changes]:
    """Three run at a time and end in another order; every fourth fails."""
    found = []
    for event in events:
        asked = sampler.ask()
        assert asked is not None
        found.append(asked[1])
        if len(sampler.pending) == 3:
            number = sorted(sampler.pending)[event % 3]
            failed = number % 4 == 3
            sampler.tell(number, None if failed else quality(sampler.pending[number]))
    return found


# --- the same again --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_equal_seeds_give_equal_searches_and_others_do_not(kind: Kind) -> None:
    def found(seed: int) -> list[Changes]:
        return in_parallel(Sampler(SPACE, kind, seed), range(24))

    first = found(0)
    assert found(0) == first
    assert found(1) != first


@pytest.mark.slow
def test_another_process_finds_the_same() -> None:
    """Whatever the order of its sets."""
    script = (
        "from tests.test_sampler import *\nprint(in_parallel(Sampler(SPACE, 'tpe', 5), range(20)))"
    )
    here = in_parallel(Sampler(SPACE, "tpe", 5), range(20))
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": "77"},
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert done.stdout.strip() == str(here)


@pytest.mark.parametrize("kind", KINDS)
def test_a_search_that_is_pickled_midway_goes_on_as_if_it_were_not(kind: Kind) -> None:
    whole = in_parallel(Sampler(SPACE, kind, 3), range(24))
    sampler = Sampler(SPACE, kind, 3)
    parts = []
    for start in range(0, 24, 8):  # while two are still running
        sampler = pickle.loads(pickle.dumps(sampler))
        parts += in_parallel(sampler, range(start, start + 8))
    assert parts == whole


def test_what_is_pending_is_known_after_a_resume() -> None:
    sampler = Sampler(PLANE, "tpe", 0)
    asked = [sampler.ask() for _ in range(3)]
    sampler.tell(1, 0.5)
    resumed: Sampler = pickle.loads(pickle.dumps(sampler))
    assert list(resumed.pending.items()) == [asked[0], asked[2]]


# --- the preset ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_preset_comes_first_where_it_is_wanted(kind: Kind) -> None:
    sampler = Sampler(SPACE, kind, 0)
    assert sampler.ask() == (0, {})
    number, changes = sampler.ask() or (-1, {})
    assert number == 1
    assert SPACE.holds(changes)
    number, changes = Sampler(SPACE, kind, 0, with_preset=False).ask() or (-1, {})
    assert number == 0
    assert SPACE.holds(changes)


def test_tpe_learns_from_the_preset_where_it_is_a_point_of_the_space() -> None:
    """Told that the preset is the best or that it is the worst, it goes on in other ways."""

    def found(preset_value: float, space: Space) -> list[Changes]:
        sampler = Sampler(space, "tpe", 0)
        return search(sampler, 16, lambda changes: quality(changes) if changes else preset_value)

    assert found(9.0, PLANE) != found(-9.0, PLANE)
    elsewhere = Space(question="?", preset=PLANE.preset, domains={LR: loguniform(1e-5, 1e-4)})
    assert not elsewhere.holds(elsewhere.start_values())
    assert found(9.0, elsewhere) == found(-9.0, elsewhere)


# --- the grid --------------------------------------------------------------------------------


@pytest.mark.parametrize("with_preset", [True, False])
def test_a_grid_covers_everything_once(with_preset: bool) -> None:
    sampler = Sampler(SPACE, "grid", 0, with_preset=with_preset, points=2)
    found = search(sampler, 1000, lambda changes: 0.0)
    if with_preset:
        assert found.pop(0) == {}
    # The factor is drawn where the clipping, of three values, is on.
    assert len(found) == 2 * (1 + 2 * 2) * 2 * 3 * 2
    unique = {tuple(changes.items()) for changes in found}
    assert len(unique) == len(found)
    assert unique == {tuple(changes.items()) for changes in SPACE.grid(2)}
    assert sampler.ask() is None
    assert sampler.ask() is None


def test_a_grid_that_holds_the_preset_does_not_repeat_it() -> None:
    space = Space(question="?", preset=PLANE.preset, domains={LR: choice(1e-3, 2e-3, 4e-3)})
    assert space.start_values() == {LR: 2e-3}
    found = search(Sampler(space, "grid", 0), 9, lambda changes: 0.0)
    assert found[0] == {}
    assert sorted(changes[LR] for changes in found[1:]) == [1e-3, 4e-3]


def test_a_grid_is_in_no_order() -> None:
    found = [changes[LR] for changes in search(Sampler(PLANE, "grid", 0, points=4), 17)[1:]]
    assert found != sorted(found)


# --- TPE -------------------------------------------------------------------------------------


def test_tpe_finds_more_than_chance() -> None:
    best: dict[Kind, list[float]] = {"random": [], "tpe": []}
    for kind, seed in itertools.product(best, range(6)):
        found = search(Sampler(PLANE, kind, seed, with_preset=False), 40)
        best[kind].append(max(map(quality, found)))
    wins = sum(ours > chance for ours, chance in zip(best["tpe"], best["random"], strict=True))
    assert wins >= 5, best
    assert sum(best["tpe"]) > sum(best["random"]) / 4, best


def test_tpe_avoids_what_fails() -> None:
    """Large rates break the training; forgetting that they do would lead it there again."""

    def value(changes: Changes) -> float | None:
        rate, factor = changes.get(LR, 2e-3), changes.get(FACTOR, 2.0)
        assert isinstance(rate, float)
        assert isinstance(factor, float)
        return None if rate > 1e-3 else -abs(factor - 4)

    def failures(kind: Kind, seed: int) -> int:
        found = search(Sampler(PLANE, kind, seed), 40, value)[11:]
        return sum(value(changes) is None for changes in found)

    counts = {kind: sum(failures(kind, seed) for seed in range(4)) for kind in ("random", "tpe")}
    assert counts["tpe"] < counts["random"] / 2, counts


def test_tpe_goes_on_where_everything_fails() -> None:
    assert len(search(Sampler(SPACE, "tpe", 0), 20, lambda changes: None)) == 20


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_no_finite_value_is_a_failure(broken: float) -> None:
    searches = [
        search(
            Sampler(PLANE, "tpe", 0), 20, lambda c, v=v: v if c.get(LR, 1) > 1e-3 else quality(c)
        )
        for v in (broken, None)
    ]
    assert searches[0] == searches[1]


def test_trials_that_run_together_are_not_the_same() -> None:
    sampler = Sampler(PLANE, "tpe", 0)
    search(sampler, 20)
    rates = [changes[LR] for _, changes in filter(None, (sampler.ask() for _ in range(6)))]
    assert len(set(rates)) == 6


# --- mistakes --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_trial_is_told_about_once(kind: Kind) -> None:
    sampler = Sampler(PLANE, kind, 0)
    with pytest.raises(AssertionError, match="trial 0 is not asked for"):
        sampler.tell(0, 1.0)
    sampler.ask()
    sampler.tell(0, 1.0)
    with pytest.raises(AssertionError, match=r"trial 0 .*told about before"):
        sampler.tell(0, 1.0)


def test_an_unknown_kind_lists_all() -> None:
    with pytest.raises(UserError, match=r"^sampler: got 'bayes', want one of random, tpe, grid$"):
        Sampler(PLANE, "bayes", 0)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"^points: got 0, want 1 or more$"):
        Sampler(PLANE, "grid", 0, points=0)


def test_nothing_is_printed_and_nobody_is_warned(capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in KINDS:
            search(Sampler(SPACE, kind, 0), 14, lambda changes: None if DECAY in changes else 1.0)
    assert capfd.readouterr() == ("", "")
