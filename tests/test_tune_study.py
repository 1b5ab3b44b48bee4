"""Searches over a table: what they see, what it costs, what is taken; and how the table is made."""

import dataclasses
import itertools
import json
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.small_checkpoint import write_checkpoint
from tests.studies import _experiments, _replay, _searches, _table, _tune_page, tune
from tests.studies._experiments import science
from tests.studies._lattice import EXPERIMENTS, HAND_SET, KEYS, RAMPS, SPACE, STEPS
from tests.studies._replay import Halving, Search, Seen, incumbents, replay
from tests.studies._runner import Place
from tests.studies._searches import choices, mean_curve, outcomes, predicts
from tests.studies._table import Filled, Row
from tests.studies._tune_plots import draw_choices, draw_searches
from tests.studies.ablation import LEVELS, START
from tests.tiny import shards
from tune_spaces.domains import choice
from tune_spaces.space import Space
from uda.checkpoint import step_folder
from uda.report import json_text, write_json

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

    def test_a_point_is_what_it_says(self):
        key = (0.3, 1.0, 0.002, 100)
        config = EXPERIMENTS[key].config(0)
        (contrast,) = [loss for loss in config.losses if loss.name == "contrastive"]
        assert (contrast.temperature, contrast.weight.value, contrast.weight.start) == (0.3, 1.0, 0)
        assert [level.name for level in config.levels] == list(LEVELS)
        for level in config.levels:
            weight = level.weight
            assert (weight.value, weight.ramp, weight.stop) == (0.002, 100, STEPS)
        assert (config.steps, config.optim.lr, RAMPS[100]) == (STEPS, 1e-3, 0.5)
        assert config.model.pretrained == str(START.network(0))

    def test_a_search_asks_for_what_is_in_the_table(self):
        changes = SPACE.draw(lambda _, domain: domain.ends[-1])
        assert tuple(changes[path] for path in SPACE.resolved) in EXPERIMENTS
        assert SPACE.config(changes).steps == STEPS

    def test_the_hand_set_preset_is_as_it_is(self):
        config = HAND_SET.config(0)
        assert [loss.name for loss in config.losses if not loss.weight.is_off] == ["supervised"]
        assert all(level.weight.is_off for level in config.levels)
        assert (config.steps, config.optim.lr) == (STEPS, 1e-3)
        some = [HAND_SET, *list(EXPERIMENTS.values())[::12]]
        assert len({science(e.plain(0)) for e in some}) == len(some)


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
        seen = replay(TWO_CHECKPOINTS, SMALL, Search(kind="random", trials=3), "quality", 0)
        assert order(seen) == [
            *((0, 0, 50), (1, 0, 100), (0, 1, 150), (1, 1, 200)),
            *((2, 0, 250), (2, 1, 300)),
        ]
        assert sampler.told == [(0, 0.6), (1, 0.3), (2, 0.55)], "each by its best checkpoint"

    def test_what_is_stopped_makes_room_at_once(self, scripted):
        sampler = scripted(3e-3, 1e-3, 4e-3, 3e-3)
        search = Search(kind="random", trials=4, halving=True)
        seen = replay(TWO_CHECKPOINTS, SMALL, search, "quality", 0)
        assert order(seen) == [
            *((0, 0, 50), (1, 0, 100)),  # 0.6 goes on, 0.1 ends
            *((0, 1, 150), (2, 0, 200)),  # 0.4 is above the median of 0.6 and 0.1
            *((2, 1, 250), (3, 0, 300), (3, 1, 350)),
        ]
        assert sampler.told == [(1, 0.1), (0, 0.6), (2, 0.55), (3, 0.6)]

    def test_no_more_trials_than_asked_for(self):
        search = Search(kind="random", trials=5)
        seen = replay(TWO_CHECKPOINTS, SMALL, search, "quality", 3)
        assert {one.trial for one in seen} == set(range(5))
        assert seen[-1].spent == 5 * 100

    def test_the_grid_is_everything_once(self):
        search = Search(kind="grid", trials=len(RATES))
        seen = replay(TWO_CHECKPOINTS, SMALL, search, "quality", 1, concurrent=3)
        assert seen[-1].spent == 4 * 100
        rows = {id(one.row) for one in seen}
        assert rows == {id(r) for r in TWO_CHECKPOINTS.values()}

    @pytest.mark.parametrize("halving", [False, True])
    def test_equal_seeds_see_the_same(self, halving):
        search = Search(kind="tpe", trials=4, halving=halving)
        first, again = (replay(TWO_CHECKPOINTS, SMALL, search, "oracle", 5) for _ in range(2))
        assert first == again

    def test_random_search_takes_what_brute_force_expects(self):
        """Over all sequences of three points, with repeats, that could be drawn."""
        trials = 3
        search = Search(kind="random", trials=trials)
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
        assert self.taken(seen, "last") == [(0, 0), (1, 0), (0, 1), (0, 1), (2, 1)]


