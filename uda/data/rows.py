"""Reading encoded samples one by one, in the folder's order, from any place they are kept."""

import threading
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.parquet as pq

from uda.data.codec import Encoded
from uda.data.shards import ShardFolder, open_shards
from uda.types import UserError


@dataclass(frozen=True, kw_only=True)
class EncodedRow:
    """One sample as it lies in a shard. `label` is None unless it exists and was asked for."""

    key: str
    image: Encoded
    label: Encoded | None
    height: int
    width: int
    where: str  # for messages: which shard, which row


@runtime_checkable
class RowReader(Protocol):
    """Samples 0 .. len - 1 in the order of the folder's samples.parquet; safe in many threads."""

    def __len__(self) -> int: ...

    def row(self, index: int) -> EncodedRow: ...


def row_columns(*, labels: bool) -> list[str]:
    """The columns that a reader touches: for the target of training, `label` is not one."""
    return ["key", "image", "height", "width", *(["label"] if labels else [])]


def encoded_row(batch: pa.RecordBatch, row: int, where: str) -> EncodedRow:
    """A row of a record batch that has `row_columns`; the bytes are views into the batch."""
    label = batch.column("label")[row].as_buffer() if "label" in batch.schema.names else None
    image = batch.column("image")[row].as_buffer()
    if image is None:
        raise UserError(f"{where}: holds no image")
    return EncodedRow(
        key=batch.column("key")[row].as_py(),
        image=memoryview(image).cast("B"),
        label=None if label is None else memoryview(label).cast("B"),
        height=batch.column("height")[row].as_py(),
        width=batch.column("width")[row].as_py(),
        where=where,
    )


def read_group(file: Path, group: int, columns: list[str], where: str) -> pa.Table:
    """These columns of a row group and no byte of the others; verifies the pages' checksums."""
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
            return parquet.read_row_group(group, columns=columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        message = " ".join(str(error).split())
        raise UserError(f"{where}: does not read: {message}") from error


class ShardRows:
    """Rows of a local shard folder, without Ray.

    Row groups are read whole and the latest are kept, up to `cache_bytes`: a small data set ends
    up in memory, a large one costs a row group per row. (Training on a cluster reads each byte
    once instead, see cluster.ingest.)
    """

    def __init__(
        self, folder: ShardFolder | Path | str, *, labels: bool, cache_bytes: int = 2**30
    ) -> None:
        self._folder = folder if isinstance(folder, ShardFolder) else open_shards(folder)
        self._columns = row_columns(labels=labels)
        self._cache_bytes = cache_bytes
        self._cached_bytes = 0
        self._cache: OrderedDict[int, pa.RecordBatch] = OrderedDict()
        self._lock = threading.Lock()
        self._groups: list[tuple[Path, int, int]] = []  # file, row group, its first row there
        self._starts = [0]  # first sample of every row group, then the number of samples
        for file in self._folder.files:
            metadata, row = pq.read_metadata(file), 0
            for group in range(metadata.num_row_groups):
                self._groups.append((file, group, row))
                row += metadata.row_group(group).num_rows
                self._starts.append(self._starts[-1] + metadata.row_group(group).num_rows)

    def __len__(self) -> int:
        return self._starts[-1]

    def row(self, index: int) -> EncodedRow:
        """Sample `index`. UserError names the shard and row that cannot be read."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample: got {index}, have {len(self)}")
        group = bisect_right(self._starts, index) - 1
        file, _, first_row = self._groups[group]
        row = index - self._starts[group]
        where = f"{file} row {first_row + row}"
        return encoded_row(self._group(group, where), row, where)

    def _group(self, group: int, where: str) -> pa.RecordBatch:
        with self._lock:  # one thread reads, the others of the same batch find it in the cache
            if group in self._cache:
                self._cache.move_to_end(group)
                return self._cache[group]
            batch = self._read(group, where)
            self._cache[group] = batch
            self._cached_bytes += batch.nbytes
            while self._cached_bytes > self._cache_bytes and len(self._cache) > 1:
                self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
            return batch

    def _read(self, group: int, where: str) -> pa.RecordBatch:
        file, number, _ = self._groups[group]
        return read_group(file, number, self._columns, where).combine_chunks().to_batches()[0]
