"""`uda train`: a run on Ray Train workers, fed from Ray's object store."""

import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from tqdm import tqdm

from cluster.errors import forget_errors, keep_input_error, kept_input_error, plain_error
from cluster.ingest import IngestRef, open_ingest, worker_crops
from cluster.leftovers import note_placement, remove_placement
from cluster.scores import Validation, open_validator
from cluster.worker import STOP_FILE, RayWorker
from uda.checkpoint import last_step
from uda.data.loader import PairLoader, Share
from uda.feed import open_feed
from uda.journal import latest_scalars
from uda.loop import TrainingError
from uda.loop import train as train_loop
from uda.run import Run
from uda.selection import is_over, seems_over
from uda.types import Domain, UserError

_MAX_FAILURES = 3  # restarts of the workers from the latest checkpoint before giving up
_COLLECTIVE_TIMEOUT_S = 300  # a worker that is gone must not hold the others for half an hour
_POLL_S = 0.5
_NOTICES_FILE = "notices.log"  # what the training loop has to say to the user
_SKIPPED_FILE = "skipped.log"  # one line for each bad row that a worker went on without


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """The place a run is given.

    Changes neither the data nor the losses; BatchNorm, where a network has it, normalises by each
    worker's own share of the batch. With `gpu` each worker has a GPU, or so much of one.
    """

    num_workers: int = 1
    gpu: bool = False
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 1.0


def train(
    run: Run,
    scaling: Scaling,
    *,
    validation: Validation | None = None,
    progress: bool = True,
    on_score: Callable[[Path], None] = lambda _: None,
    ingest: Mapping[Domain, IngestRef] | None = None,
) -> int:
    """Trains on the cluster that Ray is connected to; returns the number of finished steps.

    The first Ctrl-C lets the workers save and stop at the next line they log (every
    `runtime.log_every` steps), which is where they agree; the second one aborts.

    With `validation`, checkpoints are scored meanwhile; those that still wait when all steps are
    done are scored before this returns, or when the run is resumed (also after a Ctrl-C here). A
    run whose quality has not risen for `runtime.patience` of them saves and stops, for good.
    `on_score` is told of every checkpoint that has been scored, in another thread. `ingest` is what
    `open_ingest` has made of these data before; without it the shards are read now.

    Raises:
        UserError: an input cannot be read.
        TrainingError: training cannot go on, in one line.
    """
    run.create()
    if validation and seems_over(run.folder, run.config.runtime):  # or only for want of a score?
        with open_validator(run, validation, on_score) as validator:
            validator.finish()
        if is_over(run.folder, run.config.runtime):
            return last_step(run.folder)
    scoring = open_validator(run, validation, on_score) if validation else nullcontext()
    with scoring as running:
        steps = _fit(run, scaling, validation is not None, progress, ingest)
        if running and (steps >= run.config.steps or seems_over(run.folder, run.config.runtime)):
            running.finish()
    return steps


def _fit(
    run: Run,
    scaling: Scaling,
    mark_waiting: bool,
    progress: bool,
    ingest: Mapping[Domain, IngestRef] | None,
) -> int:
    stop_file = run.folder / STOP_FILE
    stop_file.unlink(missing_ok=True)
    (run.folder / _NOTICES_FILE).unlink(missing_ok=True)
    forget_errors(run.folder)
    remove_placement(run.folder)
    trainer = _trainer(run, scaling, mark_waiting, ingest)
    outcome: dict[str, Any] = {}
    finished = threading.Event()

    def fit() -> None:
        try:
            result: Any = trainer.fit()
            outcome.update(result.return_value)
        except BaseException as error:
            outcome["error"] = error
        finally:
            finished.set()

    # In a thread of its own, Ray leaves Ctrl-C to us.
    threading.Thread(target=fit, name="fit", daemon=True).start()
    with tqdm(
        total=run.config.steps,
        initial=last_step(run.folder),
        unit="step",
        desc=run.config.name,
        disable=not progress,
    ) as bar:
        _wait(finished, run, bar, stop_file)
    stop_file.unlink(missing_ok=True)
    if "error" in outcome:
        raise plain_error(outcome["error"], run.folder)
    _say_what_was_skipped(run.folder / _SKIPPED_FILE)
    return int(outcome["steps"])


