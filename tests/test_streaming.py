"""Streaming through real Ray tasks gives, sample by sample, what reading the folder gives."""

import itertools
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import torch

from tests.camvid_like import make_shards
from tests.test_rows import damage
from uda.data.crop import CropConfig
from uda.data.crops import CropSource, RowCrops, SkipBadRows
from uda.data.loader import CropLoader, Share
from uda.data.rows import ShardRows
from uda.data.sampling import EpochPlan, SamplingConfig
from uda.data.shards import open_shards
from uda.types import UserError

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_local")]

CROP = CropConfig(height=24, width=32, scale=(0.7, 1.4))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return open_shards(make_shards(tmp_path_factory.mktemp("data"), count=30, rows_per_shard=8))


def plan_of(folder, *, labels=True):
    kind = "rare_class" if labels else "uniform"
    return EpochPlan(folder.statistics(labels=labels), SamplingConfig(kind=kind), 1)


def streamed(folder, share, *, labels=True, decode=False, ahead_bytes=1e5):
    from cluster.streaming import StreamedCrops, open_stream

    plan = plan_of(folder, labels=labels)
    stream = open_stream(folder, plan, CROP, labels=labels, decode=decode, ahead_bytes=ahead_bytes)
    return StreamedCrops(stream, share)


def take(folder, crops, count, *, labels=True, first_step=0, share=None):
    """Batches of a loader with two threads."""
    share = share or Share(batch_size=4)
    with ThreadPoolExecutor(2) as executor:
        plan = plan_of(folder, labels=labels)
        loader = CropLoader(crops, plan, CROP, share, labels=labels, executor=executor)
        batches = list(itertools.islice(loader.batches(first_step), count))
        loader.close()
    return batches


def local(folder, count, **options):
    labels = options.get("labels", True)
    crops = RowCrops(ShardRows(folder, labels=labels), CROP, labels=labels)
    return take(folder, crops, count, **options)


def assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        assert torch.equal(batch.images, other.images)
        assert (batch.labels is None) == (other.labels is None)
        assert batch.labels is None or torch.equal(batch.labels, other.labels)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of few samples, so that a short test sees many of them."""
    monkeypatch.setattr("cluster.streaming._BLOCK_BYTES", 3e4)


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("labels", [False, True])
def test_streamed_batches_are_the_plans(folder, small_blocks, decode, labels):
    crops = streamed(folder, Share(batch_size=4), labels=labels, decode=decode)
    assert isinstance(crops, CropSource)
    assert_same(take(folder, crops, 25, labels=labels), local(folder, 25, labels=labels))


@pytest.mark.parametrize("world_size", [2, 4])
def test_workers_together_get_what_one_gets(folder, small_blocks, world_size):
    whole = local(folder, 6)
    shares = [Share(batch_size=4, rank=r, world_size=world_size) for r in range(world_size)]
    parts = [take(folder, streamed(folder, share), 6, share=share) for share in shares]
    for step, batch in enumerate(whole):
        assert torch.equal(torch.cat([part[step].images for part in parts]), batch.images)
        assert torch.equal(torch.cat([part[step].labels for part in parts]), batch.labels)


def test_resuming_is_skipping(folder, small_blocks):
    crops = streamed(folder, Share(batch_size=4))
    assert_same(take(folder, crops, 4, first_step=37), local(folder, 4, first_step=37))


def test_what_is_ahead_is_bounded(folder, small_blocks):
    """However slow the trainer: no more blocks are under way than were asked for."""
    crops = streamed(folder, Share(batch_size=4), ahead_bytes=1e5)
    most = crops._blocks_ahead
    assert 2 < most < 6  # of about 30 kB
    crops.start(0)
    for position, item in enumerate(plan_of(folder).items(0, 60)):
        crops.crop(position, item)
        assert len(crops._ordered) == most
        assert len(crops._arrived) < 4 * crops._block_steps
    crops.close()


def test_little_ahead_makes_small_blocks(folder):
    """Two blocks are the least, so they must be small enough for both to fit."""
    for decode in (False, True):
        crops = streamed(folder, Share(batch_size=4), decode=decode, ahead_bytes=4e4)
        crops.start(0)
        positions = sum(len(order.positions) for order in crops._ordered)
        delivered = 4 * CROP.height * CROP.width if decode else folder.total_bytes / len(folder)
        assert positions * delivered <= 4e4
        crops.close()


def test_closing_frees_the_threads_that_wait(folder, small_blocks, monkeypatch):
    import ray

    from cluster import streaming

    @ray.remote
    def _endless_read(rows, plan, positions):
        while positions:  # the task that only starts a process has none
            time.sleep(0.05)

    monkeypatch.setattr(streaming, "_read", _endless_read)
    crops = streamed(folder, Share(batch_size=4))
    crops.start(0)
    items = plan_of(folder).items(0, 3)
    with ThreadPoolExecutor(3) as executor:
        waiting = [executor.submit(crops.crop, n, item) for n, item in enumerate(items)]
        time.sleep(1)
        assert not any(future.done() for future in waiting)
        crops.close()
        for future in waiting:
            assert isinstance(future.exception(), RuntimeError)


def test_what_broke_a_reader_is_said(folder, small_blocks, monkeypatch):
    import ray

    from cluster import streaming

    @ray.remote
    def _broken_read(rows, plan, positions):
        raise MemoryError("got no room")

    monkeypatch.setattr(streaming, "_read", _broken_read)
    crops = streamed(folder, Share(batch_size=4))
    message = r"reading .*shards for positions 0 to \d+: MemoryError: got no room$"
    with pytest.raises(RuntimeError, match=message):
        take(folder, crops, 1)


def test_a_position_comes_once(folder, small_blocks):
    crops = streamed(folder, Share(batch_size=4))
    crops.start(3)
    (item,) = plan_of(folder).items(12, 1)
    crops.crop(12, item)
    for position in (12, 0):
        with pytest.raises(RuntimeError, match="want one that is still to come"):
            crops.crop(position, item)
    crops.close()


def reader_processes():
    """Worker processes of Ray below this one that have run our reading task."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.name().startswith("ray::") and "_slow_read" in process.name():
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_a_killed_reader_changes_nothing(folder, small_blocks, monkeypatch, tmp_path):
    """A reader is killed in the middle of its work; Ray repeats it."""
    import ray

    from cluster import streaming

    @ray.remote
    def _slow_read(rows, plan, positions):
        time.sleep(0.3)
        return streaming.read_block(rows, [i.sample for p in positions for i in plan.items(p, 1)])

    monkeypatch.setattr(streaming, "_read", _slow_read)
    killed = []

    def kill():
        deadline = time.monotonic() + 30
        while not killed and time.monotonic() < deadline:
            for process in reader_processes()[:1]:
                os.kill(process.pid, signal.SIGKILL)
                killed.append(process.pid)
            time.sleep(0.02)

    killer = threading.Thread(target=kill)
    killer.start()
    batches = take(folder, streamed(folder, Share(batch_size=4)), 20)
    killer.join()
    assert len(killed) == 1
    assert_same(batches, local(folder, 20))


@pytest.fixture
def damaged(tmp_path):
    """A folder where one byte of the image of sample 5, in the first shard, is flipped."""
    folder = open_shards(make_shards(tmp_path, count=12, rows_per_shard=8))
    damage(folder, "image", 5)
    return folder


@pytest.mark.parametrize("decode", [False, True])
def test_a_damaged_row_is_one_error_that_names_it(damaged, small_blocks, decode):
    with pytest.raises(UserError, match=r"shard-00000.parquet row 5: does not read") as caught:
        take(damaged, streamed(damaged, Share(batch_size=4), decode=decode), 20)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("decode", [False, True])
def test_a_damaged_row_is_skipped_on_request(damaged, small_blocks, decode):
    spare = RowCrops(ShardRows(damaged, labels=True), CROP, labels=True)
    crops = SkipBadRows(streamed(damaged, Share(batch_size=4), decode=decode), spare, 1)
    alone = SkipBadRows(spare, spare, 1)
    assert_same(take(damaged, crops, 20), take(damaged, alone, 20))
    assert crops.bad_rows == alone.bad_rows == 1


def test_a_vanished_shard_is_named(tmp_path, small_blocks):
    folder = open_shards(make_shards(tmp_path, count=12, rows_per_shard=8))
    crops = streamed(folder, Share(batch_size=4))
    folder.files[1].unlink()
    with pytest.raises(UserError, match=r"shard-00001.parquet row \d: does not read: No such file"):
        take(folder, crops, 20)
