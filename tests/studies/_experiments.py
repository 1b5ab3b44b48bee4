"""Many training runs, each with a record of its own; what has one is not run again.

A run is an `Experiment` and a seed. Its record is a small JSON file: scores, what was run, where
and on which commit. Records that are kept lie under docs/results/adaptation; new ones are written
to runs/study/adaptation/records, so that a long study can grow over days and machines.
"""

import argparse
import json
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from tests.record import STUDIES, git, machine
from tests.studies._data import shards
from tests.studies._solo import train_and_score
from uda.checkpoint import step_folder
from uda.config import Config
from uda.presets import preset
from uda.report import write_json
from uda.tree import from_plain, override, to_plain
from uda.types import UserError

KEPT = Path("docs/results/adaptation")
FOLDER = STUDIES / "adaptation"
NEW = FOLDER / "records"
# Of the code that this process has loaded; a copy without history is told its commit.
COMMIT = os.environ.get("COMMIT") or git("rev-parse", "--short", "HEAD")
CHANGED = bool(git("status", "--porcelain", "uda")) if "COMMIT" not in os.environ else False


@dataclass(frozen=True, kw_only=True, eq=False)
class Experiment:
    """`preset` with `changes` (dotted paths) on the data of a setting.

    An oracle learns from the target's labels. The setting is one of `tests.studies._data`. Given a
    `start`, training goes on from the network that this experiment ends with, of the same seed.
    """

    name: str
    preset: str
    changes: dict[str, Any] = field(default_factory=dict)
    setting: str = "streets"
    is_oracle: bool = False
    start: "Experiment | None" = None

    def config(self, seed: int) -> Config:
        steps = self.changes.get("steps")  # schedules follow it
        changes = {**self.changes, "seed": seed}
        if self.start:
            changes["model.pretrained"] = str(self.start.network(seed))
        return override(preset(self.preset, steps), changes)

    def folder(self, seed: int) -> Path:
        return FOLDER / "runs" / f"{self.name}-{seed}-{self.config(seed).digest()}"

    def network(self, seed: int) -> Path:
        """The checkpoint of the last step."""
        return step_folder(self.folder(seed), self.config(seed).steps)

    def file(self, seed: int) -> str:
        return f"{self.name}-{seed}.json"


def record_of(
    experiment: Experiment, seed: int, folders: Sequence[Path] = (KEPT, NEW)
) -> dict[str, Any] | None:
    """The record of a run that learned exactly what this one would, if there is one."""
    wanted = science(experiment.config(seed))
    for folder in folders:
        file = folder / experiment.file(seed)
        if file.exists():
            record = json.loads(file.read_text())
            with suppress(UserError):  # of a time when there were other settings
                if science(from_plain(Config, record["config"])) == wanted:
                    return record
    return None


def science(config: Config) -> str:
    """Names what is learned, whatever is listed and off, and whatever came to the config since."""
    return replace(
        config,
        name="any",
        losses=tuple(loss for loss in config.losses if not loss.weight.is_off),
        levels=tuple(level for level in config.levels if not level.weight.is_off),
    ).digest()


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
    chosen = [e for e in experiments if e.name in arguments.only]
    missing = [(e, seed) for seed in arguments.seeds for e in chosen if record_of(e, seed) is None]
    starts = {(e.start, seed): None for e, seed in missing if e.start}
    first = [(e, seed) for e, seed in starts if not e.network(seed).exists()]
    print(f"{len(missing)} runs without a record, {len(first)} to start from", flush=True)
    if arguments.list:
        print("\n".join(f"{e.name} {seed}" for e, seed in missing))
        return
    for setting in sorted({e.setting for e, _ in missing}):
        shards(setting, arguments.camvid)
    command = _command(module, arguments)
    for stage in (first, missing):
        if arguments.jobs > 1:
            _in_processes(stage, command, arguments.device, arguments.jobs)
            continue
        for experiment, seed in stage:
            run(experiment, seed, command, arguments.device)


def run(
    experiment: Experiment, seed: int, command: str, device: str, *, quiet: bool = False
) -> None:
    """Trains and scores, and writes the record. A stopped run goes on where it was."""
    config = experiment.config(seed)
    if device == "cuda":  # in the minutes that it takes, a checkpoint on the way costs more
        config = override(config, {"runtime.checkpoint_every": config.steps})
    data = shards(experiment.setting)
    scores = train_and_score(
        config,
        experiment.folder(seed),
        source=data["target" if experiment.is_oracle else "source"],
        target=data["target"],
        test=data["test"],
        # CamVid's networks see half-size images: they look at half size, answer at full size.
        scales=(0.5,) if experiment.setting == "camvid" else (1.0,),
        device=torch.device(device),
        quiet=quiet,
    )
    record = {
        "experiment": experiment.name,
        "setting": experiment.setting,
        "seed": seed,
        "is_oracle": experiment.is_oracle,
        "preset": experiment.preset,
        "changes": experiment.changes,
        "steps": config.steps,
        "miou": scores["miou"],
        "iou": scores["iou"],
        "minutes": scores["minutes"],
        "command": f"{command} --only {experiment.name} --seeds {seed}",
        "commit": COMMIT,
        "changed_since_commit": CHANGED,
        "machine": machine(device),
        "config": {k: v for k, v in to_plain(config).items() if k not in ("runtime", "ingest")},
    }
    write_json(NEW / experiment.file(seed), record)
    print(f"{experiment.name} {seed}: {100 * scores['miou']:.2f}", flush=True)


def _command(module: str, arguments: argparse.Namespace) -> str:
    camvid = " --camvid CAMVID" if arguments.camvid else ""
    return f"python -m tests.studies.{module} --device {arguments.device}{camvid}"


def _in_processes(
    missing: list[tuple[Experiment, int]], command: str, device: str, jobs: int
) -> None:
    """Several runs at a time. One that fails does not stop the others, a Ctrl-C stops all."""
    failed = []
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _one_thread) as pool:
        futures = {
            pool.submit(run, e, seed, command, device, quiet=True): f"{e.name} {seed}"
            for e, seed in missing
        }
        try:
            for future in as_completed(futures):
                if (error := future.exception()) is not None:
                    failed.append(futures[future])
                    print(f"FAILED {failed[-1]}: {error}", flush=True)
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise SystemExit("stopped; the same command continues") from None
    if failed:
        raise SystemExit(f"{len(failed)} runs failed: {', '.join(failed)}")


def _one_thread() -> None:
    torch.set_num_threads(1)
