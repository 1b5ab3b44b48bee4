"""Every preset builds, runs on the meta device and is what its name says."""

import dataclasses

import pytest

from uda.losses import LOSSES
from uda.models import BACKBONES
from uda.presets import METHODS, PRESETS, SETTINGS, preset
from uda.task import preflight
from uda.types import UserError


@pytest.mark.parametrize("name", PRESETS)
def test_name_is_its_key_and_every_call_gives_an_equal_tree(name):
    assert preset(name).name == name
    assert preset(name) == preset(name)


# The name of a setting alone is one of its methods again; once is enough.
DISTINCT = {dataclasses.replace(preset(name), name="any"): name for name in PRESETS}


# The small settings share a network, so one of them stands for all in the fast tier.
QUICK = ("demo", "gta5_to_cityscapes")
STEPS = [
    pytest.param(name, marks=() if name.startswith(QUICK) else pytest.mark.slow)
    for name in DISTINCT.values()
]


@pytest.mark.parametrize("name", STEPS)
def test_a_training_step_fits_together(name):
    preflight(preset(name))


@pytest.mark.parametrize("name", PRESETS)
def test_its_schedules_begin_before_the_run_ends(name):
    config = preset(name)
    for part in (*config.losses, *config.levels):
        assert part.weight.is_off or part.weight.start < config.steps, part.name
    assert config.optim.warmup < config.steps
    assert config.model.backbone in BACKBONES


def test_every_setting_has_every_method():
    names = {s if m is None else f"{s}_{m}" for s in SETTINGS for m in (None, *METHODS)}
    assert names == set(PRESETS)
    assert len(names) == len(SETTINGS) * (1 + len(METHODS)), "no two have the same name"


def test_every_preset_is_an_experiment_of_its_own():
    assert len({preset(name).digest() for name in PRESETS}) == len(PRESETS)


@pytest.mark.parametrize("setting", SETTINGS)
def test_methods_of_a_setting_differ_in_what_adapts_only(setting):
    """Otherwise a comparison of methods would compare something else too."""
    configs = [preset(f"{setting}_{method}") for method in METHODS]
    shared = {
        dataclasses.replace(
            config,
            name="any",
            losses=configs[0].losses,
            levels=(),
            augment=dataclasses.replace(
                config.augment,
                fourier=configs[0].augment.fourier,
                colours=configs[0].augment.colours,
                source=configs[0].augment.source,
                mixed=configs[0].augment.mixed,
            ),
            teacher=dataclasses.replace(config.teacher, batch_norm="batch"),
            evaluated="student",
        )
        for config in configs
    }
    assert len(shared) == 1


@pytest.mark.parametrize("setting", SETTINGS)
def test_full_holds_every_loss_so_that_each_can_be_switched_on(setting):
    assert {loss.name for loss in preset(f"{setting}_full").losses} == set(LOSSES)


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_three_levels_are_appearance_features_and_semantics(setting):
    levels = {level.name: level for level in preset(f"{setting}_adversarial").levels}
    assert levels["appearance"].sees == "statistics"
    assert levels["features"].conditional
    assert levels["semantics"].reads == "output"


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_baseline_uses_the_source_alone(setting):
    config = preset(f"{setting}_source_only")
    assert [loss.name for loss in config.losses if not loss.weight.is_off] == ["supervised"]
    assert config.levels == ()


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_method_adds_what_its_name_says(setting):
    for method in set(METHODS) & set(LOSSES):
        assert method in {loss.name for loss in preset(f"{setting}_{method}").losses}


@pytest.mark.parametrize("name", ["", "demoo", "Demo", "demo_magic"])
def test_an_unknown_preset_lists_all(name):
    with pytest.raises(UserError, match="no such preset") as caught:
        preset(name)
    text = str(caught.value)
    assert repr(name) in text
    assert text.split("have ")[1].split(", ") == list(PRESETS)
    assert "\n" not in text


def test_schedules_follow_another_length() -> None:
    config = preset("demo_full", steps=40)
    assert config.steps == 40
    (contrastive,) = (loss for loss in config.losses if loss.name == "contrastive")
    assert contrastive.weight.start == 10
    assert config.levels[0].weight.stop == 40
