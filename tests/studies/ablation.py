"""`make study-ablation`: what each part of adaptation is worth, alone and within the whole.

Rendered streets, game -> camera, and rendered streets -> CamVid's photographs; needs no Ray. Each
run has a record, kept under docs/results/adaptation, and is not repeated; RESULTS.md is made of
them (`make docs`). On a GPU: ARGS="--device cuda --jobs 12".
"""

from typing import Any

from tests.studies._experiments import Experiment, main

Changes = dict[str, Any]
WEIGHT = "losses.{}.weight.value"

# What switches each part on, over `ALL_OFF`. Losses that are not in `full` have their own defaults.
TEACHER = {"evaluated": "teacher", "teacher.batch_norm": "target"}
LOSSES: dict[str, float] = {
    "self_training": 1.0,
    "masked": 1.0,
    "contrastive": 0.1,
    "prototype_contrast": 0.1,
    "pixel_contrast": 0.1,
    "feature_distance": 0.005,
    "prior": 0.1,
    "entropy": 1e-3,
    "max_square": 0.01,
    "boundary": 0.5,
    "affinity": 0.1,
}
LEVELS: dict[str, float] = {"appearance": 1e-3, "features": 1e-3, "semantics": 1e-3}
TEACHERS_PUPILS = ("self_training", "masked")  # a teacher teaches them, so it is scored
PARTS: dict[str, Changes] = {
    "target_statistics": TEACHER,
    "fourier": {"augment.fourier.probability": 0.5},
    **{name: {WEIGHT.format(name): LOSSES[name], **TEACHER} for name in TEACHERS_PUPILS},
    "adversarial": {f"levels.{name}.weight.value": value for name, value in LEVELS.items()},
    **{n: {f"levels.{n}.weight.value": value} for n, value in LEVELS.items()},
    **{n: {WEIGHT.format(n): v} for n, v in LOSSES.items() if n not in TEACHERS_PUPILS},
}
ALL_OFF: Changes = {
    **{WEIGHT.format(name): 0.0 for name in LOSSES},
    **{f"levels.{name}.weight.value": 0.0 for name in LEVELS},
    "augment.fourier.probability": 0.0,
    "evaluated": "student",
    "teacher.batch_norm": "batch",
}
# What is in `full`, and so can be left out of it.
WITHOUT: dict[str, Changes] = {
    "target_statistics": {"teacher.batch_norm": "batch"},
    "fourier": {"augment.fourier.probability": 0.0},
    "self_training": {WEIGHT.format("self_training"): 0.0},
    "masked": {WEIGHT.format("masked"): 0.0},
    "contrastive": {WEIGHT.format("contrastive"): 0.0},
    "adversarial": {f"levels.{name}.weight.value": 0.0 for name in LEVELS},
    "rare_classes": {"data.source_sampling.kind": "uniform"},
}

STREETS = [
    Experiment(name="source_only", preset="streets_source_only"),
    Experiment(name="oracle", preset="streets_source_only", is_oracle=True),
    Experiment(name="full", preset="streets_full"),
    *(
        Experiment(name=f"only_{name}", preset="streets_full", changes={**ALL_OFF, **changes})
        for name, changes in PARTS.items()
    ),
    *(
        Experiment(name=f"without_{name}", preset="streets_full", changes=changes)
        for name, changes in WITHOUT.items()
    ),
]
CAMVID = [
    Experiment(name="camvid_source_only", setting="camvid", preset="street_to_camvid_source_only"),
    Experiment(
        name="camvid_oracle",
        setting="camvid",
        preset="street_to_camvid_source_only",
        is_oracle=True,
    ),
    Experiment(
        name="camvid_self_training", setting="camvid", preset="street_to_camvid_self_training"
    ),
    Experiment(name="camvid_full", setting="camvid", preset="street_to_camvid_full"),
]

if __name__ == "__main__":
    main("ablation", [*STREETS, *CAMVID], __doc__)
