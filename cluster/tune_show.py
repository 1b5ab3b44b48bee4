"""What a search shows in the terminal, and the files that it leaves for people to look at."""

import argparse
import shlex
import shutil
import sys
import time
from typing import Self, TextIO

from cluster.search_hparams import write_hparams
from cluster.search_report import write_report
from cluster.search_table import summary, table
from cluster.trials import Search, Trial
from cluster.tune_book import BEST_FILE, Book
from uda.arguments import DONE, FAILED, INTERRUPTED

_SHOW_S = 2.0  # between two looks at the book
_ROOM = 12  # lines of the terminal beside the trials: heads, notes, what was typed


class Screen:
    """A table that is drawn over itself; where the output is no terminal, a line for each news.

    Use as a context manager: the files are up to date when it ends, however it does.
    """

    def __init__(self, book: Book, out: TextIO | None = None) -> None:
        self._book = book
        self._out = out or sys.stderr  # as it is now, not when this module was imported
        self._shown: Search | None = None
        self._drawn = 0  # lines of the table that is on the screen
        self._last = 0.0
        self._complaint = ""
        self._written: Search | None = None  # what TensorBoard's files are of
        self._known = {trial.number: trial for trial in book.search.trials}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._last = 0.0
        self.show()
        self._write(self._book.search, with_report=True)

    def show(self) -> None:
        """Shows what is new, not too often."""
        search, now = self._book.search, time.monotonic()
        if search is self._shown or now - self._last < _SHOW_S:
            return
        has_ended = self._num_ended(search) != (self._num_ended(self._shown) if self._shown else 0)
        self._shown, self._last = search, now
        if self._out.isatty():
            self._draw(search)
        else:
            self._tell(search)
        self._write(search, with_report=has_ended)

    def say(self, message: str) -> None:
        """A line that stays, above the table."""
        self._wipe()
        print(f"uda: {message}", file=self._out, flush=True)
        if self._out.isatty() and self._shown:
            self._draw(self._shown)

    def _draw(self, search: Search) -> None:
        size = shutil.get_terminal_size()
        text = table(search, width=size.columns - 1, limit=max(3, size.lines - _ROOM))
        self._wipe()
        print(text, file=self._out, flush=True)
        self._drawn = text.count("\n") + 1

    def _wipe(self) -> None:
        if self._drawn:
            print(f"\x1b[{self._drawn}F\x1b[J", end="", file=self._out)
            self._drawn = 0

    def _tell(self, search: Search) -> None:
        """A line for each trial of which there is something new."""
        for trial in search.trials:
            before = self._known.get(trial.number)
            if before is None or _news(before) != _news(trial):
                print(_line(search, trial), file=self._out, flush=True)
            self._known[trial.number] = trial

    def _write(self, search: Search, *, with_report: bool) -> None:
        if not search.trials:
            return
        try:
            if with_report:
                write_report(search, self._book.folder)
            write_hparams(search, self._book.folder, since=self._written)
            self._written = search
        except Exception as error:  # no picture is worth a search of days
            complaint = f"no report for now: {type(error).__name__}: {error}"
            if complaint != self._complaint:
                self.say(complaint)
            self._complaint = complaint

    @staticmethod
    def _num_ended(search: Search) -> int:
        return sum(trial.status != "running" for trial in search.trials)


def _news(trial: Trial) -> tuple[object, ...]:
    return (trial.status, trial.step, trial.retries, trial.reason)


def _line(search: Search, trial: Trial) -> str:
    value = trial.value(search.metric)
    said = "" if value is None else f", best {search.metric} {value:.4f}"
    reason = f": {trial.reason}" if trial.reason else ""
    return f"trial {trial.number}: step {trial.step}/{search.steps}{said}, {trial.status}{reason}"


def conclude(book: Book, arguments: argparse.Namespace, *, was_interrupted: bool) -> int:
    """Says what has come of a search, and how it goes on; the exit status of `uda tune`."""
    search, folder = book.search, book.folder
    data = ["--source", str(arguments.source), "--target", str(arguments.target)]
    command = shlex.join(["uda", "train", str(folder / BEST_FILE), *data])
    print(summary(search, folder=folder, command=command))
    print(f"report    {folder / 'report.html'}; tensorboard --logdir {folder}")
    if not book.is_over:
        words = [word for word in arguments.words if word != "--resume"]
        again = shlex.join(["uda", *words, "--resume"])
        print(f"uda: trials left to run: {book.num_left}; continue with: {again}", file=sys.stderr)
        return INTERRUPTED if was_interrupted else DONE
    return DONE if search.best else FAILED
