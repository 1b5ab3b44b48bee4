"""The lattice of `make study-tune`: four settings of `full`, every choice with every other."""

import itertools
from typing import Any

from tests.studies._experiments import Experiment
from tests.studies.ablation import ADAPT, LEVELS, WEIGHT, going_on
from tune_spaces.domains import Value, choice
from tune_spaces.space import Space

STEPS = 200
SEED = 0
_FIRST, *_OTHERS = LEVELS  # the first level stands for all of them, which are changed alike

TEMPERATURE = "losses.contrastive.temperature"
CONTRAST = WEIGHT.format("contrastive")
ADVERSARIAL = f"levels.{_FIRST}.weight.value"
RAMP = f"levels.{_FIRST}.weight.ramp"
AXES = {"temperature": TEMPERATURE, "contrast": CONTRAST, "adversarial": ADVERSARIAL, "ramp": RAMP}
RAMPS = {round(share * STEPS): share for share in (0.0, 0.1, 0.5)}  # steps: share of the run

# The preset waits a quarter of the run until a teacher knows something. The one that all go on from
# does, and configurations that are alike until then could not be told apart by their first score.
FIXED: dict[str, Any] = {
    "losses.contrastive.weight.start": 0,
    "optim.lr": ADAPT["optim.lr"],
}
SPACE = Space(
    question="How sharp and strong should contrast be, how strong and sudden the discriminators?",
    preset="streets_full",
    domains={
        TEMPERATURE: choice(0.05, 0.1, 0.3, 1.0),
        CONTRAST: choice(0.1, 1.0),
        ADVERSARIAL: choice(0.002, 0.02),
        RAMP: choice(*RAMPS),
    },
    fixed=FIXED,
    steps=STEPS,
)

Key = tuple[Value, ...]  # what stands at the space's paths, in its order
KEYS: tuple[Key, ...] = tuple(itertools.product(*(d.grid(0) for d in SPACE.resolved.values())))


def experiment(key: Key) -> Experiment:
    """The training run of a point of the lattice."""
    temperature, contrast, adversarial, ramp = key
    levels = {path.replace(_FIRST, other): value for other in (_FIRST, *_OTHERS)
              for path, value in ((ADVERSARIAL, adversarial), (RAMP, ramp))}  # fmt: skip
    return going_on(
        f"temperature_{temperature}-contrast_{contrast}-adversarial_{adversarial}-ramp_{ramp}",
        "full",
        {"steps": STEPS, **FIXED, TEMPERATURE: temperature, CONTRAST: contrast, **levels},
    )


HAND_SET = going_on("hand_set", "full", {"steps": STEPS})
EXPERIMENTS: dict[Key, Experiment] = {key: experiment(key) for key in KEYS}
