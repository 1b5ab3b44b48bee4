"""Searches over a table: what they see, what it costs, what is taken; and how the table is made."""

import dataclasses
import hashlib
import itertools
import json
import math
import shutil
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.small_checkpoint import write_checkpoint
from tests.studies import _experiments, _live, _replay, _searches, _table, _tune_page, tune
from tests.studies._experiments import science
from tests.studies._lattice import (
    AXES,
    EXPERIMENTS,
    HAND_SET,
    JUDGED,
    KEYS,
    POINTS,
    SPACE,
    STEPS,
    key_of,
    value_at,
)
from tests.studies._replay import Halving, Search, Seen, incumbents, replay
from tests.studies._runner import Place
from tests.studies._searches import choices, curve_of, mean_curve, outcomes, predicts
from tests.studies._table import Filled, Row
from tests.studies._tune_plots import draw_choices, draw_searches
from tests.studies.ablation import START
from tests.test_tune import SEARCH
from tests.tiny import shards
from tune_spaces.domains import choice
from tune_spaces.sampler import Sampler
from tune_spaces.space import Space
from uda.checkpoint import step_folder
from uda.presets import preset
from uda.quality.score import GUARDS, WEIGHTS
from uda.report import json_text, write_json
from uda.tree import override
from uda.types import WorkError

RATES = (1e-3, 2e-3, 3e-3, 4e-3)
SMALL = Space(question="?", preset="demo_full", domains={"optim.lr": choice(*RATES)})


def row(quality: tuple[float, ...], oracle: tuple[float, ...]) -> Row:
    steps = tuple(50 * (i + 1) for i in range(len(quality)))
    return Row(steps, {"quality": quality, "source": quality[::-1], "oracle": oracle})


def small_table(qualities: Mapping[float, tuple[float, ...]]) -> dict[tuple[float], Row]:
    """The oracle's values are those of quality but for the second rate, of which it thinks more."""
    return {
        (rate,): row(values, tuple(90.0 if rate == RATES[1] else 100 * v for v in values))
        for rate, values in qualities.items()
    }


TWO_CHECKPOINTS = small_table(
    {1e-3: (0.1, 0.3), 2e-3: (0.2, 0.2), 3e-3: (0.6, 0.5), 4e-3: (0.4, 0.55)}
)


class TestLattice:
    def test_it_is_full(self):
        SPACE.check()
        assert len(KEYS) == len(set(KEYS)) == 48
        assert len({e.name for e in EXPERIMENTS.values()}) == 48
        assert len({science(e.plain(0)) for e in list(EXPERIMENTS.values())[::5]}) == 10

    @pytest.mark.parametrize("number", [0, 7, 20, 47])
    def test_a_point_is_what_a_search_would_train(self, number):
        key = KEYS[number]
        own = EXPERIMENTS[key].config(0)
        drawn = SPACE.config(POINTS[key])
        assert own.model.pretrained == str(START.network(0))
        same = override(drawn, {"model.pretrained": own.model.pretrained})
        assert own.digest() == same.digest()

    def test_a_point_by_hand(self):
        key = (1.0, 0.5, 0.02, 100, 4e-3)
        config = EXPERIMENTS[key].config(0)
        (contrast,) = [loss for loss in config.losses if loss.name == "contrastive"]
        assert (contrast.temperature, contrast.weight.value, contrast.weight.start) == (0.5, 1.0, 0)
        on = [level for level in config.levels if not level.weight.is_off]
        assert [level.name for level in on] == ["semantics"]
        assert (on[0].weight.value, on[0].weight.ramp, on[0].weight.stop) == (0.02, 100, STEPS)
        assert (config.steps, config.optim.lr) == (STEPS, 4e-3)
        assert [value_at(key, axis) for axis in AXES] == [0.5, 0.5, 4e-3]
        assert value_at(HAND_SET, "ramp") is None

    def test_every_search_asks_for_what_is_in_the_table(self):
        for kind in ("random", "tpe"):
            sampler = Sampler(SPACE, kind, 0)
            (_, first), *others = (sampler.ask() for _ in range(30))
            assert first == {}
            assert all(key_of(changes) in EXPERIMENTS for _, changes in others)

    def test_the_preset_is_in_it_as_it_is(self):
        config = EXPERIMENTS[HAND_SET].config(0)
        assert [loss.name for loss in config.losses if not loss.weight.is_off] == ["supervised"]
        assert all(level.weight.is_off for level in config.levels)
        hand_set = preset("streets_full", STEPS)
        assert config.optim == hand_set.optim

    def test_it_is_judged_where_a_live_search_compares(self):
        assert JUDGED[-1] == STEPS
        every = math.ceil(STEPS / 8)  # of --evaluations 8
        assert all(step % every == 0 for step in JUDGED)


