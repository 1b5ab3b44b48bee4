"""`uda tune` before its first trial: mistakes are one line, and so is a cluster without room."""

import argparse
import dataclasses
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from cluster.__main__ import main
from tests.test_validation import add_checkpoint
from tests.tiny import run_training, shards, tiny_config
from uda.checkpoint import checkpoints
from uda.config import Config
from uda.tree import from_plain
from uda.types import UserError

pytestmark = pytest.mark.ray  # imports it

TINY = {
    "batch_size": "4",
    "data.crop.height": "32",
    "data.crop.width": "48",
    "model.backbone": "tiny",
    "model.pretrained": '""',
}


def tune_words(out: Path, space: str = "smoke", *more: object, **settings: str) -> list[str]:
    words = ["tune", space, "--source", shards("game"), "--target", shards("camera"), "--out", out]
    for path, value in (TINY | settings).items():
        words += ["--set", f"{path}={value}"]
    return [str(word) for word in (*words, *more)]


def parsed(words: list[str]) -> argparse.Namespace:
    from cluster.__main__ import _parser

    return _parser(words).parse_args(words, argparse.Namespace(words=words))


def plan_of(out: Path, *more: object, space: str = "smoke") -> Any:
    from cluster.tune_plan import open_plan

    return open_plan(parsed(tune_words(out, space, *more)))


class TestMistakes:
    @pytest.fixture(autouse=True)
    def nothing_is_started_or_written(self, tmp_path, monkeypatch):
        monkeypatch.setenv("RAY_ADDRESS", "no Ray starts here")
        yield
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            (["--metric", "miou"], "--metric: got 'miou', want one of quality, oracle:miou"),
            (["--search", "grd"], "--search: got 'grd', want one of random, tpe, grid"),
            (["--schedule", "hyper"], "--schedule: got 'hyper', want one of none, asha, median"),
            (["--trials", "0"], "--trials: got 0, want 1 or more"),
            (["--cpus-per-worker", "0"], "--cpus-per-worker: got 0, want 1 or more"),
            (["--budget-hours", "-1"], "--budget-hours: got -1, want more than 0"),
            (["--reduction", "1"], "--reduction: got 1, want more than 1"),
            (["--preset", "dmeo"], "preset 'dmeo': no such preset"),
            (["--workers", "3"], "got 3, but batch_size = 4"),
            (["--set", "optim.rate=1"], "optim.rate"),
            (["--set", "steps=10"], "--set steps: got 10, want --steps 10"),
            (["--set", "runtime.checkpoint_every=3"], "is the search's own, see --evaluations"),
            (["--set", "optim.lr=1", "--set", "optim.head_factor=1"], "no path to draw"),
            (["--gpus", "0.5", "--workers", "2"], "which cannot share a GPU; want --workers 1"),
            (["--gpus", "1.5"], "GPUs per actor: got 1.5, want 0 to 1 or a whole number"),
            (["--val-actors", "0"], "got 0, want 1 or more"),
            (["--metric", "oracle:miou"], "which needs labels of the target, want quality"),
            (["--allow-oracle"], "--allow-oracle: got no --val, want --val with labelled shards"),
            (["--schedule", "pbt", "--concurrent", "2"], "want all 20 trials at once"),
        ],
    )
    def test_are_one_line(self, tmp_path, capsys, more, said):
        assert main(tune_words(tmp_path / "out", "smoke", *more)) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.count("\n") == 1, printed.err
        assert said in printed.err

    def test_an_unknown_space_lists_all(self, tmp_path, capsys):
        assert main(tune_words(tmp_path / "out", "smok")) == 2
        assert "no such space; have " in capsys.readouterr().err

    def test_missing_data(self, tmp_path, capsys):
        words = tune_words(tmp_path / "out")
        words[3] = str(tmp_path / "nowhere")
        assert main(words) == 2
        assert "nowhere: got no such folder" in capsys.readouterr().err

    def test_labels_of_the_source_are_no_oracle(self, tmp_path, capsys):
        more = ("--val", shards("game"), "--allow-oracle", "--metric", "oracle:miou")
        assert main(tune_words(tmp_path / "out", "smoke", *more)) == 2
        assert "want --val with labelled shards of the target" in capsys.readouterr().err


