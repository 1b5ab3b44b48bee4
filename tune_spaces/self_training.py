"""How should the teacher be trusted, and what should the student see of what it says?"""

from tune_spaces.domains import choice, loguniform, of_run, uniform
from tune_spaces.space import Space, where

SELF_TRAINING = Space(
    question="How should the teacher be trusted, and what should the student see?",
    preset="streets_full",
    domains={
        "losses.self_training.weight": loguniform(0.1, 3.0),
        "losses.self_training.weight.start": of_run(0.0, 0.5),
        "losses.self_training.weight.ramp": of_run(0.0, 0.5),
        # Three times as long a memory each.
        "teacher.decay": choice(0.9, 0.97, 0.99, 0.997, 0.999, 0.9997),
        "teacher.threshold": uniform(0.5, 0.99),
        "teacher.weighting": choice("image", "pixel", "class"),
        "teacher.batch_norm": choice("batch", "running", "target"),
        "augment.colours.probability": uniform(0.0, 1.0),
        "augment.mixed.noise_probability": uniform(0.0, 1.0),
        "losses.masked.weight": loguniform(0.1, 3.0, or_zero=True),
        "augment.mask.ratio": uniform(0.3, 0.8),
        "augment.mask.block_px": choice(8, 16, 32, 64),
    },
    conditions={
        "augment.mask.ratio": where("losses.masked.weight"),
        "augment.mask.block_px": where("losses.masked.weight"),
    },
)
