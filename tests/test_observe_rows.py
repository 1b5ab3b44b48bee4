"""Looking at rows of shards: in any order, target rows without a label."""

import shutil

import pytest

from tests.camvid_like import make_shards
from tests.edited_shards import edit_shards, with_column
from tests.painted import Reader, scene
from tests.test_observe import small_network
from tests.test_quality_statistics import added, plain
from tests.test_shards import poison_column
from uda.data.codec import IMAGE_CODECS
from uda.data.prepare import prepare
from uda.data.rows import EncodedRow, ShardRows
from uda.data.shards import open_shards
from uda.observe import observe_image, observe_source, observe_target
from uda.quality import SourceStatistics
from uda.types import UserError


class PaintedRows:
    """Scenes of several sizes, the last of which is damaged; without labels."""

    sizes = ((48, 64), (97, 131), (33, 40), (64, 48), (48, 64))

    def __len__(self) -> int:
        return len(self.sizes)

    def row(self, index: int) -> EncodedRow:
        height, width = self.sizes[index]
        data = IMAGE_CODECS["exact"](scene(index, height, width)[0])
        image = data[:-20] if index == len(self) - 1 else data
        return EncodedRow(key=f"k{index}", image=image, label=None, height=height, width=width,
                          where=f"memory, row {index}")  # fmt: skip


@pytest.mark.parametrize("decode_threads", [0, 2])
def test_an_image_does_not_see_its_neighbours(decode_threads):
    model, rows = small_network(), PaintedRows()
    alone = {i: plain(observe_image(model, scene(i, *rows.sizes[i])[0], i)) for i in range(4)}
    for order in ([0, 1, 2, 3], [3, 1, 0], [2]):
        seen = list(observe_target(model, rows, order, decode_threads=decode_threads))
        assert [plain(statistics) for statistics in seen] == [alone[i] for i in order]


def test_impressions_are_for_who_asks():
    model, rows = Reader(), PaintedRows()
    assert not added(observe_target(model, rows, [0, 2])).impressions
    asked = added(observe_target(model, rows, [0, 2], impressions=True))
    assert list(asked.impressions) == [0, 2]


def test_an_image_that_does_not_decode_is_named():
    with pytest.raises(UserError, match="memory, row 4: k4 does not decode"):
        list(observe_target(Reader(), PaintedRows(), range(5)))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    return make_shards(tmp_path_factory.mktemp("observe"), count=4, height=50, width=44)


def test_target_rows_must_come_without_labels(labelled):
    with pytest.raises(AssertionError, match="without labels"):
        next(observe_target(Reader(), ShardRows(labelled, labels=True), [0]))


def test_source_rows_must_come_with_labels(labelled):
    with pytest.raises(UserError, match="has no label, want labelled data here"):
        next(observe_source(Reader(), ShardRows(labelled, labels=False), [0]))


def without_labels(table):
    table = with_column(table, "label", [None] * len(table))
    return with_column(table, "class_pixels", [None] * len(table))


def with_labels_of_others(table):
    table = with_column(table, "label", table["label"].to_pylist()[::-1])
    return with_column(table, "class_pixels", table["class_pixels"].to_pylist()[::-1])


def unlike_labels(labelled, tmp_path):
    """The same images with other labels, with labels and counts of no sense, with none at all."""
    changed = []
    for name, edit in (("none", without_labels), ("others", with_labels_of_others)):
        changed.append(shutil.copytree(labelled, tmp_path / name))
        edit_shards(changed[-1], edit)
    changed.append(shutil.copytree(labelled, tmp_path / "poisoned"))
    for file in open_shards(changed[-1]).files:
        poison_column(file, "label")
        poison_column(file, "class_pixels.list.element")
    poison_column(changed[-1] / "samples.parquet", "class_pixels.list.element")
    images = str(labelled.parent / "raw" / "train")
    prepare("folder", images, tmp_path / "unlabelled", "train", progress=False)
    return [*changed, tmp_path / "unlabelled"]


def test_labels_of_the_target_make_no_difference(labelled, tmp_path):
    model = small_network()
    rows = ShardRows(labelled, labels=False)
    expected = plain(added(observe_target(model, rows, [0, 3])))
    for folder in unlike_labels(labelled, tmp_path):
        rows = ShardRows(folder, labels=False)
        assert plain(added(observe_target(model, rows, [0, 3]))) == expected, folder.name


def test_labels_of_the_source_do(labelled, tmp_path):
    model, folder = small_network(), shutil.copytree(labelled, tmp_path / "others")
    edit_shards(folder, with_labels_of_others)
    first, second = (
        sum(observe_source(model, ShardRows(f, labels=True), range(4)), SourceStatistics())
        for f in (labelled, folder)
    )
    assert first.seen.predicted.tolist() == second.seen.predicted.tolist()
    assert (first.confusion.matrix != second.confusion.matrix).any()
