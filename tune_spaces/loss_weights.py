"""Which terms of `full` are worth having, and how strong should each be?

The supervised loss stays at 1, the unit of the others: to Adam only their ratio matters.
A preset without pretrained weights cannot have the feature distance: set `model.pretrained`, or
that weight to 0.
"""

from tune_spaces.domains import loguniform
from tune_spaces.space import Space

# From a tenth or less of what papers and presets take to ten times as much; 0 is part of each.
LOSS_WEIGHTS = Space(
    question="Which terms are worth having, and how strong?",
    preset="streets_full",
    domains={
        "losses.self_training.weight": loguniform(0.1, 3.0, or_zero=True),
        "losses.masked.weight": loguniform(0.1, 3.0, or_zero=True),
        "losses.contrastive.weight": loguniform(0.03, 3.0, or_zero=True),
        "losses.prototype_contrast.weight": loguniform(0.01, 1.0, or_zero=True),
        "losses.pixel_contrast.weight": loguniform(0.01, 1.0, or_zero=True),
        "losses.feature_distance.weight": loguniform(5e-4, 0.05, or_zero=True),
        "losses.prior.weight": loguniform(0.01, 1.0, or_zero=True),
        "losses.entropy.weight": loguniform(1e-4, 0.1, or_zero=True),
        "losses.max_square.weight": loguniform(1e-3, 0.1, or_zero=True),
        "losses.boundary.weight": loguniform(0.05, 5.0, or_zero=True),
        "losses.affinity.weight": loguniform(0.01, 1.0, or_zero=True),
        "levels.appearance.weight": loguniform(1e-4, 0.2, or_zero=True),
        "levels.features.weight": loguniform(1e-4, 0.2, or_zero=True),
        "levels.semantics.weight": loguniform(1e-4, 0.2, or_zero=True),
    },
)
