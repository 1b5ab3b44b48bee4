"""Discriminators that teach nothing any more: when it is reported, how often, and by whom."""

import functools
import logging

import pytest

from tests.test_loop import FakeWorker, Noise
from tests.tiny import tiny_config
from uda import loop
from uda.watch import CollapseWatch


def watched(accuracies: list[float | None], every: int = 50) -> tuple[list[float | None], list]:
    """(what is logged as `collapsed`, sentences with their step) for lines every so many steps."""
    watch = CollapseWatch(["a"], num_lines=3, num_steps=100)
    flags, sentences = [], []
    for number, accuracy in enumerate(accuracies, 1):
        scalars = {} if accuracy is None else {"health/a/accuracy": accuracy}
        news = watch.look(number * every, scalars)
        flags.append(news.scalars.get("health/a/collapsed"))
        sentences += [(number * every, text) for text in news.sentences]
    return flags, sentences


@pytest.mark.parametrize("accuracy", [0.98, 1.0, 0.519, 0.481, 0.5])
def test_a_collapse_is_said_once_and_logged_while_it_lasts(accuracy):
    flags, sentences = watched([0.7, accuracy, accuracy, accuracy, accuracy, 0.7])
    assert flags == [0, 0, 0, 1, 1, 0]
    ((step, text),) = sentences
    assert step == 200
    assert "\n" not in text
    assert "levels.a" in text
    assert "since step 100" in text
    assert f"accuracy {accuracy:.3f} {'at' if accuracy > 0.9 else 'until'} step 200" in text


def test_the_two_kinds_are_told_apart():
    ((_, certain),), ((_, blind),) = watched([1.0] * 3)[1], watched([0.5] * 3)[1]
    assert "not been fooled" in certain
    assert "lower lr_factor" in certain
    assert "not told the domains apart" in blind
    assert "higher lr_factor" in blind


@pytest.mark.parametrize("accuracy", [0.979, 0.53, 0.47, 0.1, 0.0, 0.75])
def test_balance_is_no_collapse(accuracy):
    assert watched([accuracy] * 9) == ([0.0] * 9, [])


def test_one_better_line_in_between_starts_anew():
    assert watched([0.99, 0.99, 0.7, 0.99, 0.99])[0] == [0] * 5
    assert watched([0.99, 0.99, 0.5, 0.99, 0.99])[0] == [0] * 5  # nor is the other kind the same


def test_flipped_coins_are_blind_in_the_mean_over_the_lines():
    lines = [0.1, 0.9] * 20
    watch = CollapseWatch(["a"])
    steps = range(50, 50 * len(lines) + 1, 50)
    said = [
        (step, text)
        for step, value in zip(steps, lines, strict=True)
        for text in watch.look(step, {"health/a/accuracy": value}).sentences
    ]
    ((step, text),) = said
    assert step == 500  # ten lines
    assert "since step 50 (mean accuracy 0.500 until step 500)" in text


def test_a_mean_that_wavers_at_the_edge_is_said_once():
    flags, sentences = watched([0.51, 0.51, 0.51, 0.53, 0.53, 0.53, 0.53, 0.55, 0.6, 0.7])
    assert flags == [0, 0, 1, 1, 1, 1, 1, 1, 0, 0]
    assert len(sentences) == 1


def test_a_second_collapse_is_said_again():
    flags, sentences = watched([0.99] * 3 + [0.7] + [0.99] * 3)
    assert flags == [0, 0, 1, 0, 0, 0, 1]
    assert [step for step, _ in sentences] == [150, 350]


def test_lines_that_follow_closely_are_too_few_steps():
    assert watched([0.99] * 11, every=10)[0] == [0] * 10 + [1]


def test_lines_without_the_accuracy_are_passed_over():
    flags, sentences = watched([0.99, None, 0.99, None, 0.99, None])
    assert flags == [0, None, 0, None, 1, None]
    assert len(sentences) == 1


def test_levels_are_watched_each_on_its_own():
    watch = CollapseWatch(["a", "b"], num_lines=2, num_steps=1)
    lines = [{"health/a/accuracy": 0.99, "health/b/accuracy": b, "loss/a": 1.0} for b in (0.6, 0.7)]
    first, second = (watch.look(step, line) for step, line in enumerate(lines))
    assert first.scalars == {"health/a/collapsed": 0, "health/b/collapsed": 0}
    assert second.scalars == {"health/a/collapsed": 1, "health/b/collapsed": 0}
    assert len(second.sentences) == 1


def test_by_default_it_takes_ten_lines_and_two_hundred_steps():
    for every, expected in ((1, 201), (10, 210), (50, 500), (1000, 10000)):
        watch = CollapseWatch(["a"])
        steps = range(every, 20000, every)
        said = next(s for s in steps if watch.look(s, {"health/a/accuracy": 1.0}).sentences)
        assert said == expected


@pytest.mark.parametrize("rank", [0, 1])
def test_the_loop_logs_it_and_only_the_first_worker_says_it(rank, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("uda.watch._CERTAIN", 0.0)  # whatever the accuracy is
    impatient = functools.partial(CollapseWatch, num_lines=2, num_steps=1)
    monkeypatch.setattr(loop, "CollapseWatch", impatient)
    config = tiny_config("adversarial", {"steps": 3, "runtime.log_every": 1})
    worker = FakeWorker(tmp_path)
    worker.rank = rank
    with caplog.at_level(logging.WARNING):
        loop.train(config, worker, Noise(config), {})
    flags = [worker.lines[step]["health/output/collapsed"] for step in (1, 2, 3)]
    assert flags == [0, 1, 1]
    said = [record.getMessage() for record in caplog.records if record.name == "uda.loop"]
    assert len(said) == (1 if rank == 0 else 0)
    assert all("levels.output" in text for text in said)


def test_a_run_without_levels_has_nothing_to_watch(tmp_path):
    config = tiny_config("source_only", {"steps": 1, "runtime.log_every": 1})
    worker = FakeWorker(tmp_path)
    loop.train(config, worker, Noise(config), {})
    assert not any(name.endswith("collapsed") for name in worker.lines[1])
