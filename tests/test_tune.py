"""A search without Ray: what it remembers, however it ends, and what it refuses."""

import dataclasses
import json
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cluster.search_file import read_search
from cluster.trials import Point, Search
from cluster.tune_book import Book, BookClosed
from cluster.tune_draws import Draws
from cluster.tune_folder import check_folder, claimed
from tests.test_validation import add_checkpoint
from tests.tiny import tiny_config
from uda.checkpoint import checkpoints
from uda.config import Config
from uda.run import read_config
from uda.tree import override
from uda.types import UserError

SEARCH = Search(
    space="rates",
    question="Which rate?",
    preset="tiny",
    config_digest="0" * 12,
    metric="quality",
    allow_oracle=False,
    steps=20,
    axes=(),
)
SETTINGS = {"space": "rates 1", "preset": "tiny 2", "target data": "3", "seed": 0}


class Learner:
    """Draws rates by all that it was asked and told so far, as a sampler that learns does."""

    def __init__(self, seed: int = 0, points: int = 100) -> None:
        self._draws = random.Random(seed)
        self._left = points
        self._count = 0
        self.pending: dict[int, Mapping[str, Any]] = {}

    def ask(self) -> tuple[int, Mapping[str, Any]] | None:
        if not self._left:
            return None
        self._left -= 1
        changes: dict[str, Any] = {}
        if self._count:
            rate = 1e-3 * self._draws.uniform(0.5, 2.0)
            changes = {"optim.lr": rate, "model.aspp_dilations": (1, 2)}
        self.pending[self._count] = changes
        self._count += 1
        return self._count - 1, changes

    def tell(self, number: int, value: float | None) -> None:
        assert number in self.pending, f"{number} is not asked for"
        del self.pending[number]
        self._draws = random.Random(f"{value} {self._draws.random()}")


def config_of(changes: Mapping[str, Any]) -> Config:
    return override(tiny_config("source_only"), changes)


def open_book(
    folder: Path, *, trials: int = 3, keep: int = 1, config_of: Any = config_of, **fields: Any
) -> Book:
    folder.mkdir(exist_ok=True)
    search = dataclasses.replace(SEARCH, **fields)
    return Book(folder, search, Learner(), config_of, num_trials=trials, num_kept=keep)


def point(step: int, quality: float | None, **fields: Any) -> Point:
    return Point(step=step, quality=quality, measures={"coverage": 0.5}, **fields)


def value_of(changes: Mapping[str, Any], step: int) -> float:
    """Made up, of the trial and its step."""
    return 0.1 + changes.get("optim.lr", 1e-3) * 100 + step / 1000


def run_trial(book: Book, until: int = 20) -> int | None:
    """A trial as Ray would run it, from its last score to the step `until`."""
    if (trial := book.next_trial()) is None:
        return None
    book.begin(trial.number)
    for step in (5, 10, 15, 20):
        if step <= until:
            add_checkpoint_of(book, trial.number, step)
            book.add(trial.number, point(step, value_of(book.changes(trial.number), step)))
    if until >= 20:
        book.end(trial.number, "finished")
    return trial.number


def add_checkpoint_of(book: Book, number: int, step: int) -> None:
    folder = book.folder / book.trial(number).folder
    if not (folder / f"step-{step:07d}").exists():
        add_checkpoint(folder, step, waits=False)


