"""Where values lie in a Parquet file, against what Parquet itself reads."""

import os
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.camvid_like import make_shards
from uda.data.locate import locate_values
from uda.data.shards import open_shards
from uda.data.write import PARQUET


def write(file, values, rows_per_group=3, **options):
    column = pa.array(values, pa.binary())
    table = pa.table({"key": [str(n) for n in range(len(values))], "value": column})
    pq.write_table(table, file, **(PARQUET | {"row_group_size": rows_per_group} | options))
    return file


def pread(file, offset, size):
    descriptor = os.open(file, os.O_RDONLY)
    try:
        return os.pread(descriptor, size, offset)
    finally:
        os.close(descriptor)


def assert_located(file, column, values):
    found = locate_values(file, column).to_pylist()
    assert len(found) == len(values)
    for place, value in zip(found, values, strict=True):
        if value is None:
            assert place == {"offset": None, "bytes": None, "crc32": None}
        else:
            assert pread(file, place["offset"], place["bytes"]) == value
            assert place["bytes"] == len(value)
            assert place["crc32"] == zlib.crc32(value)


def noise(size):
    return np.random.default_rng(size).bytes(size)


@pytest.mark.parametrize(
    "values",
    [
        [],
        [b"one"],
        [b"", b"a", b"", b"bcd"],
        [None, None, None, None],
        [None, noise(9), None, noise(1), noise(300), None, None, noise(70_000)],
        [noise(3 * 2**20), noise(2 * 2**20), noise(5)],  # a page is 1 MiB where nobody says more
        [bytes([4, 0, 0, 0])] * 5,  # looks like a length
    ],
)
def test_every_value_lies_where_it_is_said_to(tmp_path, values):
    file = write(tmp_path / "file.parquet", values)
    assert_located(file, "value", values)


@pytest.mark.parametrize("column", ["image", "label"])
def test_samples_of_shards_can_be_read_without_parquet(tmp_path, column):
    folder = open_shards(make_shards(tmp_path, count=70, rows_per_shard=40))
    places = [f"{column}_offset", f"{column}_bytes", f"{column}_crc32"]
    rows = iter(folder.samples(["key", "shard", *places]).to_pylist())
    for number, file in enumerate(folder.files):
        for want in pq.read_table(file).to_pylist():
            row = next(rows)
            assert (row["key"], row["shard"]) == (want["key"], number)
            data = pread(file, row[places[0]], row[places[1]])
            assert data == want[column]
            assert row[places[2]] == zlib.crc32(want[column])
    assert next(rows, None) is None


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zstd"},
        {"use_dictionary": True},
        {"data_page_size": 100, "write_batch_size": 1},
        {"column_encoding": {"value": "DELTA_LENGTH_BYTE_ARRAY"}},
    ],
)
def test_another_layout_is_refused(tmp_path, options):
    values = [b"some bytes" * 20, b"other ones" * 30, b"some bytes" * 20]
    file = write(tmp_path / "file.parquet", values, **options)
    with pytest.raises(ValueError, match="value: row group 0 does not hold its values as they are"):
        locate_values(file, "value")


def test_damage_is_found(tmp_path):
    file = write(tmp_path / "file.parquet", [noise(1000)] * 5)
    data = bytearray(file.read_bytes())
    data[data.index(noise(1000)) + 500] ^= 1
    file.write_bytes(data)
    with pytest.raises((OSError, pa.ArrowException), match="CRC"):
        locate_values(file, "value")
