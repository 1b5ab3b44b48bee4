"""A shard folder: Parquet files of encoded samples, their statistics and a manifest.

shard-00000.parquet ...   one row per sample, columns as in SHARD_SCHEMA
samples.parquet           one row per sample: where it is and its class counts
manifest.json             what the folder holds; written last, so it says "complete"
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from uda.classes import CLASS_LISTS, NUM_CLASSES, ClassDistribution
from uda.types import UserError

SCHEMA_VERSION = 1
MANIFEST_FILE = "manifest.json"
SAMPLES_FILE = "samples.parquet"

_CLASS_PIXELS = pa.list_(pa.int64(), NUM_CLASSES)

SHARD_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("image", pa.binary()),
        ("image_index", pa.list_(pa.int32())),  # see codec.encode_jpeg; empty for PNG
        ("label", pa.binary()),  # null where nobody labelled the image
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("class_pixels", _CLASS_PIXELS),  # null without labels
        ("domain", pa.string()),
        ("split", pa.string()),
        ("source_path", pa.string()),
    ]
)

SAMPLES_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("shard", pa.int32()),
        ("row", pa.int32()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("class_pixels", _CLASS_PIXELS),
    ]
)


@dataclass(frozen=True, kw_only=True)
class ShardFile:
    """One Parquet file of the folder; `bytes` is its size and `sha256` that of all its bytes."""

    file: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a shard folder holds and how it was made."""

    schema_version: int
    dataset: str
    domain: str
    split: str
    class_list: str
    image_codec: str
    samples: int
    quarantined: int
    unknown_label_pixels: int
    class_pixels: tuple[int, ...]
    shards: tuple[ShardFile, ...]
    made_by: Mapping[str, Any]

    @property
    def classes(self) -> ClassDistribution:
        return ClassDistribution(np.array(self.class_pixels, np.int64))

    @property
    def digest(self) -> str:
        """Names exactly these data: SHA-256 of the manifest, which has those of the shards."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """ValueError, KeyError or TypeError where the text is no manifest of this version."""
        values = json.loads(text)
        version = values["schema_version"]
        if version != SCHEMA_VERSION:
            raise ValueError(f"schema_version: got {version}, want {SCHEMA_VERSION}")
        names = {f.name for f in fields(cls)}
        if names != set(values):
            raise ValueError(f"keys {sorted(names ^ set(values))} are missing or unknown")
        if values["class_list"] not in CLASS_LISTS:
            raise ValueError(f"class_list: got {values['class_list']}, have {sorted(CLASS_LISTS)}")
        shards = tuple(ShardFile(**shard) for shard in values["shards"])
        if values["samples"] != sum(shard.rows for shard in shards):
            raise ValueError("samples: is not the sum of the shards' rows")
        class_pixels = tuple(int(n) for n in values["class_pixels"])
        if len(class_pixels) != NUM_CLASSES:
            raise ValueError(f"class_pixels: got {len(class_pixels)} numbers, want {NUM_CLASSES}")
        return cls(**(values | {"shards": shards, "class_pixels": class_pixels}))


@dataclass(frozen=True, kw_only=True)
class SampleStatistics:
    """What the epoch plan knows about the N samples, in the folder's order."""

    class_pixels: Int64[np.ndarray, "N K"]  # all 0 where labels are missing or must not be seen
    pixels: Int64[np.ndarray, "N"]  # height x width


@dataclass(frozen=True, kw_only=True)
class ShardFolder:
    """A folder that `open_shards` found in order."""

    path: Path
    manifest: Manifest

    def __len__(self) -> int:
        return self.manifest.samples

    @property
    def files(self) -> list[Path]:
        return [self.path / shard.file for shard in self.manifest.shards]

    def samples(self, columns: list[str]) -> pa.Table:
        """Columns of the samples' table, in the folder's order."""
        return pq.read_table(self.path / SAMPLES_FILE, columns=columns)

    def statistics(self, *, labels: bool) -> SampleStatistics:
        """Sizes, and with `labels` class counts. Without, not even the counts are read."""
        table = self.samples(["height", "width", *(["class_pixels"] if labels else [])])
        counts = np.zeros((len(self), NUM_CLASSES), np.int64)
        if labels:
            column = table["class_pixels"].combine_chunks()
            known = column.is_valid().to_numpy(zero_copy_only=False)
            counts[known] = column.flatten().to_numpy().reshape(-1, NUM_CLASSES)
        height, width = (table[c].to_numpy().astype(np.int64) for c in ("height", "width"))
        return SampleStatistics(class_pixels=counts, pixels=height * width)


def open_shards(folder: str | Path) -> ShardFolder:
    """Opens a folder after cheap checks: sizes, footers and schemas, but not the hashes.

    UserError names the file that is missing, cut short or of another format.
    """
    path = Path(folder)
    manifest = _read_manifest(path)
    for shard in manifest.shards:
        _check_size(path / shard.file, shard.bytes)
        _check_parquet(path / shard.file, SHARD_SCHEMA, shard.rows)
    _check_parquet(path / SAMPLES_FILE, SAMPLES_SCHEMA, manifest.samples)
    return ShardFolder(path=path, manifest=manifest)


def _read_manifest(folder: Path) -> Manifest:
    file = folder / MANIFEST_FILE
    if not folder.is_dir():
        raise UserError(f"{folder}: got no such folder, want a folder of shards")
    if not file.is_file():
        raise UserError(f"{file}: is missing; want a folder that `uda prepare` finished")
    try:
        return Manifest.from_json(file.read_text())
    except KeyError as error:
        raise UserError(f"{file}: is no manifest of shards: lacks {error}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: is no manifest of shards: {_one_line(error)}") from error


def _check_size(file: Path, want: int) -> None:
    if not file.is_file():
        raise UserError(f"{file}: is missing, though {MANIFEST_FILE} lists it")
    if (got := file.stat().st_size) != want:
        raise UserError(f"{file}: got {got} bytes, want {want} as {MANIFEST_FILE} says")


def _check_parquet(file: Path, schema: pa.Schema, rows: int) -> None:
    if not file.is_file():
        raise UserError(f"{file}: is missing")
    try:
        with pq.ParquetFile(file) as parquet:
            got_schema, got_rows = parquet.schema_arrow, parquet.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file}: is no whole Parquet file: {_one_line(error)}") from error
    if not got_schema.equals(schema):
        got, want = ({f"{f.name} {f.type}" for f in s} for s in (got_schema, schema))
        raise UserError(
            f"{file}: schema: got {sorted(got - want) or 'nothing'} where {sorted(want - got)} "
            "was wanted (or another order of columns)"
        )
    if got_rows != rows:
        raise UserError(f"{file}: got {got_rows} rows, want {rows} as {MANIFEST_FILE} says")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
