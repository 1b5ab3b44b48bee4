"""The losses. To add one: a frozen dataclass in its own file and a line here.

A loss asks for its inputs by naming the parameters of `__call__`; the names are the attributes of
`uda.scene.Scene`, which computes each of them at most once and only if some active loss asks. What
else a loss may have, a memory or work that its parts share, is in `uda.losses.memory`.
"""

from uda.losses.affinity import Affinity
from uda.losses.boundary import Boundary
from uda.losses.contrastive import Contrastive
from uda.losses.entropy import Entropy
from uda.losses.feature_distance import FeatureDistance
from uda.losses.masked import Masked
from uda.losses.max_square import MaxSquare
from uda.losses.pixel_contrast import PixelContrast
from uda.losses.prior import Prior
from uda.losses.prototype_contrast import PrototypeContrast
from uda.losses.self_training import SelfTraining
from uda.losses.supervised import Supervised

Loss = (
    Supervised
    | SelfTraining
    | Contrastive
    | Masked
    | FeatureDistance
    | Prior
    | Entropy
    | MaxSquare
    | Boundary
    | Affinity
    | PrototypeContrast
    | PixelContrast
)

LOSSES: dict[str, type[Loss]] = {
    "supervised": Supervised,
    "self_training": SelfTraining,
    "contrastive": Contrastive,
    "masked": Masked,
    "feature_distance": FeatureDistance,
    "prior": Prior,
    "entropy": Entropy,
    "max_square": MaxSquare,
    "boundary": Boundary,
    "affinity": Affinity,
    "prototype_contrast": PrototypeContrast,
    "pixel_contrast": PixelContrast,
}
