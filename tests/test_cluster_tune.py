"""A search on a real Ray: whatever happens to its trials, it goes on, and leaves nothing behind."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster.__main__ import main
from cluster.search_file import read_search
from cluster.trials import Search
from tests.test_tune_plan import plan_of, tune_words
from uda.checkpoint import checkpoints
from uda.journal import read_scalars

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    # Ray warns about parts of itself.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
]

# What a trial starts; but for the cleaner of a killed one, which Ray leaves (ray#65443).
OURS = ("Trainable", "TrialRun", "TrainController", "RayTrainWorker", "ray::_Worker")

ENDLESS = {"steps": 1_000_000, "runtime.checkpoint_every": 200}


class Points:
    """A sampler of these points, whatever comes of them."""

    def __init__(self, *points: Mapping[str, Any]) -> None:
        self._points = list(enumerate(points))
        self.pending: dict[int, Mapping[str, Any]] = {}
        self.told: dict[int, float | None] = {}

    def ask(self) -> tuple[int, Mapping[str, Any]] | None:
        if not self._points:
            return None
        number, changes = self._points.pop(0)
        self.pending[number] = changes
        return number, changes

    def tell(self, number: int, value: float | None) -> None:
        del self.pending[number]
        self.told[number] = value


def search_in(out: Path) -> Search:
    return read_search(out / "search.json")


def wait_until(is_so: Callable[[], bool], seconds: float = 900) -> bool:
    deadline = time.monotonic() + seconds
    while not (found := is_so()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def processes(*names: str) -> list[int]:
    """Of our own Ray: another one may be beside it."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            line = " ".join(process.cmdline())
            if line.startswith("ray::") and any(name in line for name in names):
                found.append(process.pid)
    return found


def num_groups() -> int:
    from ray.util import placement_group_table

    return sum(group["state"] != "REMOVED" for group in placement_group_table().values())


class Killer(threading.Thread):
    """Kills Tune's actor of the trial in a folder, as soon as that has its first score."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._score = folder / "validation.jsonl"
        self.is_done = threading.Event()

    def run(self) -> None:
        if wait_until(self._score.exists):
            for pid in processes("Trainable"):
                os.kill(pid, signal.SIGKILL)
        self.is_done.set()


def make_worse(monkeypatch: pytest.MonkeyPatch, number: int, from_then: threading.Event) -> None:
    """To the eyes of ASHA, which decides by itself, and is not asked before."""
    from ray.tune.schedulers import ASHAScheduler

    decide = ASHAScheduler.on_trial_result

    def on_trial_result(self: Any, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if trial.config["number"] != number:
            return decide(self, controller, trial, result)
        if not from_then.is_set():
            return "CONTINUE"
        return decide(self, controller, trial, result | {"quality": -1.0})

    monkeypatch.setattr(ASHAScheduler, "on_trial_result", on_trial_result)


def test_a_search_goes_on_whatever_happens_to_its_trials(
    ray_local: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One's actor is killed; later it is stopped early; one has a loss that is not finite."""
    import ray

    from cluster.tune import tune

    out = tmp_path / "search"
    points = Points({}, ENDLESS, {"optim.lr": 1e30})
    plan = plan_of(out, "--trials", 3, "--evaluations", 2, "--retries", 1, "--keep", 1)
    # All that have a score at step 10 are compared, and only the best goes on.
    schedule = dataclasses.replace(plan.schedule, reduction=1e6, steps=ENDLESS["steps"])
    plan = dataclasses.replace(plan, sampler=points, schedule=schedule)
    killer = Killer(out / "trials" / "0001")  # which has no end before it is stopped
    make_worse(monkeypatch, 1, killer.is_done)
    killer.start()
    groups = num_groups()
    book, was_interrupted = tune(plan)
    killer.join()
    assert not was_interrupted
    assert book.is_over

    trials = book.search.trials
    assert [trial.status for trial in trials] == ["finished", "stopped", "failed"]
    assert [trial.retries for trial in trials] == [0, 1, 1]
    assert [point.step for point in trials[0].curve] == [10, 20]
    steps = [point.step for point in trials[1].curve]
    assert len(steps) > 1, "it went on after it was killed"
    assert trials[1].reason.startswith("asha: ")
    assert trials[1].reason.endswith(f" at step {steps[-1]} is behind")
    assert "not finite at or shortly before step" in trials[2].reason
    assert points.told[2] is None
    assert points.told[1] == trials[1].value("quality"), "one that was stopped has its value"
    assert search_in(out) == book.search

    kept = [trial.number for trial in trials if checkpoints(out / trial.folder)]
    assert kept == [max((0, 1), key=lambda number: trials[number].value("quality"))]
    files = {file.name for file in out.iterdir()}
    assert {"best.json", "report.html", "results.csv", "search.json", "trials"} <= files
    assert ".tune" not in files, "what Ray Tune writes is of no use"
    for trial in trials[:2]:
        assert list((out / trial.folder / "tensorboard").glob("events.*"))

    assert wait_until(lambda: num_groups() == groups), "a placement group is left"
    assert wait_until(lambda: ray.available_resources().get("CPU") == 6), "CPUs are still taken"
    assert wait_until(lambda: not processes(*OURS)), "a process is left"


