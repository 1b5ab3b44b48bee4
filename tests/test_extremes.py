"""Batches at the edge, for every method: the loss stays finite, or training stops in one line."""

import dataclasses

import pytest
import torch

from tests.tiny import every_part, loaded_tensors, random_batch, run_training, tiny_preset
from uda import scene
from uda.checkpoint import checkpoints
from uda.config import Config
from uda.loop import TrainingError
from uda.presets.methods import METHODS
from uda.task import AdaptationTask
from uda.types import Batch, Labelled, Unlabelled

CONFIGS = {method: tiny_preset(method) for method in METHODS} | {"every part": every_part()}
# Every part together is of the fast tier, and the methods one by one of the slow one.
NAMES = ["every part", *(pytest.param(name, marks=pytest.mark.slow) for name in METHODS)]
STEPS = 3  # the memories of the first are read by the second


def all_ignored(batch: Batch) -> Batch:
    return with_labels(batch, torch.full_like(batch.source.labels, 255))


def one_class(batch: Batch) -> Batch:
    return with_labels(batch, torch.full_like(batch.source.labels, 13))


def one_image_ignored(batch: Batch) -> Batch:
    labels = batch.source.labels.clone()
    labels[0] = 255
    return with_labels(batch, labels)


def one_image(batch: Batch) -> Batch:
    source = Labelled(batch.source.images[:1], batch.source.labels[:1])
    return dataclasses.replace(batch, source=source, target=Unlabelled(batch.target.images[:1]))


def black(batch: Batch) -> Batch:
    """No variance anywhere, and every neighbour alike."""
    source = Labelled(torch.zeros_like(batch.source.images), batch.source.labels)
    target = Unlabelled(torch.zeros_like(batch.target.images))
    return dataclasses.replace(batch, source=source, target=target)


def with_labels(batch: Batch, labels: torch.Tensor) -> Batch:
    return dataclasses.replace(batch, source=Labelled(batch.source.images, labels))


EDGES = (all_ignored, one_class, one_image_ignored, one_image, black)


@pytest.mark.parametrize("edge", EDGES, ids=lambda edge: edge.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_everything_stays_finite(name, edge):
    config = CONFIGS[name]
    if edge is one_image:
        config = dataclasses.replace(config, batch_size=1)
    task = AdaptationTask(config)
    task.start_copies()
    task.train()
    for step in range(STEPS):
        output = task(edge(random_batch(config, step)))
        output.loss.backward()
        figures = {"total": output.loss, **output.terms}
        assert [n for n, figure in figures.items() if not torch.isfinite(figure)] == []
    gradients = {n: p.grad for n, p in task.named_parameters() if p.grad is not None}
    assert [n for n, gradient in gradients.items() if not gradient.isfinite().all()] == []
    assert [n for n, tensor in task.state_dict().items() if not tensor.isfinite().all()] == []


@pytest.mark.parametrize("uncertain", [True, False])
def test_a_teacher_that_trusts_nothing_or_everything_is_no_harm(uncertain):
    threshold = {"threshold": 1.0 if uncertain else 0.0}
    config = every_part()
    config = dataclasses.replace(config, teacher=dataclasses.replace(config.teacher, **threshold))
    task = AdaptationTask(config)
    task.start_copies()
    task.train()
    output = task(random_batch(config))
    output.loss.backward()
    assert all(torch.isfinite(figure) for figure in output.terms.values())
    assert output.terms["health/masked/trust"].item() == (0.0 if uncertain else 1.0)


def spoil(patch: pytest.MonkeyPatch, config: Config, step: int) -> None:
    """From `step` on, one pixel of the first image of each domain is not a number."""
    forward, unit = AdaptationTask.forward, scene._unit

    def spoilt_unit(images):
        values = unit(images)
        values[0, 0, 5, 7] = torch.nan
        return values

    def spoilt_forward(task, batch):
        if batch.step >= step:
            patch.setattr(scene, "_unit", spoilt_unit)
        return forward(task, batch)

    patch.setattr(AdaptationTask, "forward", spoilt_forward)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_not_a_number_ends_training_in_one_line_and_the_last_checkpoint_is_intact(name, tmp_path):
    config = dataclasses.replace(CONFIGS[name], steps=15)
    with pytest.MonkeyPatch.context() as patch:
        spoil(patch, config, step=12)
        with pytest.raises(TrainingError) as error:
            run_training(config, tmp_path / "spoilt")
    message = str(error.value)
    assert "loss/supervised" in message
    assert "step 15" in message
    assert "last checkpoint is intact" in message
    assert "\n" not in message
    (saved,) = checkpoints(tmp_path / "spoilt")
    assert saved.name == "step-0000010"
    tensors = loaded_tensors(config, saved)
    assert [n for n, tensor in tensors.items() if not tensor.isfinite().all()] == []
