"""Where in a Parquet file the values of a binary column lie, to read one with one `pread`.

Parquet has no name for that place, but where a column is neither compressed nor encoded by a
dictionary and has one page per row group, it is known: every value stands as it is behind its
length (4 bytes, little endian), one after another, up to the end of the page. Nulls take no room.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_PREFIX_BYTES = 4

LOCATION_SCHEMA = pa.schema([("offset", pa.int64()), ("bytes", pa.int32()), ("crc32", pa.int64())])


def locate_values(file: Path, column: str) -> pa.Table:
    """Offset in the file, length and CRC-32 of every row's value; null where the value is null.

    Reads all values, compares them with what Parquet's checksums warrant, and so proves that the
    column is whole. ValueError where the file is laid out in another way; OSError or
    pa.ArrowException where it is damaged.
    """
    with (
        pq.ParquetFile(file, page_checksum_verification=True) as parquet,
        file.open("rb") as opened,
    ):
        places = [
            place
            for group in range(parquet.num_row_groups)
            for place in _places(parquet, group, column, opened)
        ]
    columns = list(zip(*places, strict=True)) or [()] * len(LOCATION_SCHEMA)
    arrays = [pa.array(v, f.type) for v, f in zip(columns, LOCATION_SCHEMA, strict=True)]
    return pa.table(arrays, schema=LOCATION_SCHEMA)


def _places(
    parquet: pq.ParquetFile, group: int, column: str, opened: BinaryIO
) -> Iterator[tuple[int, int, int] | tuple[None, None, None]]:
    values = parquet.read_row_group(group, columns=[column], use_threads=False)[column].to_pylist()
    stored_bytes = sum(_PREFIX_BYTES + len(value) for value in values if value is not None)
    metadata = parquet.metadata.row_group(group)
    chunks = (metadata.column(number) for number in range(metadata.num_columns))
    chunk = next(chunk for chunk in chunks if chunk.path_in_schema == column)
    start = chunk.data_page_offset + chunk.total_compressed_size - stored_bytes
    if start < chunk.data_page_offset:
        raise ValueError(f"{column}: row group {group} does not hold its values as they are")
    opened.seek(start)
    page = opened.read(stored_bytes)
    position = 0
    for value in values:
        if value is None:
            yield None, None, None
            continue
        prefix = np.array(len(value), "<u4").tobytes()
        end = position + _PREFIX_BYTES + len(value)
        if page[position:end] != prefix + value:
            raise ValueError(f"{column}: row group {group} does not hold its values as they are")
        yield start + position + _PREFIX_BYTES, len(value), crc32(value)
        position = end
