"""Predicted class distributions: counted, written, read, and used to draw the source."""

import itertools
import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from tests.camvid_like import make_shards
from tests.small_models import small_model
from tests.test_shards import poison_column
from tests.tiny import open_pair, run_training, shards, tiny_config
from uda.__main__ import main
from uda.checkpoint import find_checkpoint, load_model
from uda.classes import PALETTE
from uda.data.codec import IMAGE_CODECS
from uda.data.decode import decode_row
from uda.data.predictions import read_predictions, write_predictions
from uda.data.prepare import prepare
from uda.data.rows import EncodedRow, ShardRows
from uda.data.shards import open_shards
from uda.distributions import distribution_table, predict_distributions
from uda.feed import epoch_plans
from uda.run import open_run
from uda.types import Domain, UserError


class PaletteReader(nn.Module):
    """Knows the colours: the nearest one of the palette has the largest logit."""

    def __init__(self):
        super().__init__()
        self.colors = nn.Parameter(torch.from_numpy(PALETTE[:19]).float())

    def normalise(self, images):
        return images.float()

    def forward(self, images):
        distance = torch.cdist(images.permute(0, 2, 3, 1), self.colors)
        return SimpleNamespace(logits=-distance.permute(0, 3, 1, 2))


class PaintedRows:
    """Images of several sizes whose pixels have the colour of their class; no labels."""

    def __init__(self, count=5):
        random = np.random.default_rng(0)
        shapes = [(20 + 7 * (n % 3), 33) for n in range(count)]
        self.classes = [random.integers(0, 4 + 3 * n, s) for n, s in enumerate(shapes)]

    def __len__(self):
        return len(self.classes)

    def row(self, index):
        height, width = self.classes[index].shape
        image = IMAGE_CODECS["exact"](PALETTE[self.classes[index]])
        if index == 4:
            image = image[:-20]
        where = f"memory, row {index}"
        return EncodedRow(
            key=f"k{index}", image=image, label=None, height=height, width=width, where=where
        )


@pytest.mark.parametrize("decode_threads", [0, 2])
def test_each_image_is_counted_at_its_own_size(decode_threads):
    rows, model = PaintedRows(), PaletteReader().eval()
    got = predict_distributions(model, rows, [3, 0, 1], decode_threads=decode_threads)
    want = [[int((rows.classes[n] == c).sum()) for c in range(19)] for n in (3, 0, 1)]
    assert got.tolist() == want
    assert predict_distributions(model, rows, []).shape == (0, 19)


def test_an_image_that_does_not_decode_is_named():
    with pytest.raises(UserError, match="memory, row 4: k4 does not decode"):
        predict_distributions(PaletteReader().eval(), PaintedRows(), range(5))


def test_rows_must_come_without_labels():
    rows = ShardRows(shards("camera"), labels=True)
    with pytest.raises(AssertionError, match="without labels"):
        predict_distributions(small_model().eval(), rows, [0])


def test_the_table_says_which_classes_are_seen():
    counts = np.zeros((2, 19), np.int64)
    counts[0, 0], counts[:, 10] = 60, 20
    lines = distribution_table(counts).splitlines()
    assert len(lines) == 2 + 19
    assert max(map(len, lines)) <= 80
    assert lines[2].split()[:3] == ["road", "60.00", "50.00"]
    assert lines[12].split()[:3] == ["sky", "40.00", "100.00"]
    assert lines[3].split() == ["sidewalk", "0.00", "0.00"]


# --- the file ----------------------------------------------------------------------------------


def some_counts(folder, seed=0):
    return np.random.default_rng(seed).integers(0, 1000, (len(folder), 19))


@pytest.fixture
def target():
    return open_shards(shards("camera"))


@pytest.fixture
def file(tmp_path, target):
    """Predictions for the target's shards."""
    write_predictions(tmp_path / "seen.parquet", target, some_counts(target), "net")
    return tmp_path / "seen.parquet"


