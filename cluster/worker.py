"""One worker of a training run under Ray Train: the `uda.loop.Worker` of a cluster."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import ray.train
import ray.train.torch
import torch
import torch.distributed as dist
from ray.train import Checkpoint
from ray.train.v2.api.report_config import CheckpointUploadMode
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from uda.checkpoint import checkpoints, step_folder
from uda.config import Config
from uda.journal import Journal
from uda.task import AdaptationTask

STOP_FILE = "STOP"  # its appearance in the run's folder asks all workers to save and stop


class RayWorker:
    """The worker that Ray Train started in this process. Rank 0 writes for all."""

    def __init__(self, config: Config, run: Path) -> None:
        context = ray.train.get_context()
        self.rank: int = context.get_world_rank()
        self.world_size: int = context.get_world_size()
        self.device: torch.device = ray.train.torch.get_device()
        self._config = config
        self._run = run
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
            first_step = max(0, step - self._config.runtime.log_every)
            self._journal = self._stack.enter_context(Journal(self._run, first_step))
        self._journal.write(step, scalars)

    def report(self, step: int, save: Callable[[Path], None]) -> None:
        # The folder is written in place and renamed when complete, so Ray need not copy it.
        checkpoint = None
        if self.rank == 0:
            folder = step_folder(self._run, step)
            save(folder)
            checkpoint = Checkpoint.from_directory(str(folder))
        ray.train.report(
            {"step": step},
            checkpoint=checkpoint,
            checkpoint_upload_mode=CheckpointUploadMode.NO_UPLOAD,
        )

    def restore(self) -> Path | None:
        found = checkpoints(self._run)
        return found[-1] if found else None

    def should_stop(self) -> bool:
        return (self._run / STOP_FILE).exists()
