"""MosaicML Streaming: MDS shards in torch's worker processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streaming import MDSWriter, Stream, StreamingDataset
from streaming.base.util import clean_stale_shared_memory
from torch.utils.data import DataLoader

from tests.benchmarks.ingest_peers import Take
from tests.benchmarks.ingest_peers.transform import BATCH, Pair, load_jpeg, process_draws, taking

_REPEAT = 1000  # an epoch longer than the measurement


class _Dataset(StreamingDataset):
    def __getitem__(self, at: int) -> Pair:
        sample = super().__getitem__(at)
        return load_jpeg(sample["image"], sample["label"], process_draws())


def write(samples: list[tuple[bytes, bytes]], folder: Path) -> None:
    with MDSWriter(columns={"image": "bytes", "label": "bytes"}, out=str(folder)) as writer:
        for image, label in samples:
            writer.write({"image": image, "label": label})


@contextmanager
def open_mds(data: Path, threads: int) -> Iterator[Take]:
    clean_stale_shared_memory()  # of a run that was interrupted
    stream = Stream(local=str(data / "mosaic"), repeat=_REPEAT)
    dataset = _Dataset(streams=[stream], shuffle=True, batch_size=BATCH)
    yield taking(DataLoader(dataset, batch_size=BATCH, num_workers=threads))
