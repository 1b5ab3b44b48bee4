import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from tests.camvid_like import make_shards
from tests.test_shards import poison_column
from uda.data.crop import CropConfig, load_crop
from uda.data.crops import RowCrops
from uda.data.loader import CropLoader, PairLoader, Share
from uda.data.rows import ShardRows
from uda.data.sampling import EpochPlan, SamplingConfig
from uda.data.shards import open_shards
from uda.types import UserError

CROP = CropConfig(height=24, width=32, scale=(0.7, 1.4))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    source = make_shards(tmp_path_factory.mktemp("source"), count=6)
    target = make_shards(tmp_path_factory.mktemp("target"), count=5, height=50, width=44)
    return source, target


def parts(folders, kind="rare_class"):
    """Rows and plan of the source and of the target."""
    source, target = (open_shards(folder) for folder in folders)
    return (
        (
            ShardRows(source, labels=True),
            EpochPlan(source.statistics(labels=True), SamplingConfig(kind=kind), 1),
        ),
        (
            ShardRows(target, labels=False),
            EpochPlan(target.statistics(labels=False), SamplingConfig(), 2),
        ),
    )


def pair_loader(source, target, *, batch_size=4, threads=2, rank=0, world_size=1, **options):
    """Of two pairs (rows, plan)."""
    share = Share(batch_size=batch_size, rank=rank, world_size=world_size)
    executor = ThreadPoolExecutor(threads, "decode") if threads else None
    source_loader, target_loader = (
        CropLoader(
            RowCrops(rows, CROP, labels=labels),
            plan,
            CROP,
            share,
            labels=labels,
            executor=executor,
            **options,
        )
        for (rows, plan), labels in ((source, True), (target, False))
    )
    return PairLoader(source_loader, target_loader, share, executor)


def take(folders, count, *, first_step=0, **options):
    with pair_loader(*parts(folders), **options) as loader:
        return list(itertools.islice(loader.batches(first_step), count))


def assert_equal(batch, other):
    assert torch.equal(batch.source.images, other.source.images)
    assert torch.equal(batch.source.labels, other.source.labels)
    assert torch.equal(batch.target.images, other.target.images)
    assert (batch.step, batch.first_sample) == (other.step, other.first_sample)


def test_a_batch_is_the_plans_items_cropped(folders):
    """Reference: walk the plan by hand."""
    (source, source_plan), (target, target_plan) = parts(folders)
    for step, batch in enumerate(take(folders, 3)):
        assert (batch.step, batch.first_sample) == (step, 0)
        for i, item in enumerate(source_plan.items(4 * step, 4)):
            image, label = load_crop(source.row(item.sample), item, CROP, labels=True)
            assert np.array_equal(batch.source.images[i].permute(1, 2, 0).numpy(), image)
            assert np.array_equal(batch.source.labels[i].numpy(), label)
        for i, item in enumerate(target_plan.items(4 * step, 4)):
            image, _ = load_crop(target.row(item.sample), item, CROP, labels=False)
            assert np.array_equal(batch.target.images[i].permute(1, 2, 0).numpy(), image)


def test_shapes_types_and_memory_format(folders):
    (batch,) = take(folders, 1)
    assert batch.source.images.shape == batch.target.images.shape == (4, 3, 24, 32)
    assert batch.source.labels.shape == (4, 24, 32)
    assert batch.source.images.dtype == batch.source.labels.dtype == torch.uint8
    assert batch.source.images.is_contiguous(memory_format=torch.channels_last)
    assert not hasattr(batch.target, "labels")


