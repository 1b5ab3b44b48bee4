"""Samples are read byte for byte as they were written, and damage is found in the row it is in."""

import pickle

import pyarrow.parquet as pq
import pytest

from tests.camvid_like import make_shards
from uda.data.rows import BlockRows, EncodedRow, RowReader, ShardRows, read_block
from uda.data.shards import open_shards
from uda.types import UserError


@pytest.fixture
def folder(tmp_path):
    return open_shards(make_shards(tmp_path, count=11, rows_per_shard=4))


def parquet_rows(folder):
    """The reference: what pyarrow reads from the shards, row by row."""
    return [row for file in folder.files for row in pq.read_table(file).to_pylist()]


def damage(folder, column, sample):
    """Flips one bit in the middle of a value."""
    table = folder.samples(["shard", f"{column}_offset", f"{column}_bytes"]).to_pydict()
    place = table[f"{column}_offset"][sample] + table[f"{column}_bytes"][sample] // 2
    with folder.files[table["shard"][sample]].open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))


def test_rows_are_what_parquet_holds(folder):
    rows = ShardRows(folder, labels=True)
    assert isinstance(rows, RowReader)
    assert len(rows) == 11
    for index, want in enumerate(parquet_rows(folder)):
        row = rows.row(index)
        assert (row.key, row.height, row.width) == (want["key"], want["height"], want["width"])
        assert (row.image, row.label) == (want["image"], want["label"])
        assert row.where == f"{folder.files[index // 4]} row {index % 4}"


def test_without_labels_there_are_none(folder):
    rows = ShardRows(str(folder.path), labels=False)
    assert rows.row(3).label is None
    assert rows.row(3).image == ShardRows(folder, labels=True).row(3).image


@pytest.mark.parametrize("index", [-1, 11])
def test_an_index_outside_is_an_error(folder, index):
    with pytest.raises(IndexError, match=f"sample: got {index}, have 11"):
        ShardRows(folder, labels=True).row(index)


def test_rows_may_be_pickled(folder):
    rows = ShardRows(folder, labels=True)
    assert pickle.loads(pickle.dumps(rows)).row(7) == rows.row(7)


@pytest.mark.parametrize("column", ["image", "label"])
def test_a_flipped_bit_is_found_in_its_row(folder, column):
    damage(folder, column, 6)
    rows = ShardRows(folder, labels=True)
    with pytest.raises(UserError, match=r"shard-00001.parquet row 2: does not read: its bytes"):
        rows.row(6)
    assert rows.row(5).key
    if column == "label":  # who does not read labels does not notice
        assert ShardRows(folder, labels=False).row(6).key


def test_a_vanished_or_shortened_file_is_named(folder):
    rows = ShardRows(folder, labels=True)
    first, second, third = folder.files
    second.unlink()
    with pytest.raises(UserError, match=r"00001.parquet row 0: does not read: No such file"):
        rows.row(4)
    third.write_bytes(third.read_bytes()[:100])
    with pytest.raises(UserError, match=r"00002.parquet row 2: .* the file ends before it"):
        rows.row(10)
    assert rows.row(0).key
    assert first.exists()


def test_a_block_has_the_rows_in_the_order_asked_for(folder):
    rows = ShardRows(folder, labels=True)
    block = BlockRows(read_block(rows, [9, 0, 9, 4]))
    assert len(block) == 4
    for index, sample in enumerate([9, 0, 9, 4]):
        assert_same(block.row(index), rows.row(sample))


def assert_same(row: EncodedRow, other: EncodedRow):
    assert bytes(row.image) == bytes(other.image)
    assert (row.label is None) == (other.label is None)
    assert row.label is None or bytes(row.label) == bytes(other.label)
    for name in ("key", "height", "width", "where"):
        assert getattr(row, name) == getattr(other, name)


def test_a_block_without_labels_has_none(folder):
    assert BlockRows(read_block(ShardRows(folder, labels=False), [2])).row(0).label is None


def test_a_damaged_row_of_a_block_fails_alone(folder):
    damage(folder, "image", 6)
    block = BlockRows(read_block(ShardRows(folder, labels=True), [5, 6, 7]))
    with pytest.raises(UserError, match=r"shard-00001.parquet row 2: does not read"):
        block.row(1)
    assert block.row(0).key
    assert block.row(2).key