class TestPlan:
    def test_a_trial_is_scored_as_often_as_asked(self, tmp_path):
        plan = plan_of(tmp_path, "--steps", 50, "--evaluations", 4)
        runtime = plan.config_of({"optim.lr": 0.01}).runtime
        assert (runtime.select_by, runtime.keep_best, runtime.keep_checkpoints) == ("quality", 1, 1)
        assert runtime.checkpoint_every == 13
        assert runtime.log_every <= 13, "it can be stopped where a line is logged"
        assert plan.config_of({}).steps == plan.search.steps == 50
        assert plan.schedule.grace_steps == 13

    def test_what_is_drawn_is_known_to_the_report(self, tmp_path):
        search = plan_of(tmp_path).search
        axes = {axis.path: axis for axis in search.axes}
        assert axes["optim.lr"].kind == "log"
        assert axes["optim.lr"].preset == 0.002
        assert search.preset == "demo_source_only"

    def test_settings_tell_searches_apart(self, tmp_path):
        own = plan_of(tmp_path / "a").settings
        assert own == plan_of(tmp_path / "b", "--trials", 3, "--concurrent", 1).settings
        for more in (["--seed", 1], ["--search", "random"], ["--steps", 30], ["--evaluations", 2],
                     ["--set", "optim.head_factor=3"], ["--preset", "demo"]):  # fmt: skip
            assert plan_of(tmp_path / "b", *more).settings != own, more

    def test_an_oracle_only_on_request(self, tmp_path):
        val = ("--val", shards("camera"))
        assert not plan_of(tmp_path, *val).search.allow_oracle
        allowed = plan_of(tmp_path, *val, "--allow-oracle", "--metric", "oracle:miou")
        assert allowed.search.metric == "oracle:miou"
        assert allowed.job.allow_oracle


class TestRoom:
    """One worker, two to read and one to score: four CPUs and a little for Tune."""

    def job(self, tmp_path: Path, *more: object) -> Any:
        from cluster.tune_plan import open_job

        return open_job(parsed(tune_words(tmp_path, "smoke", *more)))

    @pytest.mark.parametrize(
        ("more", "wanted", "have", "room"),
        [
            ([], None, {"CPU": 5}, 1),
            ([], None, {"CPU": 13}, 3),
            ([], 2, {"CPU": 13}, 2),
            (["--workers", 2], None, {"CPU": 13}, 2),
            (["--gpus", 0.5], None, {"CPU": 99, "GPU": 2}, 4),
            (["--gpus", 0.4], None, {"CPU": 99, "GPU": 2}, 4),
            (["--gpus", 0.6, "--val-gpus", 0.4], None, {"CPU": 99, "GPU": 3}, 3),
            (["--gpu", "--workers", 2], None, {"CPU": 99, "GPU": 5}, 2),
            (["--gpus", 2], None, {"CPU": 99, "GPU": 5}, 2),
        ],
    )
    def test_is_counted(self, tmp_path, more, wanted, have, room):
        from cluster.tune_room import trials_at_once

        assert trials_at_once(self.job(tmp_path, *more), wanted, [have]) == room

    def test_no_process_spans_nodes(self, tmp_path):
        from cluster.tune_room import trials_at_once

        wide = self.job(tmp_path, "--cpus-per-worker", 8)  # eleven in all
        assert trials_at_once(wide, None, [{"CPU": 12}, {"CPU": 4}]) == 1
        assert trials_at_once(wide, None, [{"CPU": 8}, {"CPU": 3.01}]) == 1
        assert trials_at_once(wide, None, [{"CPU": 12}, {"CPU": 12}]) == 2
        with pytest.raises(UserError, match=r"nodes: got 7 CPUs \+ 0 GPUs, 7 CPUs .* span nodes"):
            trials_at_once(wide, None, [{"CPU": 7}, {"CPU": 7}])
        paired = self.job(tmp_path, "--gpus", 2)
        assert trials_at_once(paired, None, [{"CPU": 20, "GPU": 2}] * 3) == 3
        with pytest.raises(UserError, match="GPUs: got 3 in the cluster"):
            trials_at_once(paired, None, [{"CPU": 20, "GPU": 1}] * 3)

    @pytest.mark.parametrize(
        ("more", "wanted", "have", "said"),
        [
            ([], None, {"CPU": 4}, r"CPUs: got 4 in the cluster, want 4.01 \(1 trials at once"),
            ([], 2, {"CPU": 6}, "CPUs: got 6 in the cluster, want 8.02"),
            (["--gpu"], None, {"CPU": 9}, "GPUs: got 0 in the cluster, want room for 1"),
            (["--gpus", 2], None, {"CPU": 9, "GPU": 1}, "GPUs: got 1 in the cluster"),
            (["--gpus", 0.6], 2, {"CPU": 9, "GPU": 1}, "want room for 2 trials at once"),
        ],
    )
    def test_is_missing(self, tmp_path, more, wanted, have, said):
        from cluster.tune_room import trials_at_once

        with pytest.raises(UserError, match=said):
            trials_at_once(self.job(tmp_path, *more), wanted, [have])


class RayTrial:
    """All that schedulers look at."""

    def __init__(self, number: int) -> None:
        self.trial_id = f"id-{number}"
        self.config = {"number": number}


def result(step: int, quality: float | None) -> dict[str, Any]:
    return {"step": step, "quality": quality, "oracle_miou": None}