@pytest.mark.parametrize("world_size", [2, 4])
def test_workers_together_get_what_one_worker_gets(folders, world_size):
    whole = take(folders, 3)
    ranks = [take(folders, 3, rank=rank, world_size=world_size) for rank in range(world_size)]
    for step, batch in enumerate(whole):
        slices = [batches[step] for batches in ranks]
        assert [s.first_sample for s in slices] == [r * 4 // world_size for r in range(world_size)]
        assert torch.equal(torch.cat([s.source.images for s in slices]), batch.source.images)
        assert torch.equal(torch.cat([s.source.labels for s in slices]), batch.source.labels)
        assert torch.equal(torch.cat([s.target.images for s in slices]), batch.target.images)


@pytest.mark.parametrize("options", [{"threads": 0}, {"threads": 1}, {"threads": 5, "prefetch": 7}])
def test_threads_change_nothing(folders, options):
    for batch, other in zip(take(folders, 6), take(folders, 6, **options), strict=True):
        assert_equal(batch, other)


def test_resuming_is_skipping(folders):
    whole = take(folders, 8)
    for batch, other in zip(take(folders, 3, first_step=5), whole[5:], strict=True):
        assert_equal(batch, other)


def test_one_loader_may_be_iterated_again(folders):
    with pair_loader(*parts(folders), batch_size=2) as loader:
        first = list(itertools.islice(loader.batches(), 3))
        again = list(itertools.islice(loader.batches(1), 2))
    for batch, other in zip(again, first[1:], strict=True):
        assert_equal(batch, other)


def test_poisoned_target_labels_change_nothing(folders, tmp_path):
    """The column of labels is overwritten in the target's files: nobody notices."""
    clean = take(folders, 3)
    target = make_shards(tmp_path, count=5, height=50, width=44)
    for file in open_shards(target).files:
        poison_column(file, "label")
        poison_column(file, "class_pixels.list.element")
    poison_column(target / "samples.parquet", "class_pixels.list.element")
    for batch, other in zip(clean, take((folders[0], target), 3), strict=True):
        assert_equal(batch, other)


class Counting:
    """Rows that remember which were asked for, and may fail or be slow."""

    def __init__(self, rows, *, broken=(), delay=0.0):
        self.rows, self.broken, self.delay, self.asked = rows, broken, delay, []

    def __len__(self):
        return len(self.rows)

    def row(self, index):
        self.asked.append(index)
        time.sleep(self.delay)
        if index in self.broken:
            raise UserError(f"shard-00000.parquet row {index}: does not read")
        return self.rows.row(index)


def test_prefetching_is_bounded(folders):
    (source, plan), target = parts(folders)
    counting = Counting(source)
    with pair_loader((counting, plan), target, threads=2, prefetch=3) as loader:
        batches = loader.batches()
        for step in range(3):
            next(batches)
            time.sleep(0.05)
            assert len(counting.asked) <= 4 * (step + 1 + 3)
        assert len(counting.asked) > 4 * 3  # it does work ahead


def test_inline_reads_nothing_ahead(folders):
    (source, plan), target = parts(folders)
    counting = Counting(source)
    with pair_loader((counting, plan), target, threads=0) as loader:
        next(loader.batches())
        assert len(counting.asked) == 4


@pytest.mark.parametrize("threads", [0, 2])
def test_an_unreadable_row_is_one_clear_error(folders, threads):
    (source, plan), target = parts(folders)
    broken = Counting(source, broken=range(6))
    with pair_loader((broken, plan), target, threads=threads) as loader:
        batches = loader.batches()
        with pytest.raises(UserError, match=r"shard-00000.parquet row \d: does not read"):
            next(batches)
        with pytest.raises(StopIteration):
            next(batches)


@pytest.mark.parametrize("leave", ["close", "generator", "nothing"])
def test_threads_end(folders, leave):
    before = threading.active_count()
    loader = pair_loader(*parts(folders), threads=3)
    batches = loader.batches()
    next(batches)
    assert threading.active_count() > before
    if leave == "generator":
        batches.close()
    elif leave == "nothing":
        del batches
    loader.close()
    loader.close()  # twice is fine
    assert threading.active_count() == before


def test_waiting_is_measured(folders):
    (source, plan), target = parts(folders)
    slow = Counting(source, delay=0.03)
    with pair_loader((slow, plan), target, batch_size=2, threads=1) as loader:
        batches = loader.batches()
        next(batches)
        assert loader.wait_seconds > 0.05
        time.sleep(0.5)  # meanwhile the next one is decoded
        next(batches)
        assert loader.wait_seconds < 0.05


def test_wrong_options(folders):
    with pytest.raises(UserError, match="batch_size: got 4, want a multiple of 3"):
        pair_loader(*parts(folders), world_size=3)
    with pytest.raises(UserError, match="batch_size: got 0"):
        pair_loader(*parts(folders), batch_size=0)
    with pytest.raises(UserError, match="prefetch: got 0"):
        pair_loader(*parts(folders), prefetch=0)


def test_a_plan_of_other_data_is_refused(folders):
    (source, _), target = parts(folders)
    with pytest.raises(UserError, match="data: got 6 rows, want 5 as planned"):
        pair_loader((source, target[1]), target)