def rewrite(file, change):
    """Passes the table of a file through `change`; its metadata stay."""
    table = pq.read_table(file)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), file)


def with_key(table, row, key):
    keys = table["key"].to_pylist()
    keys[row] = key
    return table.set_column(0, "key", pa.array(keys, pa.string()))


def with_counts(table, row, counts):
    values = table["class_pixels"].to_pylist()
    values[row] = counts
    return table.set_column(1, "class_pixels", pa.array(values, table.schema.types[1]))


def test_what_was_written_is_read(file, target):
    read = read_predictions(file, target)
    assert np.array_equal(read.class_pixels, some_counts(target))
    assert read.checkpoint == "net"
    metadata = pq.read_schema(file).metadata
    assert metadata[b"manifest"].decode() == target.manifest.digest
    assert [path.name for path in file.parent.iterdir()] == ["seen.parquet"]


def test_the_order_of_the_file_does_not_matter(file, target):
    order = np.random.default_rng(3).permutation(len(target))
    rewrite(file, lambda table: table.take(pa.array(order)))
    assert np.array_equal(read_predictions(file, target).class_pixels, some_counts(target))


def test_writing_makes_folders_and_replaces(tmp_path, target):
    file = tmp_path / "a" / "b.parquet"
    digests = []
    for seed in (0, 1, 0):
        write_predictions(file, target, some_counts(target, seed), "net")
        digests.append(read_predictions(file, target).digest)
    assert digests[0] == digests[2] != digests[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.slice(1), "lacks {0}; want each key of"),
        (lambda t: t.slice(4), "lacks {0}, {1}, {2} and 1 more"),
        (lambda t: with_key(t, 0, "x"), "lacks {0}; has unknown x"),
        (lambda t: with_key(t, 0, None), "has unknown None"),
        (lambda t: pa.concat_tables([t, t.slice(2, 1)]), "repeats {2}; want"),
        (lambda t: with_counts(t, 1, [0] * 19), "got no numbers of pixels for {1}, want"),
        (lambda t: with_counts(t, 1, None), "got no numbers of pixels for {1}, want"),
        (lambda t: with_counts(t, 1, [5, -1] + [0] * 17), "got no numbers of pixels for {1}"),
        (lambda t: with_counts(t, 1, [5, None] + [0] * 17), "got no numbers of pixels for {1}"),
        (lambda t: t.drop_columns(["class_pixels"]), "got columns key, want the key and"),
        (lambda t: t.rename_columns(["name", "class_pixels"]), "got columns name, class_pixels"),
    ],
)
def test_a_wrong_file_is_one_clear_line(file, target, change, message):
    rewrite(file, change)
    keys = target.samples(["key"])["key"].to_pylist()
    with pytest.raises(UserError) as caught:
        read_predictions(file, target)
    assert message.format(*keys) in str(caught.value)
    assert str(caught.value).startswith(f"predictions {file}: ")
    assert "\n" not in str(caught.value)


def test_predictions_of_other_shards_are_refused(file, target, tmp_path):
    """Of the same images, by another codec: the keys alone would not tell."""
    options = {"size": (64, 48), "count": 8, "codec": "exact", "progress": False}
    prepare("streets", "camera", tmp_path / "exact", "train", **options)
    other = open_shards(tmp_path / "exact")
    assert other.samples(["key"]).equals(target.samples(["key"]))
    with pytest.raises(UserError, match=r"made from other shards than .*exact; want those of `uda"):
        read_predictions(file, other)


def test_a_file_that_is_none(tmp_path, target):
    with pytest.raises(UserError, match=r"predictions .*nothing.parquet: cannot be read"):
        read_predictions(tmp_path / "nothing.parquet", target)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(UserError, match="text: cannot be read") as caught:
        read_predictions(tmp_path / "text", target)
    assert "\n" not in str(caught.value)


# --- training by it ----------------------------------------------------------------------------


