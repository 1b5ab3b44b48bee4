"""docs/quality.md and its scatter plots: how far label-free quality can be trusted."""

import json
import math
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tests.studies._early_stop import PATIENCE, saved
from tests.studies._results import table
from tests.studies._tune_plots import save_picture
from tests.studies.quality import entry_value
from uda.quality.score import GUARDS, WEIGHTS

RECORD = Path("docs/results/quality.json")
PAGE = Path("docs/quality.md")
SETTINGS = {
    "streets": "rendered streets, game -> camera",
    "camvid": "rendered streets -> CamVid's photographs",
}
# In the order of the table; the others follow by their correlation.
FIRST = ("quality", "last", "source_miou", "certainty", "density")
TITLES = {
    "quality": "**quality**, the score of `uda score`",
    "last": "the last checkpoint of a run drawn by lot",
    "source_miou": "mIoU on the source (`source_miou`)",
    "certainty": "entropy (`certainty`)",
    "density": "SND (`density`)",
}


def quality_page() -> str:
    return page(json.loads(RECORD.read_text()))


def draw_quality() -> None:
    """The page's pictures, beside it."""
    draw(json.loads(RECORD.read_text()), PAGE.parent)


def page(record: dict[str, Any]) -> str:
    parts = ["# Quality without labels", _idea()]
    for setting, title in SETTINGS.items():
        if found := record.get(setting):
            parts += [f"## {title[0].upper()}{title[1:]}", _told(found, setting)]
    missed = [f"{name}: {g['value']:.2f} ({g['goal']})"
              for name, g in record["goals"].items() if not g["met"]]  # fmt: skip
    if missed:
        parts += ["## Goals that were missed", "\n".join(f"- {line}" for line in missed)]
    parts.append(f"`{record['command']}` on {record['machine']}, commit {record['commit']}.")
    return "\n\n".join(parts) + "\n"


def draw(record: dict[str, Any], folder: Path) -> None:
    """quality-SETTING.svg: true mIoU against quality and the two best-known measures."""
    for setting in SETTINGS:
        if found := record.get(setting):
            save_picture(_scatter(found["candidates"]), folder / f"quality-{setting}.svg")


def _idea() -> str:
    weights = " and ".join(f"{weight:g} of `{name}`" for name, weight in WEIGHTS.items())
    return (
        f"`uda score` combines measures into one number: the weighted geometric mean of {weights} "
        f"times {' and '.join(f'`{name}`' for name in GUARDS)}, 1 for a network in order. "
        "The weights were chosen on rendered streets (`python -m tests.studies._fit`) and are the "
        "same everywhere. Below, every "
        "checkpoint of good and bad runs was scored without target labels, and then by the "
        "target's test labels to see whether the score was right. Regret: true mIoU of the best "
        "checkpoint minus that of the chosen one. Weighted Spearman (Musgrave et al.): networks "
        "that are good, or are thought to be, count more. Made by `make docs` from a record."
    )


def _told(found: dict[str, Any], setting: str) -> str:
    measures = found["measures"]
    names = [n for n in FIRST if n in measures]
    rest = sorted(
        (n for n in measures if n not in names),
        key=lambda n: -measures[n].get("weighted_spearman", -2),
    )
    rows = [
        [TITLES.get(n, f"`{n}`"), *(_number(measures[n].get(k)) for k in _KEYS)]
        for n in [*names, *rest]
    ]
    return "\n\n".join([
        f"{found['checkpoints']} checkpoints of {found['runs']} runs, true mIoU "
        f"{_range(found['candidates'])}.",
        f"![True mIoU against quality, entropy and source mIoU](quality-{setting}.svg)",
        table("measure | weighted Spearman | Spearman | regret, points", rows),
        "How far a difference in quality can be trusted: of the pairs of checkpoints that differ "
        "by so much or more, the share that quality has in the true order (half of them by lot).",
        table(
            "difference in quality | pairs | in true order",
            [
                [f"{one['margin']:g}", str(one["pairs"]), f"{100 * one['right']:.0f} %"]
                for one in found["pairs"]
            ],
        ),
        _leaning(found["leanings"]),
        *_stopped(found["early_stops"]),
        *_planted(found),
    ])  # fmt: skip


