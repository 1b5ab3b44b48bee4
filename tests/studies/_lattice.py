"""The lattice of `make study-tune`: every point of the space `measured`, from a common start."""

import dataclasses
from typing import Any

from tests.studies._experiments import Experiment
from tests.studies.ablation import going_on
from tune_spaces import MEASURED
from tune_spaces.domains import Value
from tune_spaces.space import Changes

STEPS = 200
JUDGED = (25, 50, 100, 200)  # where successive halving compares, and the end
SPACE = dataclasses.replace(MEASURED, steps=STEPS)
AXES = {
    "temperature": "losses.contrastive.temperature",
    "ramp": "levels.semantics.weight.ramp",
    "rate": "optim.lr",
}

Key = tuple[Value | None, ...]  # what stands at the space's paths, in its order; None: not drawn


def key_of(changes: Changes) -> Key:
    """Of a point that was drawn."""
    return tuple(changes.get(path) for path in SPACE.resolved)


POINTS: dict[Key, Changes] = {key_of(changes): changes for changes in SPACE.grid(0)}
KEYS: tuple[Key, ...] = tuple(POINTS)
HAND_SET: Key = key_of(SPACE.start_values())  # the preset as it is


def experiment(key: Key) -> Experiment:
    """The training run of a point of the lattice."""
    changes: dict[str, Any] = {"steps": STEPS, **SPACE.fixed, **POINTS[key]}
    said = {axis: value_at(key, axis) for axis in AXES}
    name = "-".join(f"{a}_{'off' if value is None else f'{value:g}'}" for a, value in said.items())
    return going_on(name, "full", changes)


def value_at(key: Key, axis: str) -> float | None:
    """What a point has there, a ramp as a share of the run; None where that part is off."""
    value = dict(zip(SPACE.resolved, key, strict=True))[AXES[axis]]
    if value is None:
        return None
    assert isinstance(value, int | float)
    return value / STEPS if axis == "ramp" else value


EXPERIMENTS: dict[Key, Experiment] = {key: experiment(key) for key in KEYS}
