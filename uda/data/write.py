"""Writing the files of a shard folder: each gets its name only when it is complete and on disk."""

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from uda.classes import ClassDistribution
from uda.data.codec import IMAGE_CODECS, encode_label
from uda.data.raw import RawDataset
from uda.data.shards import SAMPLES_FILE, SAMPLES_SCHEMA, SHARD_SCHEMA, ShardFile
from uda.types import Sample

ROW_GROUP = 32
_PARQUET: dict[str, Any] = {
    "compression": "none",  # the binary columns are compressed already
    "use_dictionary": False,
    "write_statistics": False,
    "write_page_checksum": True,  # finds damage that a size or a footer does not show
}


@dataclass(frozen=True, kw_only=True)
class ShardJob:
    """One shard to write: these samples to this file."""

    raw: RawDataset
    root: str
    split: str
    domain: str
    keys: tuple[str, ...]
    size: tuple[int, int] | None  # width, height
    codec: str
    path: Path
    plan: str  # digest of the whole folder's plan


@dataclass(frozen=True, kw_only=True)
class ShardFooter:
    """What a shard says about itself."""

    plan: str
    rows: int
    unknown_label_pixels: int


def write_shard(job: ShardJob) -> ShardFile:
    """Writes the shard unless it is there, and says what it is; may run anywhere, in any order."""
    if not _is_whole(job):
        unknown = 0
        with (
            atomic(job.path) as partial,
            pq.ParquetWriter(partial, SHARD_SCHEMA, **_PARQUET) as writer,
        ):
            for start in range(0, len(job.keys), ROW_GROUP):
                samples = [_sample(job, key) for key in job.keys[start : start + ROW_GROUP]]
                rows = [_row(job, sample) for sample in samples]
                writer.write_table(pa.Table.from_pylist(rows, SHARD_SCHEMA))
                unknown += sum(sample.unknown_label_pixels for sample in samples)
            writer.add_key_value_metadata({"plan": job.plan, "unknown_label_pixels": str(unknown)})
    return ShardFile(
        file=job.path.name,
        rows=len(job.keys),
        bytes=job.path.stat().st_size,
        sha256=_sha256(job.path),
    )


def write_samples(folder: Path, shards: list[ShardFile]) -> ClassDistribution:
    """Writes samples.parquet from the shards' small columns; returns the sum of class counts."""
    tables = []
    for number, shard in enumerate(shards):
        with pq.ParquetFile(folder / shard.file) as parquet:
            table = parquet.read(columns=["key", "height", "width", "class_pixels"])
        table = table.append_column("shard", pa.array([number] * shard.rows, pa.int32()))
        table = table.append_column("row", pa.array(range(shard.rows), pa.int32()))
        tables.append(table.select(SAMPLES_SCHEMA.names).cast(SAMPLES_SCHEMA))
    samples = pa.concat_tables(tables)
    with atomic(folder / SAMPLES_FILE) as partial:
        pq.write_table(samples.combine_chunks(), partial, **_PARQUET)
    known = [counts for counts in samples["class_pixels"].to_pylist() if counts is not None]
    total = ClassDistribution.empty()
    return total + ClassDistribution(np.array(known, np.int64).sum(axis=0)) if known else total


def read_footer(file: Path) -> ShardFooter | None:
    """None where the file is no whole Parquet file of ours."""
    try:
        metadata = pq.read_metadata(file)
        values = metadata.metadata
        return ShardFooter(
            plan=values[b"plan"].decode(),
            rows=metadata.num_rows,
            unknown_label_pixels=int(values[b"unknown_label_pixels"]),
        )
    except (pa.ArrowException, OSError, KeyError, TypeError):
        return None


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary file to write, which becomes `path` when the block ends without an error."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield partial
        _sync(partial)
        partial.replace(path)
        _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def is_temporary(file: Path) -> bool:
    """Left behind by a run that was killed."""
    return file.name.startswith(".") and file.name.endswith(".tmp")


def _is_whole(job: ShardJob) -> bool:
    """Whether the file is there with this plan and all its pages match their checksums."""
    footer = read_footer(job.path)
    if footer is None or (footer.plan, footer.rows) != (job.plan, len(job.keys)):
        return False
    try:
        with pq.ParquetFile(job.path, page_checksum_verification=True) as parquet:
            for group in range(parquet.num_row_groups):
                parquet.read_row_group(group, use_threads=False)
    except (pa.ArrowException, OSError):
        return False
    return True


def _sample(job: ShardJob, key: str) -> Sample:
    sample = job.raw.load(job.root, job.split, key)
    assert sample.label is None or sample.label.shape == sample.image.shape[:2]
    return sample


def _row(job: ShardJob, sample: Sample) -> dict[str, Any]:
    image, label = _resized(sample, job.size)
    data, index = IMAGE_CODECS[job.codec](image)
    return {
        "key": sample.key,
        "image": data,
        "image_index": index,
        "label": None if label is None else encode_label(label),
        "height": image.shape[0],
        "width": image.shape[1],
        "class_pixels": None if label is None else ClassDistribution.of_label(label).pixels,
        "domain": job.domain,
        "split": job.split,
        "source_path": sample.source_path,
    }


def _resized(sample: Sample, size: tuple[int, int] | None) -> tuple[np.ndarray, np.ndarray | None]:
    """The image averaged over the area of each new pixel (bilinear where it grows), the label by
    its nearest pixel."""
    image, label = sample.image, sample.label
    height, width = image.shape[:2]
    if size is None or size == (width, height):
        return image, label
    shrinks = size[0] <= width and size[1] <= height
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    image = cv2.resize(image, size, interpolation=method)
    if label is not None:
        label = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST_EXACT)
    return image, label


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
