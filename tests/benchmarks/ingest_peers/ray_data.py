"""What Ray Data offers for the same: rows read by its tasks in the plan's order, streamed here."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Before Ray is imported. The newer sources start an epoch after seconds instead of at once.
os.environ.setdefault("RAY_DATA_USE_DATASOURCE_V2", "0")

import pyarrow as pa
import ray.data
from ray.data import DataContext, DataIterator, ExecutionResources

from tests.benchmarks.ingest_peers import Take
from tests.benchmarks.ingest_peers.ours import CROPS, loading, ray_running
from uda.data.crop import load_crop
from uda.data.crops import Crop
from uda.data.rows import BlockRows, ShardRows, read_block
from uda.data.sampling import EpochPlan, PlanItem
from uda.data.shards import ShardFolder

_BLOCK_BYTES = 16e6
_STORE_BYTES = 256e6
_BLOCKS = 1000  # more than a measurement uses


@contextmanager
def open_split(data: Path, threads: int) -> Iterator[Take]:
    with ray_running(), loading(data, threads, _SplitCrops) as take:
        yield take


class _SplitCrops:
    """A CropSource over `streaming_split`, which is what Ray Train gives its workers."""

    def __init__(self, folder: ShardFolder, plan: EpochPlan) -> None:
        self._samples = len(folder)
        self._blocks = _blocks(folder, plan)
        self._arrived: dict[int, tuple[BlockRows, int]] = {}
        self._next = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._samples

    def start(self, first_step: int) -> None:
        assert first_step == 0

    def crop(self, position: int, item: PlanItem) -> Crop:
        with self._lock:
            while position not in self._arrived:
                rows = BlockRows(next(self._blocks))
                for index in range(len(rows)):
                    self._arrived[self._next + index] = (rows, index)
                self._next += len(rows)
            rows, index = self._arrived.pop(position)
        return load_crop(rows.row(index), item, CROPS, labels=True)

    def close(self) -> None:
        self._arrived.clear()


def _blocks(folder: ShardFolder, plan: EpochPlan) -> Iterator[pa.Table]:
    rows = ray.put(ShardRows(folder, labels=True))
    per_block = max(1, round(_BLOCK_BYTES * len(folder) / folder.total_bytes))

    def read(positions: pa.Table) -> pa.Table:
        items = [plan.items(int(p), 1)[0] for p in positions["id"].to_numpy()]
        return read_block(ray.get(rows), [item.sample for item in items])

    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.execution_options.resource_limits = ExecutionResources(
        cpu=2, object_store_memory=_STORE_BYTES
    )
    with DataContext.current(context):
        positions = ray.data.range(_BLOCKS * per_block, override_num_blocks=_BLOCKS)
        dataset = positions.map_batches(
            read, batch_size=None, batch_format="pyarrow", num_cpus=0.5, zero_copy_batch=True
        )
        split: DataIterator = dataset.streaming_split(1, equal=False)[0]
    return iter(split.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2))