class TestSchedule:
    def scheduler(self, tmp_path: Path, *more: object, before: Any = ()) -> tuple[Any, list]:
        asked: list[tuple[int, str]] = []
        plan = plan_of(tmp_path, "--steps", 60, *more)
        return plan.schedule.scheduler(lambda *each: asked.append(each), before), asked

    def tell(self, scheduler: Any, number: int, *scores: tuple[int, float | None]) -> None:
        trial = RayTrial(number)
        scheduler.on_trial_add(None, trial)
        for step, quality in scores:
            assert scheduler.on_trial_result(None, trial, result(step, quality)) == "CONTINUE"

    def test_asha_asks_what_is_behind_to_stop(self, tmp_path):
        scheduler, asked = self.scheduler(tmp_path)
        self.tell(scheduler, 0, (10, 0.1), (20, 0.5), (30, 0.5), (60, 0.5))
        self.tell(scheduler, 1, (10, 0.0), (20, 0.4))
        self.tell(scheduler, 2, (10, 0.0), (20, 0.6), (40, 0.7), (60, 0.1))
        assert asked == [(1, "asha: 0.4000 at step 20 is behind")], "at its end nothing is stopped"

    def test_one_without_a_value_is_not_compared(self, tmp_path):
        scheduler, asked = self.scheduler(tmp_path)
        self.tell(scheduler, 0, (20, 0.5))
        self.tell(scheduler, 1, (20, None))
        assert asked == []

    def test_what_is_told_again_after_a_failure_counts_once(self, tmp_path):
        scheduler, asked = self.scheduler(tmp_path, "--schedule", "median")
        for number in range(3):
            self.tell(scheduler, number, (20, 0.5), (30, 0.5))
        self.tell(scheduler, 3, (20, 0.6), (20, 0.6), (30, 0.6))
        assert asked == []

    def test_median_asks_what_is_below_the_others(self, tmp_path):
        scheduler, asked = self.scheduler(tmp_path, "--schedule", "median")
        for number in range(3):
            self.tell(scheduler, number, (20, 0.5), (30, 0.5))
        self.tell(scheduler, 3, (10, 0.1), (20, 0.1))
        assert [number for number, _ in asked] == [3]

    def test_who_was_asked_may_tell_more(self, tmp_path):
        """A run that is asked to stop may score another checkpoint first."""
        scheduler, asked = self.scheduler(tmp_path, "--schedule", "median")
        for number in range(3):
            self.tell(scheduler, number, (20, 0.5), (30, 0.5))
        self.tell(scheduler, 3, (20, 0.1), (30, 0.2), (40, 0.9))
        assert {number for number, _ in asked} == {3}

    @pytest.mark.parametrize("name", ["asha", "median"])
    def test_a_trial_that_is_resumed_is_the_one_it_was(self, tmp_path, name):
        from cluster.trials import Point, Trial

        def trial(number: int, status: Any, *values: float) -> Trial:
            steps = (20, 30, 40)
            curve = tuple(
                Point(step=s, quality=q, measures={}) for s, q in zip(steps, values, strict=False)
            )
            return Trial(number=number, changes={}, status=status, folder="x", curve=curve)

        before = [
            trial(0, "running", 0.3, 0.3),
            *(trial(number, "finished", 0.5, 0.5, 0.5) for number in (1, 2, 3)),
            trial(4, "stopped", 0.1, 0.1, 0.1),
        ]
        scheduler, asked = self.scheduler(tmp_path, "--schedule", name, before=before)
        self.tell(scheduler, 0, (20, 0.3), (30, 0.3))
        assert asked == [], "what was judged is not judged again, beside those that came later"

    @pytest.mark.parametrize("name", ["asha", "median"])
    def test_trials_from_before_count(self, tmp_path, name):
        from cluster.trials import Point, Trial

        curve = tuple(Point(step=step, quality=0.5, measures={}) for step in (10, 20, 30))
        before = [
            Trial(number=n, changes={}, status="finished", folder="trials/x", curve=curve)
            for n in range(3)
        ]
        scheduler, asked = self.scheduler(tmp_path, "--schedule", name, before=before)
        self.tell(scheduler, 3, (20, 0.1))
        assert [number for number, _ in asked] == [3]

    def test_none_asks_nobody(self, tmp_path):
        scheduler, asked = self.scheduler(tmp_path, "--schedule", "none")
        for number in range(5):
            self.tell(scheduler, number, (20, 0.5 - number / 10))
        assert asked == []