class TestOutcomes:
    def test_curves_of_searches_that_have_ended_stay(self):
        assert mean_curve([[1.0, 2.0], [3.0, 3.0, 6.0]]) == [2.0, 2.5, 4.0]

    def test_of_the_grid_by_hand(self):
        found = outcomes(TWO_CHECKPOINTS, SMALL, Search(kind="grid", trials=4), 3, 0.3)
        quality, oracle, source = (found[judge] for judge in ("quality", "oracle", "source"))
        assert (quality["true_miou"], quality["deviation"], quality["share"]) == (60, 0, 1)
        assert (oracle["true_miou"], oracle["regret"], quality["regret"]) == (90, 0, 30)
        assert source["true_miou"] == 50, "0.6 at the end is the third's, which then has 0.5"
        assert len(quality["curve"]) == 8
        assert quality["compared"] == quality["curve"][1], "0.3 of 8 checkpoints are 2 whole ones"
        assert 20 <= found["last"]["true_miou"] <= 90

    def test_what_guides_a_search_is_what_judges_it(self, monkeypatch):
        guides = []

        def spy(table, space, search, measure, seed):
            guides.append(measure)
            return replay(table, space, search, measure, seed)

        monkeypatch.setattr(_searches, "replay", spy)
        outcomes(TWO_CHECKPOINTS, SMALL, Search(kind="random", trials=2, halving=True), 1, 0.3)
        assert sorted(guides) == ["oracle", "quality", "source"]

    def test_correlations_with_the_end(self):
        found = predicts(TWO_CHECKPOINTS)
        # Quality of the first checkpoints ranks 1 2 4 3, the oracle's at the end 1 4 2 3.
        assert found["quality"][0] == pytest.approx(0.2)  # 1 - 6 * (0 + 4 + 4 + 0) / 60
        assert found["oracle"][-1] == 1


def lattice_table() -> dict[tuple, Row]:
    """Contrast helps, and the more the sharper; discriminators do harm but for a long ramp."""

    def made(key: tuple) -> Row:
        temperature, contrast, adversarial, ramp = key
        end = 40 + contrast / (1 + temperature) - 100 * adversarial * (1 - ramp / 200)
        oracle = tuple(end - 4 + i for i in range(4))
        return row(tuple(value / 100 for value in oracle), oracle)

    return {key: made(key) for key in KEYS}


def test_choices_are_means_over_all_others():
    found = choices(lattice_table())
    assert [one["value"] for one in found["ramp"]] == [0.0, 0.1, 0.5]
    assert [one["value"] for one in found["temperature"]] == [0.05, 0.1, 0.3, 1.0]
    oracle = [one["oracle"] for one in found["temperature"]]
    assert oracle == sorted(oracle, reverse=True)
    of_adversarial = [one["oracle"] for one in found["adversarial"]]
    # 0.018 more of it, times 100, times the mean of 1, 0.9 and 0.5
    assert of_adversarial[0] - of_adversarial[1] == pytest.approx(1.8 * 0.8, abs=1e-3)


@pytest.fixture
def record(monkeypatch) -> dict[str, Any]:
    monkeypatch.setattr(_searches, "TRIALS", 3)
    hand_set = row((0.4, 0.5, 0.3, 0.2), (41.0, 42.0, 43.0, 38.0))
    filled = Filled(table=lattice_table(), hand_set=hand_set, made="49 runs of nothing.")
    found = _searches.figures(filled, 2, 0.3)
    told = {"command": "make study-tune", "machine": "none", "commit": "abc"}
    return json.loads(json_text({**told, "goals": tune.goals(found), **found}))


class TestPage:
    def test_it_says_what_is_in_the_record(self, record):
        text = _tune_page.page(record)
        ours = record["searches"]["asha_tpe"]
        assert record["hand_set"] == {"true_miou": 42.0, "last": 38.0, "quality": 0.5}
        assert f"{ours['quality']['true_miou']:.1f} ± {ours['quality']['deviation']:.1f}" in text
        assert "ORACLE" in text
        assert "48 points (4 x 2 x 2 x 3)" in text
        assert "| 3 |" not in text, "no column of trials: all have as many"
        assert "make study-tune" in text
        assert "abc" in text
        grid = next(line for line in text.splitlines() if line.startswith("| grid"))
        assert "| 100 % |" in grid

    def test_a_missed_goal_is_said_to_be_missed(self, record):
        goals = record["goals"]
        behind = next(name for name in goals if "ahead of the hand-set" in name)
        assert not goals[behind]["met"], "the preset is better than all of the lattice"
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
    START.network(0).mkdir(parents=True)
    return Place(command="make study-tune", device="cpu", quiet=True)


FEW = dict(itertools.islice(EXPERIMENTS.items(), 2))


def keep(folder: Path, experiment: Any, **more: Any) -> None:
    entry = {"measures": dict.fromkeys(("consistency", "separation", "prior_fit", "coverage"), 1.0)}
    checkpoints = [
        {"step": step, **entry, "source_miou": 1.0 * step, "oracle_miou": 2.0 * step}
        for step in (50, 100, 150, 200)
    ]
    made = {"minutes": 1.0, "machine": "none", "commit": "abc", "changed_since_commit": False}
    record = {
        **{"experiment": experiment.name, "setting": "streets", "is_oracle": False},
        **{"data": {"source": "d"}, "images": _table.IMAGES, "checkpoints": checkpoints},
        **made,
        **experiment.plain(0),
    }
    write_json(folder / experiment.file(0), record | more)


