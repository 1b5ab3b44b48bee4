"""`override`, the way to plain values and back, and the assignments of the command line."""

import dataclasses
import json
from typing import get_args

import pytest

from tests.tiny import tiny_config
from uda.config import Config, OptimConfig
from uda.losses import LOSSES, Loss
from uda.losses.adversarial import Level
from uda.losses.contrastive import Contrastive
from uda.losses.supervised import Supervised
from uda.presets import PRESETS
from uda.schedule import Schedule, constant
from uda.tree import from_plain, override, parse_assignments, to_plain
from uda.types import UserError


def through_json(config: Config) -> Config:
    return from_plain(Config, json.loads(json.dumps(to_plain(config))))


# --- to plain values and back --------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_json(name):
    config = PRESETS[name]()
    assert through_json(config) == config
    assert through_json(config).digest() == config.digest()


def test_everything_on_survives_json():
    config = tiny_config("everything")
    assert through_json(config) == config


def test_schedules_with_a_shape_survive_json():
    shape = {"value": 2.0, "start": 3, "stop": 9, "ramp": 2, "decay": "cosine"}
    config = override(tiny_config(), {"losses.contrastive.weight": shape})
    weight = {loss.name: loss.weight for loss in through_json(config).losses}["contrastive"]
    assert weight == Schedule(**shape)


def test_named_parts_are_written_by_name_without_repeating_it():
    plain = to_plain(tiny_config("everything"))
    assert list(plain["losses"]) == ["supervised", "self_training", "contrastive"]
    assert list(plain["levels"]) == ["output"]
    assert "name" not in plain["levels"]["output"]
    assert to_plain(tiny_config("source_only"))["levels"] == []


def test_the_order_of_named_parts_is_kept():
    config = dataclasses.replace(tiny_config(), losses=(Contrastive(), Supervised()))
    assert [loss.name for loss in through_json(config).losses] == ["contrastive", "supervised"]


def test_what_is_left_out_gets_its_default():
    assert from_plain(OptimConfig, {"lr": 1e-3}) == OptimConfig(lr=1e-3)


def test_a_missing_field_without_default_is_named():
    plain = to_plain(tiny_config())
    del plain["steps"], plain["data"]
    with pytest.raises(UserError, match=r"^config: steps, data missing$"):
        from_plain(Config, plain)


@pytest.mark.parametrize("plain", [[], "text", 3, None])
def test_no_dictionary_at_the_top_is_an_error(plain):
    with pytest.raises(UserError, match=r"^config: got .*want Config"):
        from_plain(Config, plain)


def test_an_unknown_key_deep_in_a_file_is_named_with_what_exists():
    plain = to_plain(tiny_config())
    plain["data"]["crop"]["heigth"] = 3
    with pytest.raises(UserError, match=r"^data\.crop\.heigth: no 'heigth' in .*have .*height"):
        from_plain(Config, plain)


# --- override: what works --------------------------------------------------------------------


def test_override_changes_one_thing_and_leaves_the_original_alone():
    config = tiny_config()
    changed = override(config, {"optim.lr": 0.5})
    assert changed.optim.lr == 0.5
    assert config.optim.lr == 1e-3
    assert dataclasses.replace(changed, optim=config.optim) == config


def test_no_changes_give_an_equal_tree():
    assert override(tiny_config(), {}) == tiny_config()


def test_values_take_the_type_of_their_field():
    config = override(
        tiny_config(), {"optim.lr": 1, "data.crop.scale": [1, 2], "model.aspp_dilations": [2, 4, 8]}
    )
    assert type(config.optim.lr) is float
    assert config.data.crop.scale == (1.0, 2.0)
    assert [type(s) for s in config.data.crop.scale] == [float, float]
    assert config.model.aspp_dilations == (2, 4, 8)


def test_a_number_for_a_schedule_keeps_its_shape():
    shaped = override(
        tiny_config(), {"losses.supervised.weight.start": 4, "losses.supervised.weight.ramp": 3}
    )
    changed = override(shaped, {"losses.supervised.weight": 0.25})
    assert changed.losses[0].weight == Schedule(value=0.25, start=4, ramp=3)


def test_a_dictionary_for_a_schedule_replaces_it():
    shaped = override(tiny_config(), {"losses.supervised.weight.start": 4})
    changed = override(shaped, {"losses.supervised.weight": {"value": 2, "ramp": 5}})
    assert changed.losses[0].weight == Schedule(value=2.0, ramp=5)


def test_a_ready_made_part_may_be_given():
    changed = override(tiny_config(), {"optim": OptimConfig(lr=7.0)})
    assert changed.optim == OptimConfig(lr=7.0)


