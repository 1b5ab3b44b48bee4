import pickle

import pytest

from tests.camvid_like import make_shards
from tests.test_shards import poison_column
from uda.data.rows import RowReader, ShardRows
from uda.data.shards import open_shards
from uda.types import UserError

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
    from cluster.ingest import ResidentRows, load_resident

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


def test_without_labels_the_label_column_is_not_read(folder):
    reference = ShardRows(folder, labels=False)
    for file in open_shards(folder).files:
        poison_column(file, "label")
        poison_column(file, "class_pixels.list.element")
    rows = resident_rows(open_shards(folder), labels=False)
    assert rows.row(3).label is None
    assert_same_rows(rows, reference)


def test_any_order_of_blocks_gives_the_order_of_the_folder(folder):
    """Ray promises none; here the last comes first."""
    import numpy as np

    from cluster.ingest import ResidentRef, ResidentRows, load_resident

    ref = load_resident(folder, labels=True)
    turned = ResidentRef(
        folder=ref.folder,
        blocks=ref.blocks[::-1],
        block_of=(len(ref.blocks) - 1 - ref.block_of).astype(np.int32),
        row_of=ref.row_of,
    )
    assert_same_rows(ResidentRows(turned), ShardRows(folder, labels=True))


def test_a_worker_gets_the_rows_through_its_config(folder):
    import ray

    from cluster.ingest import ResidentRows, load_resident

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


def test_a_shard_that_does_not_read_is_named(folder):
    from cluster.ingest import load_resident

    poison_column(folder / "shard-00001.parquet", "image")
    with pytest.raises(UserError, match=r"shard-00001.parquet: does not read") as caught:
        load_resident(folder, labels=True)
    assert "\n" not in str(caught.value)