def start_uda(words: list[str]) -> subprocess.Popen:
    environment = os.environ | {"UDA_TRACEBACK": ""}
    return subprocess.Popen(
        [sys.executable, "-m", "cluster", *words],
        env=environment,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def test_a_killed_search_goes_on_and_so_does_an_interrupted_one(
    ray_local: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "search"
    words = tune_words(out, "smoke", "--trials", 3, "--evaluations", 2, "--schedule", "none")

    def is_handed_out(number: int) -> bool:
        return (out / "trials" / f"{number:04d}" / "config.json").exists()

    with start_uda(words) as driver:
        try:
            assert wait_until(lambda: is_handed_out(1) or driver.poll() is not None)
        finally:
            driver.kill()
    before = search_in(out).trials
    assert [trial.status for trial in before] == ["finished", "running"]
    assert main(words) == 2, "it is not begun anew"
    assert "continue it with --resume" in capfd.readouterr().err
    assert main([*words, "--resume", "--seed", "1"]) == 2
    assert "its seed was 0, now 1" in capfd.readouterr().err

    def interrupt() -> None:
        """Before it trains: it is asked again and again, and stops at its first log line."""
        if wait_until(lambda: is_handed_out(2)):
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    assert main([*words, "--resume"]) == 130
    said = capfd.readouterr().err
    assert "saving and stopping; press Ctrl-C again to abort" in said
    assert "uda: trials left to run: 1; continue with: uda tune smoke" in said
    after = search_in(out).trials
    assert [trial.status for trial in after] == ["finished", "finished", "running"]
    assert after[0] == before[0], "what was finished is not run again"

    assert main([*words, "--resume"]) == 0
    trials = search_in(out).trials
    assert [trial.status for trial in trials] == ["finished"] * 3
    lines = read_scalars(out / trials[2].folder)
    assert [line["step"] for line in lines] == [10, 20], "it went on from where it was stopped"
    assert [[point.step for point in trial.curve] for trial in trials] == [[10, 20]] * 3
    draws = [json.loads(line) for line in (out / "draws.jsonl").read_text().splitlines()]
    assert [draw["asked"] for draw in draws if "asked" in draw] == [0, 1, 2]
    assert main([*words, "--resume"]) == 0, "nothing is left to do"
    assert "best      trial " in capfd.readouterr().out


def test_a_trial_goes_on_from_another_ones_checkpoint(ray_local: None, tmp_path: Path) -> None:
    """As population based training asks it to."""
    from cluster.trial_run import Adoption, scores_after, train_trial

    plan = plan_of(tmp_path / "search", "--evaluations", 2)
    own, donor = tmp_path / "search" / "own", tmp_path / "search" / "donor"
    changed = plan.config_of({"optim.lr": 1e-3})
    for folder, config in ((donor, plan.config_of({"steps": 14})), (own, plan.config_of({}))):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(config.to_json())
    went_back: list[int] = []

    def train(folder: Path) -> bool:
        return train_trial(plan.job, folder, lambda _: None, went_back.append)

    assert train(donor)
    changes = {"optim.lr": 1e-3}
    Adoption(donor=7, folder=str(donor), changes=changes, config=changed).ask(own)
    assert train(own)
    assert went_back == [14]
    scores = scores_after(own, 0, allow_oracle=False)
    assert scores["step"] == 20
    assert scores["adopted"] == {"donor": 7, "changes": changes, "step": 14}
    (last,) = checkpoints(own)[-1:]
    assert json.loads((last / "config.json").read_text())["optim"]["lr"] == 1e-3
