"""Search spaces: every draw builds a config, and a mistake in a space is named by its path."""

import dataclasses
import itertools
import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.tiny import backbone_weights, random_batch, tiny_config
from tune_spaces import SPACES, find_space
from tune_spaces.domains import Choice, Numbers, choice, integers, loguniform, of_run, uniform
from tune_spaces.sampler import Sampler
from tune_spaces.space import Changes, Space, where
from uda.config import Config
from uda.losses import LOSSES
from uda.presets import METHODS, PRESETS, SETTINGS, preset
from uda.task import AdaptationTask, preflight
from uda.tree import to_plain
from uda.types import Batch, Labelled, Unlabelled, UserError

# What a space may be asked of.
ELSEWHERE = [("gta5_to_cityscapes_full", None), ("demo_full", 7), ("demo_full", 1)]
# At half of so many steps every part that is on is active, whatever start, stop or turn is drawn.
STEPS = 48
# Some seventy paths: what takes a moment elsewhere takes seconds with it.
NAMES = [pytest.param(name, marks=pytest.mark.slow if name == "full" else ()) for name in SPACES]


def draws(space: Space, count: int = 20) -> list[Changes]:
    sampler = Sampler(space, "random", 7, with_preset=False)
    return [changes for _, changes in filter(None, (sampler.ask() for _ in range(count)))]


def on_demo(domains: dict[str, Any], **more: Any) -> Space:
    return Space(question="?", preset="demo_full", domains=domains, **more)


def last_ends(space: Space) -> Changes:
    """The point at which everything is on and as large as it gets."""
    return space.draw(lambda _, domain: domain.ends[-1])


def at(config: Config, path: str) -> Any:
    value = to_plain(config)
    for name in path.split("."):
        value = value[name]
    value = value["value"] if isinstance(value, dict) else value
    return tuple(value) if isinstance(value, list) else value


def small(space: Space, monkeypatch: pytest.MonkeyPatch) -> Space:
    """The space on a network of no size, with feature maps as large as those of the streets."""

    def build(steps: int | None = None) -> Config:
        size = {"data.crop.height": 128, "data.crop.width": 128, "batch_size": 2}
        config = tiny_config("source_only", size | {"model.pretrained": str(backbone_weights())})
        config = dataclasses.replace(config, steps=steps or config.steps)
        return METHODS["full"](config, True)

    monkeypatch.setitem(PRESETS, "tiny_full", build)
    return dataclasses.replace(space, preset="tiny_full", steps=STEPS)


