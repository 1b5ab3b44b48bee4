import hashlib
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import uda.data.prepare
from tests.camvid_like import write_camvid
from uda.data import DATASETS
from uda.data.camvid import CamVid
from uda.data.codec import IMAGE_CODECS, decode_image, decode_label
from uda.data.prepare import prepare
from uda.data.rows import ShardRows
from uda.data.shards import open_shards
from uda.data.streets import DOMAINS
from uda.types import UserError

RAN = uda.data.prepare.run_inline


@pytest.fixture
def root(tmp_path):
    return write_camvid(tmp_path / "raw", count=10, height=40, width=56)


def run(root, out, split="train", **options):
    values = {"rows_per_shard": 4, "progress": False} | options
    return prepare("camvid", str(root), out, split, **values)


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def counted(jobs_done):
    """Like run_inline, and appends each finished job's file name to `jobs_done`."""

    def execute(jobs):
        for shard in RAN(jobs):
            jobs_done.append(shard.file)
            yield shard

    return execute


def test_exact_shards_hold_every_value(root, tmp_path):
    run(root, tmp_path / "out", codec="exact")
    rows = ShardRows(tmp_path / "out", labels=True)
    for index in range(10):
        row = rows.row(index)
        want = np.array(Image.open(root / "train" / f"seq_{index:03d}.jpg"))
        assert np.array_equal(decode_image(row.image), want)
    assert open_shards(tmp_path / "out").manifest.image_codec == "exact"


def test_twice_gives_the_same_bytes(root, tmp_path):
    manifests = [run(root, tmp_path / name) for name in ("one", "two")]
    assert manifests[0] == manifests[1]
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert sorted(contents(tmp_path / "one")) == [
        "manifest.json",
        "quarantine.jsonl",
        "samples.parquet",
        *(f"shard-0000{n}.parquet" for n in range(3)),
    ]


def test_the_manifest_has_the_hashes(root, tmp_path):
    manifest = run(root, tmp_path / "out")
    for shard in manifest.shards:
        file = tmp_path / "out" / shard.file
        printed = subprocess.run(["sha256sum", file], capture_output=True, text=True, check=True)
        assert printed.stdout.split()[0] == shard.sha256
        assert file.stat().st_size == shard.bytes
    for name, sha256 in manifest.tables.items():
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == sha256


def test_a_finished_folder_returns_at_once(root, tmp_path):
    manifest, jobs_done = run(root, tmp_path / "out"), []
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()}
    assert run(root, tmp_path / "out", execute=counted(jobs_done)) == manifest
    assert jobs_done == []
    assert before == {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()}


def test_a_killed_run_is_finished_by_the_next(root, tmp_path):
    """Killed in the second of three shards: one is complete, one has left a temporary file."""
    run(root, tmp_path / "whole")
    out = tmp_path / "out"

    def killed(jobs):
        yield from RAN(jobs[:1])
        jobs[1].path.with_name(f".{jobs[1].path.name}.0.tmp").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(root, out, execute=killed)
    assert sorted(contents(out)) == [".shard-00001.parquet.0.tmp", "shard-00000.parquet"]
    first = (out / "shard-00000.parquet").stat().st_mtime_ns
    run(root, out)
    assert (out / "shard-00000.parquet").stat().st_mtime_ns == first  # kept, not written again
    assert contents(out) == contents(tmp_path / "whole")


