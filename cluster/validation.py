"""Scoring a run's checkpoints beside its training, which never waits for it. Nothing of Ray here.

A checkpoint that waits for evaluation is marked so before it gets its name. When it is scored, the
result is written into it, then logged, then the mark is removed: after a crash, whatever is still
marked comes again, and is logged once.
"""

import math
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from tqdm import tqdm

from uda.checkpoint import WAITING_FILE, last_step, step_of, waiting_checkpoints
from uda.journal import TENSORBOARD_FOLDER, Journal, read_scalars
from uda.report import json_text
from uda.selection import EVALUATION_FILE, VALIDATION_FILE, read_evaluation
from uda.types import UserError

VALIDATION_FOLDER = f"{TENSORBOARD_FOLDER}/validation"

_POLL_S = 0.5
_CANCEL_S = 30  # for a score to end that was cancelled
_MAX_ATTEMPTS = 3  # at the score of a checkpoint
_RETRY_S = 10  # before another one, where nothing else waits

Score = Callable[[Path], Mapping[str, float | None]]


class Validator:
    """Scores waiting checkpoints, oldest first, in a thread that lives as long as the `with` block.

    Where `score` fails, that is said, and the rest goes on. A UserError is noted in the checkpoint
    and final. Anything else may be the machine's fault, such as its memory: it is tried again after
    the rest, and in the end left to the next validator, with its mark.

    - `score`: the scalars of a checkpoint by their TensorBoard tag; None and NaN are left out.
    - `cancel` makes a `score` that is under way raise, whatever it is.
    - `prune` removes the checkpoints that nobody needs any more.
    - `data` names what is scored on; a kept result is of use only if it was the same.
    - `on_score` is told of every checkpoint that has been scored, also if it was before.
    """

    def __init__(
        self,
        run: Path,
        score: Score,
        *,
        cancel: Callable[[], None],
        prune: Callable[[], None],
        data: str,
        on_score: Callable[[Path], None] = lambda _: None,
    ) -> None:
        self._run = run
        self._score = score
        self._cancel = cancel
        self._prune = prune
        self._data = data
        self._on_score = on_score
        self._journal: Journal | None = None
        self._failures: Counter[Path] = Counter()
        self._known_until = last_step(run)  # what is logged of later steps is of no use
        self._training_is_over = threading.Event()
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="validation", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops at once. What still waits keeps its mark, and the user is told."""
        self._stopping.set()
        if not self._ended.is_set():
            self._cancel()
            self._ended.wait(_CANCEL_S)
        if waiting := waiting_checkpoints(self._run):
            _say(f"{_counted(len(waiting))} left to score; --resume with the same settings does it")

    def finish(self) -> None:
        """Waits until all checkpoints are scored; for when the training has come to its end."""
        self._training_is_over.set()
        if waiting := waiting_checkpoints(self._run):
            _say(f"scoring {_counted(len(waiting))} before the end; Ctrl-C leaves that to --resume")
        # Not Thread.join: interrupted by Ctrl-C, it takes a running thread for an ended one.
        while not self._ended.wait(_POLL_S):
            pass

    def _work(self) -> None:
        try:
            while not self._stopping.is_set():
                if is_last_look := self._training_is_over.is_set():
                    self._prune()  # before, the workers do it whenever they save
                if checkpoint := self._next():
                    if self._failures[checkpoint] and self._stopping.wait(_RETRY_S):
                        break
                    self._evaluate(checkpoint)
                elif is_last_look:
                    break
                else:
                    self._stopping.wait(_POLL_S)
        except OSError as error:  # a full disk, say, which training will hear of as well
            _say(f"validation stops: {error}")
        finally:
            if self._journal is not None:
                self._journal.close()
            self._ended.set()

    def _next(self) -> Path | None:
        """The oldest of those that have failed the least, and not too often."""
        waiting = waiting_checkpoints(self._run)
        hopeful = [folder for folder in waiting if self._failures[folder] < _MAX_ATTEMPTS]
        return min(hopeful, key=lambda folder: self._failures[folder], default=None)

    def _evaluate(self, checkpoint: Path) -> None:
        result = read_evaluation(checkpoint)
        if result is None or result["data"] != self._data:
            result = self._new_result(checkpoint)
            if result is None or not _write_evaluation(checkpoint, result):
                return
        if "scalars" in result:
            self._log(result["step"], result["scalars"])
            self._on_score(checkpoint)
        (checkpoint / WAITING_FILE).unlink(missing_ok=True)

    def _new_result(self, checkpoint: Path) -> dict[str, Any] | None:
        """What goes into the checkpoint; None where nothing does, for now or for good."""
        result = {"step": step_of(checkpoint), "data": self._data}
        try:
            scalars = self._score(checkpoint)
        except Exception as error:  # whatever it is, it must not end the training
            if self._stopping.is_set() or checkpoint not in waiting_checkpoints(self._run):
                return None  # where it is gone, that is what the error is about
            reason = _reason(error)
            if isinstance(error, UserError):
                _say(f"{checkpoint.name} has no score: {reason}")
                return result | {"error": reason}
            self._failures[checkpoint] += 1
            if self._failures[checkpoint] < _MAX_ATTEMPTS:
                _say(f"{checkpoint.name} has no score yet: {reason}")
            else:
                _say(f"{checkpoint.name} has no score after {_MAX_ATTEMPTS} attempts: {reason}")
            return None
        known = {k: v for k, v in scalars.items() if v is not None and math.isfinite(v)}
        return result | {"scalars": known}

    def _log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes a line in the order of steps, though one that had failed comes late."""
        later = self._later_lines(step)
        if self._journal is not None and later:
            self._journal.close()
            self._journal = None
        if self._journal is None:
            self._journal = Journal(
                self._run,
                step - 1,
                scalars_file=VALIDATION_FILE,
                tensorboard_folder=VALIDATION_FOLDER,
            )
        for each, line in [(step, scalars), *later]:
            self._journal.write(each, line)
        self._journal.flush()
        self._known_until = max(self._known_until, step)

    def _later_lines(self, step: int) -> list[tuple[int, Mapping[str, float]]]:
        """Those after a step, but for what comes again, or is of checkpoints that are no more.

        The former was cut short by a crash. The latter somebody has removed, to train on from an
        earlier one.
        """
        again = {step_of(folder) for folder in waiting_checkpoints(self._run)}
        found = read_scalars(self._run, VALIDATION_FILE)
        lines = [(int(line.pop("step")), line) for line in found]
        return [
            (each, line)
            for each, line in lines
            if step < each <= self._known_until and each not in again
        ]


def _write_evaluation(checkpoint: Path, result: Mapping[str, Any]) -> bool:
    """Whole or not at all; False where somebody has removed the checkpoint, which stays so."""
    partial = checkpoint / f".{EVALUATION_FILE}.partial"
    try:
        partial.write_text(json_text(result))
        partial.replace(checkpoint / EVALUATION_FILE)
    except FileNotFoundError:
        if checkpoint.is_dir():
            raise
        return False
    return True


def _reason(error: Exception) -> str:
    """One line; of an error that was raised in an actor, the last one says what it was."""
    text = str(error).strip().splitlines() or ["no message"]
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return f"{kind}{text[-1]}"[:300]


def _say(message: str) -> None:
    tqdm.write(f"uda: {message}", file=sys.stderr)


def _counted(checkpoints: int) -> str:
    return f"{checkpoints} checkpoint{'' if checkpoints == 1 else 's'}"
