"""What stopping a run by its quality saves, replayed on runs that were trained to their end."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from uda.selection import Graded, has_stalled

PATIENCE = 1  # checkpoints; the runs of the study have four

Entry = dict[str, Any]  # of `tests.studies.quality`


def early_stops(
    entries: Iterable[Entry], quality: Callable[[Entry], float], patience: int = PATIENCE
) -> list[dict[str, Any]]:
    """For each run what `runtime.patience` would have done, as against training to its end.

    - `share`: of its steps that are trained;
    - `kept`, `last`: true mIoU of the checkpoint of the best quality until then, and of the end.
    """
    runs: dict[tuple[str, int], list[Entry]] = {}
    for entry in entries:
        if not entry["planted"]:
            runs.setdefault((entry["run"], entry["seed"]), []).append(entry)
    found = []
    for (run, seed), points in runs.items():
        points.sort(key=lambda each: each["step"])
        if len(points) <= patience:
            continue
        grades = [Graded(point["step"], quality(point)) for point in points]
        stop = _stopped_after(grades, patience)
        kept = max(range(stop), key=lambda i: (grades[i].quality, grades[i].step))
        found.append({
            "run": run,
            "seed": seed,
            "share": round(points[stop - 1]["step"] / points[-1]["step"], 3),
            "kept": points[kept]["oracle_miou"],
            "last": points[-1]["oracle_miou"],
        })  # fmt: skip
    return found


def _stopped_after(grades: Sequence[Graded], patience: int) -> int:
    """How many checkpoints a run has when it ends."""
    return next(
        (n for n in range(1, len(grades)) if has_stalled(grades[:n], patience)), len(grades)
    )


def saved(stops: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Over all runs: how many end early, how much less is trained, and what that costs."""
    differences = [stop["kept"] - stop["last"] for stop in stops]
    return {
        "runs": len(stops),
        "stopped": sum(stop["share"] < 1 for stop in stops),
        "steps_saved": round(1 - statistics.mean(stop["share"] for stop in stops), 3),
        "mean_difference": round(statistics.mean(differences), 2),
        "as_good": sum(difference >= 0 for difference in differences),
        "worst_difference": round(min(differences), 2),
    }
