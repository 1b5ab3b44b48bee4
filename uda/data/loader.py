"""Batches for the training loop: plan positions -> rows -> crops, decoded by threads ahead of time.

Decoding releases the interpreter's lock, so threads of the training process suffice and decoded
pixels are never copied between processes.
"""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from uda.data.crop import CropConfig, load_crop
from uda.data.rows import RowReader
from uda.data.sampling import EpochPlan, PlanItem
from uda.types import Batch, Labelled, Unlabelled, UserError


class PairLoader:
    """Endless pairs of a labelled source batch and an unlabelled target batch.

    Step t uses positions [t B, (t + 1) B) of both plans, B the global batch size; rank r takes the
    r-th contiguous slice of B / world_size. So the union over ranks does not depend on their
    number, and resuming means `batches(step)`.
    """

    def __init__(
        self,
        source: RowReader,
        target: RowReader,
        source_plan: EpochPlan,
        target_plan: EpochPlan,
        crop: CropConfig,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        threads: int = 2,
        prefetch: int = 2,
        pin_memory: bool = False,
    ) -> None:
        """`threads` 0 decodes inline; `prefetch` batches are decoded ahead of the one in use."""
        if batch_size < 1 or batch_size % world_size:
            raise UserError(
                f"batch_size: got {batch_size}, want a multiple of {world_size} workers"
            )
        if threads < 0 or prefetch < 1:
            raise UserError(f"loader: got threads {threads}, prefetch {prefetch}, want >= 0, >= 1")
        for name, rows, plan in (("source", source, source_plan), ("target", target, target_plan)):
            if len(rows) != plan.num_samples:
                raise UserError(f"{name}: got {len(rows)} rows, want {plan.num_samples} as planned")
        assert 0 <= rank < world_size
        self._source = _Stream(source, source_plan, crop, labels=True)
        self._target = _Stream(target, target_plan, crop, labels=False)
        self._crop = crop
        self._per_worker = batch_size // world_size
        self._batch_size = batch_size
        self._first_sample = rank * self._per_worker
        self._prefetch = prefetch
        self._pin_memory = pin_memory
        self._executor = ThreadPoolExecutor(threads, "decode") if threads else None
        self._wait_seconds = 0.0

    @property
    def wait_seconds(self) -> float:
        """How long the loop waited for the batch it got last."""
        return self._wait_seconds

    def batches(self, first_step: int = 0) -> Iterator[Batch]:
        """This worker's batches from `first_step` on, without end.

        Tensors are views of (B, H, W, 3) memory, that is, already in channels_last format.
        UserError names the shard and row of a sample that cannot be read.
        """
        ahead: deque[_Pending] = deque()
        step = first_step
        try:
            while True:
                started = time.perf_counter()
                while len(ahead) < (1 if self._executor is None else 1 + self._prefetch):
                    ahead.append(self._start(step + len(ahead)))
                batch = ahead.popleft().result()
                self._wait_seconds = time.perf_counter() - started
                yield batch
                step += 1
        finally:
            for pending in ahead:
                pending.cancel()

    def close(self) -> None:
        """Stops the threads after the samples they are at. Iterating further is an error."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> "PairLoader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self, step: int) -> "_Pending":
        """Hands the samples of a step to the threads, or decodes them here."""
        first = step * self._batch_size + self._first_sample
        size = (self._per_worker, self._crop.height, self._crop.width)
        images, target_images = (
            torch.empty((*size, 3), dtype=torch.uint8, pin_memory=self._pin_memory) for _ in "st"
        )
        labels = torch.empty(size, dtype=torch.uint8, pin_memory=self._pin_memory)
        jobs = [
            *self._source.jobs(first, images, labels),
            *self._target.jobs(first, target_images, None),
        ]
        batch = Batch(
            source=Labelled(images.permute(0, 3, 1, 2), labels),
            target=Unlabelled(target_images.permute(0, 3, 1, 2)),
            step=step,
            first_sample=self._first_sample,
        )
        if self._executor is None:
            for job in jobs:
                job.run()
            return _Pending(batch, [])
        return _Pending(batch, [self._executor.submit(job.run) for job in jobs])


class _Pending(NamedTuple):
    """A batch whose memory the threads are still filling."""

    batch: Batch
    futures: list["Future[None]"]

    def result(self) -> Batch:
        for future in self.futures:
            future.result()  # raises what the thread raised
        return self.batch

    def cancel(self) -> None:
        for future in self.futures:
            future.cancel()


class _Job(NamedTuple):
    """One sample of one batch: writes its crop into the batch's memory."""

    stream: "_Stream"
    item: PlanItem
    image: np.ndarray
    label: np.ndarray | None

    def run(self) -> None:
        row = self.stream.rows.row(self.item.sample)
        image, label = load_crop(row, self.item, self.stream.crop, labels=self.stream.labels)
        self.image[...] = image
        if self.label is not None:
            self.label[...] = label


class _Stream(NamedTuple):
    """One domain: where its samples are and in which order they come."""

    rows: RowReader
    plan: EpochPlan
    crop: CropConfig
    labels: bool

    def jobs(self, first: int, images: Tensor, labels: Tensor | None) -> list[_Job]:
        items = self.plan.items(first, len(images))
        image_memory = images.numpy()
        label_memory = [None] * len(items) if labels is None else labels.numpy()
        return [_Job(self, item, image_memory[i], label_memory[i]) for i, item in enumerate(items)]
