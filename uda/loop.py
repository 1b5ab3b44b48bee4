"""The training loop, and the seam between it and the place it runs in."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from uda.checkpoint import TrainState
from uda.config import Config
from uda.models import load_pretrained
from uda.types import HEALTH, Batch, StepOutput, WorkError
from uda.watch import CollapseWatch

_logger = logging.getLogger(__name__)


class TrainingError(WorkError):
    """Training cannot go on; the last checkpoint is intact. The message is one line."""


@runtime_checkable
class Worker(Protocol):
    """What the loop needs from the place it runs in: one process, or one of many under Ray."""

    rank: int
    world_size: int
    device: torch.device

    def wrap(self, task: nn.Module) -> nn.Module:
        """The module to call: gradients of all workers are averaged in its backward pass."""
        ...

    def sum(self, values: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
        """Element-wise sum over all workers, the same on each of them."""
        ...

    def log(self, step: int, scalars: dict[str, float]) -> None:
        """Records scalars (all workers call it, one writes)."""
        ...

    def report(self, step: int, save: Callable[[Path], None]) -> None:
        """Publishes the checkpoint that `save` writes (all workers call it, one writes)."""
        ...

    def restore(self) -> Path | None:
        """The checkpoint to continue from, if there is one."""
        ...

    def should_stop(self) -> bool:
        """Whether this worker was asked to stop; asked when a line is logged."""
        ...

    def fades_asked(self) -> int:
        """How many fades the run is asked to have had by now; asked when a line is logged."""
        ...


@runtime_checkable
class Batches(Protocol):
    """The endless stream of a worker's batches."""

    @property
    def wait_seconds(self) -> float:
        """How long the last batch kept the trainer waiting."""
        ...

    @property
    def bad_rows(self) -> int:
        """How many different samples this worker has skipped so far."""
        ...

    def batches(self, first_step: int) -> Iterator[Batch]: ...


