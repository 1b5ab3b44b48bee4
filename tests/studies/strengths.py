"""`make study-strengths`: how strong the parts should be, judged at dusk.

Rendered streets, game -> dusk, by default one seed: scores need dusk's labels, so that nothing that
is reported of game -> camera or of CamVid was chosen with theirs.
"""

from typing import Any

from tests.studies._experiments import Experiment
from tests.studies._runner import main
from tests.studies.ablation import ADAPT, ALL_OFF, PARTS, WEIGHT, WHOLE, going_on


def parts(*names: str) -> dict[str, Any]:
    """`full` with these parts alone."""
    changes = dict(ALL_OFF)
    for name in names:
        changes |= PARTS[name]
    return changes


LOOKS = parts("colours", "cameras")
NOISE = "augment.source.noise_probability"
CHANGES: dict[str, dict[str, Any]] = {
    "target_statistics": parts(),
    "colours": parts("colours"),
    "cameras": parts("cameras"),
    "looks": LOOKS,
    "looks_without_noise": LOOKS | {NOISE: 0.0},
    "looks_half_rate": LOOKS | {"optim.lr": ADAPT["optim.lr"] / 2},
    "looks_double_rate": LOOKS | {"optim.lr": 2 * ADAPT["optim.lr"]},
    "taught_by_class": parts("colours", "cameras", "self_training"),
    "taught_by_image": parts("colours", "cameras", "self_training")
    | {"teacher.weighting": "image"},
    "taught_by_pixel": parts("colours", "cameras", "self_training")
    | {"teacher.weighting": "pixel"},
    "looks_contrastive": parts("colours", "cameras", "contrastive"),
    "looks_weak_contrastive": parts("colours", "cameras", "contrastive")
    | {WEIGHT.format("contrastive"): 0.1},
    "looks_adversarial": parts("colours", "cameras", "adversarial"),
}
STRENGTHS = [
    going_on("dusk_source_only", "source_only", setting="dusk"),
    *(going_on(f"dusk_{name}", "full", on, setting="dusk") for name, on in CHANGES.items()),
    Experiment(
        name="dusk_oracle",
        setting="dusk",
        preset="streets_source_only",
        changes=WHOLE,
        is_oracle=True,
    ),
]

if __name__ == "__main__":
    main("strengths", STRENGTHS, __doc__, seeds=(0,))
