"""When, how strongly and against which discriminators should each level be aligned?

Each of the three levels may be off; what else there is of a level is then not drawn.
"""

from tune_spaces.domains import Domain, choice, integers, loguniform, of_run
from tune_spaces.space import Space, where

_LEVELS = ("appearance", "features", "semantics")


def _domains(level: str) -> dict[str, Domain]:
    return {
        f"{level}.weight": loguniform(1e-4, 0.2, or_zero=True),
        # It stops after its start, whatever is drawn, and fades towards the stop or not at all.
        f"{level}.weight.start": of_run(0.0, 0.5),
        f"{level}.weight.ramp": of_run(0.0, 0.5),
        f"{level}.weight.stop": of_run(0.6, 1.0),
        f"{level}.weight.decay": choice("none", "linear", "poly", "cosine"),
        f"{level}.lr_factor": loguniform(0.3, 30.0),
        f"{level}.learn_every": integers(1, 4),
        f"{level}.fool_every": integers(1, 4),
        # A discriminator that names the class as well has no squares to minimise.
        **({f"{level}.conditional": choice(True, False)} if level.endswith("features") else {}),
        f"{level}.objective": choice("bce", "least_squares"),
    }


ADVERSARIAL_SCHEDULE = Space(
    question="When, how strongly and against which discriminators should levels be aligned?",
    preset="streets_full",
    domains={
        path: domain for level in _LEVELS for path, domain in _domains(f"levels.{level}").items()
    },
    conditions={
        path: where(f"levels.{level}.weight")
        for level in _LEVELS
        for path in list(_domains(f"levels.{level}"))[1:]
    }
    | {"levels.features.objective": where("levels.features.conditional", False)},
)
