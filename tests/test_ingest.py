"""Shards on their way to the workers: every mode gives what lies in the folder."""

import itertools
import pickle
import shutil

import pytest
import torch

from tests.camvid_like import make_shards
from tests.test_rows import damage
from tests.test_shards import poison_column
from tests.tiny import shards, tiny_config
from uda.data.loader import Share
from uda.data.rows import RowReader, ShardRows
from uda.data.shards import open_shards
from uda.feed import open_feed, open_local_feed
from uda.types import Domain, UserError

LOOKS = ("game", "camera")

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.usefixtures("ray_local"),
    # Ray Data sets its own deprecated options when it makes its default context.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),
]


@pytest.fixture
def folder(tmp_path):
    return make_shards(tmp_path, count=75, height=16, width=24, rows_per_shard=40)


def resident_rows(folder, *, labels):
    from cluster.resident import ResidentRows, load_resident

    return ResidentRows(load_resident(folder, labels=labels))


def assert_same_rows(rows, reference):
    assert len(rows) == len(reference)
    for index in range(len(reference)):
        got, want = rows.row(index), reference.row(index)
        assert (got.key, got.height, got.width) == (want.key, want.height, want.width)
        assert got.image == want.image
        assert got.label == want.label


def test_rows_are_those_of_the_folder(folder):
    rows = resident_rows(str(folder), labels=True)
    assert isinstance(rows, RowReader)
    assert_same_rows(rows, ShardRows(folder, labels=True))
    for index in (-1, 75):
        with pytest.raises(IndexError):
            rows.row(index)


def poison_labels(folder):
    """Overwrites labels, where they lie and what they hold."""
    for file in folder.files:
        poison_column(file, "label")
        poison_column(file, "class_pixels.list.element")
    for name in ("label_offset", "label_bytes", "label_crc32", "class_pixels.list.element"):
        poison_column(folder.path / "samples.parquet", name)


def test_without_labels_the_label_column_is_not_read(folder):
    reference = ShardRows(folder, labels=False)
    poison_labels(open_shards(folder))
    rows = resident_rows(open_shards(folder), labels=False)
    assert rows.row(3).label is None
    assert_same_rows(rows, reference)


def test_any_order_of_blocks_gives_the_order_of_the_folder(folder):
    """Ray promises none; here the last comes first."""
    import numpy as np

    from cluster.resident import ResidentRef, ResidentRows, load_resident

    ref = load_resident(folder, labels=True)
    turned = ResidentRef(
        blocks=ref.blocks[::-1],
        block_of=(len(ref.blocks) - 1 - ref.block_of).astype(np.int32),
        row_of=ref.row_of,
    )
    assert_same_rows(ResidentRows(turned), ShardRows(folder, labels=True))


def test_a_worker_gets_the_rows_through_its_config(folder):
    import ray

    from cluster.resident import ResidentRows, load_resident

    @ray.remote(num_cpus=1)
    class Worker:
        def __init__(self, config):
            self.rows = ResidentRows(pickle.loads(config)["source"])

        def images(self, indices):
            return [bytes(self.rows.row(index).image) for index in indices]

    # Ray Train pickles a config by itself, so the references travel inside plain bytes.
    ref = load_resident(folder, labels=True)
    worker = Worker.remote(ray.cloudpickle.dumps({"source": ref}))
    reference = ShardRows(folder, labels=True)
    got = ray.get(worker.images.remote([74, 0, 41]))
    assert got == [bytes(reference.row(index).image) for index in (74, 0, 41)]


def test_a_damaged_row_fails_alone(folder):
    damage(open_shards(folder), "image", 41)
    rows = resident_rows(folder, labels=True)
    with pytest.raises(UserError, match=r"shard-00001.parquet row 1: does not read") as caught:
        rows.row(41)
    assert "\n" not in str(caught.value)
    assert rows.row(40).key
    assert rows.row(42).key


def config_of(**ingest):
    return tiny_config("source_only", {f"ingest.{name}": value for name, value in ingest.items()})


@pytest.mark.parametrize(
    ("ingest", "store_bytes", "mode"),
    [
        ({}, 1e9, "resident"),
        ({}, 1e4, "streaming"),
        ({"mode": "streaming"}, 1e9, "streaming"),
        ({"mode": "resident"}, 1e9, "resident"),
        ({"decode": "cluster"}, 1e9, "streaming"),
    ],
)
def test_the_mode_follows_from_the_size(folder, ingest, store_bytes, mode):
    from cluster.ingest import choose_mode

    folders = {Domain.SOURCE: open_shards(folder), Domain.TARGET: open_shards(folder)}
    assert choose_mode(config_of(**ingest), folders, store_bytes) == mode


def test_resident_data_that_do_not_fit_are_refused(folder):
    from cluster.ingest import choose_mode

    folders = {Domain.SOURCE: open_shards(folder)}
    with pytest.raises(UserError, match=r"ingest.mode: got resident for .* or mode streaming"):
        choose_mode(config_of(mode="resident"), folders, 1e4)


def test_the_object_store_has_a_size():
    from cluster.ingest import object_store_bytes

    assert object_store_bytes() > 1e6


@pytest.mark.parametrize(
    "ingest",
    [{"mode": "resident"}, {"mode": "streaming"}, {"mode": "streaming", "decode": "cluster"}],
)
def test_every_mode_gives_the_batches_of_one_process(ingest, tmp_path):
    """Through the same functions as training uses, for the second of two workers.

    All that is known of the target's labels is rubbish by then, which nobody may notice.
    """
    from cluster.ingest import open_ingest, worker_crops

    config = config_of(**ingest)
    clean = {d: open_shards(shards(look)) for d, look in zip(Domain, LOOKS, strict=True)}
    unlabelled = tmp_path / "target"
    shutil.copytree(shards("camera"), unlabelled)
    folders = clean | {Domain.TARGET: open_shards(unlabelled)}
    poison_labels(folders[Domain.TARGET])
    share = Share(batch_size=config.batch_size, rank=1, world_size=2)
    crops = worker_crops(config, open_ingest(config, folders), share)
    with (
        open_feed(config, folders, crops, share) as feed,
        open_local_feed(config, clean, rank=1, world_size=2) as reference,
    ):
        pairs = zip(feed.batches(3), reference.batches(3), strict=False)
        for batch, other in itertools.islice(pairs, 6):
            assert batch.step == other.step
            assert torch.equal(batch.source.images, other.source.images)
            assert torch.equal(batch.source.labels, other.source.labels)
            assert torch.equal(batch.target.images, other.target.images)
