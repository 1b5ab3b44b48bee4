"""The command line of a study of many training runs, and what carries them out."""

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass

import torch

from tests.record import git, machine
from tests.studies._data import can_make, digests, shards
from tests.studies._experiments import NEW, SEEDS, Experiment, record_of
from tests.studies._solo import train_and_score
from uda.report import write_json
from uda.tree import override

# Of the code that this process has loaded; a copy without history is told its commit.
COMMIT = os.environ.get("COMMIT") or git("rev-parse", "--short", "HEAD")
CHANGED = "COMMIT" not in os.environ and bool(git("status", "--porcelain", "uda", "tests/studies"))

Run = tuple[Experiment, int]  # and its seed

CHECKPOINTS = 4  # of a run, at even distances


def main(
    module: str,
    experiments: Sequence[Experiment],
    description: str,
    seeds: Sequence[int] = SEEDS,
) -> None:
    """Runs what has no record, several at a time if asked."""
    experiments = list(dict.fromkeys([*(e.start for e in experiments if e.start), *experiments]))
    arguments = _arguments([e.name for e in experiments], description, seeds)
    chosen = [e for e in experiments if e.name in arguments.only]
    absent = {e.setting for e in chosen if not can_make(e.setting, arguments.camvid)}
    for setting in sorted(absent):
        print(f"{setting} is left out: its photographs are not ours to ship; want --camvid FOLDER")
    chosen = [e for e in chosen if e.setting not in absent]
    missing = [(e, seed) for seed in arguments.seeds for e in chosen if record_of(e, seed) is None]
    runs = with_starts(missing)
    print(f"{len(missing)} runs without a record, {len(runs) - len(missing)} to start from")
    if arguments.list:
        print("\n".join(f"{e.name} {seed}" for e, seed in missing))
        return
    for setting in sorted({e.setting for e, _ in runs}):
        shards(setting, arguments.camvid)
    camvid = " --camvid CAMVID" if arguments.camvid else ""
    command = f"python -m tests.studies.{module} --device {arguments.device}{camvid}"
    place = Place(command=command, device=arguments.device)
    stop_at = time.monotonic() + 60 * arguments.minutes
    if arguments.jobs > 1:
        in_processes(runs, place, arguments.jobs, stop_at, carry_out)
        return
    for run in runs:
        if time.monotonic() < stop_at:
            carry_out(run, place)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where runs are carried out, and the command that does."""

    command: str
    device: str
    quiet: bool = False


def carry_out(run: Run, place: Place) -> None:
    """Trains and scores, and writes the record. A stopped run goes on where it was."""
    experiment, seed = run
    config = experiment.config(seed)
    # All are kept, also for studies of how to choose among them.
    config = override(
        config,
        {"runtime.checkpoint_every": config.steps // CHECKPOINTS, "runtime.keep_checkpoints": 99},
    )
    data = shards(experiment.setting)
    scores = train_and_score(
        config,
        experiment.folder(seed),
        source=data["target" if experiment.is_oracle else "source"],
        target=data["target"],
        test=data["test"],
        # CamVid's networks see half-size images: they look at half size, answer at full size.
        scales=(0.5,) if experiment.setting == "camvid" else (1.0,),
        device=torch.device(place.device),
        quiet=place.quiet,
    )
    record = {
        "experiment": experiment.name,
        "setting": experiment.setting,
        "seed": seed,
        "is_oracle": experiment.is_oracle,
        "preset": experiment.preset,
        "changes": experiment.changes,
        "steps": config.steps,
        "data": digests(data),
        "miou": scores["miou"],
        "iou": scores["iou"],
        "minutes": scores["minutes"],
        "command": f"{place.command} --only {experiment.name} --seeds {seed}",
        "commit": COMMIT,
        "changed_since_commit": CHANGED,
        "machine": machine(place.device),
        **experiment.plain(seed),
    }
    write_json(NEW / experiment.file(seed), record)
    print(f"{experiment.name} {seed}: {100 * scores['miou']:.2f}", flush=True)


def _arguments(names: list[str], description: str, seeds: Sequence[int]) -> argparse.Namespace:
    assert len(set(names)) == len(names), "each record has one experiment"
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--camvid", default="", help="folder with train, trainannot, test, ...")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(seeds))
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each in a process")
    parser.add_argument("--minutes", type=float, default=1e6, help="start none after so many")
    parser.add_argument("--list", action="store_true", help="only say what is missing")
    return parser.parse_args()


def with_starts(missing: Sequence[Run]) -> list[Run]:
    """The runs, and before them those whose networks they start from, where these are not there."""
    starts = dict.fromkeys((e.start, seed) for e, seed in missing if e.start)
    first = [(e, seed) for e, seed in starts if not e.network(seed).exists()]
    return list(dict.fromkeys([*first, *missing]))


def in_processes(
    runs: Sequence[Run],
    place: Place,
    jobs: int,
    stop_at: float,
    work: Callable[[Run, Place], None],
) -> None:
    """Several runs at a time, none before its start is done, no new one after `stop_at`.

    One that fails does not stop the others; a Ctrl-C stops all.
    """
    place = Place(command=place.command, device=place.device, quiet=True)
    waiting, failed = list(runs), []
    running: dict[Future[None], Run] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _one_thread) as pool:
        while waiting or running:
            unfinished = {(e.name, seed) for e, seed in [*waiting, *running.values()]}
            ready = [r for r in waiting if not _start_of(r) & unfinished]
            for run in ready[: jobs - len(running)]:
                waiting.remove(run)
                running[pool.submit(work, run, place)] = run
            if not running:
                break
            try:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
            except KeyboardInterrupt:
                raise SystemExit("stopped; the same command continues") from None
            for future in done:
                experiment, seed = running.pop(future)
                if (error := future.exception()) is not None:
                    failed.append(f"{experiment.name} {seed}")
                    print(f"FAILED {failed[-1]}: {error}", flush=True)
            if time.monotonic() > stop_at:
                waiting = []
    if failed:
        raise SystemExit(f"{len(failed)} runs failed: {', '.join(failed)}")


def _start_of(run: Run) -> set[tuple[str, int]]:
    experiment, seed = run
    return {(experiment.start.name, seed)} if experiment.start else set()


def _one_thread() -> None:
    torch.set_num_threads(1)