class TestBook:
    def test_a_search_from_its_start_to_its_end(self, tmp_path):
        book = open_book(tmp_path)
        assert not book.is_over
        assert [run_trial(book) for _ in range(4)] == [0, 1, 2, None]
        assert book.is_over
        assert [trial.status for trial in book.search.trials] == ["finished"] * 3
        assert book.search.trials[0].changes == {}, "the preset as it is comes first"
        assert book.search.trials[1].changes["model.aspp_dilations"] == "[1, 2]"
        assert read_search(tmp_path / "search.json") == book.search

    def test_best_json_is_what_uda_train_takes(self, tmp_path):
        book = open_book(tmp_path)
        while run_trial(book) is not None:
            pass
        best = book.search.best
        assert best.number > 0
        config = read_config(str(tmp_path / "best.json"), [])
        assert config.optim.lr == best.changes["optim.lr"]
        assert config.name == "tiny_rates"
        trained = Config.from_json(tmp_path / best.folder / "config.json")
        assert dataclasses.replace(config, name=trained.name) == trained

    def test_best_json_says_where_it_was_chosen_by_an_oracle(self, tmp_path):
        book = open_book(tmp_path, metric="oracle:miou", allow_oracle=True)
        for number, truth in enumerate((0.3, 0.2)):
            assert book.next_trial().number == number
            book.add(number, point(20, 0.1 + number, oracle_miou=truth))
            book.end(number, "finished")
        assert book.search.best.number == 0
        assert read_config(str(tmp_path / "best.json"), []).name == "tiny_rates_by_oracle"

    def test_without_permission_there_is_no_oracle_in_it(self, tmp_path):
        book = open_book(tmp_path)
        book.next_trial()
        with pytest.raises(UserError, match="may not look at labels"):
            book.add(0, point(5, 0.5, oracle_miou=0.5))

    def test_only_the_best_keep_their_checkpoints(self, tmp_path):
        book = open_book(tmp_path, trials=4, keep=2)
        running = book.next_trial()
        add_checkpoint_of(book, running.number, 5)
        while run_trial(book) is not None:
            pass
        assert checkpoints(tmp_path / running.folder), "it goes on from there"
        ended = sorted(book.ended, key=lambda trial: -trial.value("quality"))
        kept = [bool(checkpoints(tmp_path / trial.folder)) for trial in ended]
        assert kept == [True, True, False]
        assert all((tmp_path / trial.folder / "config.json").exists() for trial in ended)

    def test_a_point_that_does_not_fit_together_is_a_failed_trial(self, tmp_path):
        def refuse(changes: Mapping[str, Any]) -> Config:
            if changes:
                raise UserError("optim.lr: too high")
            return config_of(changes)

        book = open_book(tmp_path, config_of=refuse)
        assert run_trial(book) == 0
        assert run_trial(book) is None
        assert [trial.status for trial in book.search.trials] == ["finished", "failed", "failed"]
        assert book.search.trials[1].reason == "optim.lr: too high"
        assert book.is_over

    def test_a_trial_without_any_score_has_failed(self, tmp_path):
        book = open_book(tmp_path)
        book.next_trial()
        book.add(0, point(5, None))
        book.end(0, "stopped", "by hand")
        assert book.trial(0).status == "failed"
        assert "none of its checkpoints has a score" in book.trial(0).reason

    def test_a_retry_tells_again_what_is_known(self, tmp_path):
        book = open_book(tmp_path)
        book.next_trial()
        for step in (5, 10):
            book.add(0, point(step, step / 100))
        book.retry(0, "out of memory")
        for step in (5, 10, 15):
            book.add(0, point(step, step / 100))
            assert book.trial(0).step >= 10, "the old ones do not send it back"
        assert [each.step for each in book.trial(0).curve] == [5, 10, 15]
        assert (book.trial(0).retries, book.trial(0).reason) == (1, "out of memory")

    def test_a_run_that_went_back_forgets_what_was_later(self, tmp_path):
        book = open_book(tmp_path)
        book.next_trial()
        for step in (5, 10, 15):
            book.add(0, point(step, 0.1))
        changes = {"optim.lr": 0.5, "model.aspp_dilations": (2, 4)}
        book.change(0, changes, "goes on from trial 1", since=7)
        book.add(0, point(10, 0.2))
        assert [each.quality for each in book.trial(0).curve] == [0.1, 0.2]
        assert book.trial(0).changes == {"optim.lr": 0.5, "model.aspp_dilations": "[2, 4]"}
        again = open_book(tmp_path)
        assert again.next_trial().changes["optim.lr"] == 0.5
        assert again.changes(0)["model.aspp_dilations"] == (2, 4)

    def test_what_it_reached_with_other_settings_is_not_credited_to_new_ones(self, tmp_path):
        book = open_book(tmp_path)
        for _ in range(2):
            book.next_trial()
        book.add(0, point(5, 0.9))
        book.add(1, point(5, 0.5))
        book.change(0, {"optim.lr": 0.5}, "went on from trial 1", since=5)
        assert book.trial(0).best is None
        assert book.search.best.number == 1
        book.add(0, point(10, 0.6))
        assert book.search.best.number == 0
        book.end(0, "finished")
        told = [json.loads(line) for line in (tmp_path / "draws.jsonl").read_text().splitlines()]
        assert told[-1] == {"told": 0, "value": 0.6}
        assert open_book(tmp_path).trial(0).value("quality") == 0.6, "also when it is resumed"

    def test_there_is_no_best_one_when_the_only_one_fails(self, tmp_path):
        book = open_book(tmp_path)
        book.next_trial()
        book.add(0, point(5, 0.9))
        assert (tmp_path / "best.json").exists()
        book.end(0, "failed", "loss not finite")
        assert not (tmp_path / "best.json").exists()

    def test_nothing_is_written_after_the_end(self, tmp_path):
        """Whoever aborts a search kills its trials, which have not failed for that."""
        book = open_book(tmp_path)
        run_trial(book, until=10)
        book.close()
        before = (tmp_path / "search.json").read_text()
        for late in (
            lambda: book.end(0, "failed", "its process was killed"),
            lambda: book.add(0, point(15, 0.5)),
            lambda: book.retry(0, "its process was killed"),
            lambda: book.pause(0),
            book.next_trial,
        ):
            with pytest.raises(BookClosed):
                late()
        assert (tmp_path / "search.json").read_text() == before
        assert run_trial(open_book(tmp_path)) == 0

    def test_a_paused_trial_comes_again(self, tmp_path):
        book = open_book(tmp_path, trials=1)
        assert run_trial(book, until=5) == 0
        assert book.next_trial() is None
        assert not book.is_over
        book.pause(0)
        assert run_trial(book) == 0
        assert book.is_over

    def test_a_small_grid_ends_early(self, tmp_path):
        book = Book(tmp_path, SEARCH, Learner(points=2), config_of, num_trials=9, num_kept=1)
        assert [run_trial(book) for _ in range(3)] == [0, 1, None]
        assert book.is_over


