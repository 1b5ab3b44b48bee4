"""Mistakes in changes to a tree: each is one line that names the path and what is wanted."""

from typing import Any

import pytest

from tests.tiny import tiny_config
from uda.config import Config
from uda.losses import LOSSES
from uda.tree import override
from uda.types import UserError


def message(config: Config, changes: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        override(config, changes)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


@pytest.mark.parametrize(
    ("path", "have"),
    [
        ("optm.lr", ["optim", "losses", "seed"]),
        ("optim.lrr", ["lr", "clip_norm"]),
        ("optim.", ["lr", "clip_norm"]),
        ("", ["optim"]),
        ("data.crop.heigth", ["height", "width"]),
        ("losses.contrastve.weight", ["contrastive", "supervised"]),
        ("losses.contrastive.temprature", ["temperature", "power"]),
        ("losses.contrastive.name", ["temperature"]),
        ("losses.contrastive.weight.stopp", ["stop", "ramp"]),
        ("levels.ouput.weight", ["output"]),
        ("levels.output.weigth", ["weight", "reads"]),
    ],
)
def test_an_unknown_path_is_named_with_what_exists(path, have):
    text = message(tiny_config("everything"), {path: 1})
    listed = text.split("have ")[1].split(", ")
    assert set(have) <= set(listed)
    unknown = text.split(":")[0]
    assert path.startswith(unknown), text


def test_a_level_where_there_are_none():
    text = message(tiny_config("source_only"), {"levels.output.weight": 1})
    assert text == "levels.output: no 'output' in levels; have none"


def test_an_unknown_loss_in_a_dictionary_lists_all_losses():
    text = message(tiny_config(), {"losses": {"supervised": {}, "magic": {}}})
    assert text.startswith("losses.magic: no 'magic' in losses; have ")
    assert all(name in text for name in LOSSES)


@pytest.mark.parametrize(
    ("path", "value", "want"),
    [
        ("optim.lr", "fast", "want float"),
        ("optim.lr", True, "want float"),
        ("optim.lr", None, "want float"),
        ("optim.lr", float("nan"), "want a finite number"),
        ("optim.lr", float("inf"), "want a finite number"),
        ("optim.weight_decay", float("nan"), "want a finite number"),
        ("optim.lr", 10**340, "want a finite number"),
        ("steps", 1.5, "want int"),
        ("steps", True, "want int"),
        ("runtime.compile", 1, "want bool"),
        ("runtime.compile", "yes", "want bool"),
        ("model.backbone", 5, "want str"),
        ("optim", 5, "want OptimConfig"),
        ("optim.decay", "sqrt", "none, linear, poly, cosine"),
        ("evaluated", "both", "student, teacher"),
        ("data.crop.scale", 1, "want a list of 2 values"),
        ("data.crop.scale", [1], "want a list of 2 values"),
        ("model.aspp_dilations", 6, "want a list of values"),
        ("losses", 5, "want its parts by name"),
        ("losses", None, "want its parts by name"),
        ("levels", "output", "want its parts by name"),
        ("losses.supervised", 0.5, "want its settings; have weight"),
        ("losses.supervised.weight", "high", "want Schedule"),
        ("losses.supervised.weight", True, "want Schedule"),
        ("steps.more", 1, "has nothing inside"),
        ("data.crop.scale.0", 1, "has nothing inside"),
    ],
)
def test_a_wrong_type_is_named(path, value, want):
    text = message(tiny_config("everything"), {path: value})
    assert text.startswith(f"{path}:")
    assert want in text


@pytest.mark.parametrize(
    ("path", "value"), [("model.aspp_dilations", [6, "x"]), ("data.crop.scale", [1, None])]
)
def test_a_wrong_type_within_a_list_says_where(path, value):
    assert message(tiny_config(), {path: value}).startswith(f"{path}.1: got ")


@pytest.mark.parametrize(
    ("path", "value", "start"),
    [
        ("steps", 0, "steps, batch_size, seed: got 0"),
        ("optim.lr", 0, "optim.lr: got 0"),
        ("optim.warmup", -1, "optim.warmup: got -1"),
        ("teacher.decay", 1.0, "teacher.decay, threshold: got 1.0"),
        ("model.backbone", "vgg", "model.backbone: got 'vgg'"),
        ("runtime.log_every", 0, "runtime.log_every: got 0"),
        ("projection.width", 0, "projection.width: got 0"),
        ("projection.reads", "output", "projection.reads: got 'output'"),
        ("augment.source.hue", 1, "augment.source.hue: got 1.0"),
        ("losses.contrastive.temperature", 0, "losses.contrastive.temperature: got 0"),
        ("losses.contrastive.weight.stop", -1, "losses.contrastive.weight.start, stop"),
        ("losses.contrastive.weight.decay", "linear", "losses.contrastive.weight.decay: got"),
        ("levels.output.sees", "plain", "levels.output.sees: got 'plain'"),
        ("levels.output.width", 0, "levels.output.width: got 0"),
        ("losses", {}, "losses: every loss is off"),
        ("losses", {"supervised": {"weight": 0}}, "losses: every loss is off"),
    ],
)
def test_a_value_out_of_range_is_named(path, value, start):
    assert message(tiny_config("everything"), {path: value}).startswith(start)


def test_two_levels_may_not_come_to_share_a_name():
    config = override(tiny_config(), {"levels": {"one": {}, "two": {}}})
    text = message(config, {"levels.one.name": "two"})
    assert text == "levels: got two, two, want each name once"
