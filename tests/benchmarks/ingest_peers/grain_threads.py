"""Grain: reading threads in the process that trains, over the JPEG files."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grain
import numpy as np

from tests.benchmarks.ingest_peers import Take
from tests.benchmarks.ingest_peers.transform import (
    BATCH,
    Pair,
    as_float,
    as_uint8,
    encoded_files,
    load_jpeg,
    stack,
    taking,
)


@contextmanager
def open_float(data: Path, threads: int) -> Iterator[Take]:
    yield taking(_dataset(data, threads, as_float))


@contextmanager
def open_uint8(data: Path, threads: int) -> Iterator[Take]:
    yield taking(_dataset(data, threads, as_uint8))


def _dataset(data: Path, threads: int, finish: Callable[[Pair], Pair]) -> grain.IterDataset:
    def load(files: tuple[Path, Path], draws: np.random.Generator) -> Pair:
        return finish(load_jpeg(files[0].read_bytes(), files[1].read_bytes(), draws))

    return (
        grain.MapDataset.source(encoded_files(data / "jpeg"))
        .seed(0)
        .shuffle()
        .repeat()
        .random_map(load)
        .batch(BATCH, batch_fn=stack)
        .to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=16))
    )
