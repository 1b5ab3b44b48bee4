"""Many training runs, each with a record of its own; what has one is not run again.

A run is an `Experiment` and a seed. Its record is a small JSON file: scores, what was run, where
and on which commit. Records that are kept lie under docs/results/adaptation; new ones are written
to runs/study/adaptation/records, so that a long study can grow over days and machines.
"""

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partialmethod
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from tests.record import STUDIES, git, machine
from tests.studies._solo import train_and_score
from uda.config import Config
from uda.data.prepare import prepare
from uda.presets import preset
from uda.report import write_json
from uda.tree import override

KEPT = Path("docs/results/adaptation")
FOLDER = STUDIES / "adaptation"
NEW = FOLDER / "records"
NUM_STREETS, NUM_STREETS_TEST = 1200, 200


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """`preset` with `changes` (dotted paths); an oracle learns from the target's labels."""

    name: str
    preset: str
    changes: dict[str, Any] = field(default_factory=dict)
    is_oracle: bool = False

    @property
    def setting(self) -> str:
        return "camvid" if self.preset.startswith("street_to_camvid") else "streets"

    def config(self, seed: int) -> Config:
        return override(preset(self.preset), {**self.changes, "seed": seed})

    def file(self, seed: int) -> str:
        return f"{self.name}-{seed}.json"

    def command(self, module: str, seed: int) -> str:
        return f'make study-{module.replace("_", "-")} ARGS="--only {self.name} --seeds {seed}"'


def record_of(
    experiment: Experiment, seed: int, folders: Sequence[Path] = (KEPT, NEW)
) -> dict[str, Any] | None:
    """The record of a run of exactly this configuration, if there is one."""
    digest = experiment.config(seed).digest()
    for folder in folders:
        file = folder / experiment.file(seed)
        if file.exists() and (record := json.loads(file.read_text()))["digest"] == digest:
            return record
    return None


def main(module: str, experiments: Sequence[Experiment], description: str) -> None:
    """The command line of a study: runs what has no record, several at a time if asked."""
    names = [e.name for e in experiments]
    assert len(set(names)) == len(names), "each record has one experiment"
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--camvid", default="", help="folder with train, trainannot, test, ...")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each in a process")
    parser.add_argument("--list", action="store_true", help="only say what is missing")
    arguments = parser.parse_args()
    missing = [
        (e, seed)
        for seed in arguments.seeds
        for e in experiments
        if e.name in arguments.only and record_of(e, seed) is None
    ]
    print(f"{len(missing)} runs without a record")
    if arguments.list:
        print("\n".join(f"{e.setting} {e.name} {seed}" for e, seed in missing))
        return
    for setting in {e.setting for e, _ in missing}:
        shards(setting, arguments.camvid)
    if arguments.jobs > 1:
        _in_processes(missing, module, arguments.device, arguments.jobs)
        return
    for experiment, seed in missing:
        run(experiment, seed, module, arguments.device)


def run(experiment: Experiment, seed: int, module: str, device: str) -> None:
    """Trains and scores, and writes the record. A stopped run goes on where it was."""
    config = experiment.config(seed)
    if device == "cuda":  # in the minutes that it takes, a checkpoint on the way costs more
        config = override(config, {"runtime.checkpoint_every": config.steps})
    data = shards(experiment.setting)
    out = FOLDER / "runs" / f"{experiment.setting}-{experiment.name}-{seed}-{config.digest()}"
    started = time.perf_counter()
    scores = train_and_score(
        config,
        out,
        source=data["target" if experiment.is_oracle else "source"],
        target=data["target"],
        test=data["test"],
        # CamVid's networks see half-size images: they look at half size, answer at full size.
        scales=(0.5,) if experiment.setting == "camvid" else (1.0,),
        device=torch.device(device),
    )
    record = {
        "experiment": experiment.name,
        "setting": experiment.setting,
        "seed": seed,
        "is_oracle": experiment.is_oracle,
        "preset": experiment.preset,
        "changes": experiment.changes,
        "digest": config.digest(),
        "steps": config.steps,
        "miou": scores["miou"],
        "iou": scores["iou"],
        "minutes": round((time.perf_counter() - started) / 60, 2),
        "command": experiment.command(module, seed),
        "commit": git("rev-parse", "--short", "HEAD") or os.environ.get("COMMIT", ""),
        "machine": machine(device),
    }
    write_json(NEW / experiment.file(seed), record)
    print(f"{experiment.setting} {experiment.name} {seed}: {100 * scores['miou']:.2f}", flush=True)


def shards(setting: str, camvid: str = "") -> dict[str, Path]:
    """The data of a setting, made if they are not there."""
    folder = FOLDER / "shards"
    game = folder / "game"
    prepare("streets", "game", game, "train", count=NUM_STREETS, size=(256, 128))
    if setting == "streets":
        target, test = folder / "camera", folder / "test"
        prepare("streets", "camera", target, "train", count=NUM_STREETS, size=(256, 128))
        prepare(
            "streets", "camera", test, "val",
            count=NUM_STREETS_TEST, size=(256, 128), codec="exact",
        )  # fmt: skip
    else:
        target, test = folder / "camvid_train", folder / "camvid_test"
        if not (target.exists() and test.exists()) and not camvid:
            raise SystemExit("want --camvid FOLDER: its photographs are not ours to ship")
        if camvid:
            prepare("camvid", camvid, target, "train", size=(240, 180))
            prepare("camvid", camvid, test, "test", codec="exact")
    return {"source": game, "target": target, "test": test}


def _in_processes(
    missing: list[tuple[Experiment, int]], module: str, device: str, jobs: int
) -> None:
    """Several runs at a time; one that fails does not stop the others."""
    failed = []
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _one_thread) as pool:
        futures = {pool.submit(run, e, seed, module, device): (e, seed) for e, seed in missing}
        for future in as_completed(futures):
            if (error := future.exception()) is not None:
                experiment, seed = futures[future]
                failed.append(f"{experiment.setting} {experiment.name} {seed}: {error}")
                print(f"FAILED {failed[-1]}", flush=True)
    if failed:
        raise SystemExit(f"{len(failed)} runs failed")


def _one_thread() -> None:
    torch.set_num_threads(1)
    tqdm.__init__ = partialmethod(tqdm.__init__, disable=True)  # type: ignore[method-assign]
