"""The resident mode: a folder's encoded bytes, read once into Ray's object store.

The driver calls `load_resident` and puts the reference into the workers' config. Each worker makes
`ResidentRows` of it, which maps the blocks of its node's object store without copying and looks
rows up by index. So one reading serves all epochs and all workers of a node, and what a step
trains on is decided by the plan alone, not by the order in which Ray delivers.

Our own tasks fill Ray Data's blocks, not its `read_parquet`: to estimate sizes, that one reads
samples of all columns, whichever are selected, and the labels of the target must stay unread.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from ray import ObjectRef
from ray.data.dataset import MaterializedDataset

from uda.data.rows import BlockRows, EncodedRow, ShardRows, read_block
from uda.data.shards import ShardFolder, open_shards

_SAMPLE = "sample"  # the column that we add: a row's place in the folder
_BLOCK_BYTES = 64e6


@dataclass(frozen=True, kw_only=True)
class ResidentRef:
    """Where the samples of a folder are: block and row of each, in the folder's order.

    Small, and may be pickled into a worker's config. The driver must keep its own: the blocks
    live as long as somebody in the session refers to them.
    """

    blocks: tuple["ObjectRef[pa.Table]", ...]
    block_of: np.ndarray  # (N,) int32
    row_of: np.ndarray  # (N,) int32

    def __len__(self) -> int:
        return len(self.block_of)


def load_resident(folder: ShardFolder | str | Path, *, labels: bool) -> ResidentRef:
    """Reads the shards once, in parallel; without `labels` no label is touched.

    A sample that cannot be read is an error only for those who ask for its row.
    """
    shards = folder if isinstance(folder, ShardFolder) else open_shards(folder)
    dataset = _materialize(shards, labels)
    blocks = tuple(dataset.to_arrow_refs())
    block_of = np.full(len(shards), -1, np.int32)
    row_of = np.full(len(shards), -1, np.int32)
    for block, samples in enumerate(ray.get([_samples.remote(block) for block in blocks])):
        block_of[samples] = block
        row_of[samples] = np.arange(len(samples))
    assert dataset.count() == len(shards), "Ray Data has lost or repeated rows"
    assert (block_of >= 0).all(), "Ray Data has lost rows"
    return ResidentRef(blocks=blocks, block_of=block_of, row_of=row_of)


class ResidentRows:
    """A RowReader over blocks in the object store; same rows, same order as ShardRows."""

    def __init__(self, resident: ResidentRef) -> None:
        self._resident = resident
        self._blocks = [BlockRows(table) for table in ray.get(list(resident.blocks))]

    def __len__(self) -> int:
        return len(self._resident)

    def row(self, index: int) -> EncodedRow:
        if not 0 <= index < len(self):
            raise IndexError(f"sample: got {index}, have {len(self)}")
        block = self._blocks[self._resident.block_of[index]]
        return block.row(int(self._resident.row_of[index]))


def _materialize(shards: ShardFolder, labels: bool) -> MaterializedDataset:
    """Tasks that each read a stretch of the folder; blocks stay below Ray's usual size."""
    per_block = max(1, round(_BLOCK_BYTES * len(shards) / shards.total_bytes))
    rows = ray.put(ShardRows(shards, labels=labels))
    blocks: list[Any] = [
        _read.remote(rows, first, min(first + per_block, len(shards)))
        for first in range(0, len(shards), per_block)
    ]
    return ray.data.from_arrow_refs(blocks)


@ray.remote
def _read(rows: ShardRows, first: int, stop: int) -> pa.Table:
    """These samples, with the place of each in the folder."""
    samples = np.arange(first, stop)
    return read_block(rows, samples.tolist()).append_column(_SAMPLE, pa.array(samples))


@ray.remote(num_cpus=0.5)
def _samples(block: pa.Table) -> np.ndarray:
    return block[_SAMPLE].to_numpy()
