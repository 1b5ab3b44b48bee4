"""Files of predicted class distributions: all that is known of the classes of unlabelled images.

A Parquet file with one row per sample of a shard folder: its key and how many pixels a network
gave to each class. It names the folder's manifest and the network's checkpoint. Labels have no
part in it: sizes, names and pixels of images are all that it is made from.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from uda.classes import NUM_CLASSES
from uda.data.shards import ShardFolder
from uda.data.write import atomic
from uda.types import UserError

_SCHEMA = pa.schema([("key", pa.string()), ("class_pixels", pa.list_(pa.int64(), NUM_CLASSES))])


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """How a network divides N images among the classes, in the order of their folder."""

    class_pixels: Int64[np.ndarray, "N K"]  # each row has at least one pixel
    checkpoint: str  # of the network
    digest: str  # SHA-256 of the file


def write_predictions(
    file: Path, folder: ShardFolder, class_pixels: Int64[np.ndarray, "N K"], checkpoint: str
) -> None:
    """Writes what a network predicted for all of a folder's samples; whole or not at all."""
    keys = folder.samples(["key"])["key"].combine_chunks()
    assert class_pixels.shape == (len(keys), NUM_CLASSES)
    counts = pa.FixedSizeListArray.from_arrays(pa.array(class_pixels.ravel()), NUM_CLASSES)
    made_from = {"manifest": folder.manifest.digest, "checkpoint": checkpoint}
    table = pa.table([keys, counts], schema=_SCHEMA.with_metadata(made_from))
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic(file) as partial:
        pq.write_table(table, partial)


def check_predictions_file(file: Path, folder: ShardFolder) -> None:
    """UserError where `write_predictions` could not or should not write, for before the work."""
    if not file.name or file.is_dir():
        raise UserError(f"predictions: got {file}, which is a folder; want a file")
    if file.absolute().parent == folder.path.absolute():
        raise UserError(f"predictions: got {file}, want a file outside the folder of shards")


def read_predictions(file: str | Path, folder: ShardFolder) -> Predictions:
    """The predictions for the samples of a folder, put in its order.

    UserError where the file is none, was made from other shards, or lacks a sample.
    """
    try:
        data = Path(file).read_bytes()
        with pq.ParquetFile(pa.BufferReader(data)) as parquet:
            # In this thread: one of Arrow's that holds a Python object at exit aborts the process.
            table = parquet.read(use_threads=False)
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"predictions {file}: cannot be read ({reason})") from None
    if not table.schema.equals(_SCHEMA):
        raise UserError(
            f"predictions {file}: got columns {', '.join(table.column_names)}, "
            "want the key and class_pixels that `uda distributions` writes"
        )
    made_from = table.schema.metadata or {}
    if made_from.get(b"manifest") != folder.manifest.digest.encode():
        raise UserError(
            f"predictions {file}: were made from other shards than {folder.path}; "
            f"want those of `uda distributions CHECKPOINT {folder.path} {file}`"
        )
    order = _order(file, table["key"].to_pylist(), folder)
    return Predictions(
        class_pixels=_counts(file, table)[order],
        checkpoint=made_from.get(b"checkpoint", b"").decode(),
        digest=hashlib.sha256(data).hexdigest(),
    )


def _order(file: str | Path, keys: list[str | None], folder: ShardFolder) -> list[int]:
    """At which row of the file each sample of the folder is."""
    rows = {key: row for row, key in enumerate(keys)}
    wanted = folder.samples(["key"])["key"].to_pylist()
    missing, unknown = [key for key in wanted if key not in rows], rows.keys() - set(wanted)
    if missing or unknown or len(rows) < len(keys):
        wrong = {
            "lacks": missing,
            "has unknown": sorted(map(str, unknown)),
            "repeats": sorted({str(key) for row, key in enumerate(keys) if rows[key] != row}),
        }
        listed = "; ".join(f"{how} {_first(names)}" for how, names in wrong.items() if names)
        raise UserError(f"predictions {file}: {listed}; want each key of {folder.path} once")
    return [rows[key] for key in wanted]


def _counts(file: str | Path, table: pa.Table) -> np.ndarray:
    """(N, K) pixels; an image without any has no distribution to match."""
    column = table["class_pixels"].combine_chunks()
    flat = column.fill_null([0] * NUM_CLASSES).flatten().fill_null(-1)
    counts = flat.to_numpy().reshape(-1, NUM_CLASSES)
    wrong = np.flatnonzero((counts < 0).any(axis=1) | ~counts.any(axis=1))
    if len(wrong):
        keys = table["key"].take(pa.array(wrong)).to_pylist()
        raise UserError(
            f"predictions {file}: got no numbers of pixels for {_first(keys)}, "
            "want at least one pixel of some class"
        )
    return counts


def _first(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
