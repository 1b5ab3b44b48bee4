"""The files that a search leaves for people: results.csv, results.json, report.html."""

import csv
import io
from pathlib import Path

from cluster.search_file import write_search
from cluster.search_page import page
from cluster.search_words import one_line
from cluster.trials import Search, Trial
from uda.data.write import atomic

CSV_FILE = "results.csv"
JSON_FILE = "results.json"  # as of `cluster.search_file`
HTML_FILE = "report.html"


def write_report(search: Search, folder: Path) -> None:
    """Writes all three, each whole or not at all; what is there is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    write_search(search, folder / JSON_FILE)
    _write(folder / CSV_FILE, csv_text(search))
    _write(folder / HTML_FILE, page(search))


def csv_text(search: Search) -> str:
    """A row for each trial: how it ended, its best checkpoint, and what it changed.

    `quality`, `best_step`, the measures and `oracle_miou` are of the checkpoint of the highest
    quality. `oracle_highest_miou` is of any.
    """
    measures = list(dict.fromkeys(
        name for trial in search.trials for point in trial.curve for name in point.measures
    ))  # fmt: skip
    oracle = ["oracle_miou", "oracle_highest_miou"] if search.allow_oracle else []
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [
            *("trial", "status", "reason", "step", "best_step", "quality"),
            *measures,
            *oracle,
            *("minutes", "retries", "folder"),
            *search.paths,
        ]
    )
    for trial in search.trials:
        writer.writerow(_row(search, trial, measures))
    return out.getvalue()


def _row(search: Search, trial: Trial, measures: list[str]) -> list[object]:
    """What has no value is None, which csv leaves empty."""
    best = trial.best
    oracle = [best and best.oracle_miou, trial.value("oracle:miou")]
    return [
        *(trial.number, trial.status, one_line(trial.reason), trial.step),
        *(best and best.step, best and best.quality),
        *(best and best.measures.get(name) for name in measures),
        *(oracle if search.allow_oracle else []),
        *(round(trial.minutes, 2), trial.retries, trial.folder),
        *(trial.changes.get(path) for path in search.paths),
    ]


def _write(file: Path, text: str) -> None:
    with atomic(file) as partial:
        # A file name that is no Unicode may stand in a reason.
        partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")
