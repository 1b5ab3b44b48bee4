"""WebDataset: tar files read in order, shuffled in a buffer, in torch's worker processes."""

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import webdataset
from torch.utils.data import default_collate

from tests.benchmarks.ingest_peers import Take
from tests.benchmarks.ingest_peers.transform import BATCH, Pair, load_jpeg, process_draws, taking

_PER_SHARD = 16
_SHUFFLED = 100


def write(samples: list[tuple[bytes, bytes]], folder: Path) -> None:
    folder.mkdir()
    for first in range(0, len(samples), _PER_SHARD):
        with tarfile.open(folder / f"{first:06d}.tar", "w") as tar:
            for number, sample in enumerate(samples[first : first + _PER_SHARD], first):
                for suffix, data in zip(("image", "label"), sample, strict=True):
                    entry = tarfile.TarInfo(f"{number:06d}.{suffix}")
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))


@contextmanager
def open_tars(data: Path, threads: int) -> Iterator[Take]:
    files = sorted(str(file) for file in (data / "webdataset").iterdir())
    dataset = (
        webdataset.WebDataset(files, resampled=True, shardshuffle=False)
        .shuffle(_SHUFFLED)
        .map(_load)
        .batched(BATCH, collation_fn=default_collate)
    )
    yield taking(webdataset.WebLoader(dataset, batch_size=None, num_workers=threads))


def _load(sample: dict[str, Any]) -> Pair:
    return load_jpeg(sample["image"], sample["label"], process_draws())