def _trainer(
    run: Run, scaling: Scaling, mark_waiting: bool, ingest: Mapping[Domain, IngestRef] | None
) -> TorchTrainer:
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    resources: dict[str, float] = {"CPU": scaling.cpus_per_worker}
    if scaling.gpu:
        resources["GPU"] = scaling.gpus_per_worker
    settings = {
        "run": run,
        "ingest": open_ingest(run.config, run.data) if ingest is None else ingest,
        "folder": os.getcwd(),
        "mark_waiting": mark_waiting,
    }
    return TorchTrainer(
        _work,  # type: ignore[arg-type]  # Ray's annotation knows no return value
        train_loop_config=settings,
        torch_config=TorchConfig(timeout_s=_COLLECTIVE_TIMEOUT_S),
        scaling_config=ScalingConfig(
            num_workers=scaling.num_workers, use_gpu=scaling.gpu, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=run.folder.name,
            storage_path=str(run.folder.parent),
            # By default Ray starts workers that cannot start again and again, and says nothing.
            failure_config=FailureConfig(
                max_failures=_MAX_FAILURES,
                controller_failure_limit=_MAX_FAILURES,  # type: ignore[call-arg]  # mypy sees V1
            ),
        ),
    )


def _work(settings: dict[str, Any]) -> dict[str, Any]:
    """What every worker does: the plain training loop, given a place among many."""
    run: Run = settings["run"]
    note_placement(run.folder)
    if error := kept_input_error(run.folder):
        return {"error": error}
    if Path(settings["folder"]).is_dir():
        os.chdir(settings["folder"])  # a relative path in the config is the user's, not Ray's
    skipped = logging.FileHandler(run.folder / _SKIPPED_FILE, delay=True)
    logging.getLogger("uda.data.crops").addHandler(skipped)
    notices = logging.FileHandler(run.folder / _NOTICES_FILE, delay=True)
    logging.getLogger("uda.loop").addHandler(notices)
    try:
        with RayWorker(run.config, run.folder) as worker, _feed(settings, worker) as feed:
            if worker.device.type == "cpu":
                # Ray gives each worker its share of the cores; more threads would fight over them.
                own = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
                torch.set_num_threads(max(1, int(own)))
            waits = settings["mark_waiting"]
            steps = train_loop(run.config, worker, feed, run.provenance, mark_waiting=waits)
            return {"steps": steps}
    except TrainingError as error:
        # All workers see it at once, and it would come again: returned rather than raised,
        # which would make Ray restart the workers.
        return {"error": error}
    except UserError as error:
        keep_input_error(run.folder, error)
        raise


def _feed(settings: dict[str, Any], worker: RayWorker) -> PairLoader:
    run: Run = settings["run"]
    share = Share(batch_size=run.config.batch_size, rank=worker.rank, world_size=worker.world_size)
    crops = worker_crops(run.config, settings["ingest"], share)
    pin_memory = worker.device.type == "cuda"
    return open_feed(run.config, run.data, crops, share, pin_memory=pin_memory)


def _say_what_was_skipped(file: Path) -> None:
    if file.exists():
        rows = set(file.read_text().splitlines())  # each worker says it of its own
        print(f"uda: bad rows skipped: {len(rows)}, see {file}", file=sys.stderr)


def _wait(finished: threading.Event, run: Run, bar: tqdm, stop_file: Path) -> None:
    """Shows progress until the run has ended."""
    # Not Thread.join: interrupted by Ctrl-C, it takes a running thread for an ended one.
    said, was_asked = 0, False
    while not finished.is_set():
        try:
            finished.wait(_POLL_S)
            _show(run, bar)
            said = _say_notices(run.folder / _NOTICES_FILE, said)
        except KeyboardInterrupt:
            if was_asked:  # the file may be there because quality falls
                raise
            was_asked = True
            stop_file.touch()
            tqdm.write("saving and stopping; press Ctrl-C again to abort", file=sys.stderr)
    _show(run, bar)
    _say_notices(run.folder / _NOTICES_FILE, said)


def _say_notices(file: Path, said: int) -> int:
    """Prints what the workers have to say beyond the first `said` lines; how many there are."""
    lines = file.read_text().splitlines() if file.exists() else []
    for line in lines[said:]:
        tqdm.write(f"uda: {line}", file=sys.stderr)
    return len(lines)


def _show(run: Run, bar: tqdm) -> None:
    if scalars := latest_scalars(run.folder):
        bar.update(int(scalars["step"]) - bar.n)
        bar.set_postfix_str(f"loss {scalars['loss/total']:.3f}", refresh=False)
