"""A search in a terminal: a table to follow it by, and in the end what it has come to."""

from dataclasses import dataclass
from pathlib import Path

from cluster.search_words import (
    METRIC_NAMES,
    changes_in_words,
    counted,
    cut,
    one_line,
    oracle_mark,
    short_names,
    show_value,
    text_width,
)
from cluster.trials import Search, Trial

_GAP = "  "
_STATUS_WIDTH = 8  # for "finished"; a reason takes what is left
_WIDEST_CELL = 16


@dataclass(frozen=True)
class _Column:
    """A head of several lines, the last one next to the cells."""

    head: list[str]
    cells: list[str]

    @property
    def width(self) -> int:
        return max(text_width(text) for text in (*self.head, *self.cells))


def table(search: Search, *, width: int, limit: int) -> str:
    """Running trials first, then the best: up to `limit` lines of at most `width` columns."""
    shown = _shown(search, max(1, limit))
    head = one_line(f"{search.space} on {search.preset}, {counted(search)}")
    lines = [head, oracle_mark(search)]
    if not shown:
        return "\n".join(cut(line, width) for line in lines if line)
    fixed = _fixed_columns(search, shown)
    room = width - _STATUS_WIDTH - sum(column.width + len(_GAP) for column in fixed)
    changed, left_out = _changed_columns(search, shown, room)
    columns = [*fixed, *changed, _Column(["status"], [_status(trial) for trial in shown])]
    lines += _grid(columns)
    lines += _notes(search, shown, left_out)
    return "\n".join(cut(line, width).rstrip() for line in lines if line)


def summary(search: Search, *, folder: Path, command: str) -> str:
    """What a search has come to; `command` trains with the best. Not cut: it may be copied."""
    best = search.best
    mark = oracle_mark(search)
    if best is None:
        parts = {"best": "no trial has a value", "trials": counted(search)}
    else:
        value, metric = _value(search, best), METRIC_NAMES[search.metric]
        point = best.best_by(search.metric)
        assert point is not None
        parts = {
            "best": f"trial {best.number}, {metric} {value} at step {point.step}",
            "changes": changes_in_words(search, best),
            "hand-set": _against_hand_set(search, best),
            "folder": str(folder / best.folder),
            "train": command,
            "trials": counted(search),
        }
    lines = [f"{name:<8}  {text}" for name, text in parts.items()]
    return "\n".join([*lines, *([mark] if mark else [])])


def _notes(search: Search, shown: list[Trial], left_out: list[str]) -> list[str]:
    missing = len(search.trials) - len(shown)
    about_rows = [f"and {missing} more"] if missing else []
    about_columns = [f"no room for {', '.join(left_out)}"] if left_out else []
    best = [f"* best by {METRIC_NAMES[search.metric]}"] if search.best else []
    hand_set = ["= hand-set preset"] if search.hand_set in shown else []
    return [_GAP.join(about_rows + about_columns), _GAP.join(best + hand_set)]


def _against_hand_set(search: Search, best: Trial) -> str:
    metric, hand_set = METRIC_NAMES[search.metric], search.hand_set
    value = hand_set.value(search.metric) if hand_set else None
    if hand_set is None or value is None:
        return "the preset as it is has no value to compare with"
    if hand_set is best:
        return "the preset as it is: nothing that was tried is better"
    reached = best.value(search.metric)
    assert reached is not None
    said = f"trial {hand_set.number}, {metric} {value:.4f}: the best is {reached - value:+.4f}"
    return f"{said} ({100 * (reached / value - 1):+.1f} %)" if value > 0 else said


def _shown(search: Search, limit: int) -> list[Trial]:
    """The trials to show, in order; the best is always among them."""

    def rank(trial: Trial) -> tuple[bool, bool, float, int]:
        value = trial.value(search.metric)
        is_running = trial.status == "running"
        failed = trial.status == "failed"
        return (not is_running, failed, 0.0 if value is None else -value, trial.number)

    ranked = sorted(search.trials, key=rank)
    shown = ranked[:limit]
    if search.best is not None and search.best not in shown:
        shown[-1] = search.best
    return shown


def _fixed_columns(search: Search, shown: list[Trial]) -> list[_Column]:
    marks = [_marks(search, trial) for trial in shown]
    wide = max(map(len, marks))
    numbers = [f"{t.number}{mark:<{wide}}" for t, mark in zip(shown, marks, strict=True)]
    columns = [_Column(["trial"], numbers)]
    qualities = [_digits(trial.value("quality")) for trial in shown]
    columns.append(_Column(["quality"], qualities))
    if search.allow_oracle:
        oracle = [_digits(trial.value("oracle:miou")) for trial in shown]
        columns.append(_Column(["oracle", "mIoU"], oracle))
    columns.append(_Column(["step"], [f"{trial.step}/{search.steps}" for trial in shown]))
    return columns


def _changed_columns(
    search: Search, shown: list[Trial], room: int
) -> tuple[list[_Column], list[str]]:
    """A column for every path that there is room for, and the names of the others."""
    columns, left_out = [], []
    for path, name in short_names(search.paths).items():
        values = [search.values_of(trial).get(path) for trial in shown]
        cells = ["-" if value is None else cut(show_value(value), _WIDEST_CELL) for value in values]
        column = _Column([cut(part, _WIDEST_CELL) for part in name.split(".")], cells)
        if column.width + len(_GAP) <= room:
            columns.append(column)
            room -= column.width + len(_GAP)
        else:
            left_out.append(name)
    return columns, left_out


def _grid(columns: list[_Column]) -> list[str]:
    """All columns to the right but the last."""
    height = max(len(column.head) for column in columns)
    heads = [[""] * (height - len(column.head)) + column.head for column in columns]
    rows = [
        *zip(*heads, strict=True),
        tuple("-" * max(text_width(text) for text in head) for head in heads),
        *zip(*(column.cells for column in columns), strict=True),
    ]
    *before, _ = columns
    lines = []
    for row in rows:
        *cells, last = row
        padded = (" " * (c.width - text_width(t)) + t for c, t in zip(before, cells, strict=True))
        lines.append(_GAP.join([*padded, last]))
    return lines


def _marks(search: Search, trial: Trial) -> str:
    return "*" * (trial is search.best) + "=" * (trial is search.hand_set)


def _status(trial: Trial) -> str:
    retried = f" (try {trial.retries + 1})" if trial.retries else ""
    reason = one_line(trial.reason)
    return f"{trial.status}{retried}{f': {reason}' if reason else ''}"


def _value(search: Search, trial: Trial) -> str:
    return _digits(trial.value(search.metric))


def _digits(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