class TestAfterACrash:
    """A book that is dropped without a word, as by SIGKILL, and opened anew."""

    def test_it_draws_and_finishes_what_it_would_have(self, tmp_path):
        alone = open_book(tmp_path / "alone", trials=6)
        while run_trial(alone) is not None:
            pass
        folder = tmp_path / "killed"
        ran = [run_trial(open_book(folder, trials=6), until) for until in (20, 10, 20)]
        ran += [run_trial(open_book(folder, trials=6)) for _ in range(4)]
        assert ran == [0, 1, 1, 2, 3, 4, 5], "what was finished is not run again"
        killed = open_book(folder, trials=6)
        assert killed.is_over
        assert [trial.changes for trial in killed.search.trials] == [
            trial.changes for trial in alone.search.trials
        ]
        assert killed.search.best.number == alone.search.best.number

    @pytest.mark.parametrize("lost", ["told", "record"])
    def test_between_two_files(self, tmp_path, lost):
        """The record of an end is written first: without it the trial is simply run again."""
        book = open_book(tmp_path)
        run_trial(book, until=15)
        draws, search = tmp_path / "draws.jsonl", tmp_path / "search.json"
        before = draws.read_text(), search.read_text()
        book.end(0, "finished")
        draws.write_text(before[0])
        if lost == "record":
            search.write_text(before[1])
        again = open_book(tmp_path)
        assert again.next_trial().number == (0 if lost == "record" else 1)
        told = [json.loads(line) for line in draws.read_text().splitlines()]
        assert [event.get("told") for event in told].count(0) == (0 if lost == "record" else 1)

    def test_a_failed_trial_stays_so(self, tmp_path):
        book = open_book(tmp_path)
        book.next_trial()
        book.end(0, "failed", "loss not finite")
        again = open_book(tmp_path)
        assert run_trial(again) == 1
        assert again.trial(0).reason == "loss not finite"

    def test_more_trials_than_before(self, tmp_path):
        for _ in range(2):
            run_trial(open_book(tmp_path, trials=2))
        assert open_book(tmp_path, trials=2).is_over
        assert run_trial(open_book(tmp_path, trials=3)) == 2

    def test_other_draws_are_refused(self, tmp_path):
        run_trial(open_book(tmp_path))
        file = tmp_path / "draws.jsonl"
        book = open_book(tmp_path)
        run_trial(book)
        Draws(Learner(), file)
        file.write_text(file.read_text().replace('"optim.lr": 0.0', '"optim.lr": 1.0'))
        with pytest.raises(UserError, match=r"draws.jsonl line 3: got .* want what is drawn now"):
            open_book(tmp_path)
        file.write_text("no json\n")
        with pytest.raises(UserError, match=r"draws.jsonl line 1"):
            open_book(tmp_path)

    def test_other_last_digits_are_the_same_draws(self, tmp_path):
        """As of another processor; what counts is what the trial was trained with."""
        for _ in range(2):
            run_trial(open_book(tmp_path))
        file = tmp_path / "draws.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        drawn = next(line for line in lines if line.get("changes"))
        rate = drawn["changes"]["optim.lr"]
        for factor, is_same in ((1 + 1e-14, True), (1 + 1e-6, False)):
            drawn["changes"]["optim.lr"] = rate * factor
            assert drawn["changes"]["optim.lr"] != rate
            file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
            if is_same:
                open_book(tmp_path)
                continue
            with pytest.raises(UserError, match=r"draws.jsonl line 3"):
                open_book(tmp_path)


