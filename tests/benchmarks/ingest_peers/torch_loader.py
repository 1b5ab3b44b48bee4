"""torch.utils.data.DataLoader with worker processes: over PNG files, and over the JPEG files."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.utils.data import DataLoader, Dataset, RandomSampler

from tests.benchmarks.ingest_peers import Take
from tests.benchmarks.ingest_peers.transform import (
    BATCH,
    Pair,
    as_float,
    as_uint8,
    encoded_files,
    load_jpeg,
    load_png,
    process_draws,
    taking,
)


class _Files(Dataset):
    def __init__(self, folder: Path, load: Callable, finish: Callable[[Pair], Pair]) -> None:
        self._files = encoded_files(folder)
        self._load = load
        self._finish = finish

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Pair:
        image, label = (file.read_bytes() for file in self._files[index])
        return self._finish(self._load(image, label, process_draws()))


@contextmanager
def open_png(data: Path, threads: int) -> Iterator[Take]:
    yield taking(_loader(_Files(data / "png", load_png, as_float), threads))


@contextmanager
def open_float(data: Path, threads: int) -> Iterator[Take]:
    yield taking(_loader(_Files(data / "jpeg", load_jpeg, as_float), threads))


@contextmanager
def open_uint8(data: Path, threads: int) -> Iterator[Take]:
    yield taking(_loader(_Files(data / "jpeg", load_jpeg, as_uint8), threads))


def _loader(files: _Files, workers: int) -> DataLoader:
    """As long an epoch as one likes: no peer is measured where an epoch begins."""
    sampler = RandomSampler(files, replacement=True, num_samples=10**6)
    return DataLoader(files, batch_size=BATCH, sampler=sampler, num_workers=workers)
