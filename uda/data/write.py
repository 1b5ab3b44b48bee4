"""Writing the files of a shard folder: each gets its name only when it is complete and on disk."""

import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from uda.classes import ClassDistribution
from uda.data.codec import IMAGE_CODECS, encode_label
from uda.data.locate import LOCATION_SCHEMA, locate_values
from uda.data.quarantine import BadInput, duplicate
from uda.data.raw import GeneratedDataset, RawDataset, check_content
from uda.data.resize import resize_image, resize_label
from uda.data.shards import SAMPLES_FILE, SAMPLES_SCHEMA, SHARD_SCHEMA, ShardFile
from uda.types import Sample, UserError

GROUP_ROWS = 32
GROUP_BYTES = 2**26  # with one page per group: its size must fit into 32 bits
PARQUET: dict[str, Any] = {
    "compression": "none",  # the binary columns are compressed already
    "use_dictionary": False,
    "write_statistics": False,
    "write_page_checksum": True,  # finds damage that a size or a footer does not show
    "data_page_version": "1.0",
    "data_page_size": 2**30,  # never reached: see locate.py for why a column has one page
}
_ENCODED = ("image", "label")


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
    duplicates: Mapping[str, str] | None = None  # sample -> the one it equals; None: not known yet


@dataclass(frozen=True, kw_only=True)
class ShardFooter:
    """What a shard says about itself, so that whoever finds it need not decode it again."""

    plan: str
    hashes: Mapping[str, str] = field(default_factory=dict)  # of images as published, by key
    duplicates: Mapping[str, str] = field(default_factory=dict)
    bad: tuple[BadInput, ...] = ()  # duplicates too

    def to_metadata(self) -> dict[str, str]:
        return {
            "plan": self.plan,
            "hashes": json.dumps(dict(self.hashes)),
            "duplicates": json.dumps(dict(self.duplicates)),
            "bad": json.dumps([asdict(each) for each in self.bad]),
        }

    @classmethod
    def from_metadata(cls, values: Mapping[bytes, bytes]) -> "ShardFooter":
        """`plan` is empty where a stranger wrote; where it differs, nothing else counts."""
        hashes, duplicates, bad = (
            json.loads(values.get(name, b"{}")) for name in (b"hashes", b"duplicates", b"bad")
        )
        return cls(
            plan=values.get(b"plan", b"").decode(),
            hashes=hashes,
            duplicates=duplicates,
            bad=tuple(BadInput(**each) for each in bad),
        )


@dataclass(frozen=True, kw_only=True)
class WrittenShard:
    """A shard on disk, and its rows of samples.parquet, which lack the number of the shard."""

    file: ShardFile
    samples: pa.Table
    footer: ShardFooter

    @property
    def inputs(self) -> int:
        return self.file.rows + len(self.footer.bad)


def write_shard(job: ShardJob) -> WrittenShard:
    """Writes the shard unless it is there, and says what it is; may run anywhere, in any order.

    An input that cannot become a sample is left out and noted in the footer with the reason.
    """
    written = _found(job) or describe_shard(job.path, _write(job))
    assert written.inputs == len(job.keys)
    return written


def describe_shard(path: Path, footer: ShardFooter) -> WrittenShard:
    """What a shard on disk is. Reads all of it; raises as `locate_values` where it is damaged."""
    plain = [name for name in SHARD_SCHEMA.names if name not in _ENCODED]
    with pq.ParquetFile(path, page_checksum_verification=True) as parquet:
        table = parquet.read(columns=plain, use_threads=False)
    samples = table.select([name for name in plain if name in SAMPLES_SCHEMA.names])
    samples = samples.append_column("row", pa.array(range(len(table)), pa.int32()))
    for column in _ENCODED:
        places = locate_values(path, column)
        for part in LOCATION_SCHEMA.names:
            samples = samples.append_column(f"{column}_{part}", places[part])
    file = ShardFile(
        file=path.name, rows=len(table), bytes=path.stat().st_size, sha256=sha256(path)
    )
    return WrittenShard(file=file, samples=samples, footer=footer)


def write_samples(folder: Path, shards: list[WrittenShard]) -> ClassDistribution:
    """Writes samples.parquet; returns the sum of class counts."""
    tables = []
    for number, shard in enumerate(shards):
        numbers = pa.array([number] * shard.file.rows, pa.int32())
        tables.append(shard.samples.append_column("shard", numbers).select(SAMPLES_SCHEMA.names))
    samples = pa.concat_tables(tables).cast(SAMPLES_SCHEMA)
    with atomic(folder / SAMPLES_FILE) as partial:
        pq.write_table(samples.combine_chunks(), partial, **PARQUET)
    known = [counts for counts in samples["class_pixels"].to_pylist() if counts is not None]
    total = ClassDistribution.empty()
    return total + ClassDistribution(np.array(known, np.int64).sum(axis=0)) if known else total


