"""docs/tune.md: what searches for settings find, at what cost, and what they are judged by."""

import json
from pathlib import Path
from typing import Any

from tests.studies._lattice import AXES
from tests.studies._results import table
from tests.studies._tune_plots import SEARCHES, draw_choices, draw_searches

RECORD = Path("docs/results/tune.json")
PAGE = Path("docs/tune.md")

JUDGES = {
    "quality": "quality",
    "source": "source validation",
    "last": "last to end",
    "oracle": "ORACLE",
}
CHOICES = {
    "temperature": "temperature of the contrast",
    "contrast": "weight of the contrast",
    "adversarial": "weight of the three discriminators, each",
    "ramp": "ramp of the discriminators, share of the run",
}
assert CHOICES.keys() == AXES.keys()


def tune_page() -> str:
    return page(json.loads(RECORD.read_text()))


def draw_tune() -> None:
    """The page's pictures, beside it."""
    record = json.loads(RECORD.read_text())
    draw_searches(record, PAGE.parent)
    draw_choices(record, PAGE.parent)


def page(record: dict[str, Any]) -> str:
    parts = [
        "# Searching for settings",
        _idea(record),
        "## What is found, and at what cost",
        _found(record),
        "![True mIoU of what would be taken, against steps spent](tune-searches.svg)",
        _goals(record),
        "## What a score in between says about the end",
        _predicts(record),
        "## What each choice is worth",
        _choices(record),
        f"Replayed by `{record['command']}` on {record['machine']}, commit {record['commit']}. "
        f"The lattice: {record['made']}",
    ]
    return "\n\n".join(parts) + "\n"


def _idea(record: dict[str, Any]) -> str:
    sizes = " x ".join(str(len(record["choices"][axis])) for axis in AXES)
    *between, last = record["steps"]
    return (
        f"On rendered streets, game -> camera, all {record['points']} points ({sizes}) of a "
        f"lattice of settings of `full` were trained, {last} steps from the same source-only "
        f"network, and judged after {', '.join(map(str, between))} and {last} steps. Searches were "
        f"replayed over that table with the sampler and the scheduler of `uda tune`, "
        f"{record['repeats']} times each with other seeds, {record['concurrent']} trials at a "
        f"time. All have {record['trials']} trials, but for the grid, which is everything. ASHA "
        "ends a trial that is below the median of those that had come as far before it, first at "
        "the first checkpoint and then at twice as many steps each time. A judge guides a search "
        "and takes a network in the end: **quality** needs no label of the target; **source "
        "validation** is mIoU on held-out source images; **last to end** is guided by quality and "
        "takes the network that was finished last; the **ORACLE** "
        "looks at the target's test labels. True mIoU, by which all of them are compared here, is "
        "the oracle's as well; no other judge sees it. Population based training is not here: its "
        "trials change their settings on the way, and the table has none that did. Made by "
        "`make docs` from a record."
    )


def _found(record: dict[str, Any]) -> str:
    searches, hand_set = record["searches"], record["hand_set"]
    after = f"{100 * record['compared_after']:.0f} %"
    rows = []
    for name, by in searches.items():
        cells = [f"{by[judge]['true_miou']:.1f} ± {by[judge]['deviation']:.1f}" for judge in JUDGES]
        quality = by["quality"]
        rows.append([
            SEARCHES[name], f"{100 * quality['share']:.0f} %", *cells,
            f"{quality['regret']:.1f}", f"{quality['compared']:.1f}",
        ])  # fmt: skip
    rows.append(["hand-set preset", "", f"{hand_set['true_miou']:.1f}", "",
                 f"{hand_set['last']:.1f}", "", f"{record['best'] - hand_set['true_miou']:.1f}",
                 ""])  # fmt: skip
    head = " | ".join(JUDGES.values())
    return "\n\n".join([
        "True mIoU in per cent of the network that is taken, mean and deviation over the "
        "repeats, by judge. Steps, by quality: the share of those of all points to their end. "
        "Regret, by quality: points below the best of all checkpoints, which has "
        f"{record['best']:.1f} and takes the oracle to find. After {after}: by quality, if every "
        "search ended there.",
        table(f"search | steps | {head} | regret | after {after}", rows),
    ])  # fmt: skip


def _goals(record: dict[str, Any]) -> str:
    rows = [[name, goal["goal"], f"{goal['value']:.2f}", "yes" if goal["met"] else "**missed**"]
            for name, goal in record["goals"].items()]  # fmt: skip
    return table("goal | wanted | measured | met", rows)


def _predicts(record: dict[str, Any]) -> str:
    rows = []
    for index, step in enumerate(record["steps"]):
        values = [record["predicts"][name][index] for name in ("quality", "source", "oracle")]
        rows.append([str(step), *("" if v is None else f"{v:.2f}" for v in values)])
    return "\n\n".join([
        "Spearman's rank correlation, over the points of the lattice, of a score after so many "
        "steps with true mIoU at the end. What it is for the oracle is all that stopping early can "
        "know.",
        table("steps | quality | source validation | ORACLE", rows),
    ])  # fmt: skip


def _choices(record: dict[str, Any]) -> str:
    rows = [
        [title, f"{one['value']:g}", f"{one['oracle']:.1f}", f"{one['quality']:.3f}",
         f"{one['source']:.1f}"]
        for axis, title in CHOICES.items()
        for one in record["choices"][axis]
    ]  # fmt: skip
    return "\n\n".join([
        "Means at the end over all points that share a value. True mIoU is the ORACLE's.",
        table("choice | value | true mIoU | quality | source validation", rows),
        "![True mIoU and quality against temperature and ramp](tune-choices.svg)",
    ])  # fmt: skip
