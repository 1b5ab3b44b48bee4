"""A search that was really made, beside those that are replayed: what it took, and at what cost.

`python -m tests.studies._live runs/tune/measured` after

    uda tune measured --source SOURCE --target TARGET --set model.pretrained=START \
        --steps 200 --evaluations 8 --grace-steps 25 --concurrent 2 --out runs/tune/measured

judges the network that it chose by the target's test labels, and keeps that.
"""

import json
import sys
from pathlib import Path
from typing import Any

from cluster.search_file import read_search
from cluster.trials import Search, Trial
from tests.record import git, machine
from tests.studies._data import shards
from tests.studies._judging import miou_of
from tests.studies._lattice import AXES, STEPS
from tests.studies._table import KEPT, NEW
from uda.checkpoint import load_model, step_folder
from uda.data.examples import open_examples
from uda.inference import PLAIN, ready
from uda.report import write_json

_FILE = "live.json"  # beside the records of the table's points


def main() -> None:
    (folder,) = map(Path, sys.argv[1:])
    search = read_search(folder / "search.json")
    record = {
        "commit": git("rev-parse", "--short", "HEAD"),
        "machine": machine(),
        **told(search),
        "true_miou": _true_miou(folder, search),
    }
    NEW.mkdir(parents=True, exist_ok=True)
    write_json(NEW.parent / _FILE, record)
    print(f"wrote {NEW.parent / _FILE}: {record}")


def told(search: Search) -> dict[str, Any]:
    """What it took and what it cost, but for how good that is."""
    best = search.best
    assert best is not None, "no trial has a score"
    values = search.values_of(best)
    trained = sum(trial.step for trial in search.trials)
    return {
        "trials": len(search.trials),
        "by_status": search.num_by_status,
        "minutes": round(sum(trial.minutes for trial in search.trials), 1),
        "share": round(trained / (len(search.trials) * search.steps), 4),
        "trial": best.number,
        "step": _point(best, search).step,
        "quality": best.value("quality"),
        "at": {axis: _shown(axis, values.get(path)) for axis, path in AXES.items()},
    }


def live_search() -> dict[str, Any] | None:
    """Of the one that is kept, or newer; None where there is none."""
    for file in (NEW.parent / _FILE, KEPT.parent / f"tune-{_FILE}"):
        if file.exists():
            found: dict[str, Any] = json.loads(file.read_text())
            return found
    return None


def _true_miou(folder: Path, search: Search) -> float:
    assert search.best is not None
    network = step_folder(folder / search.best.folder, _point(search.best, search).step)
    return miou_of(
        ready(load_model(network), PLAIN, "cpu"), open_examples(shards("streets")["test"])
    )


def _point(trial: Trial, search: Search) -> Any:
    point = trial.best_by(search.metric)
    assert point is not None
    return point


def _shown(axis: str, value: Any) -> Any:
    """Ramps as shares of the run."""
    return value / STEPS if axis == "ramp" and value is not None else value


if __name__ == "__main__":
    main()