@dataclass
class _Meter:
    """Averages between two log lines, kept on the device until they are read."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    wait_seconds: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def add(self, output: StepOutput, wait_seconds: float) -> None:
        self.steps += 1
        self.wait_seconds += wait_seconds
        for name, value in {"total": output.loss.detach(), **output.terms}.items():
            self.sums[name] = self.sums.get(name, 0) + value.float()
            self.counts[name] = self.counts.get(name, 0) + 1

    def read(self, worker: Worker, batch_size: int) -> dict[str, float]:
        """Means over steps and workers. Waits for the device: the one place that does."""
        names = sorted(self.sums)
        means = [self.sums[name] / self.counts[name] for name in names]
        wait = torch.tensor(self.wait_seconds, device=worker.device)
        values = worker.sum(torch.stack([*means, wait]).double()) / worker.world_size
        *means, wait = values.tolist()
        seconds = time.perf_counter() - self.started
        return {
            **{_tag(name): mean for name, mean in zip(names, means, strict=True)},
            "speed/samples_per_second": 2 * batch_size * self.steps / seconds,  # both domains
            "speed/data_wait_share": wait / seconds,
        }


def _tag(term: str) -> str:
    """Where TensorBoard shows a term."""
    return term if term.startswith(HEALTH) else f"loss/{term}"


def train(
    config: Config, worker: Worker, data: Batches, provenance: dict, *, mark_waiting: bool = False
) -> int:
    """Trains until `config.steps` or until asked to stop; returns the number of finished steps.

    With `mark_waiting` every checkpoint says that it waits for evaluation, see `TrainState.save`.

    Raises:
        TrainingError: a loss is not finite, or the workers found different checkpoints. No
            checkpoint of the damaged state is written.
    """
    state = TrainState(config, worker.device)
    if (restored := worker.restore()) is not None:
        state.load(restored)
    else:
        load_pretrained(state.task.student, config.model)
        state.task.start_copies()
    _check_agreement(state.step, worker)
    if state.step >= config.steps:
        return state.step
    if config.runtime.compile:
        state.task.student.compile()
    task = worker.wrap(state.task)
    task.train()
    meter, watch = _Meter(), CollapseWatch(level.name for level in config.levels)
    with closing(data.batches(state.step)) as stream:  # type: ignore[type-var]
        for batch in stream:
            output = task(batch.to(worker.device))
            output.loss.backward()
            state.optimisers.step(state.step)
            state.task.after_step(state.step)
            meter.add(output, data.wait_seconds)
            state.step += 1
            done = state.step >= config.steps
            if done or state.step % config.runtime.log_every == 0:
                _log(state, meter, worker, data, watch)
                meter = _Meter()
                _fade_if_asked(state, worker)
                stop = _any(worker, worker.should_stop())
                done = done or stop
            if done or state.step % config.runtime.checkpoint_every == 0:
                _check_finite_since(meter, state, worker)
                _check_weights(state)
                worker.report(
                    state.step, lambda folder: state.save(folder, provenance, waits=mark_waiting)
                )
            if done:
                break
    return state.step


def _check_agreement(step: int, worker: Worker) -> None:
    """Workers that start at different steps would train on, on other data, and never end."""
    own = torch.tensor([step, step**2], dtype=torch.float64, device=worker.device)
    total, squares = worker.sum(own).tolist()
    if squares * worker.world_size != total**2:  # equal only if all steps are
        raise TrainingError(
            f"workers found different checkpoints (this one step {step}); "
            "want an --out that all of them see"
        )


def _log(
    state: TrainState, meter: _Meter, worker: Worker, data: Batches, watch: CollapseWatch
) -> None:
    scalars = meter.read(worker, state.config.batch_size)
    _check_finite(scalars, state.step)
    if state.config.ingest.on_bad_row == "skip":
        bad_rows = worker.sum(torch.tensor([float(data.bad_rows)], device=worker.device))
        scalars["data/bad_rows"] = bad_rows.item()
    news = watch.look(state.step, scalars)
    if worker.rank == 0:
        for sentence in news.sentences:
            _logger.warning("%s", sentence)
    if state.config.runtime.on_stall == "fade" or state.task.faded_at:
        scalars["levels/factor"] = state.task.levels_factor
    rates = {f"lr/{k}": rate for k, rate in state.optimisers.rates(state.step - 1).items()}
    worker.log(state.step, scalars | news.scalars | rates)


def _fade_if_asked(state: TrainState, worker: Worker) -> None:
    """One fade at a time, and none of a run that does not: all workers at the same step."""
    if state.config.runtime.on_stall == "fade":
        is_asked = worker.fades_asked() > len(state.task.faded_at)
        if _any(worker, is_asked):
            state.task.fade(state.step)


def _check_finite_since(meter: _Meter, state: TrainState, worker: Worker) -> None:
    """A state is saved only if every loss since the last check was finite."""
    if meter.steps:
        _check_finite(meter.read(worker, state.config.batch_size), state.step)


def _check_finite(scalars: dict[str, float], step: int) -> None:
    bad = [name for name, value in scalars.items() if not torch.isfinite(torch.tensor(value))]
    if bad:
        finite = ", ".join(f"{n}={v:.4g}" for n, v in scalars.items() if n not in bad)
        raise TrainingError(
            f"{', '.join(bad)} not finite at or shortly before step {step} ({finite}); "
            "the last checkpoint is intact"
        )


def _check_weights(state: TrainState) -> None:
    """No loss has seen the last update yet, and a gradient may overflow where its loss did not."""
    names, weights = zip(*state.task.named_parameters(), strict=True)
    finite = torch.stack([weight.isfinite().all() for weight in weights]).tolist()
    if bad := [name for name, is_finite in zip(names, finite, strict=True) if not is_finite]:
        raise TrainingError(
            f"{len(bad)} weights not finite after step {state.step}, such as {bad[0]}; "
            "the last checkpoint is intact"
        )


def _any(worker: Worker, flag: bool) -> bool:
    """Whether any worker says yes: all must agree, or one would wait for the others forever."""
    return bool(worker.sum(torch.tensor([float(flag)], device=worker.device)).item())