def test_order_does_not_matter_where_only_both_together_are_valid():
    """contrastive has negative = 0.15 < positive = 0.6; neither change is valid after the other."""
    up = {"losses.contrastive.negative": 0.8, "losses.contrastive.positive": 0.9}
    down = {"losses.contrastive.positive": 0.1, "losses.contrastive.negative": 0.05}
    for pair in (up, down):
        one = override(tiny_config(), pair)
        other = override(tiny_config(), dict(reversed(pair.items())))
        assert one == other


def test_a_level_moves_from_the_output_to_features():
    changes = {"levels.output.reads": "aspp", "levels.output.sees": "plain"}
    (level,) = override(tiny_config(), changes).levels
    assert (level.name, level.reads, level.sees) == ("output", "aspp", "plain")


def test_a_whole_part_is_set_before_what_is_inside_it():
    changes = {"optim.warmup": 9, "optim": {"lr": 0.1}}
    assert override(tiny_config(), changes).optim == OptimConfig(lr=0.1, warmup=9)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_loss_is_added_by_naming_it(name):
    config = dataclasses.replace(tiny_config("source_only"), losses=(Supervised(),))
    changed = override(config, {f"losses.{name}.weight": 0.125})
    by_name = {loss.name: loss for loss in changed.losses}
    assert by_name[name] == LOSSES[name](weight=constant(0.125))
    assert by_name.keys() == {"supervised", name}


def test_naming_a_loss_that_is_there_does_not_add_it_again():
    config = tiny_config("everything")
    changed = override(config, {"losses.contrastive.power": 0.25})
    assert [loss.name for loss in changed.losses] == ["supervised", "self_training", "contrastive"]
    assert changed.losses[2] == dataclasses.replace(config.losses[2], power=0.25)


def test_one_loss_may_be_set_whole():
    changed = override(tiny_config(), {"losses.contrastive": {"temperature": 0.5}})
    assert changed.losses[2] == Contrastive(temperature=0.5)


def test_all_losses_may_be_set_at_once():
    changed = override(
        tiny_config(), {"losses": {"supervised": {}, "contrastive": {"temperature": 0.5}}}
    )
    assert changed.losses == (Supervised(), Contrastive(temperature=0.5))


def test_a_level_is_addressed_by_name():
    changed = override(tiny_config(), {"levels.output.weight": 0.5, "levels.output.width": 6})
    assert changed.levels == (Level(name="output", weight=constant(0.5), width=6),)


def test_levels_are_made_by_naming_them_in_a_dictionary():
    low = {"reads": "layer1", "sees": "plain", "objective": "least_squares"}
    changed = override(tiny_config(), {"levels": {"low": low, "high": {}}})
    assert changed.levels == (
        Level(name="low", reads="layer1", sees="plain", objective="least_squares"),
        Level(name="high"),
    )
    assert override(changed, {"levels": {}}).levels == ()


def test_the_table_of_losses_is_the_union_of_losses():
    assert set(LOSSES.values()) == set(get_args(Loss))
    assert all(kind.name == name for name, kind in LOSSES.items())


# --- assignments of the command line ---------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("3", 3),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ('{"a": 1}', {"a": 1}),
        ('"3"', "3"),
        ("cosine", "cosine"),
        ("folder/resnet.pth", "folder/resnet.pth"),
        ("a=b", "a=b"),
        ("[1, 2", "[1, 2"),
        ("", ""),
    ],
)
def test_values_are_json_where_they_parse_and_text_otherwise(text, value):
    assert parse_assignments([f"some.path={text}"]) == {"some.path": value}


def test_the_last_assignment_of_a_path_wins():
    assert parse_assignments(["a=1", "b=2", "a=3"]) == {"a": 3, "b": 2}
    assert parse_assignments([]) == {}


@pytest.mark.parametrize("text", ["optim.lr", "", "=3", "="])
def test_an_assignment_without_path_or_value_is_refused(text):
    with pytest.raises(UserError, match=r"^--set: got .*want PATH=VALUE") as caught:
        parse_assignments(["a=1", text])
    assert repr(text) in str(caught.value)


def test_a_number_of_thousands_of_digits_is_an_ordinary_mistake():
    changes = parse_assignments([f"steps={'9' * 5000}"])
    with pytest.raises(UserError, match=r"^steps: got "):
        override(tiny_config(), changes)


def test_assignments_end_up_in_the_tree():
    changes = parse_assignments(["optim.decay=cosine", "data.crop.scale=[0.5, 2]", "seed=9"])
    config = override(tiny_config(), changes)
    assert (config.optim.decay, config.data.crop.scale, config.seed) == ("cosine", (0.5, 2.0), 9)
