"""Which checkpoints of a run are its best: by quality, which needs no label of the target.

Evaluation actors write their figures into a checkpoint, oracle scores too where labels of the
target were given to look at. Everything here reads one of them, the quality, and hands on nothing
but numbers of that name: so nothing that selects can see an oracle.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uda.checkpoint import (
    checkpoints,
    fades_before,
    last_step,
    prune,
    step_of,
    waiting_checkpoints,
)
from uda.config import RuntimeConfig
from uda.journal import read_scalars

EVALUATION_FILE = "evaluation.json"  # in the checkpoint: its scalars, or why there are none
VALIDATION_FILE = "validation.jsonl"  # in the run: the scalars of all checkpoints there have been
QUALITY = "quality/score"  # the only scalar that selection reads


def read_evaluation(checkpoint: Path) -> dict[str, Any] | None:
    """What was written into a checkpoint about it: step, data, and scalars or an error."""
    try:
        return json.loads((checkpoint / EVALUATION_FILE).read_text())
    except FileNotFoundError:
        return None
    except ValueError:  # the machine went down before all of it was on the disk
        return None


@dataclass(frozen=True)
class Graded:
    """A finished step and the quality of its checkpoint."""

    step: int
    quality: float


def graded(checkpoint: Path) -> Graded | None:
    """None where nobody has scored it, or could."""
    result = read_evaluation(checkpoint) or {}
    value = result.get("scalars", {}).get(QUALITY)
    return None if value is None else Graded(step_of(checkpoint), float(value))


def history(run: Path) -> list[Graded]:
    """All scores that the run has had, also of checkpoints that are gone, by step."""
    lines = read_scalars(run, VALIDATION_FILE)
    return [Graded(int(line["step"]), line[QUALITY]) for line in lines if QUALITY in line]


def best_checkpoints(run: Path, count: int) -> list[Path]:
    """Up to `count` of a run's scored checkpoints, best first; of equals the later one.

    Trained for longer at the same quality, it has seen more of the target.
    """
    found = [(grade, folder) for folder in checkpoints(run) if (grade := graded(folder))]
    found.sort(key=lambda pair: (pair[0].quality, pair[0].step), reverse=True)
    return [folder for _, folder in found[:count]]


def has_stalled(
    scores: Sequence[Graded], patience: int, *, waiting: Collection[int] = (), since: int = 0
) -> bool:
    """Whether `patience` checkpoints or more after the best have all stayed below it.

    And will, whatever is said of those of the steps in `waiting` that are older than the newest
    score: another attempt at theirs may come late, and one of them be the best. Younger ones are
    the training's next. None up to the step `since` is counted, but they may be the best.
    """
    if patience < 1 or not scores:
        return False
    best = max(scores, key=lambda grade: (grade.quality, grade.step))
    steps = {grade.step for grade in scores}
    unknown = [step for step in waiting if step < max(steps) and step not in steps]
    start = max(best.step, since, *unknown)
    return sum(step > start for step in steps) >= patience


def seems_over(run: Path, runtime: RuntimeConfig) -> bool:
    """Whether the run has stalled for good by the scores so far; late ones may tell otherwise.

    Lines of steps that it has gone back behind do not count.
    """
    return runtime.on_stall == "stop" and has_stalled(_scores(run), runtime.patience)


def is_over(run: Path, runtime: RuntimeConfig) -> bool:
    """The same, and nothing that still waits for its score can change that."""
    return runtime.on_stall == "stop" and _has_stalled_since(0, run, runtime)


def fades_wanted(run: Path, runtime: RuntimeConfig) -> int:
    """How many fades the run should have had if it has stalled since the last one, else 0."""
    faded_at = fades_before(run)
    last = max(faded_at, default=0)
    return len(faded_at) + 1 if _has_stalled_since(last, run, runtime) else 0


def _has_stalled_since(step: int, run: Path, runtime: RuntimeConfig) -> bool:
    # First of all: one that is scored in between would neither wait nor have a score.
    waiting = [step_of(folder) for folder in waiting_checkpoints(run)]
    return has_stalled(_scores(run), runtime.patience, waiting=waiting, since=step)


def _scores(run: Path) -> list[Graded]:
    last = last_step(run)
    return [grade for grade in history(run) if grade.step <= last]


def tidy(run: Path, runtime: RuntimeConfig) -> None:
    """Removes the checkpoints that nobody needs any more; for who may call `prune`.

    Also where this start of the run does not select: what another one has scored is worth keeping.
    """
    # Before scores are read: one that is scored in between would be neither best nor waiting.
    waiting = waiting_checkpoints(run)
    best = best_checkpoints(run, runtime.keep_best)
    prune(run, runtime.keep_checkpoints, spare=[*waiting, *best])