class TestHalving:
    def test_by_hand(self):
        """Below the median of those that came there before ends; at 50, 100 and 200 steps."""
        halving = Halving((50, 100, 150, 200))
        assert not halving.stops(0, 50, 0.5), "nobody was there before"
        assert halving.stops(1, 50, 0.4)
        assert not halving.stops(2, 50, 0.45), "as good as the median of 0.4 and 0.5"
        assert halving.stops(3, 50, 0.44), "the median is 0.45"
        assert not halving.stops(2, 100, 0.6)
        assert halving.stops(0, 100, 0.5)
        assert not halving.stops(2, 150, 0.0), "nothing is compared there"
        assert not halving.stops(2, 200, 0.0)


class Scripted:
    """A sampler that gives out these rates in order."""

    def __init__(self, rates: list[float]) -> None:
        self.rates = rates
        self.asked = 0
        self.told: list[tuple[int, float]] = []

    def ask(self) -> tuple[int, dict[str, Any]] | None:
        if self.asked == len(self.rates):
            return None
        self.asked += 1
        return self.asked - 1, {"optim.lr": self.rates[self.asked - 1]}

    def tell(self, trial: int, value: float) -> None:
        self.told.append((trial, value))


@pytest.fixture
def scripted(monkeypatch):
    def script(*rates: float) -> Scripted:
        sampler = Scripted(list(rates))
        monkeypatch.setattr(_replay, "Sampler", lambda *_, **__: sampler)
        return sampler

    return script


def order(seen: list[Seen]) -> list[tuple[int, int, int]]:
    return [(one.trial, one.index, one.spent) for one in seen]


class TestReplay:
    def test_two_run_at_a_time_and_every_step_counts_once(self, scripted):
        sampler = scripted(3e-3, 1e-3, 4e-3)
        seen = replay(
            TWO_CHECKPOINTS, SMALL, Search(kind="random", trials=3, with_preset=False), "quality", 0
        )
        assert order(seen) == [
            *((0, 0, 50), (1, 0, 100), (0, 1, 150), (1, 1, 200)),
            *((2, 0, 250), (2, 1, 300)),
        ]
        assert sampler.told == [(0, 0.6), (1, 0.3), (2, 0.55)], "each by its best checkpoint"

    def test_what_is_stopped_makes_room_at_once(self, scripted):
        sampler = scripted(3e-3, 1e-3, 4e-3, 3e-3)
        search = Search(kind="random", trials=4, halving=True, with_preset=False)
        seen = replay(TWO_CHECKPOINTS, SMALL, search, "quality", 0)
        assert order(seen) == [
            *((0, 0, 50), (1, 0, 100)),  # 0.6 goes on, 0.1 ends
            *((0, 1, 150), (2, 0, 200)),  # 0.4 is above the median of 0.6 and 0.1
            *((2, 1, 250), (3, 0, 300), (3, 1, 350)),
        ]
        assert sampler.told == [(1, 0.1), (0, 0.6), (2, 0.55), (3, 0.6)]

    def test_no_more_trials_than_asked_for(self):
        search = Search(kind="random", trials=5, with_preset=False)
        seen = replay(TWO_CHECKPOINTS, SMALL, search, "quality", 3)
        assert {one.trial for one in seen} == set(range(5))
        assert seen[-1].spent == 5 * 100

    def test_the_grid_is_everything_once(self):
        search = Search(kind="grid", trials=len(RATES), with_preset=False)
        seen = replay(TWO_CHECKPOINTS, SMALL, search, "quality", 1, concurrent=3)
        assert seen[-1].spent == 4 * 100
        rows = {id(one.row) for one in seen}
        assert rows == {id(r) for r in TWO_CHECKPOINTS.values()}

    @pytest.mark.parametrize("halving", [False, True])
    def test_equal_seeds_see_the_same(self, halving):
        search = Search(kind="tpe", trials=4, halving=halving, with_preset=False)
        first, again = (replay(TWO_CHECKPOINTS, SMALL, search, "oracle", 5) for _ in range(2))
        assert first == again

    def test_random_search_takes_what_brute_force_expects(self):
        """Over all sequences of three points, with repeats, that could be drawn."""
        trials = 3
        search = Search(kind="random", trials=trials, with_preset=False)
        taken = []
        for seed in range(300):
            seen = replay(TWO_CHECKPOINTS, SMALL, search, "quality", seed)
            *_, last = incumbents(seen, "quality")
            taken.append(last.value("oracle"))
        expected = []
        for drawn in itertools.product(TWO_CHECKPOINTS.values(), repeat=trials):
            points = [
                (r.values["quality"][i], r.values["oracle"][i]) for r in drawn for i in (0, 1)
            ]
            expected.append(max(points)[1])
        error = statistics.stdev(taken) / len(taken) ** 0.5
        assert abs(statistics.mean(taken) - statistics.mean(expected)) < 4 * error


