"""The pictures of docs/tune.md; equal records give equal files."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

SEARCHES = {
    "random": "random",
    "tpe": "TPE",
    "asha": "ASHA, random",
    "asha_tpe": "**ASHA + TPE**",
    "grid": "grid",
}
_COLOURS = ("#8c99a8", "#2a6fbb", "#d98200", "#c0182b", "#1f2933")
JUDGES = {
    "quality": "quality",
    "source": "source validation",
    "end": "quality at the end",
    "lot": "by lot",
    "oracle": "ORACLE",
}


def draw_searches(record: dict[str, Any], folder: Path) -> None:
    """tune-searches.svg: every search by quality, and the one of `uda tune` by every judge."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    by_search, by_judge = figure.subplots(1, 2, sharey=True)
    for (name, title), colour in zip(SEARCHES.items(), _COLOURS, strict=True):
        curve = record["searches"][name]["quality"]["curve"]
        _curve(by_search, record, curve, title.replace("*", "").replace("`", ""), colour)
    for (judge, title), colour in zip(JUDGES.items(), reversed(_COLOURS), strict=True):
        _curve(by_judge, record, record["searches"]["asha_tpe"][judge]["curve"], title, colour)
    for axes, title in ((by_search, "judged by quality"), (by_judge, "ASHA + TPE, by judge")):
        axes.axhline(record["best"], ls=":", lw=1, c="#1f2933", label="best of all (ORACLE)")
        hand_set = record["hand_set"]["true_miou"]
        axes.axhline(hand_set, ls="--", lw=1, c="#7b4bb7", label="the preset, no search")
        axes.set_xlabel("steps spent, % of all points to their end")
        axes.set_title(title, fontsize=10)
        axes.legend(frameon=False, fontsize=8)
    by_search.set_ylabel("true mIoU of what is taken, %")
    save_picture(figure, folder / "tune-searches.svg")


def draw_choices(record: dict[str, Any], folder: Path) -> None:
    """tune-choices.svg: true mIoU and quality at the end, for every temperature and every ramp."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    rows = {"oracle": "true mIoU (ORACLE), %", "quality": "quality"}
    columns = {
        "temperature": "temperature of the contrast",
        "ramp": "ramp of the output's discriminator, share of the run",
    }
    grid = figure.subplots(2, 2, sharey="row")
    for line, (measure, name) in zip(grid, rows.items(), strict=True):
        for axes, (axis, title) in zip(line, columns.items(), strict=True):
            _choice(axes, record, measure, axis, title)
        line[0].set_ylabel(name)
    save_picture(figure, folder / "tune-choices.svg")


def _curve(axes: Axes, record: dict[str, Any], curve: list[float], title: str, colour: str) -> None:
    """Against the share of all steps; checkpoints are evenly spaced."""
    each = 100 * record["steps"][0] / (record["points"] * record["steps"][-1])
    axes.plot([each * (i + 1) for i in range(len(curve))], curve, c=colour, lw=1.5, label=title)


def _choice(axes: Axes, record: dict[str, Any], measure: str, axis: str, title: str) -> None:
    """A dot for every point, and the means for each learning rate, whose effect is the largest."""
    values = [one["value"] for one in record["choices"][axis]]
    for rate, colour in zip(record["choices"]["rate"], _COLOURS[1:], strict=False):
        some = [p for p in record["table"] if p["at"]["rate"] == rate["value"]]
        means = []
        for place, value in enumerate(values):
            ends = [p[measure][-1] for p in some if p["at"][axis] == value]
            axes.scatter([place] * len(ends), ends, s=14, color=colour, alpha=0.5)
            means.append(sum(ends) / len(ends))
        axes.plot(range(len(values)), means, c=colour, lw=1.5, label=f"rate {rate['value']:g}")
    axes.set_xticks(range(len(values)), ["off" if v is None else f"{v:g}" for v in values])
    axes.set_xlabel(title)
    axes.legend(frameon=False, fontsize=8)


def save_picture(figure: Figure, file: Path) -> None:
    """The same bytes each time, without the box around the data."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    with matplotlib.rc_context({"svg.hashsalt": file.name}):  # else its ids are drawn by lot
        figure.savefig(file, metadata={"Date": None})