def take_step(config: Config) -> None:
    """One training step, with every part that is on, on the meta device."""
    batch = random_batch(config, step=config.steps // 2)
    images = batch.source.images.to("meta")
    with torch.device("meta"):
        source = Labelled(images, batch.source.labels.to("meta"))
        output = AdaptationTask(config)(
            Batch(source=source, target=Unlabelled(images), step=batch.step, first_sample=0)
        )
    active = {loss.name for loss in config.losses if not loss.weight.is_off}
    active |= {f"{level.name}/fooling" for level in config.levels if not level.weight.is_off}
    assert active <= output.terms.keys()


# --- the spaces ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_both_ends_of_every_domain_build(name: str) -> None:
    SPACES[name].check()


@pytest.mark.parametrize("name", NAMES)
def test_every_draw_stands_in_the_config(name: str) -> None:
    space = SPACES[name]
    for changes in draws(space):
        config = space.config(changes)
        assert {path: at(config, path) for path in changes} == changes
        assert space.holds(changes)


@pytest.mark.parametrize("name", NAMES)
def test_every_draw_builds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    space = small(SPACES[name], monkeypatch)
    for changes in draws(space):
        with torch.device("meta"):
            AdaptationTask(space.config(changes))


@pytest.mark.slow
def test_draws_train(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the space that holds all others."""
    space = small(SPACES["full"], monkeypatch)
    for changes in draws(space, 5):
        take_step(space.config(changes))


@pytest.mark.parametrize("name", ["full", "contrastive"])
def test_the_point_with_everything_on_trains(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    space = small(SPACES[name], monkeypatch)
    take_step(space.config(last_ends(space)))


@pytest.mark.slow
def test_everything_on_trains_on_the_network_that_it_is_for() -> None:
    preflight(SPACES["full"].config(last_ends(SPACES["full"])))


@pytest.mark.parametrize("name", SPACES)
def test_no_draw_has_a_path_without_what_it_depends_on(name: str) -> None:
    space = SPACES[name]
    seen: set[str] = set()
    for changes in draws(space, 60):
        seen |= changes.keys()
        for path, condition in space.conditions.items():
            assert (path in changes) == condition.met_by(changes.get(condition.path))
    assert seen == set(space.domains)


@pytest.mark.parametrize(("elsewhere", "steps"), ELSEWHERE)
@pytest.mark.parametrize("name", SPACES)
def test_a_space_may_be_asked_of_another_preset_and_length(
    name: str, elsewhere: str, steps: int | None
) -> None:
    space = dataclasses.replace(SPACES[name], preset=elsewhere, steps=steps)
    assert space.run_steps == preset(elsewhere, steps).steps
    for changes in draws(space, 3):
        config = space.config(changes)
        assert config.steps == space.run_steps
        for part in (*config.losses, *config.levels):
            assert part.weight.is_off or part.weight.start < config.steps
            assert part.weight.stop <= config.steps


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_full_space_is_one_of_every_setting(setting: str) -> None:
    space = dataclasses.replace(SPACES["full"], preset=f"{setting}_full")
    space.check()
    assert space.holds(space.start_values())


def test_a_preset_lies_in_the_spaces_wherever_it_is_on() -> None:
    """But for the one that is a lattice, which only its own does."""
    assert SPACES["measured"].holds(SPACES["measured"].start_values())
    for space in (space for name, space in SPACES.items() if name != "measured"):
        for setting, method in itertools.product(SETTINGS, ("full", "adversarial")):
            here = dataclasses.replace(space, preset=f"{setting}_{method}")
            for path, value in here.start_values().items():
                off = path.endswith(".weight") and value == 0
                assert off or here.resolved[path].holds(value), f"{here.preset}: {path} = {value}"


def test_the_weights_are_those_of_every_term() -> None:
    """But of the unit of all others."""
    config = preset("streets_full")
    terms = {f"losses.{name}.weight" for name in LOSSES if name != "supervised"}
    terms |= {f"levels.{level.name}.weight" for level in config.levels}
    assert set(SPACES["loss_weights"].domains) == terms


def test_the_full_space_holds_all_others() -> None:
    others = [s for name, s in SPACES.items() if name not in ("full", "smoke")]
    assert set(SPACES["full"].domains) == {path for space in others for path in space.domains}


def test_an_unknown_space_lists_all() -> None:
    assert find_space("smoke") is SPACES["smoke"]
    with pytest.raises(UserError, match="no such space") as caught:
        find_space("smokes")
    assert str(caught.value).split("have ")[1].split(", ") == list(SPACES)


# --- mistakes in a space -----------------------------------------------------------------------

MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "unknown path": ({"optim.lrr": uniform(0, 1)}, r"^optim\.lrr: no 'lrr' in optim; have .*lr"),
    "unknown loss": ({"losses.magic.weight": uniform(0, 1)}, r"^losses\.magic: no .*entropy"),
    "upside down": ({"optim.lr": uniform(2, 1)}, r"^optim\.lr: got 2 to 1, want low <= high"),
    "not finite": ({"optim.lr": uniform(1, math.inf)}, r"^optim\.lr: got 1 to inf"),
    "not a number": ({"optim.lr": uniform(math.nan, 1)}, r"^optim\.lr: got nan to 1"),
    "no choice": ({"optim.decay": choice()}, r"^optim\.decay: got \[\], want one value"),
    "twice": ({"optim.decay": choice("none", "none")}, r"^optim\.decay: got .*each once"),
    "log of 0": ({"optim.lr": loguniform(0, 1)}, r"^optim\.lr: got 0 to 1 .*want low > 0"),
    "no run": ({"optim.warmup": of_run(0.5, 1.5)}, r"^optim\.warmup: got 0.5 to 1.5 of the run"),
    "no step": ({"optim.warmup": of_run(0.7501, 0.7502)}, r"^optim\.warmup: .* of 600 steps$"),
    "low end": ({"optim.lr": uniform(0, 1)}, r"^optim\.lr: got 0.0, want more than 0"),
    "high end": ({"teacher.threshold": uniform(0.5, 2)}, r"^teacher\..*threshold: got .*2\.0"),
    "or zero": ({"optim.lr": loguniform(0.1, 1, or_zero=True)}, r"^optim\.lr: got 0\.0"),
    "a choice": ({"teacher.weighting": choice("image", "x")}, r"^teacher\.weighting: got 'x'"),
    "a float": ({"optim.warmup": uniform(1, 2)}, r"^optim\.warmup: got 1\.0, want int"),
    "half": ({"optim.warmup": integers(1, 2.5)}, r"^optim\.warmup: got 1 to 2\.5, want whole"),
    "a text": ({"optim.lr": choice("fast")}, r"^optim\.lr: got 'fast', want float"),
    "a whole part": ({"optim": uniform(0, 1)}, r"^optim: got 0\.0, want OptimConfig"),
    "nothing at all": ({}, r"^space: got no path to draw"),
    "ranges that meet": (
        {"losses.contrastive.negative": uniform(0, 0.5), "losses.contrastive.positive":
         uniform(0.4, 1)},
        r"^losses\.contrastive\.negative, positive: got 0\.5, 0\.4",
    ),
    "a stop before a start": (
        {"levels.features.weight.stop": of_run(0.2, 1), "levels.features.weight.start":
         of_run(0, 0.5)},
        r"^levels\.features\.weight\.stop: got 120, want more than start = 300",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_by_its_path(mistake: str) -> None:
    domains, message = MISTAKES[mistake]
    with pytest.raises(UserError, match=message) as caught:
        on_demo(domains).check()
    assert "\n" not in str(caught.value)


CLIP, LR, DECAY = "optim.clip_norm", "optim.lr", "optim.decay"
TWO = {DECAY: choice("none", "linear"), LR: loguniform(1e-4, 1e-2)}
BAD_CONDITIONS: dict[str, tuple[dict[str, Any], str]] = {
    "of nothing": ({CLIP: where(LR)}, r"^optim\.clip_norm: has a condition but no domain; have"),
    "on nothing": ({LR: where(CLIP)}, r"^optim\.lr: depends on optim\.clip_norm.*have optim\.dec"),
    "on later": ({DECAY: where(LR)}, r"^optim\.decay: depends on optim\.lr, .*before.* have none"),
    "on itself": ({LR: where(LR)}, r"^optim\.lr: depends on optim\.lr"),
    "unheard of": ({LR: where(DECAY, "cosine")}, r"^optim\.lr: wants optim\.decay to be 'cosine'"),
}


@pytest.mark.parametrize("mistake", BAD_CONDITIONS)
def test_a_bad_condition_is_named_by_its_path(mistake: str) -> None:
    conditions, message = BAD_CONDITIONS[mistake]
    with pytest.raises(UserError, match=message):
        on_demo(TWO, conditions=conditions).check()
    on_demo(TWO, conditions={LR: where(DECAY, "linear")}).check()


def test_a_path_that_is_never_on_is_a_mistake() -> None:
    domains = {"optim.weight_decay": choice(0.0), LR: loguniform(1e-4, 1e-2)}
    with pytest.raises(UserError, match=r"^optim\.lr: wants optim\.weight_decay to be on"):
        on_demo(domains, conditions={LR: where("optim.weight_decay")}).check()


def test_a_mistake_where_it_is_rarely_drawn_is_found() -> None:
    domains = {DECAY: choice("none", "linear", "poly"), LR: uniform(-1, 1)}
    with pytest.raises(UserError, match=r"^optim\.lr: got -1"):
        on_demo(domains, conditions={LR: where(DECAY, "linear")}).check()


def test_an_unknown_preset_is_named() -> None:
    with pytest.raises(UserError, match="'demoo': no such preset"):
        dataclasses.replace(SPACES["smoke"], preset="demoo").check()


# --- what is fixed, and what the preset has ------------------------------------------------------


def test_what_is_fixed_is_in_every_trial_and_drawn_in_none() -> None:
    space = dataclasses.replace(SPACES["smoke"], fixed={LR: 3e-3, "batch_size": 2})
    space.check()
    for changes in draws(space):
        assert list(changes) == ["optim.head_factor"]
        config = space.config(changes)
        assert (config.optim.lr, config.batch_size) == (3e-3, 2)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_conditions_see_what_is_fixed(weight: float) -> None:
    loss = "losses.contrastive"
    space = dataclasses.replace(SPACES["full"], fixed={f"{loss}.weight": weight})
    for changes in draws(space):
        assert (f"{loss}.temperature" in changes) == bool(weight)
        assert f"{loss}.weight" not in changes


def test_a_mistake_in_what_is_fixed_is_named() -> None:
    with pytest.raises(UserError, match=r"^optim\.lrr: no 'lrr'"):
        dataclasses.replace(SPACES["smoke"], fixed={"optim.lrr": 1}).check()
    with pytest.raises(UserError, match=r"^space: got no path to draw.*optim\.lr, optim\.head_f"):
        dataclasses.replace(SPACES["smoke"], fixed={LR: 1e-3, "optim.head_factor": 2.0}).check()


def test_the_values_of_the_preset_are_a_point_without_changes() -> None:
    assert SPACES["optimiser"].start_values()["optim.lr"] == 2e-3
    assert SPACES["loss_weights"].start_values()["levels.features.weight"] == 0.0
    for space in (SPACES["optimiser"], SPACES["loss_weights"]):
        values = space.start_values()
        assert space.config(values) == space.config({})
        assert space.holds(values)


def test_values_that_the_preset_lacks_are_left_out() -> None:
    space = dataclasses.replace(SPACES["contrastive"], preset="demo_source_only")
    assert space.start_values() == {}
    assert not space.holds({})


def test_where_the_contrast_is_off_nothing_of_it_is_among_the_values() -> None:
    values = SPACES["full"].start_values()
    assert values["losses.contrastive.weight"] == 0.0
    assert "losses.contrastive.temperature" not in values


# --- domains -----------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 10, 100, 600, 40_000])
def test_ranges_apart_never_meet_however_short_the_run(steps: int) -> None:
    start, stop = of_run(0.0, 0.5).at(steps), of_run(0.6, 1.0).at(steps)
    assert (start.low, stop.high) == (0, steps)
    assert start.high < stop.low
    assert start.holds(steps // 4), "where presets start"
    assert start.high / steps <= 0.5
    assert stop.low / steps >= 0.6


def test_a_share_is_not_lost_to_rounding() -> None:
    assert of_run(0.29, 0.29).at(100) == integers(29, 29)


def test_what_a_domain_holds() -> None:
    assert loguniform(0.1, 1).holds(0.1)
    assert not loguniform(0.1, 1).holds(0.0)
    assert loguniform(0.1, 1, or_zero=True).holds(0.0)
    assert not loguniform(0.1, 1, or_zero=True).holds(1.1)
    assert not integers(0, 1).holds(True)
    assert not uniform(0, 1).holds("1")
    assert choice((2, 4), "a").holds((2, 4))
    assert not choice((2, 4), "a").holds((4, 2))


@pytest.mark.parametrize(
    ("domain", "points", "expected"),
    [
        (uniform(0, 1), 3, (0.0, 0.5, 1.0)),
        (uniform(0, 1), 1, (0.5,)),
        (loguniform(0.01, 1), 3, (0.01, 0.1, 1.0)),
        (loguniform(0.01, 1, or_zero=True), 2, (0.0, 0.01, 1.0)),
        (integers(1, 4), 3, (1, 2, 4)),
        (integers(1, 2), 5, (1, 2)),
        (integers(1, 100, log=True), 3, (1, 10, 100)),
        (of_run(0.0, 0.5).at(40), 3, (0, 10, 20)),
        (choice("a", (1, 2)), 1, ("a", (1, 2))),
    ],
)
def test_a_grid_over_a_domain(
    domain: Numbers | Choice, points: int, expected: tuple[Any, ...]
) -> None:
    found = domain.grid(points)
    assert found == pytest.approx(expected, abs=1e-12) if isinstance(domain, Numbers) else expected
    assert [type(value) for value in found] == [type(value) for value in expected]
    assert all(domain.holds(value) for value in found)


def test_a_grid_takes_no_path_whose_condition_is_not_met() -> None:
    space = on_demo(
        {"losses.entropy.weight": loguniform(0.1, 10, or_zero=True), "losses.entropy.robust":
         uniform(0, 2), DECAY: choice("none", "linear")},
        conditions={"losses.entropy.robust": where("losses.entropy.weight")},
    )  # fmt: skip
    space.check()
    found = space.grid(2)
    assert len(found) == (1 + 2 * 2) * 2
    assert all(space.holds(changes) for changes in found)
    assert len({tuple(changes.items()) for changes in found}) == len(found)


def test_a_grid_that_nobody_finishes_is_refused() -> None:
    with pytest.raises(UserError, match=r"grid: got more than 10000 points of 69 paths"):
        SPACES["full"].grid(3)


def test_whole_numbers_are_drawn_as_such() -> None:
    space = on_demo({"optim.warmup": integers(1, 9), "levels.features.weight.ramp": of_run(0, 1)})
    for changes in draws(space):
        assert [type(value) for value in changes.values()] == [int, int]


def test_a_draw_asks_in_order_and_only_for_what_applies() -> None:
    asked: list[str] = []

    def pick(path: str, domain: Numbers | Choice) -> Any:
        asked.append(path)
        return random.Random(len(asked)).choice(domain.ends)

    suggest: Callable[[str, Numbers | Choice], Any] = pick
    changes = SPACES["adversarial_schedule"].draw(suggest)
    assert asked == list(changes)
