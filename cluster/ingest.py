"""The resident mode: a folder's encoded bytes, read once into Ray's object store.

The driver calls `load_resident` and puts the reference into the workers' config. Each worker makes
`ResidentRows` of it, which maps the blocks of its node's object store without copying and looks
rows up by index. So one reading serves all epochs and all workers of a node, and what a step
trains on is decided by the plan alone, not by the order in which Ray delivers.

Ray Data runs our own reader of row groups instead of its `read_parquet`: to estimate sizes, that
one reads samples of all columns, whichever are selected, and the labels of the target must stay
unread.
"""

import bisect
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
from ray import ObjectRef
from ray.data import DataContext
from ray.data.dataset import MaterializedDataset
from ray.exceptions import RayTaskError

from uda.data.rows import EncodedRow, encoded_row, read_group, row_columns
from uda.data.shards import ShardFolder, open_shards
from uda.types import UserError

_SAMPLE = "sample"  # the column that we add: a row's place in the folder


@dataclass(frozen=True, kw_only=True)
class ResidentRef:
    """Where the samples of a folder are: block and row of each, in the folder's order.

    Small, and may be pickled into a worker's config. The driver must keep its own: the blocks
    live as long as somebody in the session refers to them.
    """

    folder: str
    blocks: tuple["ObjectRef[pa.Table]", ...]
    block_of: np.ndarray  # (N,) int32
    row_of: np.ndarray  # (N,) int32

    def __len__(self) -> int:
        return len(self.block_of)


def load_resident(folder: ShardFolder | str | Path, *, labels: bool) -> ResidentRef:
    """Reads the shards once, in parallel; without `labels` the label column is never touched.

    UserError names a shard that does not read.
    """
    shards = folder if isinstance(folder, ShardFolder) else open_shards(folder)
    try:
        dataset = _materialize(shards, row_columns(labels=labels))
    except RayTaskError as error:
        if isinstance(error.cause, UserError):  # the message without the remote trace around it
            raise UserError(str(error.cause).splitlines()[0]) from error
        raise
    blocks = tuple(dataset.to_arrow_refs())
    block_of = np.full(len(shards), -1, np.int32)
    row_of = np.full(len(shards), -1, np.int32)
    for block, samples in enumerate(ray.get([_samples.remote(block) for block in blocks])):
        block_of[samples] = block
        row_of[samples] = np.arange(len(samples))
    assert dataset.count() == len(shards), "Ray Data has lost or repeated rows"
    assert (block_of >= 0).all(), "Ray Data has lost rows"
    return ResidentRef(folder=str(shards.path), blocks=blocks, block_of=block_of, row_of=row_of)


class ResidentRows:
    """A RowReader over blocks in the object store; same rows, same order as ShardRows."""

    def __init__(self, resident: ResidentRef) -> None:
        self._resident = resident
        # Views into shared memory. A block may consist of several batches.
        self._batches = [table.to_batches() for table in ray.get(list(resident.blocks))]
        self._starts = [
            [0, *accumulate(len(batch) for batch in batches)] for batches in self._batches
        ]

    def __len__(self) -> int:
        return len(self._resident)

    def row(self, index: int) -> EncodedRow:
        if not 0 <= index < len(self):
            raise IndexError(f"sample: got {index}, have {len(self)}")
        block, row = int(self._resident.block_of[index]), int(self._resident.row_of[index])
        batch = bisect.bisect_right(self._starts[block], row) - 1
        where = f"{self._resident.folder} sample {index}"
        return encoded_row(self._batches[block][batch], row - self._starts[block][batch], where)


def _materialize(shards: ShardFolder, columns: list[str]) -> MaterializedDataset:
    """One task per shard; blocks stay below Ray's usual size."""
    rows = [shard.rows for shard in shards.manifest.shards]
    files = [
        {"file": str(file.absolute()), _SAMPLE: first}
        for file, first in zip(shards.files, accumulate(rows, initial=0), strict=False)
    ]
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.ERROR)  # otherwise each reading tells its execution plan on stderr
    try:
        with DataContext.current(context):
            dataset = ray.data.from_items(files, override_num_blocks=len(files))
            return dataset.map_batches(
                partial(_read_shards, columns=columns), batch_size=None, batch_format="pyarrow"
            ).materialize()
    finally:
        logger.setLevel(level)


def _read_shards(files: pa.Table, columns: list[str]) -> Iterator[pa.Table]:
    """The row groups of these files, with the place of each row in the folder."""
    for item in files.to_pylist():
        file, first = Path(item["file"]), item[_SAMPLE]
        for group in range(pq.read_metadata(file).num_row_groups):
            table = read_group(file, group, columns, str(file))
            places = pa.array(np.arange(first, first + len(table)), pa.int64())
            first += len(table)
            yield table.append_column(_SAMPLE, places)


@ray.remote(num_cpus=0.5)
def _samples(block: pa.Table) -> np.ndarray:
    return block[_SAMPLE].to_numpy()
