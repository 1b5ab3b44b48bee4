"""Shard folders with other contents than `uda prepare` would write, but in order otherwise."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from uda.data.write import GROUP_ROWS, PARQUET, ShardFooter, describe_shard, sha256, write_samples


def edit_shards(folder: Path, edit: Callable[[pa.Table], pa.Table]) -> None:
    """Replaces every shard's table by `edit` of it, and makes the other files agree with that."""
    shards = []
    for file in sorted(folder.glob("shard-*.parquet")):
        pq.write_table(edit(pq.read_table(file)), file, row_group_size=GROUP_ROWS, **PARQUET)
        shards.append(describe_shard(file, ShardFooter(plan="edited")))
    classes = write_samples(folder, shards)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["samples"] = sum(shard.file.rows for shard in shards)
    manifest["class_pixels"] = classes.pixels.tolist()
    manifest["shards"] = [asdict(shard.file) for shard in shards]
    manifest["tables"]["samples.parquet"] = sha256(folder / "samples.parquet")
    (folder / "manifest.json").write_text(json.dumps(manifest))


def with_column(table: pa.Table, name: str, values: list) -> pa.Table:
    """The table with other values in a column."""
    position = table.column_names.index(name)
    return table.set_column(position, name, pa.array(values, table.schema.field(name).type))
