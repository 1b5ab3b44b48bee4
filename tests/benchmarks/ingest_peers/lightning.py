"""LitData: its chunks in its worker processes."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from litdata import StreamingDataLoader, StreamingDataset, optimize

from tests.benchmarks.ingest_peers import Take
from tests.benchmarks.ingest_peers.transform import BATCH, Pair, load_jpeg, process_draws, taking

_REPEAT = 100  # an epoch longer than the measurement
_INDEX = "index.json"


class _Dataset(StreamingDataset):
    def __getitem__(self, index: int) -> Pair:
        sample = super().__getitem__(index)
        return load_jpeg(sample["image"], sample["label"], process_draws())


def write(samples: list[tuple[bytes, bytes]], folder: Path) -> None:
    """LitData cannot repeat its data; so each chunk gets many names."""
    pairs = [{"image": image, "label": label} for image, label in samples]
    optimize(_same, pairs, str(folder), chunk_bytes="16MB", num_workers=1, verbose=False)
    index = json.loads((folder / _INDEX).read_text())
    chunks = []
    for chunk in index["chunks"]:
        for number in range(_REPEAT):
            name = f"{number:03d}-{chunk['filename']}"
            os.link(folder / chunk["filename"], folder / name)
            chunks.append({**chunk, "filename": name})
    (folder / _INDEX).write_text(json.dumps({**index, "chunks": chunks}))


@contextmanager
def open_chunks(data: Path, threads: int) -> Iterator[Take]:
    dataset = _Dataset(str(data / "litdata"), shuffle=True)
    yield taking(StreamingDataLoader(dataset, batch_size=BATCH, num_workers=threads))


def _same(pair: dict[str, bytes]) -> dict[str, bytes]:
    return pair
