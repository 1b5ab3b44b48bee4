"""One worker of a training run under Ray Train: the `uda.loop.Worker` of a cluster."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import ray.train
import ray.train.torch
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from uda.checkpoint import last_step, resumable_checkpoint, step_folder
from uda.config import Config
from uda.journal import Journal
from uda.selection import tidy
from uda.task import AdaptationTask

STOP_FILE = "STOP"  # its appearance in the run's folder asks all workers to save and stop
FADE_FILE = "FADE"  # there too, with how many fades of its levels the run should have had by now


class RayWorker:
    """The worker that Ray Train started in this process. Rank 0 writes for all."""

    def __init__(self, config: Config, run: Path) -> None:
        context = ray.train.get_context()
        self.rank: int = context.get_world_rank()
        self.world_size: int = context.get_world_size()
        self.device: torch.device = ray.train.torch.get_device()
        self._config = config
        self._run = run
        self._first_step = last_step(run)
        self._stack = ExitStack()
        self._journal: Journal | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def wrap(self, task: nn.Module) -> nn.Module:
        if self.world_size == 1:
            return task
        assert isinstance(task, AdaptationTask)
        return DistributedDataParallel(task, find_unused_parameters=task.has_pauses)

    def sum(self, values: Tensor) -> Tensor:
        if self.world_size > 1:
            dist.all_reduce(values)
        return values

    def log(self, step: int, scalars: dict[str, float]) -> None:
        if self.rank:
            return
        if self._journal is None:
            self._journal = self._stack.enter_context(Journal(self._run, self._first_step))
            self._journal.show_config(self._config.to_json())
        self._journal.write(step, scalars)

    def report(self, step: int, save: Callable[[Path], None]) -> None:
        # Ray is told the step alone. Of checkpoints it would keep a list of its own, and refuse to
        # start as soon as one of them is gone: deleted by hand, or pruned by a run without Ray.
        if self.rank == 0:
            save(step_folder(self._run, step))
            tidy(self._run, self._config.runtime)
        ray.train.report({"step": step})  # all wait here until the checkpoint is complete

    def restore(self) -> Path | None:
        return resumable_checkpoint(self._run)

    def should_stop(self) -> bool:
        return (self._run / STOP_FILE).exists()

    def fades_asked(self) -> int:
        return fades_asked(self._run)


def ask_for_fades(run: Path, count: int) -> None:
    """Asks all workers of a run; they follow at the next line they log."""
    partial = run / f".{FADE_FILE}.partial"
    partial.write_text(str(count))
    partial.replace(run / FADE_FILE)


def fades_asked(run: Path) -> int:
    """What was last asked for."""
    file = run / FADE_FILE
    return int(file.read_text()) if file.exists() else 0
