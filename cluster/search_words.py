"""How a search is put into words: names of paths, values, counts and marks, for people to read."""

import unicodedata
from collections.abc import Sequence

from cluster.trials import Metric, Search, Trial, Value

METRIC_NAMES: dict[Metric, str] = {"quality": "quality", "oracle:miou": "oracle mIoU"}

# Last parts of paths that say too little alone: `entropy.weight`, not `weight`.
_VAGUE = ("value", "weight", "name", "kind", "start", "end")


def oracle_mark(search: Search) -> str:
    """What every output of a search that may look at target labels says; empty for the others."""
    if not search.allow_oracle:
        return ""
    if search.metric == "quality":
        return "ORACLE: shown with target labels, chosen without them"
    return "ORACLE: chosen and shown with target labels"


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """The last parts of each path, as many as tell it from the others."""
    return {path: _short(path, [other for other in paths if other != path]) for path in paths}


def show_value(value: Value) -> str:
    """Three digits are enough to tell values apart that were drawn."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        text = f"{value:.3g}"
        return f"{value:.0f}" if "e+" in text and abs(value) < 1e6 else text
    return one_line(str(value))


def changes_in_words(search: Search, trial: Trial) -> str:
    """Such as `lr=0.00123, entropy.weight=0.01`."""
    if not trial.changes:
        return "the hand-set preset"
    names = short_names(search.paths)
    return ", ".join(f"{names[path]}={show_value(v)}" for path, v in trial.changes.items())


def counted(search: Search) -> str:
    """Such as `12 trials: 1 running, 8 finished, 3 stopped`."""
    num = len(search.trials)
    parts = [f"{count} {status}" for status, count in search.num_by_status.items()]
    return f"{num} trial{'' if num == 1 else 's'}" + (f": {', '.join(parts)}" if parts else "")


def one_line(text: str) -> str:
    """Without line breaks, and without what would steer a terminal."""
    printable = (c if c.isprintable() or c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return " ".join("".join(printable).split())


def text_width(text: str) -> int:
    """Columns of a terminal: a wide character takes two, an accent on the one before it none."""
    return sum(_char_width(char) for char in text)


def cut(text: str, width: int) -> str:
    """At most so many columns, with an ellipsis where something is missing."""
    if text_width(text) <= width:
        return text
    kept, room = "", width - 1
    for char in text:
        if (room := room - _char_width(char)) < 0:
            break
        kept += char
    return f"{kept}…" if width > 0 else ""


def _short(path: str, others: Sequence[str]) -> str:
    parts = path.split(".")
    fewest = 2 if parts[-1] in _VAGUE else 1
    for count in range(fewest, len(parts)):
        name = ".".join(parts[-count:])
        if not any(f".{other}".endswith(f".{name}") for other in others):
            return name
    return path


def _char_width(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
