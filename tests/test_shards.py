"""Shard folders as they are opened, whole and damaged."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.camvid_like import make_shards
from tests.edited_shards import edit_shards, with_column
from uda.classes import NUM_CLASSES
from uda.data.codec import decode_label
from uda.data.shards import SHARD_SCHEMA, Manifest, open_shards
from uda.types import UserError


@pytest.fixture
def folder(tmp_path):
    return make_shards(tmp_path, count=6, rows_per_shard=4)


def edit_manifest(folder, **changes):
    file = folder / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def replace_shard(folder, table, number=0):
    """Writes `table` as a shard and makes the manifest agree on its size."""
    file = folder / f"shard-{number:05d}.parquet"
    pq.write_table(table, file, compression="none", use_dictionary=False)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["shards"][number]["bytes"] = file.stat().st_size
    edit_manifest(folder, shards=manifest["shards"])


def test_columns_and_statistics_agree_with_the_labels(folder):
    opened = open_shards(folder)
    assert len(opened) == 6
    table = pa.concat_tables([pq.read_table(file) for file in opened.files])
    assert table.schema.equals(SHARD_SCHEMA)
    assert table["domain"].to_pylist() == ["camvid"] * 6
    assert table["split"].to_pylist() == ["train"] * 6
    assert table["source_path"].to_pylist() == [f"train/seq_{n:03d}.jpg" for n in range(6)]
    statistics = opened.statistics(labels=True)
    total = np.zeros(NUM_CLASSES, np.int64)
    for number, row in enumerate(table.to_pylist()):
        label = decode_label(row["label"], row["height"], row["width"])
        counts = [int((label == c).sum()) for c in range(NUM_CLASSES)]
        assert row["class_pixels"] == counts
        assert statistics.class_pixels[number].tolist() == counts
        assert statistics.pixels[number] == label.size
        total += counts
    assert opened.manifest.classes.pixels.tolist() == total.tolist()


def test_columns_are_plain_and_row_groups_bounded(tmp_path, monkeypatch):
    folder = make_shards(tmp_path / "few", count=70, height=16, width=16, rows_per_shard=70)
    assert group_rows(folder) == [32, 32, 6]
    metadata = pq.read_metadata(folder / "shard-00000.parquet")
    for number in range(metadata.num_columns):
        column = metadata.row_group(0).column(number)
        assert column.compression == "UNCOMPRESSED"
        assert not any("DICT" in encoding for encoding in column.encodings)
    row_bytes = len(pq.read_table(folder / "shard-00000.parquet")["image"][0].as_py())
    monkeypatch.setattr("uda.data.write.GROUP_BYTES", 5 * row_bytes)
    folder = make_shards(tmp_path / "large", count=70, height=16, width=16, rows_per_shard=70)
    assert sum(group_rows(folder)) == 70
    assert max(group_rows(folder)) < 10


def group_rows(folder):
    metadata = pq.read_metadata(folder / "shard-00000.parquet")
    return [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]


def test_samples_table_says_where_each_sample_is(folder):
    table = open_shards(folder).samples(["key", "shard", "row"]).to_pydict()
    assert table == {
        "key": [f"seq_{n:03d}" for n in range(6)],
        "shard": [0, 0, 0, 0, 1, 1],
        "row": [0, 1, 2, 3, 0, 1],
    }


def test_manifest_survives_json(folder):
    manifest = open_shards(folder).manifest
    again = Manifest.from_json(manifest.to_json())
    assert again == manifest
    assert again.digest == manifest.digest
    assert (manifest.samples, manifest.quarantined, manifest.class_list) == (6, 0, "camvid11")
    assert manifest.inputs == 6
    assert list(manifest.sha256) == [
        "shard-00000.parquet",
        "shard-00001.parquet",
        "samples.parquet",
        "quarantine.jsonl",
    ]
    assert [shard.rows for shard in manifest.shards] == [4, 2]
    assert manifest.made_by["command"].startswith("uda prepare camvid")


def test_statistics_without_labels_do_not_read_the_counts(folder):
    statistics = open_shards(folder).statistics(labels=False)
    assert not statistics.class_pixels.any()
    assert statistics.pixels.tolist() == [40 * 56] * 6
    # Not even the column is touched: damage to it goes unnoticed.
    poison_column(folder / "samples.parquet", "class_pixels.list.element")
    assert open_shards(folder).statistics(labels=False).pixels.tolist() == [40 * 56] * 6
    with pytest.raises(UserError, match=r"samples.parquet: does not read") as caught:
        open_shards(folder).statistics(labels=True)
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_in_the_samples_table_is_found(folder):
    """Otherwise a wrong place would look like damage to the shards."""
    file = folder / "samples.parquet"
    metadata = pq.read_metadata(file).row_group(0)
    columns = [metadata.column(number) for number in range(metadata.num_columns)]
    place = next(c for c in columns if c.path_in_schema == "image_offset")
    data = bytearray(file.read_bytes())
    data[place.data_page_offset + place.total_compressed_size - 8] ^= 1
    file.write_bytes(data)
    with pytest.raises(UserError, match=r"samples.parquet: does not read: .*checksum"):
        open_shards(folder).samples(["image_offset"])


def poison_column(file, name):
    """Overwrites the bytes of a column, page headers included; file size and footer stay."""
    data = bytearray(file.read_bytes())
    metadata = pq.read_metadata(file)
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            if column.path_in_schema == name:
                start, size = column.data_page_offset, column.total_compressed_size
                data[start : start + size] = b"\xee" * size
    file.write_bytes(data)


def test_missing_labels_are_null_and_count_nothing(folder):
    def without_first(table):
        table = with_column(table, "label", [None, *table["label"].to_pylist()[1:]])
        return with_column(table, "class_pixels", [None, *table["class_pixels"].to_pylist()[1:]])

    whole = open_shards(folder).statistics(labels=True)
    edit_shards(folder, without_first)
    opened = open_shards(folder)
    table = opened.samples(["label_offset", "label_bytes", "label_crc32"])
    for column in table.columns:
        assert column.is_valid().to_pylist() == [False, True, True, True, False, True]
    statistics = opened.statistics(labels=True)
    assert not statistics.class_pixels[[0, 4]].any()
    assert np.array_equal(statistics.class_pixels[[1, 2, 3, 5]], whole.class_pixels[[1, 2, 3, 5]])
    assert statistics.pixels.tolist() == [40 * 56] * 6


def test_a_shard_may_be_empty(folder):
    edit_shards(folder, lambda table: table.slice(0, 0) if len(table) == 4 else table)
    opened = open_shards(folder)
    assert [shard.rows for shard in opened.manifest.shards] == [0, 2]
    assert opened.samples(["shard", "row"]).to_pydict() == {"shard": [1, 1], "row": [0, 1]}
    assert opened.statistics(labels=True).pixels.tolist() == [40 * 56] * 2


@pytest.mark.parametrize("text", ["{", "[]", '{"key": "a"}', "\udcff"])
def test_a_quarantine_that_is_none(folder, text):
    assert open_shards(folder).quarantine() == []
    (folder / "quarantine.jsonl").write_text(text, errors="surrogateescape")
    with pytest.raises(UserError, match=r"quarantine.jsonl: does not read"):
        open_shards(folder).quarantine()


def test_no_folder_and_no_manifest(tmp_path, folder):
    with pytest.raises(UserError, match="no such folder"):
        open_shards(tmp_path / "nowhere")
    (folder / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"manifest.json: is missing"):
        open_shards(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 1}, "schema_version: got 1, want 2; prepare the data again"),
        ({"more": 1}, "'more'"),
        ({"samples": 7}, "samples"),
        ({"class_list": "coco"}, "class_list: got coco"),
        ({"class_pixels": [1, 2]}, "class_pixels: got 2"),
        ({"tables": {}}, r"tables: got \[\]"),
        ({"shards": [{"file": "x"}]}, "no manifest"),
        ({"shards": 3}, "no manifest"),
    ],
)
def test_wrong_manifest(folder, changes, message):
    edit_manifest(folder, **changes)
    with pytest.raises(UserError, match=message) as caught:
        open_shards(folder)
    assert "manifest.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}"])
def test_a_manifest_that_is_none(folder, text):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=r"manifest.json: is no manifest"):
        open_shards(folder)


def test_missing_and_truncated_shards(folder):
    file = folder / "shard-00001.parquet"
    data = file.read_bytes()
    file.write_bytes(data[:-1])
    with pytest.raises(UserError, match=r"shard-00001.parquet: got \d+ bytes, want"):
        open_shards(folder)
    file.unlink()
    with pytest.raises(UserError, match=r"shard-00001.parquet: is missing"):
        open_shards(folder)
    file.write_bytes(data[:-1] + b"x")  # the size is right, the footer is not
    with pytest.raises(UserError, match=r"shard-00001.parquet: is no whole Parquet file"):
        open_shards(folder)


def test_samples_file_missing_or_cut(folder):
    file = folder / "samples.parquet"
    data = file.read_bytes()
    file.write_bytes(data[:-9])
    with pytest.raises(UserError, match=r"samples.parquet: is no whole Parquet"):
        open_shards(folder)
    file.unlink()
    with pytest.raises(UserError, match=r"samples.parquet: is missing"):
        open_shards(folder)


def test_wrong_schema_and_wrong_rows(folder):
    table = pq.read_table(folder / "shard-00000.parquet")
    replace_shard(folder, table.drop_columns(["label"]))
    with pytest.raises(UserError, match=r"shard-00000.parquet: schema: .*'label binary'"):
        open_shards(folder)
    replace_shard(folder, table.slice(1))
    with pytest.raises(UserError, match=r"shard-00000.parquet: got 3 rows, want 4"):
        open_shards(folder)
