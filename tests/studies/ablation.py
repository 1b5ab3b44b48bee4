"""`make study-ablation`: what each part of adaptation is worth, alone and within the whole.

Rendered streets, game -> camera, and rendered streets -> CamVid's photographs; needs no Ray. Each
run has a record, kept under docs/results/adaptation, and is not repeated; RESULTS.md is made of
them (`make docs`). On a GPU: ARGS="--device cuda --jobs 12".
"""

from typing import Any

from tests.studies._experiments import Experiment
from tests.studies._runner import main

Changes = dict[str, Any]
WEIGHT = "losses.{}.weight.value"

# What switches each part on, over `ALL_OFF`. Losses that are not in `full` have their own defaults.
TEACHER = {"evaluated": "teacher", "teacher.batch_norm": "target"}
LOSSES: dict[str, float] = {
    "self_training": 1.0,
    "masked": 1.0,
    "contrastive": 1.0,
    "prototype_contrast": 0.1,
    "pixel_contrast": 0.1,
    "feature_distance": 0.005,
    "prior": 0.1,
    "entropy": 1e-3,
    "max_square": 0.01,
    "boundary": 0.5,
    "affinity": 0.1,
}
LEVELS: dict[str, float] = dict.fromkeys(("appearance", "features", "semantics"), 0.02)
TEACHERS_PUPILS = ("self_training", "masked")  # a teacher teaches them, so it is scored
PARTS: dict[str, Changes] = {
    "target_statistics": TEACHER,
    "colours": {"augment.colours.probability": 1.0},
    "fourier": {"augment.fourier.probability": 0.5},
    **{name: {WEIGHT.format(name): LOSSES[name], **TEACHER} for name in TEACHERS_PUPILS},
    "adversarial": {f"levels.{name}.weight.value": value for name, value in LEVELS.items()},
    **{n: {f"levels.{n}.weight.value": value} for n, value in LEVELS.items()},
    **{n: {WEIGHT.format(n): v} for n, v in LOSSES.items() if n not in TEACHERS_PUPILS},
}
ALL_OFF: Changes = {
    **{WEIGHT.format(name): 0.0 for name in LOSSES},
    **{f"levels.{name}.weight.value": 0.0 for name in LEVELS},
    "augment.colours.probability": 0.0,
    "augment.fourier.probability": 0.0,
    "evaluated": "student",
    "teacher.batch_norm": "batch",
}
# What is in `full`, and so can be left out of it.
WITHOUT: dict[str, Changes] = {
    "target_statistics": {"teacher.batch_norm": "batch"},
    "colours": {"augment.colours.probability": 0.0},
    "self_training": {WEIGHT.format("self_training"): 0.0},
    "contrastive": {WEIGHT.format("contrastive"): 0.0},
    "adversarial": {f"levels.{name}.weight.value": 0.0 for name in LEVELS},
    "rare_classes": {"data.source_sampling.kind": "uniform"},
}

# What was left out of `full`, put back into it.
WITH: dict[str, Changes] = {
    "fourier": {"augment.fourier.probability": 0.5},
    "masked": {WEIGHT.format("masked"): LOSSES["masked"]},
}

# All go on from the same network, CamVid's too, at a quarter of its rate: a teacher that begins
# with ImageNet's weights would have nothing to teach.
START = Experiment(name="start", preset="streets_source_only")
ADAPT: Changes = {"steps": 250, "optim.lr": 5e-4}


def going_on(
    name: str,
    method: str,
    changes: Changes | None = None,
    *,
    setting: str = "streets",
    is_oracle: bool = False,
) -> Experiment:
    """The method of a preset and changes to it, from the common start."""
    return Experiment(
        name=name,
        preset=f"{_PRESETS[setting]}_{method}",
        changes={**ADAPT, **(changes or {})},
        setting=setting,
        is_oracle=is_oracle,
        start=START,
    )


_PRESETS = {"streets": "streets", "dusk": "streets", "camvid": "street_to_camvid"}

STREETS = [
    going_on("source_only", "source_only"),
    going_on("oracle", "source_only", is_oracle=True),
    going_on("full", "full"),
    going_on("self_training", "self_training"),
    *(going_on(f"without_{name}", "full", changes) for name, changes in WITHOUT.items()),
    *(going_on(f"with_{name}", "full", changes) for name, changes in WITH.items()),
    *(going_on(f"only_{name}", "full", {**ALL_OFF, **on}) for name, on in PARTS.items()),
]
CAMVID = [
    going_on("camvid_source_only", "source_only", setting="camvid"),
    going_on("camvid_oracle", "source_only", setting="camvid", is_oracle=True),
    going_on("camvid_self_training", "self_training", setting="camvid"),
    going_on("camvid_full", "full", setting="camvid"),
]

if __name__ == "__main__":
    main("ablation", [*STREETS, *CAMVID], __doc__)
