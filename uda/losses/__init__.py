"""The losses. To add one: a frozen dataclass in its own file and a line here.

A loss asks for its inputs by naming the parameters of `__call__`; the names are the attributes of
`uda.scene.Scene`, which computes each of them at most once and only if some active loss asks.
"""

from uda.losses.contrastive import Contrastive
from uda.losses.self_training import SelfTraining
from uda.losses.supervised import Supervised

Loss = Supervised | SelfTraining | Contrastive

LOSSES: dict[str, type[Loss]] = {
    "supervised": Supervised,
    "self_training": SelfTraining,
    "contrastive": Contrastive,
}