class TestIncumbents:
    def seen(self, *each: tuple[int, int, float]) -> list[Seen]:
        """Trial, checkpoint and quality of each, of runs with two checkpoints."""
        return [
            Seen(trial=trial, row=row((value, value), (value, value)), index=index, spent=0)
            for trial, index, value in each
        ]

    def taken(self, seen: list[Seen], judge: str) -> list[tuple[int, int]]:
        return [(one.trial, one.index) for one in incumbents(seen, judge)]

    def test_the_highest_so_far_and_of_equals_the_longer_one(self):
        seen = self.seen((0, 0, 0.5), (1, 0, 0.5), (1, 1, 0.5), (2, 0, 0.4), (2, 1, 0.7))
        assert self.taken(seen, "quality") == [(0, 0), (0, 0), (1, 1), (1, 1), (2, 1)]

    def test_the_last_to_end_whatever_it_scored(self):
        seen = self.seen((0, 0, 0.5), (1, 0, 0.2), (0, 1, 0.9), (2, 0, 0.3), (2, 1, 0.1))
        assert self.taken(seen, "lot") == [(0, 0), (1, 0), (0, 1), (0, 1), (2, 1)]

    def test_the_highest_of_those_that_came_to_their_end(self):
        seen = self.seen(
            (0, 0, 0.9), (1, 0, 0.2), (0, 1, 0.5), (2, 0, 0.8), (2, 1, 0.1), (3, 1, 0.6)
        )
        assert self.taken(seen, "end") == [(0, 0), (1, 0), (0, 1), (0, 1), (0, 1), (3, 1)]


