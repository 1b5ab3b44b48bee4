"""The copy of the backbone as pretraining left it: it stays as it was, wherever it goes."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.tiny import backbone_weights, random_batch, tiny_config
from uda.checkpoint import TrainState
from uda.config import Config
from uda.losses.feature_distance import FeatureDistance
from uda.losses.supervised import Supervised
from uda.models import ModelConfig, load_pretrained
from uda.schedule import constant
from uda.task import AdaptationTask, preflight
from uda.types import UserError

CPU = torch.device("cpu")


def batch_norm_config() -> Config:
    """A backbone whose result differs between training and evaluation."""
    config = tiny_config("source_only", {"batch_size": 2})
    model = ModelConfig(backbone="resnet18", pretrained="any", aspp_channels=8,
                        aspp_dilations=(1,), low_level_channels=8, decoder_channels=8)  # fmt: skip
    losses = (Supervised(), FeatureDistance(weight=constant(0.3), purity=0.51))
    return dataclasses.replace(config, model=model, losses=losses)


def state_of(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def train(state: TrainState, num_steps: int) -> None:
    state.task.train()
    for step in range(num_steps):
        state.task(random_batch(state.config, step)).loss.backward()
        state.optimisers.step(step)
        state.task.after_step(step)


def test_it_is_a_copy_of_the_weights_from_the_file():
    config = tiny_config("all_terms")
    task = AdaptationTask(config)
    load_pretrained(task.student, config.model)
    task.start_copies()
    assert_equal(state_of(task.pretrained), load_file(backbone_weights()))
    mine, theirs = ({p.data_ptr() for p in m.parameters()} for m in (task.pretrained, task.student))
    assert not mine & theirs


def test_training_neither_changes_it_nor_reaches_it():
    state = TrainState(batch_norm_config(), CPU)
    state.task.start_copies()
    before = state_of(state.task.pretrained)
    student = state_of(state.task.student.encoder)
    train(state, 1)
    assert_equal(state_of(state.task.pretrained), before)
    changed = state_of(state.task.student.encoder)
    assert any(not torch.equal(changed[name], student[name]) for name in student)
    for parameter in state.task.pretrained.parameters():
        assert not parameter.requires_grad
        assert parameter.grad is None


def test_it_normalises_by_its_own_statistics_also_in_training():
    task = AdaptationTask(batch_norm_config())
    task.start_copies()
    task.train()
    assert task.training
    assert task.student.encoder.training
    assert not any(module.training for module in task.pretrained.modules())
    images = torch.randn(2, 3, 32, 48)
    expected = task.student.encoder.eval()(images)["layer4"]
    torch.testing.assert_close(task.pretrained(images)["layer4"], expected)
    assert task.eval().train(False) is task


def test_it_is_in_the_checkpoint_and_comes_back(tmp_path):
    config = tiny_config("all_terms")
    state = TrainState(config, CPU)
    state.task.start_copies()
    train(state, 2)
    state.step = 2
    names = {f"pretrained.{name}" for name in state.task.pretrained.state_dict()}
    assert names <= state.task.state_dict().keys()
    state.save(tmp_path / "step-0000002", {})
    restored = TrainState(config, CPU)
    restored.load(tmp_path / "step-0000002")
    assert_equal(state_of(restored.task.pretrained), state_of(state.task.pretrained))
    kept, trained = (state_of(m) for m in (restored.task.pretrained, restored.task.student.encoder))
    assert any(not torch.equal(kept[name], trained[name]) for name in kept), "not made anew"


def test_only_a_loss_that_asks_for_it_has_it_built():
    assert AdaptationTask(tiny_config("everything")).pretrained is None
    off = tiny_config("all_terms", {"losses.feature_distance.weight": 0})
    assert AdaptationTask(off).pretrained is None


def test_without_pretrained_weights_a_run_is_refused_before_it_starts():
    config = tiny_config("all_terms", {"model.pretrained": ""})
    with pytest.raises(
        UserError, match=r"losses\.feature_distance: got model\.pretrained = ''"
    ) as e:
        preflight(config)
    assert "\n" not in str(e.value)
    assert "package" in str(e.value)
    preflight(
        tiny_config("all_terms", {"model.pretrained": "", "losses.feature_distance.weight": 0})
    )
