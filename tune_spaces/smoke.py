"""Does the search itself work? Two rates of the cheapest training; for tests and first tries."""

from tune_spaces.domains import loguniform
from tune_spaces.space import Space

SMOKE = Space(
    question="Does the search itself work?",
    preset="demo_source_only",
    domains={
        "optim.lr": loguniform(1e-4, 1e-2),
        "optim.head_factor": loguniform(1.0, 10.0),
    },
    steps=20,
)
