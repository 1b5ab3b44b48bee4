"""Discriminators that learn, and are fooled, at some steps only.

That their gradients are the classic ones is in `test_task`.
"""

import copy
import dataclasses
from typing import Any

import pytest
import torch

from tests.test_task import build, count_forwards, with_levels
from tests.tiny import OUTPUT, random_batch, tiny_config
from uda.optim import Optimisers
from uda.schedule import Schedule
from uda.task import preflight
from uda.types import UserError

CHANGES: dict[str, Any] = {
    "levels.output.learn_every": 2, "levels.output.fool_every": 3, "optim.warmup": 0
}  # fmt: skip


def test_what_runs_and_moves():
    config = tiny_config("adversarial", CHANGES)
    task = build(config)
    assert task.has_pauses
    optimisers = Optimisers(task, config)
    calls, judged = count_forwards(task), []
    task.discriminators["output"].register_forward_hook(lambda *_: judged.append(1))
    for step in range(8):
        calls.update(student=0)
        judged.clear()
        before = copy.deepcopy(task.discriminators.state_dict())
        output = task(random_batch(config, step))
        output.loss.backward()
        optimisers.step(step)
        learns, fools = step % 2 == 0, step % 3 == 0
        assert ("output/discriminator" in output.terms) == learns
        assert ("health/output/accuracy" in output.terms) == learns
        assert ("output/fooling" in output.terms) == fools
        assert len(judged) == 2 * learns + fools
        assert calls["student"] == (2 if learns or fools else 1)
        # Not even by Adam's momentum.
        after = task.discriminators.state_dict()
        still = {name for name in before if torch.equal(before[name], after[name])}
        assert still == (set() if learns else before.keys())


@pytest.mark.parametrize("turn", [{"learn_every": 3}, {"fool_every": 3}])
def test_preflight_tries_a_turn_that_comes_after_the_start(turn):
    every = {"learn_every": 5, "fool_every": 5} | turn
    level = dataclasses.replace(OUTPUT, weight=Schedule(value=1.0, start=1, stop=4), **every)
    config = with_levels(tiny_config("source_only", {"data.crop.height": 16}), level)
    with pytest.raises(UserError, match="discriminator"):
        preflight(config)