def matched_config(file, **changes):
    """The tiny run, matched to the predictions in a file."""
    settings = {
        "steps": 2,
        "data.source_sampling.kind": "matched",
        "data.source_sampling.predictions": str(file),
        "data.source_sampling.temperature": 0.05,
    }
    return tiny_config("source_only", settings | changes)


def open_matched(out, file, **options):
    return open_run(matched_config(file), out, shards("game"), shards("camera"), **options)


def test_mistakes_show_before_a_run_begins(tmp_path, file):
    with pytest.raises(UserError, match=r"^predictions .*nowhere: cannot be read"):
        open_matched(tmp_path / "run", tmp_path / "nowhere")
    rewrite(file, lambda table: table.slice(1))
    with pytest.raises(UserError, match="lacks"):
        open_matched(tmp_path / "run", file)
    with pytest.raises(UserError, match=r"^data\.source_sampling\.predictions: got none"):
        matched_config("")
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_with_its_own_predictions_alone(tmp_path, file, target):
    config, out = matched_config(file), tmp_path / "run"
    assert run_training(config, out) == 2
    report = json.loads((find_checkpoint(out) / "report.json").read_text())
    assert report["data"]["predictions"] == read_predictions(file, target).digest
    assert open_matched(out, file, resume=True).digests == report["data"]
    write_predictions(file, target, some_counts(target, seed=1), "net")
    with pytest.raises(UserError, match="it was trained on another predictions; resume it with"):
        open_matched(out, file, resume=True)


def test_workers_together_train_on_what_one_worker_does(file):
    def batches(rank, world_size):
        pair = shards("game"), shards("camera")
        options = {"rank": rank, "world_size": world_size}
        with open_pair(matched_config(file), *pair, **options) as feed:
            return list(itertools.islice(feed.batches(), 3))

    whole = batches(0, 1)
    for world_size in (2, 4):
        parts = [batches(rank, world_size) for rank in range(world_size)]
        for step, batch in enumerate(whole):
            source = torch.cat([ranked[step].source.images for ranked in parts])
            target = torch.cat([ranked[step].target.images for ranked in parts])
            assert torch.equal(source, batch.source.images)
            assert torch.equal(target, batch.target.images)


def drawn(source, target, file):
    """What the plans of a run draw from two shard folders."""
    folders = {Domain.SOURCE: open_shards(source), Domain.TARGET: open_shards(target)}
    plans = epoch_plans(matched_config(file), folders)
    return [plans[domain].items(0, 200) for domain in Domain]


def test_labels_of_the_target_make_no_difference(tmp_path):
    """Their columns are overwritten, and then there are none at all: the plan stays the same."""
    source = make_shards(tmp_path / "source", count=9)
    labelled = make_shards(tmp_path / "target", count=5, height=50, width=44)
    poisoned = tmp_path / "poisoned"
    shutil.copytree(labelled, poisoned)
    for name in open_shards(poisoned).files:
        poison_column(name, "label")
        poison_column(name, "class_pixels.list.element")
    poison_column(poisoned / "samples.parquet", "class_pixels.list.element")
    unlabelled = tmp_path / "unlabelled"
    images = str(tmp_path / "target" / "raw" / "train")
    prepare("folder", images, unlabelled, "train", progress=False)
    assert not open_shards(unlabelled).manifest.classes.pixels.any()
    plans = []
    for target in (labelled, poisoned, unlabelled):
        folder = open_shards(target)
        rows = ShardRows(folder, labels=False)
        counts = predict_distributions(small_model().eval(), rows, range(len(rows)))
        file = tmp_path / "files" / f"{target.parent.name}-{target.name}.parquet"
        write_predictions(file, folder, counts, "net")
        plans.append(drawn(source, target, file))
    assert plans[0] == plans[1] == plans[2]


# --- the verbs ---------------------------------------------------------------------------------


