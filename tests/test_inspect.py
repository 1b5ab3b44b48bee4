"""What `uda inspect` says of a folder, against counts made here from the decoded labels."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.camvid_like import write_camvid
from tests.edited_shards import edit_shards, with_column
from tests.raw_layouts import write_folder, write_image
from uda.classes import CLASS_LISTS, IGNORE, PALETTE
from uda.data.codec import decode_image, decode_label
from uda.data.prepare import prepare
from uda.data.rows import ShardRows
from uda.data.shards import open_shards
from uda.data.summary import summarize
from uda.data.verify import DamagedFilesError, verify_shards
from uda.inspect_shards import draw_samples, inspect_shards, summary_text
from uda.pictures import captioned_sheet, overlay
from uda.types import UserError


@pytest.fixture
def folder(tmp_path):
    """Eleven samples of CamVid's classes, and three inputs in quarantine."""
    root = write_camvid(tmp_path / "raw", count=14)
    for number in (2, 9):
        (root / "train" / f"seq_{number:03d}.jpg").write_bytes(b"")
    shutil.copy(root / "train" / "seq_000.jpg", root / "train" / "seq_005.jpg")
    out = tmp_path / "out"
    prepare("camvid", str(root), out, "train", rows_per_shard=4, max_bad=0.5, progress=False)
    return out


def labels(folder):
    rows = ShardRows(folder, labels=True)
    every = (rows.row(n) for n in range(len(rows)))
    return [decode_label(row.label, row.height, row.width) for row in every]


def test_counts(folder):
    summary = summarize(open_shards(folder))
    every = labels(folder)
    assert (summary.inputs, summary.samples, summary.quarantined) == (14, 11, 3)
    assert (summary.labelled, summary.shards) == (11, 4)
    assert summary.bytes == sum(file.stat().st_size for file in folder.glob("shard-*"))
    assert [(size.width, size.height, size.samples) for size in summary.sizes] == [(56, 40, 11)]
    labelled = sum((label != IGNORE).sum() for label in every)
    assert summary.ignored == pytest.approx(1 - labelled / (11 * 40 * 56))
    assert [c.train_id for c in summary.classes] == list(CLASS_LISTS["camvid11"].scored)
    for entry in summary.classes:
        pixels = sum((label == entry.train_id).sum() for label in every)
        assert entry.share == pytest.approx(pixels / labelled)
        assert entry.images == sum((label == entry.train_id).any() for label in every)
    assert summary.classes[-1].name == "bicyclist"
    kinds = [(group.kind, group.inputs) for group in summary.quarantine]
    assert [inputs for _, inputs in kinds] == [2, 1]
    assert kinds[0][0].startswith("does not decode")
    assert kinds[1][0] == "same image as another"
    assert summary.quarantine[1].examples == ("seq_005: same image as seq_000",)


def test_a_class_outside_the_list_is_shown(folder):
    def with_trains(table):
        counts = [[0] * 16 + [7, 0, 0] for _ in range(len(table))]
        return with_column(table, "class_pixels", counts)

    edit_shards(folder, with_trains)
    summary = summarize(open_shards(folder))
    assert [(c.name, c.share) for c in summary.classes if c.share] == [("train", 1.0)]
    assert "(not in camvid11)" in summary_text(summary)


def test_without_labels_there_is_no_table_of_classes(tmp_path):
    root = write_folder(tmp_path / "raw", count=3, labels="")
    write_image(root / "images" / "train" / "other.png", [3, 20, 30])
    prepare("folder", str(root), tmp_path / "out", "train", progress=False)
    summary = summarize(open_shards(tmp_path / "out"))
    assert (summary.samples, summary.labelled, summary.ignored) == (4, 0, 0)
    text = summary_text(summary)
    assert "4, none with labels" in text
    assert "road" not in text
    assert "56x40 (3), 30x20 (1)" in text
    draw_samples(tmp_path / "out", tmp_path / "sheet.png", 12)
    road = tuple(PALETTE[0].tolist())
    assert road not in colors(Image.open(tmp_path / "sheet.png"))


def test_text_and_json(folder, tmp_path, capsys):
    inspect_shards(folder, json_file=tmp_path / "numbers" / "all.json")
    said = capsys.readouterr().out
    assert said.startswith(f"{folder}\n")
    for words in ("uda prepare camvid", "camvid11", "11, all with labels", "3 of 14 inputs", "jpeg",
                  "56x40 (11)", "quarantined 2: does not decode", "seq_009: train/seq_009.jpg",
                  "quarantined 1: same image as another"):  # fmt: skip
        assert words in said
    values = json.loads((tmp_path / "numbers" / "all.json").read_text())
    assert values["samples"] == 11
    assert values["digest"] == open_shards(folder).manifest.digest
    assert sum(entry["share"] for entry in values["classes"]) == pytest.approx(1)


def test_the_sheet_shows_evenly_spaced_samples(folder, tmp_path, capsys):
    file = tmp_path / "new" / "sheet.png"
    inspect_shards(folder, png=file, pictures=3)
    assert f"{file}: 3 of 11 samples" in capsys.readouterr().out
    rows = ShardRows(folder, labels=True)
    sheet = np.array(Image.open(file))
    for number, is_there in ((1, True), (5, True), (9, True), (0, False)):
        row = rows.row(number)
        label = decode_label(row.label, row.height, row.width)
        picture = overlay(decode_image(row.image), label, darken_ignored=True)
        assert contains(sheet, picture.repeat(8, axis=0).repeat(8, axis=1)) == is_there