class TestTable:
    @pytest.fixture(autouse=True)
    def few(self, monkeypatch, place):
        monkeypatch.setattr(_table, "EXPERIMENTS", FEW)
        self.all = [HAND_SET, *FEW.values()]

    def test_it_is_read_when_all_records_are_there(self):
        first, second = FEW.values()
        keep(_table.KEPT, HAND_SET)
        keep(_table.NEW, first)
        assert [one for one, _ in _table.missing(self.all)] == [second]
        assert _table.read_table() is None
        keep(_table.NEW, second)
        filled = _table.read_table()
        assert filled is not None
        assert filled.table.keys() == FEW.keys()
        assert filled.hand_set.steps == (50, 100, 150, 200)
        assert filled.hand_set.values["quality"] == (1.0,) * 4
        assert filled.hand_set.values["oracle"][-1] == 400
        assert filled.made.startswith("3 runs")

    def test_other_data_are_not_compared(self):
        for one in self.all:
            keep(_table.KEPT, one, data={"source": one.name})
        with pytest.raises(ValueError, match="made on other data than hand_set"):
            _table.read_table()

    def test_fewer_images_or_another_configuration_do_not_count(self):
        first, second = FEW.values()
        keep(_table.KEPT, first, images={"quality": 1, "source": 1})
        keep(_table.KEPT, second, config=first.plain(0)["config"])
        assert [one for one, _ in _table.missing([first, second])] == [first, second]


@pytest.mark.slow
def test_a_point_is_trained_judged_and_kept(place, monkeypatch):
    """The trainer is none: it leaves four checkpoints of a small network."""
    told = []

    def trained(config, folder, **_: Any) -> float:
        told.append((config.runtime.checkpoint_every, config.runtime.keep_checkpoints >= 4))
        for step in (50, 100, 150, 200):
            write_checkpoint(step_folder(folder, step))
        return 1.5

    data = {"source": shards("game"), "target": shards("camera"), "test": shards("camera")}
    monkeypatch.setattr(_table, "trained", trained)
    monkeypatch.setattr(_table, "shards", lambda _: data)
    monkeypatch.setattr(_table, "source_validation", lambda: shards("game"))
    monkeypatch.setattr(_table, "IMAGES", {"quality": 2, "source": 3})
    experiment = next(iter(FEW.values()))
    _table.build((experiment, 0), place)
    assert told == [(50, True)]
    assert _table.missing([experiment]) == []
    record = json.loads((_table.NEW / experiment.file(0)).read_text())
    assert [entry["step"] for entry in record["checkpoints"]] == [50, 100, 150, 200]
    entry = record["checkpoints"][0]
    assert 0 <= entry["quality"] <= 1
    assert 0 < entry["source_miou"] < 100
    assert 0 < entry["oracle_miou"] < 100
    assert sorted(record["data"]) == ["source", "source_validation", "target", "test"]
    assert not any((_table.FOLDER / "runs").iterdir()), "the checkpoints have served"
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

        monkeypatch.setattr(tune, "figures", figures)
        self.run(monkeypatch, "--part", 0, 2)
        first, second = (experiment.name for experiment in FEW.values())
        assert built == [HAND_SET.name, second]
        assert "replayed when all points have a record" in capsys.readouterr().out
        self.run(monkeypatch, "--part", 1, 2, "--repeats", 7)
        assert built == [HAND_SET.name, second, first]
        assert replayed == [(2, 7)]
        self.run(monkeypatch)
        assert len(built) == 3, "what has a record is not trained again"
        record = json.loads((_table.FOLDER / "tune.json").read_text())
        assert [goal["met"] for goal in record["goals"].values()] == [True, True, True]

    def test_it_only_says_what_is_missing(self, monkeypatch, built, capsys):
        keep(_table.KEPT, HAND_SET)
        self.run(monkeypatch, "--list")
        assert built == []
        said = capsys.readouterr().out
        assert all(experiment.name in said for experiment in FEW.values())
        assert HAND_SET.name not in said

    def test_parts_do_not_train_the_start_at_once(self, monkeypatch, built):
        START.network(0).rmdir()
        with pytest.raises(SystemExit, match="first: make study-ablation"):
            self.run(monkeypatch, "--part", 0, 2)
        assert built == []
        self.run(monkeypatch, "--minutes", 0)
        assert built == [], "no time is left"


def test_the_hand_sets_checkpoint_is_chosen_as_that_of_a_trial():
    quality = (0.5, 0.7, 0.7, 0.1)
    one = dataclasses.replace(row(quality, (1.0, 2.0, 3.0, 4.0)))
    assert _searches._hand_set(one) == {"true_miou": 3.0, "last": 4.0, "quality": 0.7}