class TestOutcomes:
    def test_curves_of_searches_that_have_ended_stay(self):
        assert mean_curve([[1.0, 2.0], [3.0, 3.0, 6.0]]) == [2.0, 2.5, 4.0]

    def test_of_the_grid_by_hand(self):
        found = outcomes(
            TWO_CHECKPOINTS, SMALL, Search(kind="grid", trials=4, with_preset=False), 3, 0.3
        )
        quality, oracle, source = (found[judge] for judge in ("quality", "oracle", "source"))
        assert (quality["true_miou"], quality["deviation"], quality["share"]) == (60, 0, 1)
        assert (oracle["true_miou"], oracle["regret"], quality["regret"]) == (90, 0, 30)
        assert source["true_miou"] == 50, "0.6 at the end is the third's, which then has 0.5"
        assert len(quality["curve"]) == 8
        assert quality["compared"] == quality["curve"][1], "0.3 of 8 checkpoints are 2 whole ones"
        assert quality["of_lattice"] == 1
        assert 20 <= found["lot"]["true_miou"] <= 90
        assert found["end"]["true_miou"] == 55, "at its end the fourth has the most"

    def test_steps_are_counted_as_a_share_of_both(self):
        search = Search(kind="random", trials=2, with_preset=False)
        found = outcomes(TWO_CHECKPOINTS, SMALL, search, 3, 0.3)
        assert (found["quality"]["share"], found["quality"]["of_lattice"]) == (1, 0.5)

    def test_a_curve_stays_until_something_better_is_seen(self):
        """Checkpoints are not evenly spaced: 50 steps, and then 150 more."""
        uneven = Row((50, 200), {"quality": (0.3, 0.5), "source": (0, 0), "oracle": (30.0, 50.0)})
        low = Row((50, 200), {"quality": (0.1, 0.2), "source": (0, 0), "oracle": (10.0, 20.0)})
        seen = [
            Seen(trial=1, row=low, index=0, spent=50),
            Seen(trial=0, row=uneven, index=0, spent=100),
            Seen(trial=0, row=uneven, index=1, spent=250),
        ]
        assert curve_of(seen, "quality", 50) == [10.0, 30.0, 30.0, 30.0, 50.0]

    def test_what_guides_a_search_is_what_judges_it(self, monkeypatch):
        guides = []

        def spy(table, space, search, measure, seed):
            guides.append(measure)
            return replay(table, space, search, measure, seed)

        monkeypatch.setattr(_searches, "replay", spy)
        outcomes(
            TWO_CHECKPOINTS,
            SMALL,
            Search(kind="random", trials=2, halving=True, with_preset=False),
            1,
            0.3,
        )
        assert sorted(guides) == ["oracle", "quality", "source"]

    def test_correlations_with_the_end(self):
        found = predicts(TWO_CHECKPOINTS)
        # Quality of the first checkpoints ranks 1 2 4 3, the oracle's at the end 1 4 2 3.
        assert found["quality"][0] == pytest.approx(0.2)  # 1 - 6 * (0 + 4 + 4 + 0) / 60
        assert found["oracle"][-1] == 1


def lattice_table() -> dict[tuple, Row]:
    """Contrast helps, and the more the sharper; discriminators do harm but for a long ramp."""

    def made(key: tuple) -> Row:
        temperature, ramp, rate = (value_at(key, axis) for axis in AXES)
        end = 40 + 500 * rate
        end += 0 if temperature is None else 1 / (1 + temperature)
        end -= 0 if ramp is None else 2 * (1 - ramp)
        oracle = tuple(end - 4 + i for i in range(4))
        values = {"quality": tuple(value / 100 for value in oracle), "oracle": oracle}
        return Row(JUDGED, {**values, "source": oracle[::-1]})

    return {key: made(key) for key in KEYS}


def test_choices_are_means_over_all_others():
    found = choices(lattice_table())
    assert [one["value"] for one in found["ramp"]] == [None, 0.0, 0.1, 0.5]
    assert [one["value"] for one in found["temperature"]] == [None, 0.03, 0.1, 0.5]
    assert [one["points"] for one in found["rate"]] == [16, 16, 16]
    off, *oracle = [one["oracle"] for one in found["temperature"]]
    assert oracle == sorted(oracle, reverse=True)
    assert oracle[-1] - off == pytest.approx(1 / 1.5, abs=1e-3)
    of_rate = [one["oracle"] for one in found["rate"]]
    assert of_rate[2] - of_rate[0] == pytest.approx(1.5, abs=1e-3)
    ends = [r.values["oracle"][-1] for key, r in lattice_table().items() if key[0] == 0]
    assert found["temperature"][0]["spread"] == pytest.approx(statistics.pstdev(ends), abs=1e-3)


LIVE = {
    "trials": 3,
    "by_status": {"finished": 1, "stopped": 2},
    "minutes": 12.0,
    "share": 0.4,
    "trial": 1,
    "step": 175,
    "quality": 0.5,
    "at": {"temperature": None, "ramp": 0.5, "rate": 0.002},
    "true_miou": 41.5,
}


