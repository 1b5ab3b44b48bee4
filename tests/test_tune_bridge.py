"""Between Ray Tune and the book: who is handed out, and what is written of those that end."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from tests.test_tune import open_book

pytestmark = pytest.mark.ray  # imports it

SCORES = {"step": 5, "quality": 0.5, "measures": {}, "oracle_miou": None, "done": False}


class RayTrial:
    """What is looked at of one."""

    def __init__(self, book: Any, number: int, **last_result: Any) -> None:
        self.config = {"number": number, "folder": str(book.folder / f"trials/{number:04d}")}
        self.last_result = SCORES | {"done": True} | last_result
        self.pickled_error_file: str | None = None
        self.error_file: str | None = None

    def failed_with(self, error: Exception, folder: Path) -> "RayTrial":
        file = folder / "error.pkl"
        file.write_bytes(pickle.dumps(error))
        self.pickled_error_file = str(file)
        return self


@pytest.fixture
def parts(tmp_path) -> Any:
    from cluster.tune_bridge import BookKeeper, BookSearcher, Stops

    book, stops = open_book(tmp_path, trials=2), Stops()
    return book, stops, BookSearcher(book, stops), BookKeeper(book, stops)


def test_trials_are_handed_out_until_all_have_ended(parts):
    book, _, searcher, keeper = parts
    folder = str(book.folder / "trials")
    assert searcher.suggest("a") == {"number": 0, "folder": f"{folder}/0000"}
    assert searcher.suggest("b") == {"number": 1, "folder": f"{folder}/0001"}
    assert searcher.suggest("c") is None, "one that runs may come back"
    for number in (0, 1):
        keeper.on_trial_complete(0, [], RayTrial(book, number, ended="finished"))
    assert searcher.suggest("d") == searcher.FINISHED


def test_nothing_new_begins_when_the_search_ends(parts):
    _, stops, searcher, _ = parts
    stops.search_ends.set()
    assert searcher.suggest("a") == searcher.FINISHED


@pytest.mark.parametrize(
    ("last", "asked", "status", "reason"),
    [
        ({"ended": "finished"}, None, "finished", ""),
        ({"ended": "finished"}, "asha: is behind", "finished", ""),
        ({"ended": "stopped"}, "asha: is behind", "stopped", "asha: is behind"),
        ({"ended": "stopped"}, None, "running", ""),
        ({"mistake": "shard: is damaged"}, None, "failed", "shard: is damaged"),
    ],
)
def test_how_a_trial_ended(parts, last, asked, status, reason):
    book, stops, searcher, keeper = parts
    searcher.suggest("a")
    keeper.on_trial_start(0, [], RayTrial(book, 0))
    keeper.on_trial_result(0, [], RayTrial(book, 0), SCORES)
    if asked:
        stops.ask(0, asked)
    keeper.on_trial_complete(0, [], RayTrial(book, 0, **last))
    trial = book.trial(0)
    assert (trial.status, trial.reason) == (status, reason)
    assert trial.step == 5


def test_one_that_was_stopped_by_nobody_is_handed_out_again(parts):
    book, _, searcher, keeper = parts
    assert [searcher.suggest(name)["number"] for name in "ab"] == [0, 1]
    keeper.on_trial_complete(0, [], RayTrial(book, 0, ended="stopped"))
    assert searcher.suggest("c")["number"] == 0


def test_one_that_has_adopted_another_has_its_changes(parts):
    book, _, searcher, keeper = parts
    searcher.suggest("a")
    adopted = {"donor": 3, "changes": {"optim.lr": 0.5}, "step": 4}
    keeper.on_trial_result(0, [], RayTrial(book, 0), SCORES | {"adopted": adopted})
    assert book.trial(0).changes == {"optim.lr": 0.5}
    assert book.trial(0).reason == "went on from trial 3"
    assert (book.trial(0).step, book.trial(0).since) == (5, 4)


def test_what_tune_says_after_the_end_is_passed_over(parts):
    book, stops, searcher, keeper = parts
    searcher.suggest("a")
    book.close()
    keeper.on_trial_complete(0, [], RayTrial(book, 0, ended="finished"))
    assert searcher.suggest("b") == searcher.FINISHED
    assert book.trial(0).status == "running"
    assert stops.search_ends.is_set()


def test_failures_are_one_line(parts, tmp_path):
    from ray.exceptions import ActorDiedError, RayTaskError

    from cluster.trial import TrialFailed

    book, _, searcher, keeper = parts
    searcher.suggest("a")
    failed = RayTaskError("step", "trace\nof many lines", TrialFailed("loss not finite"))
    keeper.on_trial_recover(0, [], RayTrial(book, 0).failed_with(failed, tmp_path))
    assert (book.trial(0).retries, book.trial(0).reason) == (1, "loss not finite")
    keeper.on_trial_error(0, [], RayTrial(book, 0).failed_with(ActorDiedError(), tmp_path))
    assert book.trial(0).reason == "its process was killed"
    assert book.trial(0).status == "failed"


def test_a_book_that_cannot_be_written_ends_the_search(parts, monkeypatch):
    book, stops, searcher, keeper = parts
    searcher.suggest("a")

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(book, "add", fail)
    keeper.on_trial_result(0, [], RayTrial(book, 0), SCORES)
    assert stops.search_ends.is_set()
    assert str(stops.error) == "no space left on device"
    assert stops.asked([0, 1]) == [0, 1]


def test_what_tune_pickles_holds_nothing(parts):
    for part in parts[2:]:
        pickle.dumps(part)
