"""`make study-strengths`: how strong the parts should be, judged at dusk.

Rendered streets, game -> dusk, a single seed: scores need dusk's labels, so that nothing that is
reported of game -> camera or of CamVid was chosen with theirs.
"""

from typing import Any

from tests.studies._experiments import Experiment
from tests.studies._runner import main
from tests.studies.ablation import ADAPT, ALL_OFF, PARTS, START, TEACHER, WEIGHT


def parts(*names: str) -> dict[str, Any]:
    """`full` with these parts alone, its teacher scored."""
    changes = {**ALL_OFF, **TEACHER}
    for name in names:
        changes |= PARTS[name]
    return changes


ALWAYS = {"augment.colours.probability": 1.0}
TAUGHT = {**parts("colours", "self_training"), **ALWAYS}
CHANGES: dict[str, dict[str, Any]] = {
    "nothing": {**ALL_OFF},
    "target_statistics": parts(),
    "fourier": parts("fourier"),
    "colours": parts("colours"),
    "colours_and_fourier": parts("colours", "fourier"),
    "colours_always": {**parts("colours"), **ALWAYS},
    "self_training": parts("colours", "self_training"),
    "self_training_pixel": {
        **parts("colours", "self_training"),
        "teacher.weighting": "pixel",
    },
    "masked": {
        **parts("colours", "self_training", "masked"),
        WEIGHT.format("masked"): 0.3,
    },
    "taught": TAUGHT,
    "taught_contrastive": {**TAUGHT, **PARTS["contrastive"]},
    "taught_adversarial": {**TAUGHT, **PARTS["adversarial"]},
    "taught_both": {**TAUGHT, **PARTS["contrastive"], **PARTS["adversarial"]},
}
STRENGTHS = [
    Experiment(
        name=f"dusk_{name}",
        setting="dusk",
        preset="streets_full",
        changes={**ADAPT, **changes},
        start=START,
    )
    for name, changes in CHANGES.items()
]
STRENGTHS.append(
    Experiment(
        name="dusk_oracle",
        setting="dusk",
        preset="streets_source_only",
        changes=ADAPT,
        is_oracle=True,
        start=START,
    )
)

if __name__ == "__main__":
    main("strengths", STRENGTHS, __doc__)