class TestPopulation:
    @pytest.mark.parametrize("path", ["model.decoder_channels", "steps"])
    def test_spaces_that_change_the_state_are_refused(self, path):
        from cluster.tune_population import check_population
        from tune_spaces.domains import integers, loguniform
        from tune_spaces.space import Space

        domains = {"optim.lr": loguniform(1e-4, 1e-2), path: integers(8, 16)}
        fixed = {"model.backbone": "tiny", "model.pretrained": ""}
        space = Space(question="?", preset="demo_source_only", domains=domains, fixed=fixed)
        with pytest.raises(UserError, match=f"got the space's {path}, which changes the networks"):
            check_population(space)

    def test_rates_may_be_searched_so(self, tmp_path):
        plan = plan_of(tmp_path, "--schedule", "pbt", "--trials", 4)
        assert plan.concurrent == 4

    def test_exploring_stays_in_the_space(self):
        from cluster.tune_population import explore
        from tune_spaces import find_space

        space, draws = find_space("full"), random.Random(0)
        changes: Any = space.start_values()
        seen = set()
        for _ in range(50):
            changes = explore(space, changes, draws)
            assert space.holds(changes)
            seen.add(repr(changes))
        assert len(seen) > 40

    def test_the_worst_adopts_the_best(self, tmp_path):
        plan = plan_of(tmp_path, "--schedule", "pbt", "--trials", 4, "--steps", 60)
        from cluster.trials import Point
        from cluster.tune_book import Book
        from cluster.tune_bridge import Stops
        from cluster.tune_population import PopulationScheduler

        book = Book(tmp_path, plan.search, plan.sampler, plan.config_of, num_trials=4, num_kept=1)
        stops = Stops()
        scheduler = PopulationScheduler(
            book, stops, plan.space, metric="quality", grace_steps=20, seed=0
        )

        def tell(number: int, step: int, quality: float) -> bool:
            """As Tune does: the scheduler first. Whether the trial is to adopt another."""
            scheduler.on_trial_result(None, RayTrial(number), result(step, quality))
            book.add(number, Point(step=step, quality=quality, measures={}))
            return (tmp_path / book.trial(number).folder / "adopt.json").exists()

        for number in range(4):
            trial = book.next_trial()
            add_checkpoint(tmp_path / trial.folder, 10)
            assert not tell(number, 10, 0.1 * number), "too early"
        assert not any(tell(number, 20, 0.1 * number) for number in (1, 2, 3))
        assert tell(0, 20, 0.05), "the worst of four"
        asked = json.loads((tmp_path / "trials" / "0000" / "adopt.json").read_text())
        assert (asked["donor"], asked["folder"]) == (3, str(tmp_path / "trials" / "0003"))
        config = from_plain(Config, asked["config"])
        assert config.optim.lr == asked["changes"]["optim.lr"]
        assert config.optim.lr != Config.from_json(tmp_path / "trials/0003/config.json").optim.lr
        assert not tell(1, 60, 0.0), "at its end nobody goes on from another"
        assert stops.error is None
        shutil.rmtree(tmp_path / "trials" / "0002")
        scheduler.on_trial_result(None, RayTrial(2), result(30, 0.0))
        assert isinstance(stops.error, OSError), "the search ends in order"

    def test_a_run_adopts_the_checkpoint_but_not_the_settings(self, tmp_path):
        from cluster.trial_run import Adoption, adopt

        changes = {"steps": 20, "runtime.checkpoint_every": 5, "runtime.keep_checkpoints": 9}
        config = tiny_config("source_only", changes)
        own, donor = tmp_path / "own", tmp_path / "donor"
        assert run_training(config, own) == 20
        assert run_training(dataclasses.replace(config, steps=12), donor) == 12
        changed = dataclasses.replace(
            config, optim=dataclasses.replace(config.optim, lr=0.5, weight_decay=0.3)
        )
        assert adopt(own) is None
        asked = Adoption(donor=3, folder=str(donor), changes={"optim.lr": 0.5}, config=changed)
        asked.ask(own)
        assert adopt(own) == 12
        assert adopt(own) is None, "once"
        assert [folder.name for folder in checkpoints(own)] == [
            "step-0000005", "step-0000010", "step-0000012",
        ]  # fmt: skip
        assert Config.from_json(own / "config.json") == changed
        assert run_training(changed, own, resume=True) == 20
        for name in ("model.safetensors", "state.pt"):
            adopted = (own / "step-0000012" / name).read_bytes()
            assert adopted == (donor / "step-0000012" / name).read_bytes()

    def test_a_donor_at_its_end_has_nothing_to_give(self, tmp_path):
        from cluster.trial_run import Adoption, adopt

        own, donor = tmp_path / "own", tmp_path / "donor"
        config = tiny_config("source_only", {"steps": 20})
        own.mkdir()
        for step in (10, 20):
            add_checkpoint(donor, step)
        Adoption(donor=3, folder=str(donor), changes={}, config=config).ask(own)
        assert adopt(own) is None
        assert list(own.iterdir()) == []
