"""`make study-strengths`: how strong the parts should be, judged on the reverse direction.

Rendered streets, camera -> game, a single seed of a short and small training: scores here need the
labels of `game`, which are the source's, so that nothing that is reported of game -> camera or of
CamVid was chosen with their labels.
"""

from typing import Any

from tests.studies._experiments import Experiment
from tests.studies._runner import main
from tests.studies.ablation import ALL_OFF, PARTS

SMALL: dict[str, Any] = {"batch_size": 4, "data.crop.width": 128}
SHORT: dict[str, Any] = {**SMALL, "steps": 250, "optim.lr": 1e-3}
STRONG_COLOURS = {
    f"augment.{images}.{name}": value
    for images in ("source", "mixed", "masked")
    for name, value in {
        "brightness": 0.4, "contrast": 0.4, "saturation": 0.5, "hue": 0.08,
    }.items()
}  # fmt: skip


def parts(*names: str) -> dict[str, Any]:
    """`full` with these parts alone."""
    changes = dict(ALL_OFF)
    for name in names:
        changes |= PARTS[name]
    return changes


BASE = ("self_training", "masked", "fourier")
CHANGES: dict[str, dict[str, Any]] = {
    "nothing": parts(),
    "base": parts(*BASE),
    "without_fourier": parts("self_training", "masked"),
    "without_masked": parts("self_training", "fourier"),
    "contrastive": parts(*BASE, "contrastive"),
    "adversarial": parts(*BASE, "adversarial"),
    "threshold": {**parts(*BASE), "teacher.threshold": 0.7},
    "pixel_weights": {**parts(*BASE), "teacher.weighting": "pixel"},
    "source_statistics": {**parts(*BASE), "teacher.batch_norm": "batch"},
    "strong_colours": {**parts(*BASE), **STRONG_COLOURS},
    "prototype_contrast": parts(*BASE, "prototype_contrast"),
    "structure": parts(*BASE, "boundary", "affinity"),
}
START = Experiment(
    name="reverse_start",
    setting="reverse",
    preset="streets_source_only",
    changes={**SMALL, "steps": 500},
)
STRENGTHS = [
    Experiment(
        name=f"reverse_{name}",
        setting="reverse",
        preset="streets_full",
        changes={**SHORT, **changes},
        start=START,
    )
    for name, changes in CHANGES.items()
]

if __name__ == "__main__":
    main("strengths", STRENGTHS, __doc__)
