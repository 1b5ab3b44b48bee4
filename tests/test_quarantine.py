"""Bad inputs are left out, counted and explained, and the bytes of the rest do not depend on how
the work went."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.camvid_like import write_camvid
from tests.raw_layouts import write_folder, write_image
from uda.data.prepare import prepare, run_inline
from uda.data.quarantine import BadInput, Tolerance
from uda.data.rows import ShardRows
from uda.data.shards import open_shards
from uda.data.write import read_footer
from uda.types import UserError

COUNT = 40
SIZE = {"height": 40, "width": 56}


def plant(root):
    """One bad input of every kind; returns the beginning of the reason for each."""
    image, label = root / "train", root / "trainannot"
    cut = (label / "seq_001.png").read_bytes()
    (label / "seq_001.png").write_bytes(cut[: len(cut) // 2])
    save(label / "seq_003.png", np.zeros((20, 56)))
    ids = np.array(Image.open(label / "seq_004.png"))
    ids[0, :3] = 99
    save(label / "seq_004.png", ids)
    save(label / "seq_007.png", np.full((40, 56), 3))
    save(image / "seq_010.jpg", np.full((40, 56, 3), 30))
    shutil.copy(image / "seq_011.jpg", image / "seq_012.jpg")  # in one shard
    shutil.copy(image / "seq_002.jpg", image / "seq_017.jpg")  # in another
    shutil.copy(image / "seq_002.jpg", image / "seq_030.jpg")  # and once more
    shutil.copy(image / "seq_004.jpg", image / "seq_018.jpg")  # as one that is bad: no duplicate
    (label / "seq_020.png").unlink()
    save(label / "orphan.png", ids)
    for number in (24, 25, 26, 27):  # a whole shard
        (image / f"seq_{number:03d}.jpg").write_bytes(b"no image")
    return {
        "orphan": "trainannot/orphan.png: has no image, want train/orphan.jpg",
        "seq_001": "trainannot/seq_001.png: does not decode: ",
        "seq_003": "size: got 56x40 of train/seq_003.jpg but 56x20 of trainannot/seq_003.png",
        "seq_004": "trainannot/seq_004.png: label: got unknown ids 99 at 3 pixels, ",
        "seq_007": "train/seq_007.jpg: label: got road at every pixel, ",
        "seq_010": "train/seq_010.jpg: image: got one colour all over, ",
        "seq_012": "same image as seq_011",
        "seq_017": "same image as seq_002",
        "seq_020": "train/seq_020.jpg: has no label, want trainannot/seq_020.png",
        "seq_024": "train/seq_024.jpg: does not decode: ",
        "seq_025": "train/seq_025.jpg: does not decode: ",
        "seq_026": "train/seq_026.jpg: does not decode: ",
        "seq_027": "train/seq_027.jpg: does not decode: ",
        "seq_030": "same image as seq_002",
    }


def save(file, values):
    Image.fromarray(np.asarray(values, np.uint8)).save(file)


@pytest.fixture
def root(tmp_path):
    return write_camvid(tmp_path / "raw", count=COUNT, **SIZE)


def run(root, out, **options):
    values = {"rows_per_shard": 4, "max_bad": 0.5, "progress": False} | options
    return prepare("camvid", str(root), out, "train", **values)


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def lines(folder):
    return [json.loads(line) for line in (folder / "quarantine.jsonl").read_text().splitlines()]


def keys(folder):
    rows = ShardRows(folder, labels=True)
    return [rows.row(n).key for n in range(len(rows))]


def test_every_input_is_a_sample_or_in_quarantine_with_its_reason(root, tmp_path):
    want = plant(root)
    manifest = run(root, tmp_path / "out")
    found = {line["key"]: line["reason"] for line in lines(tmp_path / "out")}
    assert list(found) == sorted(want)
    for key, reason in found.items():
        assert reason.startswith(want[key])
        assert str(tmp_path) not in reason
        assert "\n" not in reason
    good = [f"seq_{n:03d}" for n in range(COUNT) if f"seq_{n:03d}" not in want]
    assert keys(tmp_path / "out") == good
    assert (manifest.samples, manifest.quarantined) == (len(good), len(want))
    assert manifest.inputs == COUNT + 1  # and the label without an image
    opened = open_shards(tmp_path / "out")
    assert [bad.key for bad in opened.quarantine()] == sorted(want)
    counts = opened.statistics(labels=True).class_pixels.sum(axis=0)
    assert manifest.class_pixels == tuple(counts.tolist())


def test_the_image_is_named_where_it_was_read(root, tmp_path):
    plant(root)
    run(root, tmp_path / "out")
    paths = {line["key"]: line["source_path"] for line in lines(tmp_path / "out")}
    assert paths["seq_010"] == "train/seq_010.jpg"
    assert paths["seq_017"] == "train/seq_017.jpg"
    assert paths["seq_024"] == ""


def test_the_rest_is_as_if_the_bad_had_never_been_there(root, tmp_path):
    want = plant(root)
    run(root, tmp_path / "out")
    run(write_camvid(tmp_path / "whole_raw", count=COUNT, **SIZE), tmp_path / "whole")
    have, whole = (
        {row["key"]: row for file in open_shards(folder).files for row in
         pq.read_table(file).to_pylist()}
        for folder in (tmp_path / "out", tmp_path / "whole")
    )  # fmt: skip
    assert set(whole) - set(have) == set(want) - {"orphan"}
    for key in set(have) - {"seq_018"}:  # which is a copy of another image here
        assert have[key] == whole[key]


def test_a_shard_may_have_no_good_input(root, tmp_path):
    plant(root)
    manifest = run(root, tmp_path / "out", rows_per_shard=1)
    rows = [shard.rows for shard in manifest.shards]
    assert rows.count(0) == manifest.quarantined
    assert len(keys(tmp_path / "out")) == manifest.samples == sum(rows)


def test_neither_place_nor_order_of_work_changes_a_byte(root, tmp_path, monkeypatch):
    plant(root)
    run(root, tmp_path / "out")

    def backwards(jobs):
        yield from run_inline(jobs[::-1])

    run(root, tmp_path / "again", execute=backwards)
    assert contents(tmp_path / "again") == contents(tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    for number, other in enumerate(["raw", "./raw/", str(tmp_path / "moved")]):
        if not (tmp_path / other).exists():
            shutil.copytree(root, other)
        moved = tmp_path / str(number)
        prepare("camvid", other, moved, "train", rows_per_shard=4, max_bad=0.5, progress=False)
        for name, data in contents(tmp_path / "out").items():
            assert name == "manifest.json" or (moved / name).read_bytes() == data


@pytest.mark.slow
def test_stopped_after_any_shard_the_next_run_ends_alike(root, tmp_path):
    """There are eleven shards, and three of them are written again without duplicates."""
    plant(root)
    run(root, tmp_path / "whole")
    want = contents(tmp_path / "whole")
    for stop in range(14):
        out, left = tmp_path / str(stop), stop

        def stopping(jobs):
            nonlocal left
            for shard in run_inline(jobs):
                if not left:
                    raise KeyboardInterrupt
                left -= 1
                yield shard

        with pytest.raises(KeyboardInterrupt):
            run(root, out, execute=stopping)
        assert not (out / "manifest.json").exists()
        run(root, out)
        assert contents(out) == want
    finished = tmp_path / "whole"
    (finished / "manifest.json").unlink()
    times = {file: file.stat().st_mtime_ns for file in finished.glob("shard-*")}
    run(root, finished)
    assert contents(finished) == want
    assert times == {file: file.stat().st_mtime_ns for file in finished.glob("shard-*")}


def test_a_later_run_decodes_nothing_but_the_bad_again(root, tmp_path, monkeypatch):
    """The good are known from the shards; a bad one may have been mended."""
    want = plant(root)
    run(root, tmp_path / "out")
    (tmp_path / "out" / "manifest.json").unlink()
    loaded, load = [], type(camvid := _camvid()).load
    monkeypatch.setattr(type(camvid), "load", lambda *a: (loaded.append(a[-1]), load(*a))[1])
    run(root, tmp_path / "out")
    assert sorted(loaded) == sorted(key for key in want if "same" not in want[key])


def _camvid():
    from uda.data import DATASETS

    return DATASETS["camvid"]


def test_what_was_mended_becomes_a_sample(root, tmp_path):
    plant(root)
    with pytest.raises(UserError, match="--max-bad"):
        run(root, tmp_path / "out", max_bad=0.05)
    shutil.rmtree(root)
    write_camvid(root, count=COUNT, **SIZE)
    (root / "trainannot" / "orphan.png").touch()  # the inputs are those of before
    manifest = run(root, tmp_path / "out")
    assert [bad.key for bad in open_shards(tmp_path / "out").quarantine()] == ["orphan"]
    assert manifest.samples == COUNT
    run(root, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


class TestTooManyAreBad:
    def test_none_may_fail(self, root, tmp_path):
        plant(root)
        with pytest.raises(UserError) as caught:
            run(root, tmp_path / "out", on_error="fail")
        assert "--on-error fail" in str(caught.value)
        assert "orphan: trainannot/orphan.png: has no image" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_duplicate_fails_too(self, root, tmp_path):
        shutil.copy(root / "train" / "seq_002.jpg", root / "train" / "seq_017.jpg")
        with pytest.raises(UserError, match="seq_017: same image as seq_002"):
            run(root, tmp_path / "out", on_error="fail")
        assert run(root, tmp_path / "out").quarantined == 1
        with pytest.raises(UserError, match="seq_017: same image as seq_002"):
            run(root, tmp_path / "out", on_error="fail")  # the finished folder is not as asked for

    def test_without_bad_inputs_nothing_fails(self, root, tmp_path):
        manifest = run(root, tmp_path / "out", on_error="fail", max_bad=0.0)
        assert (manifest.samples, manifest.quarantined) == (COUNT, 0)
        assert (tmp_path / "out" / "quarantine.jsonl").read_text() == ""

    def test_stops_at_once_and_goes_on_when_allowed_to(self, root, tmp_path):
        plant(root)
        done = []

        def counted(jobs):
            for shard in run_inline(jobs):
                done.append(shard)
                yield shard

        with pytest.raises(UserError) as caught:
            run(root, tmp_path / "out", max_bad=0.05, execute=counted)
        assert "bad inputs: got at least 4 of 41" in str(caught.value)
        assert "want at most 5% (--max-bad)" in str(caught.value)
        assert "the first: orphan: " in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(done) == 2
        assert len(lines(tmp_path / "out")) == 4
        run(root, tmp_path / "out")
        run(root, tmp_path / "whole")
        assert contents(tmp_path / "out") == contents(tmp_path / "whole")

    def test_exactly_as_many_as_allowed(self, root, tmp_path):
        (root / "train" / "seq_000.jpg").write_bytes(b"")
        shutil.copy(root / "train" / "seq_002.jpg", root / "train" / "seq_017.jpg")
        with pytest.raises(UserError, match="bad inputs: got at least 2 of 40"):
            run(root, tmp_path / "out", max_bad=0.049)
        assert run(root, tmp_path / "out", max_bad=0.05).quarantined == 2

    def test_all_are_bad(self, root, tmp_path):
        for file in (root / "train").iterdir():
            file.write_bytes(b"")
        with pytest.raises(UserError, match="got all 40; the first: seq_000"):
            run(root, tmp_path / "out", max_bad=1.0)

    @pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
    def test_impossible_shares(self, share):
        with pytest.raises(UserError, match="max_bad"):
            Tolerance(on_error="fail", max_bad=share)


def test_equal_pixels_are_duplicates_whatever_the_file_and_other_shapes_are_not(tmp_path):
    root = write_folder(tmp_path / "raw", count=2, labels="")
    images = root / "images" / "train" / "drive_0"
    pixels = np.array(Image.open(images / "000.jpg"))
    save(images / "800.png", pixels)
    save(images / "900.png", pixels.reshape(28, 80, 3))  # the same bytes in another shape
    prepare("folder", str(root), tmp_path / "out", "train", max_bad=0.5, progress=False)
    assert [line["key"] for line in lines(tmp_path / "out")] == ["drive_0/800"]
    assert "drive_0/900" in keys(tmp_path / "out")


def test_an_image_that_no_jpeg_can_hold_is_bad_and_exact_holds_it(tmp_path):
    root = write_folder(tmp_path / "raw", count=2, labels="")
    write_image(root / "images" / "train" / "wide.png", [0, 2, 70_000])
    out = tmp_path / "jpeg"
    prepare("folder", str(root), out, "train", max_bad=0.5, progress=False)
    (bad,) = lines(out)
    assert bad["reason"].startswith("images/train/wide.png: 70000x2 pixels do not encode as jpeg")
    out = tmp_path / "exact"
    assert prepare("folder", str(root), out, "train", codec="exact", progress=False).samples == 3


def test_what_is_rendered_is_not_compared(tmp_path):
    prepare("streets", "game", tmp_path, "train", count=2, size=(32, 16), progress=False)
    assert read_footer(tmp_path / "shard-00000.parquet").hashes == {}


@pytest.mark.parametrize(
    ("reasons", "kind"),
    [
        (
            ["a/b.png: label: got unknown ids 99 at 3 pixels, want only those of the data set",
             "labels/1.png: label: got unknown ids 1, 2, 3 and 4 more at 80 pixels, want only"],
            "label: got unknown ids N at N pixels",
        ),
        (["same image as berlin_0001", "same image as a"], "same image as another"),
        (["x/1.png: has no label, want y/1.png"], "has no label"),
        (["size: got 4x5 of a/1.jpg but 6x5 of b/1.png"], "size: got NxN of FILE but NxN of FILE"),
        (["1.jpg: does not decode: is no image"], "does not decode: is no image"),
        (["a/1.png: mode: got I;16, want 8 bits per channel"], "mode: got I;16"),
    ],
)  # fmt: skip
def test_reasons_are_grouped_by_what_they_have_in_common(reasons, kind):
    for reason in reasons:
        assert BadInput(key="k", source_path="", reason=reason).kind == kind
