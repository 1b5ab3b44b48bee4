"""Between Ray Tune and the book: Tune asks for trials, and says what becomes of them."""

import pickle
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray.exceptions import RayError, RayTaskError
from ray.tune import Callback
from ray.tune.experiment import Trial as RayTrial
from ray.tune.search import Searcher

from cluster.leftovers import remove_placement
from cluster.trial import TrialFailed
from cluster.trials import Point
from cluster.tune_book import Book
from uda.types import WorkError

_MOST_FAILURES = 5  # one after the other, before a search stops


class Stops:
    """Who is asked to save and stop: single trials, and in the end the whole search."""

    def __init__(self) -> None:
        self.search_ends = threading.Event()
        self.was_interrupted = False
        self.error: Exception | None = None  # of the book, such as a full disk
        self._reasons: dict[int, str] = {}

    def ask(self, number: int, reason: str) -> None:
        self._reasons.setdefault(number, reason)

    def reason(self, number: int) -> str | None:
        """Why a trial was asked, for good; None if it was not."""
        return self._reasons.get(number)

    def __getstate__(self) -> dict[str, Any]:
        """Empty: Tune pickles what it is given, to restore it; but ours has files of its own."""
        return {}

    @contextmanager
    def search_ends_on_error(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.error = self.error or error
            self.search_ends.set()

    def asked(self, numbers: list[int]) -> list[int]:
        """Those of running trials that shall stop."""
        ends = self.search_ends.is_set()
        return [number for number in numbers if ends or number in self._reasons]


class BookSearcher(Searcher):
    """Hands out the trials of the book. Its state is the book's files, so Tune's copy is empty."""

    def __init__(self, book: Book, stops: Stops) -> None:
        super().__init__()
        self._book = book
        self._stops = stops

    def suggest(self, trial_id: str) -> Any:  # a config, or Searcher.FINISHED
        if self._stops.search_ends.is_set():
            return Searcher.FINISHED
        with self._stops.search_ends_on_error():
            if (trial := self._book.next_trial()) is not None:
                return {"number": trial.number, "folder": str(self._book.folder / trial.folder)}
            # One that runs may come back: whoever is in its folder can ask it to stop.
            return Searcher.FINISHED if self._book.is_over else None
        return Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: `BookKeeper` tells the book."""

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a search is resumed from its book")


class BookKeeper(Callback):
    """Writes what happens to trials into the book.

    What goes wrong with that, such as a full disk, ends the search; Tune would blame the trial.
    """

    def __init__(self, book: Book, stops: Stops) -> None:
        self._book = book
        self._stops = stops
        self._failures = 0  # since a trial ended well

    def on_trial_start(self, iteration: int, trials: Any, trial: RayTrial, **info: Any) -> None:
        with self._stops.search_ends_on_error():
            self._book.begin(_number(trial))

    def on_trial_result(
        self, iteration: int, trials: Any, trial: RayTrial, result: dict[str, Any], **info: Any
    ) -> None:
        if not result["done"]:
            number, names = _number(trial), ("step", "quality", "measures", "oracle_miou")
            with self._stops.search_ends_on_error():
                if adopted := result.get("adopted"):
                    said = f"went on from trial {adopted['donor']}"
                    self._book.change(number, adopted["changes"], said, since=adopted["step"])
                self._book.add(number, Point(**{name: result[name] for name in names}))

    def on_trial_complete(self, iteration: int, trials: Any, trial: RayTrial, **info: Any) -> None:
        with self._stops.search_ends_on_error():
            self._end(_number(trial), trial.last_result)

    def on_trial_recover(self, iteration: int, trials: Any, trial: RayTrial, **info: Any) -> None:
        with self._stops.search_ends_on_error():
            self._book.retry(_number(trial), _reason(trial))

    def on_trial_error(self, iteration: int, trials: Any, trial: RayTrial, **info: Any) -> None:
        with self._stops.search_ends_on_error():
            remove_placement(Path(trial.config["folder"]))
            self._fail(_number(trial), _reason(trial))

    def get_state(self) -> None:
        return None

    def _end(self, number: int, result: dict[str, Any]) -> None:
        if mistake := result.get("mistake"):
            self._fail(number, mistake)
        elif result.get("ended") == "finished":
            self._failures = 0
            self._book.end(number, "finished")
        elif (reason := self._stops.reason(number)) is not None:
            self._book.end(number, "stopped", reason)
        else:
            self._book.pause(number)

    def _fail(self, number: int, reason: str) -> None:
        """Many in a row are hardly their settings' fault: a full disk, say, would use up all."""
        self._book.end(number, "failed", reason)
        self._failures += 1
        if self._failures >= _MOST_FAILURES:
            raise WorkError(
                f"the last {self._failures} trials have failed, the last one for: {reason}; mend "
                "that and continue with --resume, or choose another --out"
            )


def _number(trial: RayTrial) -> int:
    return int(trial.config["number"])


def _reason(trial: RayTrial) -> str:
    """Why it has failed, in one line, without Ray's layers around it."""
    if trial.pickled_error_file is None:
        return _last_line(Path(trial.error_file).read_text())
    error = pickle.loads(Path(trial.pickled_error_file).read_bytes())
    if isinstance(error, RayTaskError):
        error = error.cause
    if isinstance(error, TrialFailed):
        return str(error)
    if isinstance(error, RayError):
        return "its process was killed"
    return f"{type(error).__name__}: {_last_line(str(error))}"


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1][:300]