_THREADS_AFTER_READING = """
import os, sys
from types import SimpleNamespace
from uda.data.predictions import read_predictions

others = SimpleNamespace(path="x", manifest=SimpleNamespace(digest="of other shards"))
before = len(os.listdir("/proc/self/task"))
try:
    read_predictions(sys.argv[1], others)
except ValueError as error:
    print(error, len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.slow
def test_reading_starts_no_thread(file):
    """Threads of Arrow that still held the file at exit aborted one process in ten."""
    words = [sys.executable, "-W", "ignore", "-c", _THREADS_AFTER_READING, str(file)]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert "made from other shards" in said
    assert said.split()[-1] == "0"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with a checkpoint."""
    folder = tmp_path_factory.mktemp("distributions") / "run"
    run_training(tiny_config("source_only", {"steps": 1}), folder)
    return folder


@pytest.fixture(scope="module")
def expected(run):
    """Counted by a loop over what the network predicts, pixel for pixel."""
    model, rows = load_model(run), ShardRows(shards("camera"), labels=True)
    counts = []
    for index in range(len(rows)):
        image, _ = decode_row(rows.row(index))
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
        with torch.inference_mode():
            best = model(model.normalise(pixels)).logits.argmax(dim=1).tolist()[0]
        counts.append([sum(line.count(c) for line in best) for c in range(19)])
    return counts


def test_the_verb_writes_what_a_training_reads(run, expected, target, tmp_path, capfd):
    file = tmp_path / "seen.parquet"
    assert main(["distributions", str(run), str(target.path), str(file)]) == 0
    said = capfd.readouterr().out
    assert "predicted class" in said
    assert f"{file}: 8 images" in said
    read = read_predictions(file, target)
    assert read.class_pixels.tolist() == expected
    assert read.checkpoint == str(run / "step-0000001")
    assert open_matched(tmp_path / "next", file).digests["predictions"] == read.digest


def test_mistakes_of_the_verb(run, target, tmp_path, capfd):
    data, file = str(target.path), str(tmp_path / "seen.parquet")
    for words, expected in [
        ([str(tmp_path / "nowhere"), data, file], "nowhere: no such folder"),
        ([str(run), str(tmp_path / "nothing"), file], "nothing: got no such folder"),
        ([str(run), data, str(tmp_path)], "which is a folder; want a file"),
        ([str(run), data, f"{data}/samples.parquet"], "want a file outside the folder of shards"),
    ]:
        assert main(["distributions", *words]) == 2
        said = capfd.readouterr()
        assert expected in said.err
        assert said.err.count("\n") == 1
        assert said.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["uda", "cluster"])
def test_help_has_an_example(verb, capfd):
    if verb == "cluster":
        from cluster.__main__ import main as verb_main
    else:
        verb_main = main
    with pytest.raises(SystemExit):
        verb_main(["distributions", "--help"])
    assert "uda distributions runs/" in capfd.readouterr().out


@pytest.mark.ray
@pytest.mark.parametrize("actors", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_any_number_of_actors_writes_the_same(ray_local, run, expected, target, tmp_path, actors):
    from cluster.distributions import write_distributions

    file = tmp_path / "seen.parquet"
    options = {"actors": actors, "progress": False}
    counts = write_distributions(run, target.path, file, **options)
    assert counts.tolist() == read_predictions(file, target).class_pixels.tolist() == expected


@pytest.mark.ray
@pytest.mark.slow
def test_the_verb_on_a_cluster(ray_local, run, expected, target, tmp_path, capsys):
    from cluster.__main__ import main as uda

    words = ["distributions", str(run), str(target.path)]
    assert uda([*words, str(tmp_path)]) == 2
    assert "want a file" in capsys.readouterr().err
    file = tmp_path / "seen.parquet"
    assert uda([*words, str(file), "--actors", "2"]) == 0
    assert "predicted class" in capsys.readouterr().out
    assert read_predictions(file, target).class_pixels.tolist() == expected
