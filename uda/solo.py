"""The worker that is alone: training in this process, without a cluster."""

import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor, nn
from tqdm import tqdm

from uda.checkpoint import last_step, resumable_checkpoint, step_folder
from uda.config import Config
from uda.journal import Journal
from uda.selection import tidy


class SoloWorker:
    """`uda.loop.Worker` for one process, with a progress bar; Ctrl-C saves and stops.

    Use as a context manager: inside, the first Ctrl-C asks for a stop at the next line that is
    logged and the second one interrupts at once.
    """

    rank = 0
    world_size = 1

    def __init__(
        self, config: Config, run: Path, device: torch.device, *, quiet: bool = False
    ) -> None:
        self.device = device
        self._config = config
        self._run = run
        self._quiet = quiet
        self._stopped = False
        self._first_step = 0
        self._stack = ExitStack()
        self._bar: tqdm
        self._journal: Journal | None = None

    def __enter__(self) -> "SoloWorker":
        previous = signal.signal(signal.SIGINT, self._on_interrupt)
        self._stack.callback(signal.signal, signal.SIGINT, previous)
        self._first_step = last_step(self._run)
        steps = self._config.steps
        bar = tqdm(total=steps, initial=self._first_step, unit="step", disable=self._quiet)
        self._bar = self._stack.enter_context(bar)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def wrap(self, task: nn.Module) -> nn.Module:
        return task

    def sum(self, values: Tensor) -> Tensor:
        return values

    def log(self, step: int, scalars: dict[str, float]) -> None:
        if self._journal is None:
            self._journal = self._stack.enter_context(Journal(self._run, self._first_step))
            self._journal.show_config(self._config.to_json())
        self._journal.write(step, scalars)
        self._bar.update(step - self._bar.n)
        self._bar.set_postfix_str(f"loss {scalars['loss/total']:.3f}")

    def report(self, step: int, save: Callable[[Path], None]) -> None:
        save(step_folder(self._run, step))
        tidy(self._run, self._config.runtime)

    def restore(self) -> Path | None:
        return resumable_checkpoint(self._run)

    def should_stop(self) -> bool:
        return self._stopped

    def fades_asked(self) -> int:
        return 0  # nobody scores beside it

    @property
    def was_stopped(self) -> bool:
        return self._stopped

    def _on_interrupt(self, signum: int, frame: FrameType | None) -> None:
        if self._stopped:
            raise KeyboardInterrupt
        self._stopped = True
