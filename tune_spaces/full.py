"""All of it at once: which terms, when, and what each of them looks like where it is on.

With as many paths as here a few hundred trials only begin to answer; ask something smaller first.
"""

from tune_spaces.adversarial_schedule import ADVERSARIAL_SCHEDULE
from tune_spaces.contrastive import CONTRASTIVE
from tune_spaces.loss_weights import LOSS_WEIGHTS
from tune_spaces.optimiser import OPTIMISER
from tune_spaces.self_training import SELF_TRAINING
from tune_spaces.space import Space, where

# The weights come first, and each may be 0, so that everything else can depend on them.
_WEIGHTS = LOSS_WEIGHTS.domains
_PARTS = (SELF_TRAINING, CONTRASTIVE, ADVERSARIAL_SCHEDULE, OPTIMISER)
_OTHERS = {
    path: domain for part in _PARTS for path, domain in part.domains.items() if path not in _WEIGHTS
}


def _weight(path: str) -> str:
    """Of the loss or level that `path` would be a part of."""
    return ".".join([*path.split(".")[:2], "weight"])


FULL = Space(
    question="Which terms, when, and what should each of them look like?",
    preset="streets_full",
    domains={**_WEIGHTS, **_OTHERS},
    conditions={
        **{path: where(_weight(path)) for path in _OTHERS if _weight(path) in _WEIGHTS},
        **{path: own for part in _PARTS for path, own in part.conditions.items()},
    },
)
