"""`make bench-tune`: what a trial of a search costs beside its training, and what leaks.

The same short run, with the same scores, by `uda train` and as trials of `uda tune`, on one Ray and
in turns; medians. Then a search of many tiny trials, two at once, while this process and all of
Ray's are watched: their number, this process's open files and memory, as each trial ends. Nothing
may grow from the first fifth of the trials to the last.
"""

import argparse
import dataclasses
import shutil
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from cluster.__main__ import _parser
from cluster.runtime import start_ray
from cluster.scores import open_validation
from cluster.train import train
from cluster.tune import tune
from cluster.tune_plan import Plan, open_plan
from cluster.tune_room import trial_cpus
from tests.record import BENCHES, at_most, write_record
from uda.data.prepare import prepare
from uda.run import open_run

FOLDER = BENCHES / "tune"
SHARDS = {look: FOLDER / "shards" / look for look in ("game", "camera")}
AT_ONCE = 2
TINY = {
    "batch_size": 2,
    "data.crop.height": 32,
    "data.crop.width": 64,
    "model.backbone": "tiny",
    "model.pretrained": '""',
}
_POLL_S = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100, help="of the long search")
    parser.add_argument("--rounds", type=int, default=3, help="of the comparison")
    arguments = parser.parse_args()
    for look, folder in SHARDS.items():
        prepare("streets", look, folder, "train", size=(64, 32), count=16)
    for old in ("train", "one", "many"):
        shutil.rmtree(FOLDER / old, ignore_errors=True)
    with start_ray(needed_cpus=AT_ONCE * trial_cpus(_plan("many", 1).job)):
        rounds = [_compare(number) for number in range(arguments.rounds)]
        many = _many(arguments.trials)
    overhead = statistics.median(each["tune_s"] - each["train_s"] for each in rounds)
    write_record(
        BENCHES / "tune.json",
        "make bench-tune",
        {"rounds": rounds, "trials": arguments.trials, "at_once": AT_ONCE, **many},
        {
            "a trial's seconds beside the same training": at_most(overhead, 10.0),
            "open files more, of this process": at_most(_growth(many, "open_files"), 10.0),
            "processes more": at_most(_growth(many, "processes"), 2.0),
            "memory more, MB, of this process": at_most(_growth(many, "memory_mb"), 50.0),
        },
    )


def _plan(out: str, trials: int) -> Plan:
    words = ["tune", "smoke", "--source", SHARDS["game"], "--target", SHARDS["camera"]]
    words += ["--out", FOLDER / out, "--trials", trials, "--evaluations", 2, "--keep", 1]
    words += ["--schedule", "none", "--search", "random"]
    for path, value in TINY.items():
        words += ["--set", f"{path}={value}"]
    return open_plan(_parser([]).parse_args([str(word) for word in words]))


def _compare(number: int) -> dict[str, float]:
    plan = dataclasses.replace(_plan(f"one/{number}", 1), concurrent=1)
    out = FOLDER / "train" / str(number)
    run = open_run(plan.config_of({}), out, SHARDS["game"], SHARDS["camera"])
    started = time.perf_counter()
    train(run, plan.job.scaling, validation=open_validation(run, None), progress=False)
    between = time.perf_counter()
    tune(plan)
    figures = {"train_s": between - started, "tune_s": time.perf_counter() - between}
    print(f"round {number}: {figures}")
    return {name: round(value, 2) for name, value in figures.items()}


def _many(trials: int) -> dict[str, Any]:
    plan = dataclasses.replace(_plan("many", trials), concurrent=AT_ONCE)
    seen: list[dict[str, float]] = []
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(FOLDER / "many", seen, done))
    started = time.perf_counter()
    watcher.start()
    book, _ = tune(plan)
    seconds = time.perf_counter() - started
    done.set()
    watcher.join()
    statuses = {str(status): count for status, count in book.search.num_by_status.items()}
    return {"seconds_per_trial": round(seconds / trials, 2), "statuses": statuses, "watched": seen}


def _watch(folder: Path, seen: list[dict[str, float]], done: threading.Event) -> None:
    """A line as each trial ends."""
    while not done.wait(_POLL_S):
        file = folder / "draws.jsonl"
        ended = file.read_text().count('"told"') if file.exists() else 0
        if ended > (seen[-1]["ended"] if seen else 0):
            seen.append({"ended": ended, **_look()})


def _look() -> dict[str, float]:
    own = psutil.Process()
    return {
        "processes": 1 + len(own.children(recursive=True)),
        "open_files": own.num_fds(),
        "memory_mb": round(own.memory_full_info().uss / 1e6, 1),
    }


def _growth(many: dict[str, Any], name: str) -> float:
    """Of the median of the first fifth to that of the last."""
    values = [line[name] for line in many["watched"]]
    part = max(1, len(values) // 5)
    return statistics.median(values[-part:]) - statistics.median(values[:part])


if __name__ == "__main__":
    main()
