"""A few choices about contrast, the alignment of outputs and the rate: 48 points with the preset.

Small enough to be measured at every point: docs/tune.md says what searches find here.
"""

from tune_spaces.domains import choice, shares_of_run
from tune_spaces.space import Space, where

MEASURED = Space(
    question="How sharp should contrast be, how sudden the alignment of outputs, how fast it all?",
    preset="streets_full",
    domains={
        "losses.contrastive.weight": choice(0.0, 1.0),
        "losses.contrastive.temperature": choice(0.03, 0.1, 0.5),
        "levels.semantics.weight": choice(0.0, 0.02),
        "levels.semantics.weight.ramp": shares_of_run(0.0, 0.1, 0.5),
        "optim.lr": choice(1e-3, 2e-3, 4e-3),
    },
    conditions={
        "losses.contrastive.temperature": where("losses.contrastive.weight"),
        "levels.semantics.weight.ramp": where("levels.semantics.weight"),
    },
    # The preset waits until its network has seen something; what all go on from here has.
    fixed={"losses.contrastive.weight.start": 0},
)