class TestFolder:
    def claim(self, folder: Path, **changes: Any) -> Any:
        return claimed(folder, SETTINGS | changes)

    def test_a_new_one_and_an_empty_one(self, tmp_path):
        check_folder(tmp_path / "new", SETTINGS, resume=False)
        check_folder(tmp_path / "new", SETTINGS, resume=True)
        check_folder(tmp_path, SETTINGS, resume=False)
        assert list(tmp_path.iterdir()) == [], "looking writes nothing"
        (tmp_path / ".tune.json.0.tmp").touch()
        check_folder(tmp_path, SETTINGS, resume=False)  # killed before its first file was whole

    def test_one_that_holds_something_else(self, tmp_path):
        (tmp_path / "letters").mkdir()
        with pytest.raises(UserError, match=r"holds something else \(letters\), want an empty"):
            check_folder(tmp_path, SETTINGS, resume=True)
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match="is a file, want a folder"):
            check_folder(tmp_path / "file", SETTINGS, resume=True)

    def test_a_search_is_only_gone_on_with_when_asked(self, tmp_path):
        with self.claim(tmp_path):
            pass
        with pytest.raises(UserError, match=r"already holds a search; continue it with --resume"):
            check_folder(tmp_path, SETTINGS, resume=False)
        check_folder(tmp_path, SETTINGS, resume=True)

    @pytest.mark.parametrize("name", SETTINGS)
    def test_another_search_is_named(self, tmp_path, name):
        with self.claim(tmp_path):
            pass
        other = SETTINGS | {name: "another"}
        with pytest.raises(UserError, match=f"its {name} was {SETTINGS[name]}, now another"):
            check_folder(tmp_path, other, resume=True)

    def test_two_at_once(self, tmp_path):
        with (
            self.claim(tmp_path),
            pytest.raises(UserError, match="another search is running in it"),
            self.claim(tmp_path),
        ):
            pass
        with self.claim(tmp_path):
            pass

    def test_damaged_settings(self, tmp_path):
        (tmp_path / "tune.json").write_text("{")
        with pytest.raises(UserError, match=r"resume .*tune.json: cannot be read"):
            check_folder(tmp_path, SETTINGS, resume=True)


def test_a_copied_search_goes_on_where_it_is(tmp_path):
    """Nothing in the files says where the folder is."""
    run_trial(open_book(tmp_path / "here"))
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert run_trial(open_book(tmp_path / "there")) == 1
