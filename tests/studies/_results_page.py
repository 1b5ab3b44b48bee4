"""RESULTS.md: what adaptation gains, and what each of its parts is worth."""

import statistics

from tests.studies._results import (
    SEEDS,
    Runs,
    closed,
    gain,
    gains,
    mean,
    per_class,
    provenance,
    records,
    score,
    table,
)
from tests.studies.ablation import ADAPT, CAMVID, PARTS, START, STREETS, WHOLE, WITH, WITHOUT

TITLES = {
    "target_statistics": "BatchNorm statistics of the target (AdaBN)",
    "colours": "colour transfer (Reinhard, Pitie)",
    "cameras": "cameras that vary: colours, grey, blur, noise",
    "fourier": "Fourier amplitude exchange (FDA)",
    "self_training": "self-training on class-mixed images (DACS)",
    "masked": "masked image consistency (MIC)",
    "contrastive": "contrast of class distributions",
    "prototype_contrast": "prototype contrast (SePiCo)",
    "pixel_contrast": "pixel contrast (PiPa)",
    "adversarial": "three discriminators at once",
    "appearance": "discriminator of layer1's statistics",
    "features": "class-conditional discriminator of features (FADA)",
    "semantics": "discriminator of the output (AdaptSegNet)",
    "feature_distance": "distance to the features of the start (DAFormer)",
    "prior": "class-prior alignment",
    "entropy": "entropy minimisation (ADVENT's MinEnt)",
    "max_square": "maximum squares",
    "boundary": "structure: weight on boundaries",
    "affinity": "structure: affinity of image and prediction",
    "rare_classes": "rare-class sampling after the start",
}
_STREETS = {
    "source_only": "source-only",
    "only_target_statistics": "BatchNorm statistics of the target alone",
    "full": "full",
    "with_self_training": "full with self-training",
    "whole": "full from ImageNet's weights on",
    "oracle": "trained on target labels",
}
_CAMVID = {
    "camvid_source_only": "source-only",
    "camvid_full": "full",
    "camvid_with_self_training": "full with self-training",
    "camvid_whole": "full from ImageNet's weights on",
    "camvid_oracle": "trained on target labels",
}
_NOTHING = "Not measured yet."


def results_page() -> str:
    streets, camvid = records([START, *STREETS]), records(CAMVID)
    parts = ["# Results", _introduction(), "## Rendered streets, game -> camera"]
    parts += [_streets(streets) if "source_only" in streets else _NOTHING]
    parts += ["## Rendered streets -> CamVid's photographs", _summary(camvid, _CAMVID)]
    if "camvid_source_only" in camvid:
        parts += [per_class(camvid, _CAMVID)]
    return "\n\n".join(parts) + "\n"


def _introduction() -> str:
    return (
        "Made by `make docs` from the records under `docs/results/adaptation`, one for each run: "
        "`make study-ablation` makes those that are missing. Every score is that of the last step "
        "on images that no training has seen; nothing was chosen by it among steps or seeds, and "
        "strengths were chosen on a third look, `dusk`. Methods, the baseline too, go on from "
        f"the same source-only network of {START.config(0).steps} steps for {ADAPT['steps']} more; "
        f"one row learns for all {WHOLE['steps']} steps as `full` does. The oracle learns as long "
        "from the target's labels, which adaptation never sees; gap closed is a gain as a share of "
        "the oracle's. mIoU in per cent; means and "
        f"deviations over seeds {SEEDS[0]} to {SEEDS[-1]}, gains seed by seed."
    )


def _streets(runs: Runs) -> str:
    alone = [n for n in PARTS if f"only_{n}" in runs]
    alone.sort(key=lambda n: mean(runs, f"only_{n}"))
    rows = [["source-only", score(runs, "source_only"), "", "", "0"]]
    names = {
        "only_target_statistics": f"+ {TITLES['target_statistics']}",
        **{f"only_{n}": f"+ these and {TITLES[n]}" for n in alone},
        "full": "**full**",
        "whole": "full from ImageNet's weights on",
        "oracle": "oracle",
    }
    for name, title in names.items():
        if name in runs:
            is_part = name in {f"only_{part}" for part in PARTS}
            over = gain(runs, name, "only_target_statistics") if is_part else ""
            row = _gained(runs, name, title, "source_only", "oracle")
            rows.append([*row[:3], over, row[3]])
    changed = {
        "only_cameras": f"full without {TITLES['colours']}",
        "only_colours": f"full without {TITLES['cameras']}",
        **{f"without_{n}": f"full without {TITLES[n]}" for n in WITHOUT},
        **{f"with_{n}": f"full with {TITLES[n]}" for n in WITH},
    }
    changes = [[t, score(runs, k), gain(runs, k, "full")] for k, t in changed.items() if k in runs]
    head = "each part alone | mIoU | gain | over the target's statistics | gap closed, %"
    tables = [table(head, rows)]
    if changes:
        tables.append(table("full, one part changed | mIoU | change", changes))
    return "\n\n".join([*tables, per_class(runs, _STREETS), provenance(runs)])


def streets_summary() -> str:
    """The README's part on rendered streets: without the parts, for those in a hurry."""
    runs = records(STREETS)
    share = closed(runs, "full", "source_only", "oracle")
    return "\n\n".join([_summary(runs, _STREETS), _goal("full closes 70 % of the gap", share, 70)])


def camvid_summary() -> str:
    """The README's part on CamVid."""
    runs = records(CAMVID)
    low, full = "camvid_source_only", "camvid_full"
    points = gains(runs, full, low)
    return "\n\n".join([
        _summary(runs, _CAMVID),
        _goal("full gains 10 points", f"{statistics.mean(points):.1f}" if points else "", 10),
        _goal("full closes half of the gap", closed(runs, full, low, "camvid_oracle"), 50),
    ])  # fmt: skip


def _goal(text: str, value: str, at_least: float) -> str:
    if not value:
        return f"Goal: {text}; not measured yet."
    return f"Goal: {text}; {'reached' if float(value) >= at_least else 'missed'} ({value})."


def _summary(runs: Runs, titles: dict[str, str]) -> str:
    """A table of experiments from the baseline to the oracle, and where they were run."""
    low, *_, high = titles
    shown = {name: runs[name] for name in titles if name in runs}
    if not shown:
        return _NOTHING
    rows = [_gained(runs, name, titles[name], low, high) for name in shown]
    return table("| mIoU | gain | gap closed, %", rows) + "\n\n" + provenance(shown)


def _gained(runs: Runs, name: str, title: str, low: str, high: str) -> list[str]:
    is_low = name == low
    change = "" if is_low else gain(runs, name, low)
    return [title, score(runs, name), change, "0" if is_low else closed(runs, name, low, high)]