@pytest.fixture
def record(monkeypatch) -> dict[str, Any]:
    monkeypatch.setattr(_searches, "TRIALS", 3)
    values = {"quality": (0.4, 0.5, 0.3, 0.2), "source": (0.0,) * 4}
    better = Row(JUDGED, {**values, "oracle": (41.0, 62.0, 43.0, 38.0)})
    filled = Filled(table=lattice_table() | {HAND_SET: better}, made="48 runs of nothing.")
    found = _searches.figures(filled, 2, 0.3) | {"live": LIVE}
    told = {"command": "make study-tune", "machine": "none", "commit": "abc"}
    return json.loads(json_text({**told, "goals": tune.goals(found), **found}))


def test_what_a_live_search_is_told_to_have_come_to(tmp_path):
    from cluster.trials import Point, Trial

    def trial(number: int, status: Any, *points: tuple[int, float], **changes: Any) -> Trial:
        curve = tuple(Point(step=s, quality=q, measures={}) for s, q in points)
        named = {"number": number, "changes": changes, "status": status, "folder": f"t/{number}"}
        return Trial(**named, curve=curve, minutes=1.5)

    changes = {"optim.lr": 4e-3, "levels.semantics.weight.ramp": 100}
    trials = (
        trial(0, "stopped", (25, 0.3)),
        trial(1, "finished", (25, 0.4), (175, 0.7), (200, 0.6), **changes),
    )
    assert _live.told(dataclasses.replace(SEARCH, steps=STEPS, trials=trials)) == {
        "trials": 2,
        "by_status": {"finished": 1, "stopped": 1},
        "minutes": 3.0,
        "share": 225 / 400,
        "trial": 1,
        "step": 175,
        "quality": 0.7,
        "at": {"temperature": None, "ramp": 0.5, "rate": 4e-3},
    }


class TestPage:
    def test_it_says_what_is_in_the_record(self, record):
        text = _tune_page.page(record)
        ours = record["searches"]["asha_tpe"]
        assert record["hand_set"] == {"true_miou": 62.0, "last": 38.0, "quality": 0.5}
        assert f"{ours['quality']['true_miou']:.1f} ± {ours['quality']['deviation']:.1f}" in text
        assert "ORACLE" in text
        assert "All 48 points of the space `measured`" in text
        assert "(3: 1 finished, 2 stopped), trained 40 %" in text
        assert "share of the run 0.5, learning rate 0.002, at step 175: true mIoU 41.5" in text
        assert "| 3 |" not in text, "no column of trials: all have as many"
        assert "make study-tune" in text
        assert "abc" in text
        grid = next(line for line in text.splitlines() if line.startswith("| grid"))
        assert "| 100 % | 100 % |" in grid
        assert "A live search" not in _tune_page.page(record | {"live": None})

    def test_a_missed_goal_is_said_to_be_missed(self, record):
        goals = record["goals"]
        behind = next(name for name in goals if "ahead of the hand-set" in name)
        assert not goals[behind]["met"], "the preset's own is better than what is found beside it"
        assert "**missed**" in _tune_page.page(record)

    @pytest.mark.slow
    def test_pictures_are_the_same_each_time(self, record, tmp_path):
        made = []
        for name in ("first", "again"):
            folder = tmp_path / name
            folder.mkdir()
            draw_searches(record, folder)
            draw_choices(record, folder)
            made.append({file.name: file.read_bytes() for file in folder.iterdir()})
        assert made[0] == made[1]
        assert made[0].keys() == {"tune-searches.svg", "tune-choices.svg"}
        shown = _tune_page.page(record)
        assert all(f"({name})" in shown for name in made[0])


@pytest.fixture
def place(tmp_path, monkeypatch) -> Place:
    """Folders of nothing, with a start that is trained."""
    monkeypatch.setattr(_experiments, "FOLDER", tmp_path / "adaptation")
    monkeypatch.setattr(_table, "FOLDER", tmp_path / "tune")
    monkeypatch.setattr(_table, "NEW", tmp_path / "new")
    monkeypatch.setattr(_table, "KEPT", tmp_path / "kept")
    write_checkpoint(START.network(0))
    return Place(command="make study-tune", device="cpu", quiet=True)