def test_an_error_while_writing_leaves_nothing_half_written(root, tmp_path, monkeypatch):
    encode, calls = IMAGE_CODECS["jpeg"], []

    def no_memory(image):
        calls.append(image)
        if len(calls) == 7:
            raise MemoryError
        return encode(image)

    with monkeypatch.context() as patch:
        patch.setitem(IMAGE_CODECS, "jpeg", no_memory)
        with pytest.raises(MemoryError):
            run(root, tmp_path / "out")
    assert sorted(contents(tmp_path / "out")) == ["shard-00000.parquet"]
    run(root, tmp_path / "out")
    run(root, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_shard_of_an_unfinished_folder_is_written_again(root, tmp_path, damage):
    run(root, tmp_path / "out")
    before = contents(tmp_path / "out")
    (tmp_path / "out" / "manifest.json").unlink()
    file = tmp_path / "out" / "shard-00001.parquet"
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 4
    file.write_bytes(data[:-5] if damage == "cut" else data)
    run(root, tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_another_data_set_in_out_is_refused(root, tmp_path):
    run(root, tmp_path / "out")
    for options in ({"codec": "exact"}, {"size": (28, 20)}, {"count": 9}, {"rows_per_shard": 5}):
        with pytest.raises(UserError, match=r"out: holds other shards \(uda prepare camvid"):
            run(root, tmp_path / "out", **options)
    (tmp_path / "out" / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"holds shard-00000.parquet of other options"):
        run(root, tmp_path / "out", size=(28, 20))


def test_a_strangers_parquet_file_is_not_overwritten(root, tmp_path):
    """Though it has the name of a shard."""
    file = tmp_path / "out" / "shard-00000.parquet"
    file.parent.mkdir()
    pq.write_table(pa.table({"thesis": ["important"]}), file)
    with pytest.raises(UserError, match=r"holds shard-00000.parquet of other options"):
        run(root, tmp_path / "out")
    assert pq.read_table(file).to_pydict() == {"thesis": ["important"]}


def test_other_files_in_out_are_refused(root, tmp_path):
    (tmp_path / "thesis.tex").write_text("important")
    with pytest.raises(UserError, match=r"holds \S+ of something else"):
        run(root, tmp_path)
    with pytest.raises(UserError, match="is a file"):
        run(root, tmp_path / "thesis.tex")
    assert (tmp_path / "thesis.tex").read_text() == "important"


def test_resizing_averages_the_image_and_picks_labels(root, tmp_path):
    """Halving is exact: each new pixel is the mean of four; labels come in blocks of 8."""
    run(root, tmp_path / "half", size=(28, 20), codec="exact")
    run(root, tmp_path / "full", codec="exact")
    for half, full in zip(*(_decoded(tmp_path / n) for n in ("half", "full")), strict=True):
        blocks = full[0].reshape(20, 2, 28, 2, 3).astype(float)
        assert np.abs(half[0] - blocks.mean(axis=(1, 3))).max() <= 0.75
        assert np.array_equal(half[1], full[1][::2, ::2])
    counts = open_shards(tmp_path / "half").statistics(labels=True)
    assert counts.pixels.tolist() == [20 * 28] * 10


def _decoded(folder):
    rows = ShardRows(folder, labels=True)
    for index in range(len(rows)):
        row = rows.row(index)
        yield decode_image(row.image), decode_label(row.label, row.height, row.width)


def test_growing_keeps_label_values(root, tmp_path):
    run(root, tmp_path / "out", size=(112, 90), count=2)
    run(root, tmp_path / "full", count=2)
    for large, full in zip(*(_decoded(tmp_path / n) for n in ("out", "full")), strict=True):
        assert large[0].shape == (90, 112, 3)
        assert set(np.unique(large[1])) == set(np.unique(full[1]))


def test_count_takes_the_first_samples(root, tmp_path):
    assert run(root, tmp_path / "out", count=5).samples == 5
    assert ShardRows(tmp_path / "out", labels=True).row(4).key == "seq_004"
    assert run(root, tmp_path / "all", count=99).samples == 10


def test_progress_goes_to_stderr(root, tmp_path, capsys):
    run(root, tmp_path / "out", progress=True)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "10/10" in printed.err


def streets(out, split="train", domain="game", **options):
    values = {"count": 3, "size": (32, 16), "progress": False} | options
    prepare("streets", domain, out, split, **values)
    return [row[0] for row in _decoded(out)]


def test_streets_splits_and_seeds_differ_and_a_longer_run_starts_alike(tmp_path):
    train = streets(tmp_path / "train", codec="exact")
    assert train[0].shape == (16, 32, 3)
    longer = streets(tmp_path / "longer", codec="exact", count=4)
    assert np.array_equal(longer[:3], train)
    other = streets(tmp_path / "val", "val", codec="exact")
    other += streets(tmp_path / "seed", seed=1, codec="exact")
    assert not any(np.array_equal(a, b) for a in train for b in other)
    manifest = open_shards(tmp_path / "train").manifest
    assert (manifest.domain, manifest.samples) == ("game", 3)
    assert manifest.made_by["command"] == (
        "uda prepare streets game OUT --split train --size 32x16 --codec exact --count 3"
    )


def test_streets_domains(tmp_path):
    with pytest.raises(UserError, match="got domain nowhere, want one of") as caught:
        streets(tmp_path / "out", domain="nowhere")
    assert all(name in str(caught.value) for name in DOMAINS)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codec": "gif"}, r"codec: got gif, want one of \['exact', 'jpeg'\]"),
        ({"size": (0, 5)}, "size: got 0x5"),
        ({"count": 0}, "count: got 0"),
        ({"rows_per_shard": 0}, "rows_per_shard: got 0"),
        ({"seed": 3}, "seed: got 3, but camvid is not generated"),
        ({"seed": -1}, "seed: got -1"),
        ({"split": "val"}, "no folder val"),
        ({"on_error": "ignore"}, r"on_error: got ignore, want one of \['quarantine', 'fail'\]"),
        ({"max_bad": 5.0}, "max_bad: got 5, want a share from 0 to 1"),
    ],
)
def test_wrong_options_touch_nothing(root, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        run(root, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_unknown_data_set(tmp_path):
    with pytest.raises(UserError, match=r"dataset: got kitti, want one of \['camvid'"):
        prepare("kitti", str(tmp_path), tmp_path / "out", "train")


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
@pytest.mark.slow
class TestWithRay:
    """The same function over Ray tasks."""

    def run(self, root, out, **options):
        from cluster.prepare import prepare

        values = {"rows_per_shard": 4, "progress": False} | options
        return prepare("camvid", str(root), out, "train", **values)

    def test_the_bytes_are_those_without_ray(self, root, tmp_path, monkeypatch):
        manifest = run(root, tmp_path / "plain")
        assert contents(tmp_path / "plain")
        monkeypatch.chdir(tmp_path)
        again = self.run(root, "ray")  # a path of the driver's folder, not of the workers'
        assert again == manifest
        assert contents(tmp_path / "ray") == contents(tmp_path / "plain")

    def test_a_killed_run_is_finished_by_the_next(self, root, tmp_path):
        self.run(root, tmp_path / "out")
        before = contents(tmp_path / "out")
        (tmp_path / "out" / "manifest.json").unlink()
        (tmp_path / "out" / "shard-00001.parquet").unlink()
        kept = (tmp_path / "out" / "shard-00000.parquet").stat().st_mtime_ns
        self.run(root, tmp_path / "out")
        assert contents(tmp_path / "out") == before
        assert (tmp_path / "out" / "shard-00000.parquet").stat().st_mtime_ns == kept

    def test_what_is_bad_is_found_by_ray_too(self, root, tmp_path):
        (root / "train" / "seq_009.jpg").write_bytes(b"no")
        copy = (root / "train" / "seq_000.jpg").read_bytes()
        (root / "train" / "seq_005.jpg").write_bytes(copy)
        with pytest.raises(UserError, match=r"seq_009.jpg: does not decode") as caught:
            self.run(root, tmp_path / "out")
        assert "\n" not in str(caught.value)
        assert not [name for name in os.listdir(tmp_path / "out") if name.endswith(".tmp")]
        manifest = self.run(root, tmp_path / "out", max_bad=0.2)
        assert (manifest.samples, manifest.quarantined) == (8, 2)
        run(root, tmp_path / "plain", max_bad=0.2)
        assert contents(tmp_path / "out") == contents(tmp_path / "plain")

    def test_a_task_whose_process_dies_is_repeated(self, root, tmp_path, monkeypatch):
        run(root, tmp_path / "plain")
        dying = DiesOnce(marker=tmp_path / "died")
        monkeypatch.setitem(DATASETS, "camvid", dying)
        self.run(root, tmp_path / "out")
        assert dying.marker.exists()
        assert contents(tmp_path / "out") == contents(tmp_path / "plain")


class DiesOnce(CamVid):
    """Kills the process that reads a certain image, unless the marker says that it has."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def load(self, root, split, key):
        if key == "seq_005" and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().load(root, split, key)


def test_shards_carry_the_plan(root, tmp_path):
    run(root, tmp_path / "out")
    plans = {
        pq.read_metadata(file).metadata[b"plan"] for file in open_shards(tmp_path / "out").files
    }
    assert len(plans) == 1
