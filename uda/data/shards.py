"""A shard folder: Parquet files of encoded samples, their statistics and a manifest.

shard-00000.parquet ...   one row per sample, columns as in SHARD_SCHEMA
samples.parquet           one row per sample: where its bytes lie, and its class counts
quarantine.jsonl          the inputs that did not become samples, with the reason
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
from uda.data.quarantine import QUARANTINE_FILE, BadInput, parse_quarantine
from uda.types import UserError

SCHEMA_VERSION = 2
MANIFEST_FILE = "manifest.json"
SAMPLES_FILE = "samples.parquet"

_CLASS_PIXELS = pa.list_(pa.int64(), NUM_CLASSES)

SHARD_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("image", pa.binary()),
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
        # The encoded values in the shard's file, to be read without Parquet; see locate.py.
        ("image_offset", pa.int64()),
        ("image_bytes", pa.int32()),
        ("image_crc32", pa.int64()),
        ("label_offset", pa.int64()),  # these three are null where nobody labelled the image
        ("label_bytes", pa.int32()),
        ("label_crc32", pa.int64()),
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
    """What a shard folder holds and how it was made.

    Every input of the split is one of the `samples` or is `quarantined`. `tables` has the SHA-256
    of the files that are neither shards nor this manifest.
    """

    schema_version: int
    dataset: str
    domain: str
    split: str
    class_list: str
    image_codec: str
    samples: int
    quarantined: int
    class_pixels: tuple[int, ...]
    shards: tuple[ShardFile, ...]
    tables: Mapping[str, str]
    made_by: Mapping[str, Any]

    @property
    def inputs(self) -> int:
        return self.samples + self.quarantined

    @property
    def sha256(self) -> dict[str, str]:
        """Of every file but the manifest, by name."""
        return {shard.file: shard.sha256 for shard in self.shards} | dict(self.tables)

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
            raise ValueError(
                f"schema_version: got {version}, want {SCHEMA_VERSION}; prepare the data again"
            )
        names = {f.name for f in fields(cls)}
        if names != set(values):
            raise ValueError(f"keys {sorted(names ^ set(values))} are missing or unknown")
        if values["class_list"] not in CLASS_LISTS:
            raise ValueError(f"class_list: got {values['class_list']}, have {sorted(CLASS_LISTS)}")
        shards = tuple(ShardFile(**shard) for shard in values["shards"])
        if values["samples"] != sum(shard.rows for shard in shards):
            raise ValueError("samples: is not the sum of the shards' rows")
        if sorted(values["tables"]) != sorted([SAMPLES_FILE, QUARANTINE_FILE]):
            raise ValueError(f"tables: got {sorted(values['tables'])}")
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
    def total_bytes(self) -> int:
        """Of all shards."""
        return sum(shard.bytes for shard in self.manifest.shards)

    @property
    def files(self) -> list[Path]:
        return [self.path / shard.file for shard in self.manifest.shards]

    def samples(self, columns: list[str]) -> pa.Table:
        """Columns of the samples' table, in the folder's order; UserError where it is damaged."""
        file = self.path / SAMPLES_FILE
        try:
            return pq.read_table(file, columns=columns, page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{file}: does not read: {_one_line(error)}") from error

    def quarantine(self) -> list[BadInput]:
        """The inputs that did not become samples, by key."""
        file = self.path / QUARANTINE_FILE
        try:
            return parse_quarantine(file.read_text())
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{file}: does not read: {_one_line(error)}") from error

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
    manifest = read_manifest(path)
    for shard in manifest.shards:
        _check_size(path / shard.file, shard.bytes)
        _check_parquet(path / shard.file, SHARD_SCHEMA, shard.rows)
    _check_parquet(path / SAMPLES_FILE, SAMPLES_SCHEMA, manifest.samples)
    return ShardFolder(path=path, manifest=manifest)


def read_manifest(folder: Path) -> Manifest:
    """The manifest alone, whatever has become of the files that it lists; UserError without one."""
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