FEW = dict(itertools.islice(EXPERIMENTS.items(), 2))


def keep(folder: Path, experiment: Any, **more: Any) -> None:
    entry = {"measures": dict.fromkeys((*WEIGHTS, *GUARDS), 1.0)}
    checkpoints = [
        {"step": step, **entry, "source_miou": 1.0 * step, "oracle_miou": 2.0 * step}
        for step in JUDGED
    ]
    made = {"minutes": 1.0, "machine": "none", "commit": "abc", "changed_since_commit": False}
    record = {
        **{"experiment": experiment.name, "setting": "streets", "is_oracle": False},
        **{"data": {"source": "d"}, "images": _table.IMAGES, "checkpoints": checkpoints},
        "start_sha256": "s",
        **made,
        **experiment.plain(0),
    }
    write_json(folder / experiment.file(0), record | more)


class TestTable:
    @pytest.fixture(autouse=True)
    def few(self, monkeypatch, place):
        monkeypatch.setattr(_table, "EXPERIMENTS", FEW)
        self.all = [*FEW.values()]

    def test_it_is_read_when_all_records_are_there(self):
        first, second = FEW.values()
        keep(_table.KEPT, first)
        assert [one for one, _ in _table.missing(self.all)] == [second]
        assert _table.read_table() is None
        keep(_table.NEW, second)
        filled = _table.read_table()
        assert filled is not None
        assert filled.table.keys() == FEW.keys()
        (row, _) = filled.table.values()
        assert row.steps == JUDGED
        assert row.values["quality"] == (1.0,) * 4
        assert row.values["oracle"][-1] == 400
        assert filled.made.startswith("2 runs")

    @pytest.mark.parametrize("name", ["data", "start_sha256"])
    def test_points_of_other_data_or_another_start_are_not_compared(self, name):
        for one in self.all:
            keep(_table.KEPT, one, **{name: one.name})
        with pytest.raises(ValueError, match=f"its {name} differs from that of"):
            _table.read_table()

    def test_other_images_steps_or_another_configuration_do_not_count(self):
        first, second = FEW.values()
        keep(_table.KEPT, first, images={"quality": 1, "source": 1})
        keep(_table.KEPT, second, config=first.plain(0)["config"])
        assert [one for one, _ in _table.missing([first, second])] == [first, second]
        keep(_table.NEW, second, checkpoints=[])
        assert [one for one, _ in _table.missing([first, second])] == [first, second]
        keep(_table.NEW, first)
        assert [one for one, _ in _table.missing([first, second])] == [second], "of two the good"


@pytest.mark.slow
def test_a_point_is_trained_judged_and_kept(place, monkeypatch):
    """The trainer is none: it leaves four checkpoints of a small network."""
    told = []

    def trained(config, folder, **_: Any) -> float:
        told.append((config.runtime.checkpoint_every, config.runtime.keep_checkpoints >= 4))
        for step in range(25, 201, 25):
            write_checkpoint(step_folder(folder, step))
        return 1.5

    data = {"source": shards("game"), "target": shards("camera"), "test": shards("camera")}
    monkeypatch.setattr(_table, "trained", trained)
    monkeypatch.setattr(_table, "shards", lambda _: data)
    monkeypatch.setattr(_table, "source_validation", lambda: shards("game"))
    monkeypatch.setattr(_table, "IMAGES", {"quality": 2, "source": 3})
    experiment = next(iter(FEW.values()))
    _table.build((experiment, 0), place)
    assert told == [(25, True)]
    assert _table.missing([experiment]) == []
    record = json.loads((_table.NEW / experiment.file(0)).read_text())
    assert [entry["step"] for entry in record["checkpoints"]] == list(JUDGED)
    digest = hashlib.sha256((START.network(0) / "model.safetensors").read_bytes()).hexdigest()
    assert record["start_sha256"] == digest[:12]
    entry = record["checkpoints"][0]
    assert 0 <= entry["quality"] <= 1
    assert 0 < entry["source_miou"] < 100
    assert 0 < entry["oracle_miou"] < 100
    assert sorted(record["data"]) == ["source", "source_validation", "target", "test"]
    (run,) = (_table.FOLDER / "runs").iterdir()
    assert len(list(run.glob("*/model.safetensors"))) == 8, "to be judged by something else"
    assert not list(run.glob("*/state.pt"))
    assert _table._row(record["checkpoints"]).values["quality"][0] == entry["quality"]