def test_the_legend_names_every_class_that_is_shown(tmp_path):
    root = write_folder(tmp_path / "raw", count=1)
    ids = {"0": "road", "1": "truck", "*": "ignore"}
    (root / "mapping.json").write_text(json.dumps({"class_list": "camvid11", "ids": ids}))
    prepare("folder", str(root), tmp_path / "out", "train", progress=False)
    draw_samples(tmp_path / "out", tmp_path / "sheet.png", 1)
    shown = colors(Image.open(tmp_path / "sheet.png"))
    assert tuple(PALETTE[14].tolist()) in shown  # truck
    assert tuple(PALETTE[15].tolist()) not in shown  # bus: neither in the list nor in the label


def contains(sheet, picture):
    height, width = picture.shape[:2]
    for top, left in np.argwhere((sheet == picture[0, 0]).all(axis=2)):
        if np.array_equal(sheet[top : top + height, left : left + width], picture):
            return True
    return False


def colors(image):
    return {color for _, color in image.convert("RGB").getcolors(2**24)}


class TestSheet:
    def picture(self, train_id, height=32, width=64):
        return np.broadcast_to(PALETTE[train_id], (height, width, 3)).copy()

    def test_pictures_of_any_size_are_shown_whole(self):
        pictures = [
            self.picture(0),
            self.picture(1),
            self.picture(8, 64, 32),
            self.picture(13, 7, 9),
        ]
        sheet = captioned_sheet(
            pictures, ["a", "b", "c", "d"], class_list=None, cell_width=128, num_columns=3
        )
        seen = np.array(sheet).reshape(-1, 3)
        counts = [int((seen == picture[0, 0]).all(axis=1).sum()) for picture in pictures]
        assert counts[0] == counts[1] == 128 * 64
        assert counts[2] == 32 * 64  # as high as the cell
        assert counts[3] == 64 * 82
        assert 3 * 128 < sheet.width < 3.6 * 128
        assert 2 * 64 < sheet.height < 4 * 64

    def test_the_legend_has_the_class_list(self):
        sheet = captioned_sheet([self.picture(0)], ["a"], class_list=CLASS_LISTS["camvid11"])
        shown = {k for k in range(19) if tuple(PALETTE[k].tolist()) in colors(sheet)}
        assert shown == set(CLASS_LISTS["camvid11"].scored)

    def test_long_captions_stay_below_their_picture(self):
        """White cells, so that ink between the columns would be that of a caption."""
        white = np.full((32, 64, 3), 255, np.uint8)
        captions = ["a_very_long_name_of_a_frame" * 4] * 2
        sheet = captioned_sheet([white, white], captions, class_list=None, cell_width=64)
        ink = (np.array(sheet) != 255).any(axis=(0, 2))
        margin = (sheet.width - 2 * 64) // 3
        assert ink.any()
        assert not ink[margin + 64 : 2 * margin + 64].any()

    def test_captions_and_pictures_must_agree(self):
        for pictures, captions in (([], []), ([self.picture(0)], [])):
            with pytest.raises(ValueError, match="sheet: got"):
                captioned_sheet(pictures, captions)


class TestVerify:
    def test_whole(self, folder, capsys):
        assert verify_shards(folder, progress=False) == 6
        inspect_shards(folder, verify=True)
        assert "verified: 6 files are as they were written" in capsys.readouterr().out

    def test_progress_ends_at_all_bytes(self, folder, capsys):
        verify_shards(folder)
        assert "100%" in capsys.readouterr().err

    @pytest.mark.parametrize("name", ["shard-00002.parquet", "samples.parquet", "quarantine.jsonl"])
    @pytest.mark.parametrize("part", [0.0, 0.5, 0.999])
    def test_a_flipped_bit_anywhere(self, folder, name, part):
        data = bytearray((folder / name).read_bytes())
        data[int(part * len(data))] ^= 1
        (folder / name).write_bytes(data)
        with pytest.raises(DamagedFilesError) as caught:
            verify_shards(folder, progress=False)
        said = f"1 of 6 files are not those that were written: {name} (holds other bytes)"
        again = "delete manifest.json and `uda prepare` writes them again"
        assert str(caught.value) == f"{folder}: {said}; {again}"

    def test_missing_files_are_all_listed(self, folder):
        for name in ("shard-00000.parquet", "quarantine.jsonl"):
            (folder / name).unlink()
        with pytest.raises(DamagedFilesError, match=r"00000.parquet \(is missing\), quarantine"):
            inspect_shards(folder, verify=True)

    def test_no_manifest(self, tmp_path):
        with pytest.raises(UserError, match=r"manifest.json: is missing"):
            verify_shards(tmp_path)


def test_a_sample_that_does_not_decode_is_named(folder, tmp_path):
    edit_shards(folder, lambda table: with_column(table, "image", [b"none"] * len(table)))
    with pytest.raises(UserError, match=r"shard-00000.parquet row 0: does not decode"):
        draw_samples(folder, tmp_path / "sheet.png", 20)
