"""Our own pipelines: streaming and resident through Ray, and in one process without it."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import ray

from cluster.resident import ResidentRows, load_resident
from cluster.runtime import start_ray
from cluster.streaming import StreamedCrops, open_stream
from tests.benchmarks.ingest_peers import Take
from tests.benchmarks.ingest_peers.transform import BATCH, CROP, SCALES, taking
from uda.config import IngestConfig
from uda.data.crop import CropConfig
from uda.data.crops import CropSource, RowCrops
from uda.data.loader import CropLoader, Share
from uda.data.rows import ShardRows
from uda.data.sampling import EpochPlan, SamplingConfig
from uda.data.shards import ShardFolder, open_shards

CROPS = CropConfig(height=CROP, width=CROP, scale=SCALES, flip=0.5)
SHARE = Share(batch_size=BATCH)
_RAY_CPUS = 4  # counted by Ray, however few there are

Open = Callable[[ShardFolder, EpochPlan], CropSource]


@contextmanager
def open_streaming(data: Path, threads: int) -> Iterator[Take]:
    with ray_running(), loading(data, threads, _streamed) as take:
        yield take


@contextmanager
def open_resident(data: Path, threads: int) -> Iterator[Take]:
    with ray_running(), loading(data, threads, _resident) as take:
        yield take


@contextmanager
def open_local(data: Path, threads: int) -> Iterator[Take]:
    with loading(data, threads, _local) as take:
        yield take


@contextmanager
def ray_running() -> Iterator[None]:
    """Ray with a worker that is up."""
    with start_ray(_RAY_CPUS):
        ray.get(ray.remote(_nothing).remote())
        yield


@contextmanager
def loading(data: Path, threads: int, open_crops: Open) -> Iterator[Take]:
    """Opens the data first, as the driver of a training does before its workers are up."""
    folder = open_shards(data / "ours")
    plan = EpochPlan(folder.statistics(labels=True), SamplingConfig(), seed=0)
    crops = open_crops(folder, plan)
    with ThreadPoolExecutor(threads) as executor:
        loader = CropLoader(crops, plan, CROPS, SHARE, labels=True, executor=executor)
        with closing(loader.batches()) as endless:
            yield taking(endless)
        executor.shutdown(wait=False, cancel_futures=True)
        loader.close()


def _nothing() -> None: ...


def _streamed(folder: ShardFolder, plan: EpochPlan) -> CropSource:
    ahead_bytes = 1e6 * IngestConfig().ahead_mb
    stream = open_stream(folder, plan, CROPS, labels=True, decode=False, ahead_bytes=ahead_bytes)
    ray.get(stream.begin([]))  # a process that reads is up
    return StreamedCrops(stream, SHARE)


def _resident(folder: ShardFolder, plan: EpochPlan) -> CropSource:
    return RowCrops(ResidentRows(load_resident(folder, labels=True)), CROPS, labels=True)


def _local(folder: ShardFolder, plan: EpochPlan) -> CropSource:
    return RowCrops(ShardRows(folder, labels=True), CROPS, labels=True)