class TestCommand:
    @pytest.fixture
    def built(self, monkeypatch, place) -> list[str]:
        """Names of what would be trained; each leaves a record."""
        names: list[str] = []

        def build(run: Any, place: Place) -> None:
            names.append(run[0].name)
            keep(_table.NEW, run[0])

        monkeypatch.setattr(tune, "EXPERIMENTS", FEW)
        monkeypatch.setattr(_table, "EXPERIMENTS", FEW)
        monkeypatch.setattr(tune, "build", build)
        monkeypatch.setattr(tune, "shards", lambda _: None)
        monkeypatch.setattr(tune, "source_validation", lambda: None)
        monkeypatch.setattr(tune, "STUDIES", place and _table.FOLDER)
        return names

    def run(self, monkeypatch, *arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["tune", *map(str, arguments)])
        tune.main()

    @pytest.mark.slow
    def test_parts_share_the_work_and_the_last_one_replays(self, monkeypatch, built, capsys):
        replayed = []

        def figures(filled: Filled, repeats: int, share: float) -> dict[str, Any]:
            replayed.append((len(filled.table), repeats))
            judges = {judge: {"true_miou": 41.0, "share": 0.25} for judge in ("quality", "oracle")}
            return {"searches": {"asha_tpe": judges}, "hand_set": {"true_miou": 40.0}}

        monkeypatch.setattr(tune, "live_search", lambda: None)

        monkeypatch.setattr(tune, "figures", figures)
        self.run(monkeypatch, "--part", 0, 2)
        first, second = (experiment.name for experiment in FEW.values())
        assert built == [first]
        assert "replayed when all points have a record" in capsys.readouterr().out
        self.run(monkeypatch, "--part", 1, 2, "--repeats", 7)
        assert built == [first, second]
        assert replayed == [(2, 7)]
        self.run(monkeypatch)
        assert len(built) == 2, "what has a record is not trained again"
        record = json.loads((_table.FOLDER / "tune.json").read_text())
        assert [goal["met"] for goal in record["goals"].values()] == [True, True, True]

    def test_it_only_says_what_is_missing(self, monkeypatch, built, capsys):
        first, second = FEW.values()
        keep(_table.KEPT, first)
        self.run(monkeypatch, "--list")
        assert built == []
        said = capsys.readouterr().out
        assert second.name in said
        assert first.name not in said

    def test_a_point_that_fails_does_not_end_the_study(self, monkeypatch, built, capsys):
        first, second = (experiment.name for experiment in FEW.values())

        def build(run: Any, place: Place) -> None:
            built.append(run[0].name)
            if run[0].name == first:
                raise WorkError("loss not finite")

        monkeypatch.setattr(tune, "build", build)
        with pytest.raises(SystemExit, match="1 points failed"):
            self.run(monkeypatch)
        assert built == [first, second]
        assert f"FAILED {first}: loss not finite" in capsys.readouterr().out

    def test_parts_do_not_train_the_start_at_once(self, monkeypatch, built):
        shutil.rmtree(START.network(0))
        with pytest.raises(SystemExit, match="first: make study-ablation"):
            self.run(monkeypatch, "--part", 0, 2)
        assert built == []
        self.run(monkeypatch, "--minutes", 0)
        assert built == [], "no time is left"


def test_the_hand_sets_checkpoint_is_chosen_as_that_of_a_trial():
    quality = (0.5, 0.7, 0.7, 0.1)
    one = dataclasses.replace(row(quality, (1.0, 2.0, 3.0, 4.0)))
    assert _searches._hand_set(one) == {"true_miou": 3.0, "last": 4.0, "quality": 0.7}
