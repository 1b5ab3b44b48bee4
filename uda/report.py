"""EvalReport, its JSON, and text tables of one or several evaluations.

The JSON form of a report is plain (dicts, lists, strings, finite numbers, null), and the tables are
made from it: they can be printed from a file long after the network is gone. Shares are 0..1 in
JSON and per cent in tables.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uda.classes import ClassList
from uda.metrics import Confusion
from uda.types import UserError

WIDTH = 80  # columns of the terminal that tables must fit


@dataclass(frozen=True, kw_only=True)
class EvalReport:
    """What is known about a network on a data set.

    `scores` need no labels: selection and search may read them. `oracle` needs target labels: only
    a person who asked for it may. Both hold JSON values by name.
    """

    scores: Mapping[str, float] = field(default_factory=dict)
    oracle: Mapping[str, Any] = field(default_factory=dict)
    images: int = 0
    checkpoint: str = ""
    data: str = ""

    @classmethod
    def of(
        cls,
        confusion: Confusion,
        class_list: ClassList,
        *,
        images: int,
        checkpoint: str = "",
        data: str = "",
    ) -> "EvalReport":
        """The report of an evaluation with labels: everything goes to `oracle`."""
        oracle = oracle_scores(confusion, class_list)
        return cls(oracle=oracle, images=images, checkpoint=checkpoint, data=data)

    def json(self) -> dict[str, Any]:
        """What `uda evaluate --json` writes; `oracle` is spread out, as the user asked for it."""
        return {
            **self.oracle,
            "images": self.images,
            "checkpoint": self.checkpoint,
            "data": self.data,
            "scores": {name: finite_or_none(value) for name, value in self.scores.items()},
        }


def show_report(report: EvalReport, json_file: Path | None = None) -> None:
    """Prints the table, and writes the JSON where a file is named (whole or not at all)."""
    result = report.json()
    print(text_table(result))
    if json_file is not None:
        write_json(json_file, result)


def check_json_file(file: Path | None) -> None:
    """UserError where `write_json` could not write, for before the work whose result it holds."""
    if file is not None and (not file.name or file.is_dir()):
        raise UserError(f"--json: got {file}, which is a folder; want a file")


def write_json(file: Path, values: Mapping[str, Any]) -> None:
    """Writes JSON, whole or not at all; folders are made as needed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text(json_text(values))
    partial.replace(file)


def json_text(values: Mapping[str, Any]) -> str:
    """JSON for people: indented, but a row of numbers stays on one line. Refuses NaN."""
    text = json.dumps(values, indent=2, allow_nan=False)
    return re.sub(r"\[\n[-+\d.,e\s]+\]", lambda row: _on_one_line(row[0]), text) + "\n"


def oracle_scores(confusion: Confusion, class_list: ClassList) -> dict[str, Any]:
    """The scores that need labels, by the official Cityscapes rule, as JSON values.

    `confusion` is the full 19x19 matrix before any merging, rows are the ground truth, and
    `confusion_outside` is its 20th column: predictions of none of the 19 classes.
    """
    iou = confusion.iou(class_list)
    return {
        "protocol": "cityscapes",
        "class_list": class_list.name,
        "miou": finite_or_none(confusion.miou(class_list)),
        "pixel_accuracy": finite_or_none(confusion.pixel_accuracy(class_list)),
        "iou": {class_list.class_name(k): finite_or_none(value) for k, value in iou.items()},
        "classes": [class_list.class_name(k) for k in class_list.scored],
        "confusion": confusion.matrix.tolist(),
        "confusion_outside": confusion.outside.tolist(),
    }


def finite_or_none(value: float) -> float | None:
    """JSON has no NaN: what has no value is null."""
    return value if math.isfinite(value) else None


def text_table(result: Mapping[str, Any]) -> str:
    """Table of one evaluation JSON: IoU of every class with a bar, mean IoU, pixel accuracy.

    At most 80 columns wide; a class without score shows a dash.
    """
    name_width = _name_width([result])
    bar_width = WIDTH - name_width - 12
    rule = "-" * (name_width + 8)
    lines = [f"{'class':<{name_width}}  IoU, %", rule]
    for name in result["classes"]:
        value = result["iou"][name]
        bar = "#" * round(bar_width * (value or 0))
        lines.append(f"{name:<{name_width}}  {_percent(value)}  {bar}".rstrip())
    lines += [rule, f"{'mean IoU':<{name_width}}  {_percent(result['miou'])}"]
    lines.append(f"{'pixel accuracy':<{name_width}}  {_percent(result['pixel_accuracy'])}")
    scored = sum(result["iou"][name] is not None for name in result["classes"])
    lines.append(
        f"{_counted(result['images'], 'image')}, mean of {scored} of "
        f"{_counted(len(result['classes']), 'class', 'classes')}, {result['protocol']} protocol"
    )
    return "\n".join(lines)


def comparison_table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Evaluation JSONs side by side, by title, and how the last differs from the first.

    IoU in per cent, differences in percentage points. At most 80 columns for up to four titles of
    ten characters. The results must be about the same classes.
    """
    columns = list(results.values())
    if not columns:
        raise ValueError("results: got none, want at least one")
    first = columns[0]
    for title, result in results.items():
        if result["classes"] != first["classes"]:
            raise UserError(
                f"comparison: got other classes for {title!r}, want {', '.join(first['classes'])}; "
                f"have {', '.join(result['classes'])}"
            )
    titles = [*results, *(["difference"] if len(columns) > 1 else [])]
    widths = [max(len(title), 6) for title in titles]
    name_width = _name_width(columns)

    def line(name: str, values: list[float | None]) -> str:
        cells = [_percent(value) for value in values]
        if len(values) > 1:
            cells.append(_difference(values[0], values[-1]))
        pairs = zip(cells, widths, strict=True)
        return f"{name:<{name_width}}  " + "  ".join(f"{cell:>{width}}" for cell, width in pairs)

    heads = zip(titles, widths, strict=True)
    header = f"{'IoU, %':<{name_width}}  " + "  ".join(f"{t:>{width}}" for t, width in heads)
    rule = "-" * len(header)
    names = first["classes"]
    body = [line(name, [result["iou"][name] for result in columns]) for name in names]
    mean = line("mean IoU", [result["miou"] for result in columns])
    accuracy = line("pixel accuracy", [result["pixel_accuracy"] for result in columns])
    return "\n".join([header, rule, *body, rule, mean, accuracy])


def _on_one_line(row: str) -> str:
    return " ".join(row.split()).replace("[ ", "[").replace(" ]", "]")


def _name_width(results: list[Mapping[str, Any]]) -> int:
    names = [name for result in results for name in result["classes"]]
    return max(map(len, [*names, "pixel accuracy"]))


def _percent(value: float | None) -> str:
    return f"{'-':>6}" if value is None else f"{100 * value:6.2f}"


def _difference(first: float | None, last: float | None) -> str:
    if first is None or last is None:
        return "-"
    return f"{100 * (last - first):+.2f}"


def _counted(number: int, singular: str, plural: str = "") -> str:
    return f"{number} {singular if number == 1 else plural or singular + 's'}"
