"""The questions: what a hyper-parameter search may vary, one file per question.

To add one: a `Space` in its own file and a line here.
"""

from tune_spaces.adversarial_schedule import ADVERSARIAL_SCHEDULE
from tune_spaces.contrastive import CONTRASTIVE
from tune_spaces.full import FULL
from tune_spaces.loss_weights import LOSS_WEIGHTS
from tune_spaces.measured import MEASURED
from tune_spaces.optimiser import OPTIMISER
from tune_spaces.self_training import SELF_TRAINING
from tune_spaces.smoke import SMOKE
from tune_spaces.space import Space
from uda.types import UserError

__all__ = ["SPACES", "Space", "find_space"]

SPACES: dict[str, Space] = {
    "contrastive": CONTRASTIVE,
    "loss_weights": LOSS_WEIGHTS,
    "adversarial_schedule": ADVERSARIAL_SCHEDULE,
    "self_training": SELF_TRAINING,
    "optimiser": OPTIMISER,
    "full": FULL,
    "measured": MEASURED,
    "smoke": SMOKE,
}


def find_space(name: str) -> Space:
    """The space called `name`.

    Raises:
        UserError: there is none; lists all.
    """
    if name not in SPACES:
        raise UserError(f"space {name!r}: no such space; have {', '.join(SPACES)}")
    return SPACES[name]
