"""What a search shows in the terminal while it runs, and in the end."""

import argparse
import io
import threading
from pathlib import Path

import pytest

from cluster import tune_show
from cluster.tune_show import Screen, conclude
from tests.test_tune import open_book, point, run_trial
from uda.types import WorkError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(tune_show, "_SHOW_S", -1.0)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "30")


def test_without_a_terminal_there_is_a_line_for_each_news(tmp_path):
    book, out = open_book(tmp_path), io.StringIO()
    with Screen(book, out) as screen:
        book.next_trial()
        screen.show()
        screen.show()
        book.add(0, point(5, 0.25))
        screen.show()
        book.retry(0, "out of memory")
        screen.show()
        book.end(0, "stopped", "asha: is behind")
        screen.say("saving and stopping")
    assert out.getvalue().splitlines() == [
        "trial 0: step 0/20, running",
        "trial 0: step 5/20, best quality 0.2500, running",
        "trial 0: step 5/20, best quality 0.2500, running: out of memory",
        "uda: saving and stopping",
        "trial 0: step 5/20, best quality 0.2500, stopped: asha: is behind",
    ]


@pytest.mark.ray  # imports it
def test_a_trial_that_hangs_does_not_keep_a_search_for_ever(tmp_path, monkeypatch):
    from cluster import tune
    from cluster.tune_bridge import Stops

    monkeypatch.setattr(tune, "_POLL_S", 0.01)
    monkeypatch.setattr(tune, "_STOP_S", 0.05)
    book, out, stops = open_book(tmp_path), io.StringIO(), Stops()
    trial = book.next_trial()
    plan = argparse.Namespace(budget_hours=1e-9, folder=tmp_path)
    with Screen(book, out) as screen, pytest.raises(WorkError, match="trials 0: asked to save"):
        tune._wait(threading.Event(), plan, book, stops, screen)
    assert (tmp_path / trial.folder / "STOP").exists()
    assert "1e-09 hours are over: saving and stopping" in out.getvalue()


def test_a_table_is_drawn_over_itself(tmp_path):
    book, out = open_book(tmp_path), Terminal()
    with Screen(book, out) as screen:
        run_trial(book)
        screen.show()
        first = out.getvalue()
        run_trial(book)
        screen.show()
    assert first.startswith("rates on tiny, 1 trial: 1 finished\n")
    second = out.getvalue()[len(first) :]
    assert second.startswith(f"\x1b[{first.count(chr(10))}F\x1b[J")
    assert "2 trials: 2 finished" in second


def test_the_files_are_there_in_the_end(tmp_path):
    book = open_book(tmp_path)
    with Screen(book, io.StringIO()):
        run_trial(book)
    for name in ("results.csv", "report.html", "search.json", "best.json"):
        assert (tmp_path / name).exists(), name
    assert list((tmp_path / "trials" / "0000").glob("events.*")), "its settings, for TensorBoard"


def test_a_report_that_fails_is_said_once_and_ends_nothing(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise ZeroDivisionError("no axis")

    monkeypatch.setattr(tune_show, "write_report", fail)
    book, out = open_book(tmp_path), io.StringIO()
    with Screen(book, out) as screen:
        for _ in range(2):
            run_trial(book)
            screen.show()
    assert out.getvalue().count("uda: no report for now: ZeroDivisionError: no axis") == 1


def said(book: object, capsys: pytest.CaptureFixture, *, was_interrupted: bool) -> tuple:
    arguments = argparse.Namespace(
        source=Path("a b"), target=Path("c"), words=["tune", "rates", "--resume"]
    )
    status = conclude(book, arguments, was_interrupted=was_interrupted)
    return status, *capsys.readouterr()


def test_in_the_end_it_says_how_to_train_with_the_best(tmp_path, capsys):
    book = open_book(tmp_path)
    while run_trial(book) is not None:
        pass
    status, out, err = said(book, capsys, was_interrupted=False)
    assert status == 0
    assert f"uda train {tmp_path / 'best.json'} --source 'a b' --target c" in out
    assert err == ""


def test_before_its_end_it_says_how_to_go_on(tmp_path, capsys):
    book = open_book(tmp_path)
    run_trial(book)
    run_trial(book, until=10)
    book.pause(1)
    status, _, err = said(book, capsys, was_interrupted=True)
    assert status == 130
    assert err == "uda: trials left to run: 2; continue with: uda tune rates --resume\n"
    assert said(book, capsys, was_interrupted=False)[0] == 0, "its hours were over"


def test_a_search_of_failures_is_one(tmp_path, capsys):
    book = open_book(tmp_path, trials=1)
    book.next_trial()
    book.end(0, "failed", "out of memory")
    status, out, _ = said(book, capsys, was_interrupted=False)
    assert status == 1
    assert "no trial has a value" in out
