"""The streaming mode: each sample is read by a task on any node, shortly before it is used.

A worker knows which positions of the plan are its own, so it orders them itself, block after block
and a few blocks ahead, and gets exactly those, in order. What is under way or waiting is bounded by
the number of blocks ahead; a task whose process dies is repeated by Ray; nothing happens while the
trainer needs nothing.

Not Ray Data: its executor hands blocks to whoever asks first, so the plan's order is lost, and
while it waits for the trainer it keeps one core busy (`make bench-ingest` measures both).
"""

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import ray
from ray import ObjectRef
from ray.exceptions import RayError, RayTaskError

from uda.data.crop import CropConfig, load_crop
from uda.data.crops import Crop
from uda.data.loader import Share
from uda.data.rows import BlockRows, ShardRows, read_block
from uda.data.sampling import EpochPlan, PlanItem
from uda.data.shards import ShardFolder
from uda.types import UserError

_BLOCK_BYTES = 16e6  # where so much may be ahead: then a task costs little per sample
_MIN_BLOCKS = 2  # one to use, one to come
_READ_CPUS = 1.0  # so that few processes read: one feeds thousands of samples per second
_DECODE_CPUS = 1.0


@dataclass(frozen=True, kw_only=True)
class StreamRef:
    """What the tasks of one domain need, in the object store. May be pickled."""

    folder: str
    rows: "ObjectRef[ShardRows]"
    plan: "ObjectRef[EpochPlan]"
    samples: int
    sample_bytes: float  # of an encoded sample, on average
    crop: CropConfig
    labels: bool
    decode: bool  # in the tasks
    ahead_bytes: float

    @property
    def delivered_bytes(self) -> float:
        """Of one sample on its way to the worker."""
        channels = 4 if self.labels else 3
        return channels * self.crop.height * self.crop.width if self.decode else self.sample_bytes

    def begin(self, positions: list[int]) -> "ObjectRef[Any]":
        """Starts a task that makes the block of these positions of the plan."""
        if self.decode:
            task = _decode.options(num_cpus=_DECODE_CPUS)
            return task.remote(self.rows, self.plan, positions, self.crop, self.labels)
        return _read.options(num_cpus=_READ_CPUS).remote(self.rows, self.plan, positions)


def open_stream(
    folder: ShardFolder,
    plan: EpochPlan,
    crop: CropConfig,
    *,
    labels: bool,
    decode: bool,
    ahead_bytes: float,
) -> StreamRef:
    """Prepares the streaming of a folder; without `labels` no label is read.

    A first task, of nothing, lets a reading process start while the workers do.
    """
    stream = StreamRef(
        folder=str(folder.path),
        rows=ray.put(ShardRows(folder, labels=labels)),
        plan=ray.put(plan),
        samples=len(folder),
        sample_bytes=folder.total_bytes / len(folder),
        crop=crop,
        labels=labels,
        decode=decode,
        ahead_bytes=ahead_bytes,
    )
    stream.begin([])
    return stream


class StreamedCrops:
    """The `uda.data.crops.CropSource` of one worker and domain."""

    def __init__(self, stream: StreamRef, share: Share) -> None:
        block_samples = min(_BLOCK_BYTES, stream.ahead_bytes / _MIN_BLOCKS) / stream.delivered_bytes
        self._stream = stream
        self._share = share
        self._block_steps = max(1, int(block_samples / share.per_step))
        block_bytes = self._block_steps * share.per_step * stream.delivered_bytes
        self._blocks_ahead = max(_MIN_BLOCKS, int(stream.ahead_bytes / block_bytes))
        self._next_step = 0
        self._ordered: deque[_Order] = deque()
        self._arrived: dict[int, _Arrival] = {}  # by position
        self._lock = threading.Lock()  # one thread waits for the next block, the others for it

    def __len__(self) -> int:
        return self._stream.samples

    def start(self, first_step: int) -> None:
        with self._lock:
            self._forget()
            self._next_step = first_step
            self._order()

    def crop(self, position: int, item: PlanItem) -> Crop:
        arrival = self._take(position)
        if self._stream.decode:
            return _decoded(arrival)
        row = arrival.block.row(arrival.row)
        return load_crop(row, item, self._stream.crop, labels=self._stream.labels)

    def close(self) -> None:
        """Cancels what is under way; a thread that waits for it gets an error."""
        for order in list(self._ordered):
            ray.cancel(order.block)
        with self._lock:
            self._forget()

    def _take(self, position: int) -> "_Arrival":
        arrival = self._arrived.pop(position, None)
        while arrival is None:
            with self._lock:
                arrival = self._arrived.pop(position, None)
                if arrival is None:
                    self._receive(position)
        return arrival

    def _receive(self, position: int) -> None:
        """Waits for the block that was ordered first, and orders another."""
        if not self._ordered or position < self._ordered[0].positions[0]:
            raise RuntimeError(f"stream: got position {position}, want one that is still to come")
        order = self._ordered[0]
        try:
            block = ray.get(order.block)
        except RayError as error:
            first, last = order.positions[0], order.positions[-1]
            cause = error.cause if isinstance(error, RayTaskError) else error
            reason = str(cause).strip().partition("\n")[0]
            raise RuntimeError(
                f"reading {self._stream.folder} for positions {first} to {last}: "
                f"{type(cause).__name__}: {reason}"
            ) from error
        self._ordered.popleft()
        self._order()
        if not self._stream.decode:
            block = BlockRows(block)
        for row, position in enumerate(order.positions):
            self._arrived[position] = _Arrival(block, row)

    def _order(self) -> None:
        while len(self._ordered) < self._blocks_ahead:
            steps = range(self._next_step, self._next_step + self._block_steps)
            positions = [p for step in steps for p in self._share.positions(step)]
            self._ordered.append(_Order(positions, self._stream.begin(positions)))
            self._next_step = steps.stop

    def _forget(self) -> None:
        self._ordered.clear()
        self._arrived.clear()


class _Order(NamedTuple):
    """A block that some task is making."""

    positions: list[int]
    block: "ObjectRef[Any]"


class _Arrival(NamedTuple):
    """A sample that has come: its block and its place there."""

    block: Any
    row: int


class _DecodedBlock(NamedTuple):
    """Crops of some positions, and why there is none where there is none."""

    images: np.ndarray  # (N, H, W, 3) uint8
    labels: np.ndarray | None  # (N, H, W) uint8
    errors: list[str]


@ray.remote
def _read(rows: ShardRows, plan: EpochPlan, positions: list[int]) -> pa.Table:
    return read_block(rows, [item.sample for item in _items(plan, positions)])


@ray.remote
def _decode(
    rows: ShardRows, plan: EpochPlan, positions: list[int], crop: CropConfig, labels: bool
) -> _DecodedBlock:
    size = (len(positions), crop.height, crop.width)
    block = _DecodedBlock(
        np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8) if labels else None, []
    )
    for index, item in enumerate(_items(plan, positions)):
        error = ""
        try:
            image, label = load_crop(rows.row(item.sample), item, crop, labels=labels)
            block.images[index] = image
            if block.labels is not None:
                block.labels[index] = label
        except UserError as reason:
            error = str(reason)
        block.errors.append(error)
    return block


def _items(plan: EpochPlan, positions: list[int]) -> list[PlanItem]:
    return [item for position in positions for item in plan.items(position, 1)]


def _decoded(arrival: _Arrival) -> Crop:
    block: _DecodedBlock = arrival.block
    if error := block.errors[arrival.row]:
        raise UserError(error)
    label = None if block.labels is None else block.labels[arrival.row]
    return block.images[arrival.row], label
