"""`uda train`: a run on Ray Train workers, fed from Ray's object store."""

import logging
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer
from tqdm import tqdm

from cluster.ingest import ResidentRows, load_resident
from cluster.worker import STOP_FILE, RayWorker
from uda.checkpoint import last_step
from uda.data.rows import RowReader
from uda.feed import open_feed
from uda.journal import read_scalars
from uda.loop import TrainingError
from uda.loop import train as train_loop
from uda.run import Run
from uda.types import Domain, UserError

_MAX_FAILURES = 3  # restarts of the workers from the latest checkpoint before giving up
_COLLECTIVE_TIMEOUT_S = 300  # a worker that is gone must not hold the others for half an hour
_POLL_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """The place a run is given. Changes nothing about what is learned."""

    num_workers: int = 1
    gpu: bool = False
    cpus_per_worker: float = 1.0


def train(run: Run, scaling: Scaling, *, progress: bool = True) -> int:
    """Trains on the cluster that Ray is connected to; returns the number of finished steps.

    The first Ctrl-C lets the workers finish their step, save and stop; the second one aborts.

    Raises:
        UserError: an input cannot be read.
        TrainingError: training cannot go on, in one line.
    """
    stop_file = run.folder / STOP_FILE
    stop_file.unlink(missing_ok=True)
    trainer = _trainer(run, scaling)
    outcome: dict[str, Any] = {}

    def fit() -> None:
        try:
            result: Any = trainer.fit()
            outcome.update(result.return_value)
        except BaseException as error:
            outcome["error"] = error

    # In a thread of its own, Ray leaves Ctrl-C to us.
    thread = threading.Thread(target=fit, name="fit", daemon=True)
    thread.start()
    with tqdm(
        total=run.config.steps,
        initial=last_step(run.folder),
        unit="step",
        desc=run.config.name,
        disable=not progress,
    ) as bar:
        _wait(thread, run, bar, stop_file)
    stop_file.unlink(missing_ok=True)
    if "error" in outcome:
        raise _plain_error(outcome["error"])
    return int(outcome["steps"])


def _trainer(run: Run, scaling: Scaling) -> TorchTrainer:
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    rows = {d: load_resident(folder, labels=d is Domain.SOURCE) for d, folder in run.data.items()}
    resources: dict[str, float] = {"CPU": scaling.cpus_per_worker}
    if scaling.gpu:
        resources["GPU"] = 1
    return TorchTrainer(
        _work,  # type: ignore[arg-type]  # Ray's annotation knows no return value
        train_loop_config={"run": run, "rows": rows},
        torch_config=TorchConfig(timeout_s=_COLLECTIVE_TIMEOUT_S),
        scaling_config=ScalingConfig(
            num_workers=scaling.num_workers, use_gpu=scaling.gpu, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=run.folder.name,
            storage_path=str(run.folder.parent),
            failure_config=FailureConfig(max_failures=_MAX_FAILURES),
            checkpoint_config=CheckpointConfig(num_to_keep=run.config.runtime.keep_checkpoints),
        ),
    )


def _work(settings: dict[str, Any]) -> dict[str, Any]:
    """What every worker does: the plain training loop, given a place among many."""
    run: Run = settings["run"]
    rows: dict[Domain, RowReader] = {d: ResidentRows(ref) for d, ref in settings["rows"].items()}
    with (
        RayWorker(run.config, run.folder) as worker,
        open_feed(
            run.config,
            run.data,
            rows,
            rank=worker.rank,
            world_size=worker.world_size,
            pin_memory=worker.device.type == "cuda",
        ) as feed,
    ):
        if worker.device.type == "cpu":
            # Ray gives each worker its share of the cores; more threads would fight over them.
            torch.set_num_threads(
                max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1)))
            )
        try:
            return {"steps": train_loop(run.config, worker, feed, run.provenance)}
        except TrainingError as error:
            # All workers see it at once, and it would come again: returned rather than raised,
            # which would make Ray restart the workers.
            return {"error": error}


def _wait(thread: threading.Thread, run: Run, bar: tqdm, stop_file: Path) -> None:
    """Shows progress until the run has ended."""
    while thread.is_alive():
        try:
            thread.join(_POLL_S)
            _show(run, bar)
        except KeyboardInterrupt:
            if stop_file.exists():
                raise
            stop_file.touch()
            tqdm.write("saving and stopping; press Ctrl-C again to abort", file=sys.stderr)
    _show(run, bar)


def _show(run: Run, bar: tqdm) -> None:
    if scalars := read_scalars(run.folder)[-1:]:
        bar.update(int(scalars[0]["step"]) - bar.n)
        bar.set_postfix_str(f"loss {scalars[0]['loss/total']:.3f}", refresh=False)


def _plain_error(error: BaseException) -> BaseException:
    """The worker's own error where there is one, without Ray's layers around it."""
    if isinstance(error, TrainingFailedError):
        for cause in getattr(error, "worker_failures", {}).values():
            inner = getattr(cause, "cause", None) or cause
            if isinstance(inner, UserError | TrainingError):
                return type(inner)(str(inner))
        return TrainingError("training failed: " + " ".join(str(error).split())[:500])
    return error
