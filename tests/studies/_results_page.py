"""RESULTS.md: what adaptation gains, and what each of its parts is worth."""

from tests.studies._results import (
    SEEDS,
    Runs,
    closed,
    gain,
    per_class,
    provenance,
    records,
    score,
    table,
)
from tests.studies.ablation import CAMVID, PARTS, STREETS, WITH, WITHOUT

TITLES = {
    "target_statistics": "BatchNorm statistics of the target (AdaBN), EMA weights",
    "colours": "colour transfer (Reinhard, Pitie)",
    "fourier": "Fourier amplitude exchange (FDA)",
    "self_training": "self-training on class-mixed images (DACS), teacher with AdaBN",
    "masked": "masked image consistency (MIC), teacher with AdaBN",
    "contrastive": "contrast of class distributions",
    "prototype_contrast": "prototype contrast (SePiCo)",
    "pixel_contrast": "pixel contrast (PiPa)",
    "adversarial": "three discriminators at once",
    "appearance": "discriminator of layer1's statistics",
    "features": "class-conditional discriminator of features (FADA)",
    "semantics": "discriminator of the output (AdaptSegNet)",
    "feature_distance": "ImageNet feature distance (DAFormer)",
    "prior": "class-prior alignment",
    "entropy": "entropy minimisation (ADVENT's MinEnt)",
    "max_square": "maximum squares",
    "boundary": "structure: weight on boundaries",
    "affinity": "structure: affinity of image and prediction",
    "rare_classes": "rare-class sampling",
}


def results_page() -> str:
    streets, camvid = records(STREETS), records(CAMVID)
    parts = ["# Results", _introduction()]
    if {"source_only", "oracle", "full"} <= streets.keys():
        parts += ["## Rendered streets, game -> camera", _streets(streets)]
    if {"camvid_source_only", "camvid_oracle", "camvid_full"} <= camvid.keys():
        parts += ["## Rendered streets -> CamVid's photographs", _camvid(camvid)]
    return "\n\n".join(parts) + "\n"


def _introduction() -> str:
    return (
        "Made by `make docs` from the records under `docs/results/adaptation`, one for each run: "
        "`make study-ablation` makes those that are missing. Every score is that of the last step "
        "on images that no training has seen; nothing was chosen by it among steps or seeds. The "
        "oracle is the same network trained as long on the labels of the target, which adaptation "
        f"never sees. mIoU in per cent, mean and deviation over seeds {SEEDS[0]} to {SEEDS[-1]}."
    )


def _streets(runs: Runs) -> str:
    alone = [n for n in PARTS if f"only_{n}" in runs]
    alone.sort(key=lambda n: gain(runs, f"only_{n}", "source_only"))
    rows = [["source-only", score(runs, "source_only"), "", "0"]]
    rows += [_gained(runs, f"only_{n}", f"+ {TITLES[n]}") for n in alone]
    rows.append(_gained(runs, "full", "**full**"))
    rows.append(_gained(runs, "oracle", "oracle"))
    changed = {
        **{f"without_{n}": f"full without {TITLES[n]}" for n in WITHOUT},
        **{f"with_{n}": f"full with {TITLES[n]}" for n in WITH},
    }
    changed = {key: title for key, title in changed.items() if key in runs}
    changes = [[t, score(runs, k), f"{gain(runs, k, 'full'):+.1f}"] for k, t in changed.items()]
    changes.sort(key=lambda row: float(row[2]))
    classes = {"source_only": "source-only", "full": "full", "oracle": "oracle"}
    return "\n\n".join([
        "Gains and changes are of the same seeds.",
        table("each part alone | mIoU | gain | gap closed, %", rows),
        table("full, one part changed | mIoU | change", changes),
        per_class(runs, classes),
        provenance(runs),
    ])  # fmt: skip


def _gained(
    runs: Runs, name: str, title: str, low: str = "source_only", high: str = "oracle"
) -> list[str]:
    share = f"{closed(runs, name, low, high):.0f}"
    return [title, score(runs, name), f"{gain(runs, name, low):+.1f}", share]


def _camvid(runs: Runs) -> str:
    names = {
        "camvid_source_only": "source-only",
        "camvid_self_training": "self-training",
        "camvid_full": "full",
        "camvid_oracle": "oracle",
    }
    names = {name: title for name, title in names.items() if name in runs}
    ends = ("camvid_source_only", "camvid_oracle")
    rows = [_gained(runs, name, title, *ends) for name, title in names.items()]
    return "\n\n".join([
        table("11 classes | mIoU | gain | gap closed, %", rows),
        per_class(runs, names),
        provenance(runs),
    ])  # fmt: skip
