"""Reading encoded samples one by one, in the folder's order, from any place they are kept.

A sample is read by itself: samples.parquet says at which byte of which shard its image and its
label lie, so a plan may jump through a folder of any size and nothing is read in vain.
"""

import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from uda.data.codec import Encoded
from uda.data.shards import ShardFolder, open_shards
from uda.types import UserError

_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("image", pa.binary()),
        ("label", pa.binary()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("where", pa.string()),
        ("error", pa.string()),  # why there is no image; null where there is one
    ]
)


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

    def row(self, index: int) -> EncodedRow:
        """Sample `index`; UserError names the shard and row that cannot be read."""
        ...


class ShardRows:
    """Rows of a local shard folder. Holds where they are, not what is in them; may be pickled.

    Without `labels` neither a label nor where it lies is read.
    """

    def __init__(self, folder: ShardFolder | Path | str, *, labels: bool) -> None:
        opened = folder if isinstance(folder, ShardFolder) else open_shards(folder)
        names = ["image", "label"] if labels else ["image"]
        places = [f"{name}_{part}" for name in names for part in ("offset", "bytes", "crc32")]
        table = opened.samples(["key", "shard", "row", "height", "width", *places])
        self._files = [str(file) for file in opened.files]
        self._keys = table["key"].combine_chunks()
        self._numbers = {
            name: table[name].to_numpy() for name in ("shard", "row", "height", "width")
        }
        self._images = _Values.of(table, "image")
        self._labels = _Values.of(table, "label") if labels else None

    def __len__(self) -> int:
        return len(self._keys)

    def row(self, index: int) -> EncodedRow:
        if not 0 <= index < len(self):
            raise IndexError(f"sample: got {index}, have {len(self)}")
        numbers = {name: int(values[index]) for name, values in self._numbers.items()}
        file = self._files[numbers["shard"]]
        where = f"{file} row {numbers['row']}"
        with _opened(file, where) as descriptor:
            image = self._images.read(descriptor, index, where)
            label = self._labels.read(descriptor, index, where) if self._labels else None
        if image is None:
            raise UserError(f"{where}: holds no image")
        return EncodedRow(
            key=self._keys[index].as_py(),
            image=image,
            label=label,
            height=numbers["height"],
            width=numbers["width"],
            where=where,
        )


@dataclass(frozen=True)
class _Values:
    """Where the values of one binary column lie, and what they must be; size 0 means null."""

    offset: np.ndarray
    size: np.ndarray
    crc32: np.ndarray

    @classmethod
    def of(cls, table: pa.Table, name: str) -> "_Values":
        parts = (table[f"{name}_{part}"] for part in ("offset", "bytes", "crc32"))
        return cls(*(part.fill_null(0).to_numpy() for part in parts))

    def read(self, descriptor: int, index: int, where: str) -> bytes | None:
        size = int(self.size[index])
        if not size:
            return None
        try:
            data = os.pread(descriptor, size, int(self.offset[index]))
        except OSError as error:
            raise UserError(f"{where}: does not read: {error.strerror}") from error
        if len(data) != size:
            raise UserError(f"{where}: does not read: the file ends before it")
        if zlib.crc32(data) != self.crc32[index]:
            raise UserError(f"{where}: does not read: its bytes are not those that were written")
        return data


def read_block(rows: RowReader, indices: Sequence[int]) -> pa.Table:
    """These samples as one table, in this order, to be sent to where they are needed.

    A sample that cannot be read is a row with its `error`; asking for that row raises it.
    """
    return pa.Table.from_pylist([_plain(rows, int(index)) for index in indices], _SCHEMA)


def _plain(rows: RowReader, index: int) -> dict[str, object]:
    try:
        row = rows.row(index)
    except UserError as error:
        return {"error": str(error)}
    # Bytes, because Arrow copies a bytes object whole and any other sequence item by item.
    label = None if row.label is None else bytes(row.label)
    return {**vars(row), "image": bytes(row.image), "label": label}


class BlockRows:
    """The rows of a table made by `read_block`; images and labels are views into it."""

    def __init__(self, table: pa.Table) -> None:
        batches = table.combine_chunks().to_batches()
        self._columns = {name: batches[0].column(name) for name in table.schema.names}

    def __len__(self) -> int:
        return len(self._columns["key"])

    def row(self, index: int) -> EncodedRow:
        values = {name: column[index] for name, column in self._columns.items()}
        if values["error"].is_valid:
            raise UserError(values["error"].as_py())
        image, label = values["image"].as_buffer(), values["label"].as_buffer()
        return EncodedRow(
            key=values["key"].as_py(),
            image=memoryview(image).cast("B"),
            label=None if label is None else memoryview(label).cast("B"),
            height=values["height"].as_py(),
            width=values["width"].as_py(),
            where=values["where"].as_py(),
        )


@contextmanager
def _opened(file: str, where: str) -> Iterator[int]:
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"{where}: does not read: {error.strerror}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)
