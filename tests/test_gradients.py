"""Each term teaches what it should and nothing else."""

import dataclasses

import pytest
import torch

from tests.tiny import every_part, random_batch
from uda.config import Config
from uda.losses import LOSSES
from uda.task import AdaptationTask
from uda.tree import override
from uda.types import Batch, Labelled

FULL = every_part()
LEVELS = [level.name for level in FULL.levels]
# The parts of the student that a term reads, from the input on. All others read its logits.
WHOLE = {"encoder", "aspp", "decoder", "classifier"}
REACH = {
    "contrastive": {"encoder", "aspp"},
    "prototype_contrast": {"encoder", "aspp"},
    "pixel_contrast": {"encoder", "aspp"},
    "feature_distance": {"encoder"},
    "appearance": {"encoder"},
    "features": {"encoder", "aspp"},
}
PROJECTS = {"contrastive", "prototype_contrast", "pixel_contrast"}


def alone(name: str) -> Config:
    """Everything is built and on at the first step, the one part at the second as well."""
    both, first = {"value": 1.0}, {"value": 1.0, "stop": 1}
    losses = {f"losses.{x}.weight": both if x == name else first for x in LOSSES}
    levels = {f"levels.{x}.weight": both if x == name else first for x in LEVELS}
    return override(FULL, {**losses, **levels, "losses.prior.dead_zone": 0.0})


def coarse_batch(step: int) -> Batch:
    """Labels in blocks of 16x16, so that positions of the feature map are of one class."""
    batch = random_batch(FULL, step)
    labels = batch.source.labels[:, ::16, ::16].repeat_interleave(16, 1).repeat_interleave(16, 2)
    return dataclasses.replace(batch, source=Labelled(batch.source.images, labels))


def parts_with_gradient(module: torch.nn.Module) -> set[str]:
    """Names of the children of a module of which some parameter has a gradient that is not zero."""
    return {
        name.partition(".")[0]
        for name, parameter in module.named_parameters()
        if parameter.grad is not None and parameter.grad.any()
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", [*LOSSES, *LEVELS])
def test_a_term_reaches_its_part_of_the_student_and_nothing_else(name):
    config = alone(name)
    task = AdaptationTask(config)
    task.start_copies()
    task.train()
    task(coarse_batch(step=0))  # fills the memories
    with torch.no_grad():  # else the student still equals the frozen copy, at distance zero
        for parameter in task.student.parameters():
            parameter.mul_(1.1)
    assert parts_with_gradient(task) == set()
    task(coarse_batch(step=1)).loss.backward()
    assert parts_with_gradient(task.student) == REACH.get(name, WHOLE)
    assert task.projection is not None
    assert bool(parts_with_gradient(task.projection)) == (name in PROJECTS)
    assert parts_with_gradient(task.discriminators) == ({name} if name in LEVELS else set())
    for frozen in (task.teacher, task.pretrained):
        assert frozen is not None
        assert all(p.grad is None and not p.requires_grad for p in frozen.parameters())
    assert not any(b.requires_grad for b in task.memories.buffers())