def read_footer(file: Path) -> ShardFooter | None:
    """None where the file is no whole Parquet file."""
    try:
        return ShardFooter.from_metadata(pq.read_metadata(file).metadata or {})
    except (pa.ArrowException, OSError, TypeError, ValueError):
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


def sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _found(job: ShardJob) -> WrittenShard | None:
    """The shard of an earlier run, if it is whole and of this plan, and no bad input was mended."""
    footer = read_footer(job.path)
    if footer is None or footer.plan != job.plan:
        return None
    if job.duplicates is not None and footer.duplicates != job.duplicates:
        return None
    if any(_load(job, bad.key) != bad for bad in footer.bad if bad.key not in footer.duplicates):
        return None
    try:
        return describe_shard(job.path, footer)
    except (pa.ArrowException, OSError, ValueError):  # damaged
        return None


def _write(job: ShardJob) -> ShardFooter:
    hashes: dict[str, str] = {}
    bad: list[BadInput] = []
    with atomic(job.path) as partial, pq.ParquetWriter(partial, SHARD_SCHEMA, **PARQUET) as writer:
        for rows in _groups(_rows(job, hashes, bad)):
            writer.write_table(pa.Table.from_pylist(rows, SHARD_SCHEMA))
        footer = ShardFooter(
            plan=job.plan, hashes=hashes, duplicates=job.duplicates or {}, bad=tuple(bad)
        )
        writer.add_key_value_metadata(footer.to_metadata())
    return footer


def _groups(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Row groups, which bound what is in memory."""
    group: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        group.append(row)
        size += sum(len(row[column] or b"") for column in _ENCODED)
        if len(group) == GROUP_ROWS or size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _rows(job: ShardJob, hashes: dict[str, str], bad: list[BadInput]) -> Iterator[dict[str, Any]]:
    """The shard's rows; adds the images' hashes and what is bad on the way."""
    duplicates = job.duplicates or {}
    for key in job.keys:
        loaded = _load(job, key)
        if isinstance(loaded, BadInput):
            bad.append(loaded)
            continue
        sample, row = loaded
        if _is_published(job.raw):
            hashes[key] = _image_hash(sample.image)
        if key in duplicates:
            bad.append(duplicate(key, sample.source_path, duplicates[key]))
        else:
            yield row


def _load(job: ShardJob, key: str) -> tuple[Sample, dict[str, Any]] | BadInput:
    """The sample and its row, or what is wrong with this input."""
    source_path = ""
    try:
        sample = job.raw.load(job.root, job.split, key)
        source_path = sample.source_path
        if _is_published(job.raw):
            check_content(sample)
        return sample, _row(job, sample)
    except UserError as error:
        root = rf"(?<!\S){re.escape(str(Path(job.root)))}/"
        reason = re.sub(root, "", str(error))  # the same wherever the data lie
        return BadInput(key=key, source_path=source_path, reason=reason)


def _is_published(raw: RawDataset) -> bool:
    """Whether files are read. What is computed cannot be damaged, and no scene comes twice."""
    return not isinstance(raw, GeneratedDataset)


def _row(job: ShardJob, sample: Sample) -> dict[str, Any]:
    image, label = sample.image, sample.label
    assert label is None or label.shape == image.shape[:2]
    if job.size is not None:
        image = resize_image(image, job.size)
        label = None if label is None else resize_label(label, job.size)
    height, width = image.shape[:2]
    try:
        data = IMAGE_CODECS[job.codec](image)
    except (OSError, ValueError) as error:  # such as more pixels than a JPEG's header can tell
        raise UserError(
            f"{sample.source_path}: {width}x{height} pixels do not encode as {job.codec}: {error}"
        ) from error
    return {
        "key": sample.key,
        "image": data,
        "label": None if label is None else encode_label(label),
        "height": height,
        "width": width,
        "class_pixels": None if label is None else ClassDistribution.of_label(label).pixels,
        "domain": job.domain,
        "split": job.split,
        "source_path": sample.source_path,
    }


def _image_hash(image: np.ndarray) -> str:
    """Equal for equal pixels, in whatever file they came."""
    state = hashlib.blake2b(str(image.shape).encode(), digest_size=16)
    state.update(np.ascontiguousarray(image).data)
    return state.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
