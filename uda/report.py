"""EvalReport, its JSON, and text tables of one or several evaluations.

The JSON form of a report is plain (dicts, lists, strings, finite numbers, null), and the tables are
made from it: they can be printed from a file long after the network is gone. Shares are 0..1 in
JSON and per cent in tables.
"""

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uda.classes import ClassList
from uda.official import official_scores
from uda.tally import Tally
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
    inference: Mapping[str, Any] = field(default_factory=dict)  # how the network looked

    @classmethod
    def of(
        cls,
        tally: Tally,
        class_list: ClassList,
        *,
        protocol: str = "cityscapes",
        worst: Sequence[Mapping[str, Any]] = (),
        checkpoint: str = "",
        data: str = "",
        inference: Mapping[str, Any] | None = None,
    ) -> "EvalReport":
        """The report of an evaluation with labels: everything that needs them goes to `oracle`."""
        oracle = oracle_scores(tally, class_list, protocol)
        if worst:
            oracle["worst"] = list(worst)
        return cls(
            oracle=oracle,
            images=tally.images,
            checkpoint=checkpoint,
            data=data,
            inference=inference or {},
        )

    def json(self) -> dict[str, Any]:
        """What `uda evaluate --json` writes; `oracle` is spread out, as the user asked for it."""
        return {
            **self.oracle,
            "images": self.images,
            "checkpoint": self.checkpoint,
            "data": self.data,
            "inference": dict(self.inference),
            "scores": {name: finite_or_none(value) for name, value in self.scores.items()},
        }


def show_report(report: EvalReport, json_file: Path | None = None) -> None:
    """Prints the scores, and writes the JSON where a file is named (whole or not at all).

    After an evaluation by SegmenTron's protocol its own lines have been printed already.
    """
    result = report.json()
    if result.get("protocol") == "segmentron":
        print(f"true pixel accuracy: {100 * (result['pixel_accuracy'] or 0):.3f}, where the pixAcc "
              "above takes the fractions from the logits first")  # fmt: skip
    else:
        print(text_table(result))
    print(worst_table(result), end="")
    for note in result.get("notes", []):
        print(f"note: {note}")
    if json_file is not None:
        write_json(json_file, result)


def worst_table(result: Mapping[str, Any]) -> str:
    """The images of the lowest mean IoU, a line each; empty where none were asked for."""
    worst = result.get("worst", [])
    if not worst:
        return ""
    lines = ["", "worst images: mean IoU and pixel accuracy, %"]
    lines += [f"{_percent(w['miou'])}  {_percent(w['pixel_accuracy'])}  {w['key']}" for w in worst]
    return "\n".join(lines) + "\n"


def check_output_file(option: str, file: Path | None) -> None:
    """UserError where no file could be written, for before the work whose result it holds."""
    if file is None:
        return
    if not file.name or file.is_dir():
        raise UserError(f"{option}: got {file}, which is a folder; want a file")
    parent = next(folder for folder in file.absolute().parents if folder.exists())
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise UserError(f"{option}: got {file}, but {parent} is no folder that can be written to")


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


def oracle_scores(
    tally: Tally, class_list: ClassList, protocol: str = "cityscapes"
) -> dict[str, Any]:
    """The scores that need labels, by the rules of a protocol, as JSON values.

    - "cityscapes": a class absent from truth and prediction has no score, and is not in the mean.
    - "segmentron": it has IoU 0, and is; `pixel_accuracy_truncated` is what its pixAcc counts.

    `confusion` is the full 19x19 matrix before any merging, rows are the ground truth, and
    `confusion_outside` is its 20th column: predictions of none of the 19 classes. Where the truth
    has Cityscapes ids, all entries of the official program's result file are there too, under
    their own names.
    """
    confusion = tally.confusion
    iou = confusion.iou(class_list)
    miou = confusion.miou(class_list)
    truncated = {}
    if protocol == "segmentron":
        iou = {k: 0.0 if math.isnan(value) else value for k, value in iou.items()}
        miou = sum(iou.values()) / len(iou)
        if tally.has_truncated:
            share = tally.truncated_hits / max(1, confusion.num_pixels)
            truncated = {"pixel_accuracy_truncated": share}
    official = {}
    if tally.has_ids:
        official = official_scores(tally.ids, tally.instances if tally.has_instances else None)
    return {
        "protocol": protocol,
        "class_list": class_list.name,
        "miou": finite_or_none(miou),
        "pixel_accuracy": finite_or_none(confusion.pixel_accuracy(class_list)),
        **truncated,
        "iou": {class_list.class_name(k): finite_or_none(value) for k, value in iou.items()},
        "classes": [class_list.class_name(k) for k in class_list.scored],
        "confusion": confusion.matrix.tolist(),
        "confusion_outside": confusion.outside.tolist(),
        **official,
        **({"notes": notes} if (notes := _notes(tally)) else {}),
    }


def _notes(tally: Tally) -> list[str]:
    """Why official scores are missing though some images have what they need."""
    parts = {"Cityscapes ids": tally.with_ids, "instance files": tally.with_instances}
    return [
        f"only {count} of {tally.images} images have {what}, so there are no scores by these"
        for what, count in parts.items()
        if 0 < count < tally.images
    ]


def finite_or_none(value: float) -> float | None:
    """JSON has no NaN: what has no value is null."""
    return value if math.isfinite(value) else None


def text_table(result: Mapping[str, Any]) -> str:
    """Table of one evaluation JSON: IoU of every class with a bar, mean IoU, pixel accuracy.

    Where the official scores are there, also instance IoU (iIoU) and the IoU of the categories. At
    most 80 columns wide; what has no score shows a dash.
    """
    name_width = _name_width([result])
    instance = result.get("classInstScores", {})
    has_instances = any(value is not None for value in instance.values())

    def line(name: str, iou: float | None, iiou: float | None, bar: bool = False) -> str:
        cells = [f"{name:<{name_width}}", _percent(iou)]
        if has_instances:
            cells.append(_percent(iiou))
        if bar:
            room = WIDTH - name_width - 4 - 8 * (len(cells) - 1)
            cells.append("#" * round(room * (iou or 0)))
        return "  ".join(cells).rstrip()

    header = f"{'class':<{name_width}}  IoU, %" + ("  iIoU,%" if has_instances else "")
    rule = "-" * len(header)
    lines = [header, rule]
    lines += [line(n, result["iou"][n], instance.get(n), bar=True) for n in result["classes"]]
    mean_instance = result.get("averageScoreInstClasses")
    lines += [rule, line("mean IoU", result["miou"], mean_instance)]
    lines.append(f"{'pixel accuracy':<{name_width}}  {_percent(result['pixel_accuracy'])}")
    if "categoryScores" in result:
        categories, instance = result["categoryScores"], result["categoryInstScores"]
        lines.append(rule)
        lines += [line(c, categories[c], instance[c], bar=True) for c in categories if c != "void"]
        averages = (result["averageScoreCategories"], result["averageScoreInstCategories"])
        lines += [rule, line("mean category", *averages)]
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
