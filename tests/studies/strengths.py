"""`make study-strengths`: how strong the parts should be, judged at dusk.

Rendered streets, game -> dusk, by default one seed: scores need dusk's labels, so that nothing that
is reported of game -> camera or of CamVid was chosen with theirs.
"""

from typing import Any

from tests.studies._experiments import Experiment
from tests.studies._runner import main
from tests.studies.ablation import ALL_OFF, LEVELS, PARTS, WEIGHT, WHOLE, going_on


def parts(*names: str) -> dict[str, Any]:
    """`full` with these parts alone."""
    changes = dict(ALL_OFF)
    for name in names:
        changes |= PARTS[name]
    return changes


HALF = {"augment.colours.probability": 0.5}
TAUGHT = parts("colours", "self_training")
# Rates and weights of long trainings.
SLOW = {
    f"levels.{name}.{path}": value
    for name in LEVELS
    for path, value in {"lr_factor": 1.0, "weight.value": 1e-3}.items()
}
CHANGES: dict[str, dict[str, Any]] = {
    "target_statistics": parts(),
    "fourier": parts("fourier"),
    "colours": parts("colours"),
    "half_colours": {**parts("colours"), **HALF},
    "half_colours_fourier": {**parts("colours", "fourier"), **HALF},
    "taught": TAUGHT,
    "taught_half_colours": {**TAUGHT, **HALF},
    "taught_half_colours_masked": {
        **parts("colours", "self_training", "masked"),
        **HALF,
        WEIGHT.format("masked"): 0.3,
    },
    "colours_contrastive": parts("colours", "contrastive"),
    "colours_weak_contrastive": {
        **parts("colours", "contrastive"),
        WEIGHT.format("contrastive"): 0.1,
    },
    "colours_adversarial": parts("colours", "adversarial"),
    "colours_slow_adversarial": {**parts("colours", "adversarial"), **SLOW},
    "taught_contrastive": parts("colours", "self_training", "contrastive"),
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