_SHOWN = 3  # runs that are flattered most, and least
_KEYS = ("weighted_spearman", "spearman", "regret")


def _leaning(leanings: dict[str, float]) -> str:
    """Which runs it flatters: to compare these with others is least safe."""
    runs = list(leanings)
    sides = {"low": runs[:_SHOWN], "high": runs[: -_SHOWN - 1 : -1]}
    low, high = (
        ", ".join(f"{run} ({100 * leanings[run]:+.0f} %)" for run in some)
        for some in sides.values()
    )
    return (
        "Where it leans: runs whose checkpoints it ranks too low, by so many of all places on "
        f"average: {low}; too high: {high}."
    )


def _stopped(stops: list[dict[str, Any]]) -> list[str]:
    """What it saves to end a run when its quality has not risen."""
    if not stops:
        return []
    all_in_all = saved(stops)
    rows = [
        [
            f"{stop['run']}, seed {stop['seed']}",
            f"{100 * stop['share']:.0f} %",
            f"{stop['kept']:.1f}",
            f"{stop['last']:.1f}",
            f"{stop['kept'] - stop['last']:+.1f}",
        ]
        for stop in stops
        if stop["share"] < 1
    ]
    return [
        f"Replayed: had every run that adapts ended after {PATIENCE} checkpoint without a better "
        f"quality (`runtime.patience={PATIENCE}`), and kept its best by quality, "
        f"{all_in_all['stopped']} of {all_in_all['runs']} runs would have ended early; all "
        "together would have trained "
        f"{100 * all_in_all['steps_saved']:.0f} % fewer steps, and what they keep would be "
        f"{all_in_all['mean_difference']:+.1f} points of true mIoU from what they end with on "
        f"average, {all_in_all['worst_difference']:+.1f} at worst; {all_in_all['as_good']} would "
        "keep as good a network or a better one. Those that end early:",
        table("run | steps trained | kept, mIoU | at its end | difference", rows),
    ]


def _planted(found: dict[str, Any]) -> list[str]:
    """One row for each failure: what it scores, beside the network it was made of."""
    planted = [e for e in found["candidates"] if e["planted"]]
    if not planted:
        return []
    honest = [e for e in found["candidates"] if not e["planted"]]
    best = max(entry_value(e, "quality") for e in honest)
    rows = [
        [
            e["planted"].replace("_", " "),
            _number(entry_value(e, "quality"), 3),
            f"{e['oracle_miou']:.1f}",
            "**yes**" if e["planted"] in found["planted_chosen"] else "no",
        ]
        for e in planted
    ]
    return [
        f"Failures planted into the last checkpoint of `full`. The best quality of an honest "
        f"checkpoint is {best:.3f}; a failure is chosen where it has more and is worse.",
        table("planted failure | quality | true mIoU | chosen", rows),
    ]


def _range(candidates: list[dict[str, Any]]) -> str:
    values = [e["oracle_miou"] for e in candidates if not e["planted"]]
    return f"{min(values):.1f} to {max(values):.1f} %"


def _number(value: float | None, digits: int = 2) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _scatter(candidates: list[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    panels = {
        "quality": "quality",
        "certainty": "entropy (certainty)",
        "source_miou": "source mIoU",
    }
    for axes, (name, title) in zip(figure.subplots(1, 3, sharey=True), panels.items(), strict=True):
        for kind, mark, colour in (("good", "o", "#2a6fbb"), ("bad", "v", "#d98200")):
            some = [e for e in candidates if not e["planted"] and _kind(e) == kind]
            axes.scatter([entry_value(e, name) for e in some], [e["oracle_miou"] for e in some],
                         s=16, marker=mark, c=colour, label=f"{kind} run")  # fmt: skip
        planted = [e for e in candidates if e["planted"]]
        axes.scatter([entry_value(e, name) for e in planted], [e["oracle_miou"] for e in planted],
                     s=22, marker="x", c="#c0182b", label="planted failure")  # fmt: skip
        axes.set_xlabel(title)
    figure.axes[0].set_ylabel("true mIoU, %")
    figure.axes[0].legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def _kind(entry: dict[str, Any]) -> str:
    return "bad" if "bad_" in entry["run"] else "good"
