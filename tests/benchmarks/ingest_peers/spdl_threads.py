"""SPDL: a pipeline of threads over the JPEG files."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from spdl.pipeline import PipelineBuilder

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

Files = list[tuple[Path, Path]]


@contextmanager
def open_float(data: Path, threads: int) -> Iterator[Take]:
    with _open(data, threads, as_float) as take:
        yield take


@contextmanager
def open_uint8(data: Path, threads: int) -> Iterator[Take]:
    with _open(data, threads, as_uint8) as take:
        yield take


@contextmanager
def _open(data: Path, threads: int, finish: Callable[[Pair], Pair]) -> Iterator[Take]:
    def load(drawn: tuple[Files, int]) -> tuple[torch.Tensor, torch.Tensor]:
        files, draws = drawn[0], np.random.default_rng(drawn[1])
        encoded = ((image.read_bytes(), label.read_bytes()) for image, label in files)
        return stack([finish(load_jpeg(*values, draws)) for values in encoded])

    builder = PipelineBuilder().add_source(_random_batches(encoded_files(data / "jpeg")))
    pipeline = builder.pipe(load, concurrency=threads).add_sink(threads).build(num_threads=threads)
    with pipeline.auto_stop():
        yield taking(pipeline.get_iterator())


def _random_batches(files: Files) -> Iterator[tuple[Files, int]]:
    """The files of a batch, and a seed for its crops."""
    draws = np.random.default_rng(0)
    for seed in itertools.count():
        yield [files[i] for i in draws.integers(len(files), size=BATCH)], seed
