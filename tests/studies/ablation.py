"""`make study-ablation`: what each part of adaptation is worth, alone and within the whole.

Rendered streets, game -> camera, and rendered streets -> CamVid's photographs; needs no Ray. Each
run has a record, kept under docs/results/adaptation, and is not repeated; RESULTS.md is made of
them (`make docs`). On a GPU: ARGS="--device cuda --jobs 12".
"""

from typing import Any

from tests.studies._experiments import Experiment
from tests.studies._runner import main
from uda.data.augment import Photometric
from uda.presets.methods import CAMERAS
from uda.tree import to_plain

Changes = dict[str, Any]


def _photometric(augment: Photometric) -> Changes:
    """The same changes of colours, blur and noise for source images and for mixed ones."""
    values = to_plain(augment)
    return {f"augment.{i}.{name}": v for i in ("source", "mixed") for name, v in values.items()}


WEIGHT = "losses.{}.weight.value"

# The result of every part is the teacher, whose BatchNorm knows the target alone: to have looked at
# target images is not to be taken for what a loss does with them.
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
# What switches each part on, over `ALL_OFF`.
PARTS: dict[str, Changes] = {
    "colours": {"augment.colours.probability": 1.0},
    "cameras": _photometric(CAMERAS),
    "fourier": {"augment.fourier.probability": 0.5},
    "adversarial": {f"levels.{name}.weight.value": value for name, value in LEVELS.items()},
    **{name: {f"levels.{name}.weight.value": value} for name, value in LEVELS.items()},
    **{name: {WEIGHT.format(name): value} for name, value in LOSSES.items()},
}
ALL_OFF: Changes = {
    **{WEIGHT.format(name): 0.0 for name in LOSSES},
    **{f"levels.{name}.weight.value": 0.0 for name in LEVELS},
    "augment.colours.probability": 0.0,
    "augment.fourier.probability": 0.0,
    **_photometric(Photometric()),
    **TEACHER,
}
# What is in `full`, and so can be left out of it. Without colours it is `only_cameras`, and without
# cameras `only_colours`.
WITHOUT: dict[str, Changes] = {
    "target_statistics": {"teacher.batch_norm": "batch"},
    "rare_classes": {"data.source_sampling.kind": "uniform"},
}
# What was left out of `full`, put into it.
WITH: dict[str, Changes] = {
    name: PARTS[name]
    for name in ("self_training", "contrastive", "adversarial", "masked", "fourier", "affinity")
}

# All go on from the same network, CamVid's too, at half of its rate: a teacher that begins
# with ImageNet's weights would have nothing to teach.
START = Experiment(name="start", preset="streets_source_only")
ADAPT: Changes = {"steps": 400, "optim.lr": 1e-3}
WHOLE: Changes = {"steps": START.config(0).steps + ADAPT["steps"]}


def going_on(
    name: str,
    method: str,
    changes: Changes | None = None,
    *,
    setting: str = "streets",
) -> Experiment:
    """The method of a preset and changes to it, from the common start."""
    return Experiment(
        name=name,
        preset=f"{_PRESETS[setting]}_{method}",
        changes={**ADAPT, **(changes or {})},
        setting=setting,
        start=START,
    )


_PRESETS = {"streets": "streets", "dusk": "streets", "camvid": "street_to_camvid"}

STREETS = [
    going_on("source_only", "source_only"),
    # What labels of the target would give, as long a training as all others have had together.
    Experiment(name="oracle", preset="streets_source_only", changes=WHOLE, is_oracle=True),
    # As the oracle from ImageNet's weights on, the looks from the first step.
    Experiment(name="whole", preset="streets_full", changes=WHOLE),
    going_on("full", "full"),
    going_on("only_target_statistics", "full", ALL_OFF),
    *(going_on(f"only_{name}", "full", {**ALL_OFF, **on}) for name, on in PARTS.items()),
    *(going_on(f"without_{name}", "full", changes) for name, changes in WITHOUT.items()),
    *(going_on(f"with_{name}", "full", changes) for name, changes in WITH.items()),
]
CAMVID = [
    going_on("camvid_source_only", "source_only", setting="camvid"),
    Experiment(
        name="camvid_oracle",
        setting="camvid",
        preset="street_to_camvid_source_only",
        changes=WHOLE,
        is_oracle=True,
    ),
    going_on("camvid_full", "full", setting="camvid"),
    going_on("camvid_with_self_training", "full", WITH["self_training"], setting="camvid"),
    Experiment(
        name="camvid_whole", setting="camvid", preset="street_to_camvid_full", changes=WHOLE
    ),
]

if __name__ == "__main__":
    main("ablation", [*STREETS, *CAMVID], __doc__)
