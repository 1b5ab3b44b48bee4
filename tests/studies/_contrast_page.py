"""docs/contrast.md: the contrast of class distributions, choice by choice."""

import json
from pathlib import Path

from tests.studies._results import Runs, gain, provenance, records, score, table
from tests.studies.ablation import STREETS
from tests.studies.contrast import BASE, CONTRAST

PAIRS = Path("docs/results/pairs.json")
TITLES = {
    "only_contrastive": "the preset: re-weighted, cells of 2x4 and images, queue, overlap, SupCon",
    "contrast_raw_distributions": "raw distributions: no presence threshold, no power, no idf",
    "contrast_without_idf": "without idf",
    "contrast_images_alone": "whole images alone",
    "contrast_cells_alone": "cells alone",
    "contrast_without_queue": "without the queue",
    "contrast_jaccard": "soft Jaccard",
    "contrast_bhattacharyya": "Bhattacharyya coefficient",
    "contrast_jensen_shannon": "Jensen-Shannon",
    "contrast_regression": "similarity regression instead of SupCon",
    "contrast_mean_pooling": "plain mean of the embeddings instead of class-aware pooling",
    "contrast_weak": "a tenth of the weight",
}


def contrast_page() -> str:
    parts = ["# Contrast from labels that are already there", _idea()]
    if PAIRS.exists():
        parts += ["## Raw class distributions say little", _pairs(json.loads(PAIRS.read_text()))]
    runs = records([*BASE, *CONTRAST])
    if "only_target_statistics" in runs:
        parts += ["## What each choice is worth", _choices(runs)]
    whole = records([e for e in STREETS if e.name in ("full", "with_contrastive")])
    if len(whole) == 2:
        parts += ["## Within the whole", _within(whole)]
    return "\n\n".join(parts) + "\n"


def _idea() -> str:
    return (
        "Every labelled image says which classes it shows and how much of each; for a target image "
        "a teacher's confident pixels say it. Images, and cells of a grid over them, whose class "
        "distributions are similar attract in embedding space; those of different ones repel, "
        "within and across the domains. `uda/losses/contrastive.py` has the formulas; every choice "
        "below is a path under `losses.contrastive`. Made by `make docs` from records."
    )


def _pairs(record: dict) -> str:
    rows = []
    for regions, weightings in record["similarity"].items():
        for name, kinds in weightings.items():
            rows.append([regions, name, *(f"{x:.2f}" for x in kinds["overlap"])])
    heads = " | ".join(f"{100 * q:.0f} %" for q in record["quantiles"])
    return "\n\n".join([
        "Road, building and sky are in every street, so any two whole images overlap; classes "
        "must be weighted by how rare they are before two streets can be said to differ. Quantiles "
        f"of the overlap of all pairs among {record['images']} rendered streets:",
        table(f"regions | weighting | {heads}", rows),
        f"`{record['command']}`, commit {record['commit']}. The other similarities in the same "
        "record gave the thresholds at which as many pairs attract and repel.",
    ])  # fmt: skip


def _choices(runs: Runs) -> str:
    base = "only_target_statistics"
    rows = [["no contrast", score(runs, base), ""]]
    rows += [[t, score(runs, n), gain(runs, n, base)] for n, t in TITLES.items() if n in runs]
    return "\n\n".join([
        "Rendered streets, game -> camera; the source's labels and the contrast, nothing else, "
        "scored as the EMA teacher with the target's BatchNorm statistics; one choice changed at a "
        "time. Thresholds lie where 5 % of the pairs attract and a quarter to a half repel, but "
        "without idf no two whole images repel: there cells alone do.",
        table("choice | mIoU | gain", rows),
        provenance(runs),
    ])  # fmt: skip


def _within(runs: Runs) -> str:
    return (
        f"`full`, in which it is off in trainings of minutes, reaches {score(runs, 'full')}, and "
        f"with the contrast {score(runs, 'with_contrastive')}: "
        f"{gain(runs, 'with_contrastive', 'full')} points."
    )
