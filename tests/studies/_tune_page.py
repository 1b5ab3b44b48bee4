"""docs/tune.md: what searches for settings find, at what cost, and what they are judged by."""

import json
from pathlib import Path
from typing import Any

from tests.studies._lattice import AXES
from tests.studies._results import table
from tests.studies._tune_plots import JUDGES, SEARCHES, draw_choices, draw_searches

RECORD = Path("docs/results/tune.json")
PAGE = Path("docs/tune.md")

CHOICES = {
    "temperature": "temperature of the contrast",
    "ramp": "ramp of the discriminator of the output, share of the run",
    "rate": "learning rate",
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
        _judges(record),
        "## What is found, and at what cost",
        _found(record),
        "![True mIoU of what would be taken, against steps spent](tune-searches.svg)",
        _goals(record),
        *_live(record),
        "## What a score in between says about the end",
        _predicts(record),
        "## What each choice is worth",
        _choices(record),
        f"Replayed by `{record['command']}` on {record['machine']}, commit {record['commit']}. "
        f"The table: {record['made']}",
    ]
    return "\n\n".join(parts) + "\n"


def _idea(record: dict[str, Any]) -> str:
    *between, last = record["steps"]
    return (
        f"All {record['points']} points of the space `measured`, a small slice of `full` (contrast "
        "of class distributions, alignment of the output, learning rate; each part may be off), "
        f"were trained on rendered streets, game -> camera, {last} steps from one source-only "
        f"network, and judged after {', '.join(map(str, between))} and {last} steps. Searches were "
        f"replayed over that table with the sampler and the scheduler of `uda tune`, "
        f"{record['repeats']} times each with other seeds, {record['concurrent']} trials at a "
        f"time. All have {record['trials']} trials, the first of them the preset as it is, but for "
        "the grid, which is everything. ASHA ends a trial that is below the median of those that "
        f"had come as far before it, after {record['steps'][0]} steps and then after twice as many "
        "each time. Steps are those up to the checkpoints that are compared; a live search also "
        "trains while it waits for a score. Deviations are those of the searches' luck: each point "
        "was trained once, with one seed, and other seeds move a network by more than neighbouring "
        "points differ (RESULTS.md). Population based training is not here: its trials change "
        "their settings on the way, and the table has none that did. Made by `make docs` from a "
        "record."
    )


def _judges(record: dict[str, Any]) -> str:
    return (
        "A judge guides a search and takes a network in the end: **quality** needs no label of the "
        "target; **source validation** is mIoU on held-out source images; **quality at the end** "
        "looks at the last network of each trial alone; **by lot** takes the network that was "
        "finished last, among those that quality let finish; the **ORACLE** looks at the target's "
        "test labels. True mIoU, by which all of them are compared here, is the oracle's as well. "
        "No other judge sees it, but the weights of quality had been chosen once by the same kind "
        "of street (docs/quality.md)."
    )


def _found(record: dict[str, Any]) -> str:
    searches, hand_set = record["searches"], record["hand_set"]
    after = f"{100 * record['compared_after']:.0f} %"
    rows = []
    for name, by in searches.items():
        cells = [f"{by[judge]['true_miou']:.1f} ± {by[judge]['deviation']:.1f}" for judge in JUDGES]
        quality = by["quality"]
        rows.append([
            SEARCHES[name], *(f"{100 * quality[k]:.0f} %" for k in ("share", "of_lattice")),
            *cells, f"{quality['regret']:.1f}", f"{quality['compared']:.1f}",
        ])  # fmt: skip
    preset = {"quality": hand_set["true_miou"], "end": hand_set["last"]}
    rows.append([
        "the preset, no search", "", "",
        *(f"{preset[judge]:.1f}" if judge in preset else "" for judge in JUDGES),
        f"{record['best'] - hand_set['true_miou']:.1f}", "",
    ])  # fmt: skip
    head = " | ".join(JUDGES.values())
    return "\n\n".join([
        "True mIoU in per cent of the network that is taken, mean and deviation over the "
        "repeats, by judge. Steps, by quality: the share of those that the search's trials would "
        "take to their end, and of those of the whole table. Regret, by quality: points below the "
        f"best of all checkpoints, which has {record['best']:.1f} and takes the oracle to find; a "
        f"point by lot has {record['mean_at_end']:.1f} at its end. After {after}: by quality, if "
        "every search ended there.",
        table(f"search | own steps | of all | {head} | regret | after {after}", rows),
    ])  # fmt: skip


def _goals(record: dict[str, Any]) -> str:
    rows = [[name, goal["goal"], f"{goal['value']:.2f}", "yes" if goal["met"] else "**missed**"]
            for name, goal in record["goals"].items()]  # fmt: skip
    return table("goal | wanted | measured | met", rows)


def _live(record: dict[str, Any]) -> list[str]:
    """A search that was not replayed."""
    live = record["live"]
    if live is None:
        return []
    statuses = ", ".join(f"{count} {status}" for status, count in live["by_status"].items())
    at = ", ".join(
        f"{CHOICES[axis]} {'off' if value is None else f'{value:g}'}"
        for axis, value in live["at"].items()
    )
    return [
        f"A live search, `uda tune measured` with as many trials ({live['trials']}: {statuses}), "
        f"trained {100 * live['share']:.0f} % of the steps that they would take to their end, took "
        f"{live['minutes']:.0f} minutes of trials and chose by quality {at}, at step "
        f"{live['step']}: true mIoU {live['true_miou']:.1f}."
    ]


def _predicts(record: dict[str, Any]) -> str:
    rows = []
    for index, step in enumerate(record["steps"]):
        values = [record["predicts"][name][index] for name in ("quality", "source", "oracle")]
        rows.append([str(step), *("" if v is None else f"{v:.2f}" for v in values)])
    return "\n\n".join([
        f"Spearman's rank correlation, over the {record['points']} points, of a score after so "
        "many steps with true mIoU at the end.",
        table("steps | quality | source validation | ORACLE", rows),
    ])  # fmt: skip


def _choices(record: dict[str, Any]) -> str:
    rows = [
        [title, "off" if one["value"] is None else f"{one['value']:g}", str(one["points"]),
         f"{one['oracle']:.1f} ± {one['spread']:.1f}", f"{one['quality']:.3f}",
         f"{one['source']:.1f}"]
        for axis, title in CHOICES.items()
        for one in record["choices"][axis]
    ]  # fmt: skip
    return "\n\n".join([
        "At the end, over all points that share a value: means, and of true mIoU, the ORACLE's, "
        "the deviation. One seed each.",
        table("choice | value | points | true mIoU | quality | source validation", rows),
        "![True mIoU and quality against temperature and ramp](tune-choices.svg)",
    ])  # fmt: skip
