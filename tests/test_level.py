"""The settings of an adversarial level: what goes together, and who has a turn when."""

import itertools

import pytest

from uda.losses.adversarial import Level
from uda.schedule import Schedule, constant


def test_a_level_sees_features_plainly_and_predictions_as_a_map():
    for reads, sees in itertools.product(
        ("output", "stem", "layer1", "layer4", "aspp", "decoder"),
        ("plain", "statistics", "softmax", "self_information"),
    ):
        if (reads == "output") == (sees in ("softmax", "self_information")):
            assert Level(name="a", reads=reads, sees=sees).reads == reads
        else:
            with pytest.raises(ValueError, match=f"sees: got '{sees}' for reads = '{reads}'"):
                Level(name="a", reads=reads, sees=sees)


@pytest.mark.parametrize("name", ["", "a.b", "a b", "keys", "type", "train", "1"])
def test_a_level_needs_a_name_that_a_path_and_a_module_can_hold(name):
    with pytest.raises(ValueError, match="name: got"):
        Level(name=name)


@pytest.mark.parametrize("name", ["output", "low_level", "aspp", "surprise"])
def test_ordinary_names_of_levels_are_fine(name):
    assert Level(name=name).name == name


@pytest.mark.parametrize(
    ("field", "value"),
    [("width", 0), ("learn_every", 0), ("fool_every", -1), ("lr_factor", 0.0),
     ("lr_factor", float("nan")), ("lr_factor", float("inf"))],
)  # fmt: skip
def test_a_level_needs_positive_numbers(field, value):
    with pytest.raises(ValueError, match=f"{field}: got {value}, want"):
        Level(name="a", **{field: value})


def test_a_level_does_not_help_the_discriminator():
    with pytest.raises(ValueError, match=r"^weight: got -0\.5, want 0 or more"):
        Level(name="a", weight=constant(-0.5))


def test_only_plain_features_and_cross_entropy_go_by_class():
    for reads, sees, objective in itertools.product(
        ("output", "layer4"),
        ("plain", "statistics", "softmax", "self_information"),
        ("bce", "least_squares"),
    ):
        if (reads == "output") == (sees in ("plain", "statistics")):
            continue  # refused by another rule
        settings = {"reads": reads, "sees": sees, "objective": objective}
        if (reads, sees, objective) == ("layer4", "plain", "bce"):
            assert Level(name="a", conditional=True, **settings).conditional
        else:
            with pytest.raises(ValueError, match="conditional: got true for reads"):
                Level(name="a", conditional=True, **settings)


def test_turns_are_the_divisible_steps_at_which_the_weight_is_not_zero():
    weight = Schedule(value=1.0, start=3, stop=9)
    level = Level(name="a", learn_every=2, fool_every=3, weight=weight)
    assert [step for step in range(14) if level.learns_at(step)] == [4, 6, 8]
    assert [step for step in range(14) if level.fools_at(step)] == [3, 6]
    assert level.first_turns == {3, 4}
    every = Level(name="a")
    assert all(every.learns_at(step) and every.fools_at(step) for step in range(5))
    assert every.first_turns == {0}


@pytest.mark.parametrize(
    ("changes", "pauses"),
    [
        ({}, False),
        ({"learn_every": 2}, True),
        ({"fool_every": 2}, True),
        ({"learn_every": 2, "weight": constant(0.0)}, False),
        ({"weight": Schedule(value=1.0, stop=5)}, True),
        ({"weight": Schedule(value=1.0, stop=10)}, False),
    ],
)
def test_pauses(changes, pauses):
    assert Level(name="a", **changes).pauses_before(10) == pauses
