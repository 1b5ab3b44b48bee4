"""Schedules: values at single steps, their shape as a whole, and what is refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uda.schedule import Schedule, constant

DECAYS = ("none", "linear", "poly", "cosine")


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    decay = draw(st.sampled_from(DECAYS))
    start = draw(st.integers(0, 20))
    length = draw(st.integers(0 if decay == "none" else 1, 30))
    return Schedule(
        value=draw(st.floats(0.1, 10)),
        start=start,
        stop=start + length if length else 0,
        ramp=draw(st.integers(0, 15)),
        decay=decay,
    )


def test_constant_never_changes():
    schedule = constant(0.3)
    assert [schedule.at(step) for step in (0, 1, 10**9)] == [0.3, 0.3, 0.3]


def test_start_counts_and_stop_does_not():
    schedule = Schedule(value=2.0, start=3, stop=5)
    assert [schedule.at(step) for step in range(7)] == [0, 0, 0, 2, 2, 0, 0]


def test_ramp_of_n_steps_reaches_the_value_at_its_nth_step():
    schedule = Schedule(value=1.0, start=2, ramp=4)
    assert [schedule.at(step) for step in range(8)] == [0, 0, 0.25, 0.5, 0.75, 1, 1, 1]


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        ("linear", [1 - t / 10 for t in range(10)]),
        ("poly", [(1 - t / 10) ** 0.9 for t in range(10)]),
        ("cosine", [(1 + math.cos(math.pi * t / 10)) / 2 for t in range(10)]),
    ],
)
def test_decay_follows_its_curve_from_start_to_stop(decay, expected):
    schedule = Schedule(value=3.0, start=5, stop=15, decay=decay)
    assert schedule.at(5) == 3.0, "the full value at the start"
    assert [schedule.at(5 + t) for t in range(10)] == pytest.approx([3 * e for e in expected])
    assert schedule.at(15) == 0.0


def test_ramp_and_decay_multiply():
    schedule = Schedule(value=8.0, stop=8, ramp=4, decay="linear")
    assert schedule.at(1) == pytest.approx(8.0 * (2 / 4) * (7 / 8))


@given(schedules(), st.integers(0, 80))
def test_value_stays_between_zero_and_its_value(schedule, step):
    strength = schedule.at(step)
    assert 0.0 <= strength <= schedule.value
    outside = step < schedule.start or (schedule.stop and step >= schedule.stop)
    assert (strength == 0.0) == bool(outside)


@given(schedules(), st.integers(0, 60))
def test_after_its_ramp_it_never_rises(schedule, step):
    step += schedule.start + schedule.ramp
    assert schedule.at(step + 1) <= schedule.at(step)


def test_off_and_pausing():
    assert constant(0.0).is_off
    assert not constant(0.0).pauses_before(9)
    assert not constant(1.0).pauses_before(9)
    assert Schedule(value=1.0, start=1).pauses_before(9)
    assert Schedule(value=1.0, stop=1).pauses_before(9)
    assert not Schedule(value=1.0, stop=9).pauses_before(9)
    assert not Schedule(value=0.0, start=1).pauses_before(9)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"value": float("nan")}, "value"),
        ({"value": float("inf")}, "value"),
        ({"value": 1.0, "start": -1}, "start"),
        ({"value": 1.0, "ramp": -1}, "ramp"),
        ({"value": 1.0, "stop": -5}, "stop"),
        ({"value": 1.0, "start": 5, "stop": 5}, "stop"),
        ({"value": 1.0, "decay": "linear"}, "decay"),
    ],
)
def test_bad_settings_are_refused_in_one_line(settings, word):
    with pytest.raises(ValueError, match=word) as caught:
        Schedule(**settings)
    assert "\n" not in str(caught.value)
