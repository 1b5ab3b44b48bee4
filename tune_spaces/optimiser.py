"""How fast should what be learned: rates, their rise and fall, decay of weights?"""

from tune_spaces.domains import choice, loguniform, of_run
from tune_spaces.space import Space

OPTIMISER = Space(
    question="How fast should what be learned?",
    preset="streets_full",
    domains={
        "optim.lr": loguniform(2e-5, 1e-2),
        "optim.head_factor": loguniform(1.0, 30.0),
        "optim.weight_decay": loguniform(1e-4, 0.3, or_zero=True),
        "optim.warmup": of_run(0.0, 0.2),
        "optim.decay": choice("none", "linear", "poly", "cosine"),
        "optim.clip_norm": loguniform(0.1, 30.0, or_zero=True),
    },
)
