"""Batches for the training loop: plan positions -> crops, made by threads ahead of time.

Decoding releases the interpreter's lock, so threads of the training process suffice and decoded
pixels are never copied between processes.
"""

import time
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from uda.data.crop import CropConfig
from uda.data.crops import CropSource, SkipBadRows
from uda.data.sampling import EpochPlan, PlanItem
from uda.types import Batch, Labelled, Unlabelled, UserError


@dataclass(frozen=True, kw_only=True)
class Share:
    """Which positions of a plan are one worker's.

    Step t uses positions [t B, (t + 1) B), B the global batch size; rank r takes the r-th
    contiguous slice of B / world_size. So the union over ranks does not depend on their number.
    """

    batch_size: int
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.batch_size % self.world_size:
            raise UserError(
                f"batch_size: got {self.batch_size}, want a multiple of {self.world_size} workers"
            )
        assert 0 <= self.rank < self.world_size

    @property
    def per_step(self) -> int:
        """This worker's samples in a step."""
        return self.batch_size // self.world_size

    @property
    def first_sample(self) -> int:
        """Where they begin in the global batch."""
        return self.rank * self.per_step

    def positions(self, step: int) -> range:
        first = step * self.batch_size + self.first_sample
        return range(first, first + self.per_step)


class CropBatch(NamedTuple):
    """Crops of one domain; the images are views of (B, H, W, 3), that is, channels_last memory."""

    images: UInt8[Tensor, "B 3 H W"]
    labels: UInt8[Tensor, "B H W"] | None


class CropLoader:
    """The batches of one domain for one worker."""

    def __init__(
        self,
        crops: CropSource,
        plan: EpochPlan,
        size: CropConfig,
        share: Share,
        *,
        labels: bool,
        executor: ThreadPoolExecutor | None = None,
        prefetch: int = 2,
        pin_memory: bool = False,
    ) -> None:
        """The threads of `executor` make `prefetch` batches ahead of the one in use; None: no."""
        if prefetch < 1:
            raise UserError(f"prefetch: got {prefetch}, want at least 1")
        if len(crops) != plan.num_samples:
            raise UserError(f"data: got {len(crops)} rows, want {plan.num_samples} as planned")
        self._crops = crops
        self._plan = plan
        self._size = (share.per_step, size.height, size.width)
        self._share = share
        self._labels = labels
        self._prefetch = prefetch
        self._pin_memory = pin_memory
        self._executor = executor

    def batches(self, first_step: int = 0) -> Generator[CropBatch, None, None]:
        """The batches from `first_step` on, without end; UserError names a row that is damaged."""
        self._crops.start(first_step)
        ahead: deque[_Pending] = deque()
        step = first_step
        try:
            while True:
                while len(ahead) < (1 if self._executor is None else 1 + self._prefetch):
                    ahead.append(self._begin(step))
                    step += 1
                yield ahead.popleft().result()
        finally:
            for pending in ahead:
                pending.cancel()

    @property
    def bad_rows(self) -> int:
        """How many different samples were skipped so far because they could not be used."""
        return self._crops.bad_rows if isinstance(self._crops, SkipBadRows) else 0

    def close(self) -> None:
        """Gives back what was fetched ahead; the executor is its owner's."""
        self._crops.close()

    def _begin(self, step: int) -> "_Pending":
        """Hands the samples of a step to the threads, or makes them here."""
        images = torch.empty((*self._size, 3), dtype=torch.uint8, pin_memory=self._pin_memory)
        labels = (
            torch.empty(self._size, dtype=torch.uint8, pin_memory=self._pin_memory)
            if self._labels
            else None
        )
        image_memory = images.numpy()
        label_memory = [None] * len(images) if labels is None else labels.numpy()
        positions = self._share.positions(step)
        items = self._plan.items(positions.start, len(positions))
        batch = CropBatch(images.permute(0, 3, 1, 2), labels)
        jobs = [
            _Job(self._crops, position, item, image_memory[i], label_memory[i])
            for i, (position, item) in enumerate(zip(positions, items, strict=True))
        ]
        if self._executor is None:
            for job in jobs:
                job.run()
            return _Pending(batch, [])
        return _Pending(batch, [self._executor.submit(job.run) for job in jobs])


class PairLoader:
    """Endless pairs of a labelled source batch and an unlabelled target batch."""

    def __init__(
        self,
        source: CropLoader,
        target: CropLoader,
        share: Share,
        executor: ThreadPoolExecutor | None = None,
    ) -> None:
        """`share` and `executor` are those of both loaders."""
        self._source = source
        self._target = target
        self._first_sample = share.first_sample
        self._executor = executor
        self._wait_seconds = 0.0

    @property
    def wait_seconds(self) -> float:
        """How long the loop waited for the batch it got last."""
        return self._wait_seconds

    @property
    def bad_rows(self) -> int:
        """How many different samples were skipped so far because they could not be used."""
        return self._source.bad_rows + self._target.bad_rows

    def batches(self, first_step: int = 0) -> Iterator[Batch]:
        """This worker's batches from `first_step` on, without end.

        UserError names the shard and row of a sample that cannot be read.
        """
        with (
            closing(self._source.batches(first_step)) as source,
            closing(self._target.batches(first_step)) as target,
        ):
            for step in count(first_step):
                started = time.perf_counter()
                labelled, unlabelled = next(source), next(target)
                self._wait_seconds = time.perf_counter() - started
                assert labelled.labels is not None
                yield Batch(
                    source=Labelled(labelled.images, labelled.labels),
                    target=Unlabelled(unlabelled.images),
                    step=step,
                    first_sample=self._first_sample,
                )

    def close(self) -> None:
        """Stops the threads after the samples they are at. Iterating further is an error."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
        self._source.close()  # a thread that waits for data that are on their way gives up
        self._target.close()
        if self._executor is not None:
            self._executor.shutdown(wait=True)

    def __enter__(self) -> "PairLoader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Pending(NamedTuple):
    """Something whose memory the threads are still filling."""

    batch: CropBatch
    futures: list["Future[None]"]

    def result(self) -> CropBatch:
        for future in self.futures:
            future.result()  # raises what the thread raised
        return self.batch

    def cancel(self) -> None:
        for future in self.futures:
            future.cancel()


class _Job(NamedTuple):
    """One sample of one batch: writes its crop into the batch's memory."""

    crops: CropSource
    position: int
    item: PlanItem
    image: np.ndarray
    label: np.ndarray | None

    def run(self) -> None:
        image, label = self.crops.crop(self.position, self.item)
        self.image[...] = image
        if self.label is not None:
            self.label[...] = label
