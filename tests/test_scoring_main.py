"""`evaluate`, `predict` and `convert` as a user types them, and every mistake in one line."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.raw_layouts import write_cityscapes, write_grey, write_png
from tests.small_checkpoint import write_checkpoint
from tests.test_main import refused
from tests.tiny import shards
from uda.__main__ import main
from uda.checkpoint import load_model
from uda.data.examples import open_examples
from uda.evaluate import evaluate_images, total


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("small") / "checkpoint")


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    return write_cityscapes(tmp_path / "cityscapes", "val")


def raw(checkpoint: Path, root: Path, *words: str) -> list[str]:
    return ["evaluate", str(checkpoint), str(root), "--dataset", "cityscapes", *words]


def test_raw_tree_gives_the_numbers_of_its_pixels(checkpoint, cityscapes, tmp_path, capsys):
    scores, picture = tmp_path / "scores.json", tmp_path / "pictures" / "worst.png"
    words = ["--worst", "2", "--png", str(picture), "--json", str(scores)]
    assert main(raw(checkpoint, cityscapes, *words)) == 0
    result = json.loads(scores.read_text())
    examples = open_examples(cityscapes, "cityscapes")
    expected = total(evaluate_images(load_model(checkpoint), examples, range(4)))
    assert result["confusion"] == expected.confusion.matrix.tolist()
    assert sum(map(sum, result["confMatrix"])) == 4 * 40 * 56
    assert result["inference"]["scales"] == [1.0]
    assert [entry["key"] for entry in result["worst"]] == sorted(
        (entry["key"] for entry in result["worst"]),
        key=lambda key: [e["miou"] for e in result["worst"] if e["key"] == key],
    )
    said = capsys.readouterr().out
    assert said.index("mean IoU") < said.index("worst images")
    assert all(entry["key"] in said for entry in result["worst"])
    with Image.open(picture) as drawn:
        assert drawn.width > 4 * 56


@pytest.mark.parametrize(
    "words",
    [["--window", "24x32"], ["--flip", "--scales", "0.5", "1"], ["--batch", "3"],
     ["--protocol", "segmentron", "--crop-size", "44x60"]],
)  # fmt: skip
def test_options_reach_the_network(checkpoint, cityscapes, tmp_path, words):
    assert main(raw(checkpoint, cityscapes, *words, "--json", str(tmp_path / "s.json"))) == 0
    inference = json.loads((tmp_path / "s.json").read_text())["inference"]
    shown = {
        "--window": inference["window"] == [24, 32],
        "--flip": inference["flip"] and inference["scales"] == [0.5, 1.0],
        "--batch": inference["batch_size"] == 3,
        "--protocol": inference["crop_size"] == [44, 60],
    }
    assert shown[words[0]]


class TestMistakes:
    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            (["--split", "trainval"], "split: got trainval, want one of"),
            (["--png", "a.png"], "--png: got it without --worst N"),
            (["--window", "8x8", "--protocol", "segmentron"], "which sees whole images"),
            (["--crop-size", "64x64"], "only protocol segmentron pads"),
            (["--classes", "voc"], "want one of cityscapes19"),
            (["--classes", "synthia13", "--protocol", "segmentron"], "want cityscapes19"),
            (["--scales", "nan"], "want one or more factors above 0, up to 16"),
            (["--scales", "1e6"], "want one or more factors above 0, up to 16"),
            (["--json", "."], "--json: got ., which is a folder"),
        ],
    )
    def test_options_that_do_not_fit(self, checkpoint, cityscapes, capfd, words, expected):
        assert expected in refused(raw(checkpoint, cityscapes, *words), capfd)

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            (["--batch", "0"], "got '0', want a number from 1 on"),
            (["--window", "8"], "got '8', want HEIGHTxWIDTH"),
            (["--window", "0x8"], "got '0x8', want HEIGHTxWIDTH"),
            (["--protocol", "voc"], "invalid choice: 'voc'"),
            (["--precision", "float16"], "invalid choice: 'float16'"),
        ],
    )
    def test_values_that_make_no_sense(self, checkpoint, cityscapes, capfd, words, expected):
        with pytest.raises(SystemExit) as ended:
            main(raw(checkpoint, cityscapes, *words))
        assert ended.value.code == 2
        assert expected in capfd.readouterr().err

    def test_crop_size_below_that_of_an_image(self, checkpoint, cityscapes, capfd):
        words = ["--crop-size", "39x56", "--protocol", "segmentron"]
        assert main(raw(checkpoint, cityscapes, *words)) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert "crop_size: got 39x56, want at least the image's 40x56" in line

    def test_split_without_data_set(self, checkpoint, capfd):
        words = ["evaluate", str(checkpoint), str(shards("camera")), "--split", "val"]
        assert "--split: got val without --dataset" in refused(words, capfd)

    def test_segmentrons_protocol_wants_logits(self, cityscapes, tmp_path, capfd):
        words = ["evaluate", "--predictions", str(tmp_path), str(cityscapes), "--dataset",
                 "cityscapes", "--protocol", "segmentron"]  # fmt: skip
        assert "want a network's logits" in refused(words, capfd)

    def test_empty_folder(self, checkpoint, tmp_path, capfd):
        (tmp_path / "empty").mkdir()
        assert "got no folder leftImg8bit" in refused(raw(checkpoint, tmp_path / "empty"), capfd)

    @pytest.mark.parametrize("wrong_id", [34, 255])
    def test_label_id_that_does_not_exist(self, checkpoint, cityscapes, capfd, wrong_id):
        label = sorted(cityscapes.rglob("*labelIds.png"))[2]
        write_grey(label, np.full((40, 56), wrong_id, np.uint8))
        line = refused(raw(checkpoint, cityscapes), capfd)
        assert f"{label}: label: got unknown ids {wrong_id} at 2240 pixels" in line

    def test_label_id_of_less_than_nothing(self, checkpoint, cityscapes, capfd):
        """-1 is what Cityscapes calls a licence plate; only pixels of more bits can hold it."""
        label = sorted(cityscapes.rglob("*labelIds.png"))[0]
        Image.fromarray(np.full((40, 56), -1, np.int32)).save(label.with_suffix(".tif"))
        label.with_suffix(".tif").rename(label)
        assert f"{label}: mode: got I, want ids" in refused(raw(checkpoint, cityscapes), capfd)

    def test_image_without_label(self, checkpoint, cityscapes, capfd):
        label = sorted(cityscapes.rglob("*labelIds.png"))[0]
        label.unlink()
        line = refused(raw(checkpoint, cityscapes), capfd)
        assert f"has no label, want {label}" in line

    def test_label_of_another_size(self, checkpoint, cityscapes, capfd):
        label = sorted(cityscapes.rglob("*labelIds.png"))[0]
        write_grey(label, np.zeros((20, 56), np.uint8))
        line = refused(raw(checkpoint, cityscapes), capfd)
        assert "size: got 56x40 of" in line
        assert f"56x20 of {label}" in line


@pytest.mark.parametrize("num_classes", [11, 25])
def test_network_of_other_classes(cityscapes, tmp_path, capfd, num_classes):
    other = write_checkpoint(tmp_path / "other", num_classes)
    expected = f"checkpoint {other}: got {num_classes} classes, want 19"
    images, out = str(cityscapes / "leftImg8bit"), str(tmp_path / "out")
    for words in (
        raw(other, cityscapes),
        ["evaluate", str(other), str(shards("camera"))],
        ["predict", str(other), images, out],
        ["distributions", str(other), str(shards("camera")), str(tmp_path / "d.parquet")],
    ):
        assert expected in refused(words, capfd)


@pytest.mark.parametrize("option", ["--json", "--png"])
def test_file_that_cannot_be_written_shows_before_the_work(
    checkpoint, cityscapes, tmp_path, capfd, option
):
    (tmp_path / "file").touch()
    words = ["--worst", "1", option, str(tmp_path / "file" / "x")]
    line = refused(raw(checkpoint, cityscapes, *words), capfd)
    assert f"{option}: got {tmp_path}/file/x, but {tmp_path}/file is no folder" in line


@pytest.mark.parametrize("order", [0, 1, 2])
def test_options_may_stand_anywhere(checkpoint, cityscapes, order):
    options = ["--dataset", "cityscapes", "--batch", "2"]
    words = [str(checkpoint), str(cityscapes)]
    assert main(["evaluate", *words[:order], *options, *words[order:]]) == 0


def test_worst_images_and_missing_instances_are_told(checkpoint, cityscapes, capsys):
    label = sorted(cityscapes.rglob("*labelIds.png"))[0]
    file = Path(str(label).replace("labelIds", "instanceIds"))
    write_png(file, np.full((40, 56, 1), 26001), depth=16)
    assert main(raw(checkpoint, cityscapes, "--worst", "1")) == 0
    said = capsys.readouterr().out
    assert "note: only 1 of 4 images have instance files" in said
    assert "iIoU" not in said
    words = ["--worst", "1", "--protocol", "segmentron"]
    assert main(raw(checkpoint, cityscapes, *words)) == 0
    assert "worst images" in capsys.readouterr().out


def test_predict_looks_as_evaluate_does(checkpoint, cityscapes, tmp_path):
    """By SegmenTron's protocol, whose padding changes what is seen."""
    look = ["--protocol", "segmentron", "--crop-size", "64x80"]
    images, out = cityscapes / "leftImg8bit" / "val", tmp_path / "out"
    words = ["predict", str(checkpoint), str(images), str(out), "--format", "labelids"]
    assert main([*words, *look]) == 0
    seen, written = tmp_path / "seen.json", tmp_path / "written.json"
    assert main(raw(checkpoint, cityscapes, *look, "--json", str(seen))) == 0
    words = ["evaluate", "--predictions", str(out), str(cityscapes), "--dataset", "cityscapes"]
    assert main([*words, "--json", str(written)]) == 0
    seen, written = (json.loads(file.read_text()) for file in (seen, written))
    assert seen["confMatrix"] == written["confMatrix"]
    assert main(raw(checkpoint, cityscapes, "--json", str(tmp_path / "plain.json"))) == 0
    plain = json.loads((tmp_path / "plain.json").read_text())
    assert plain["confMatrix"] != seen["confMatrix"], "the protocol makes a difference"


class Trap:
    """A pickle that makes a folder where it is loaded carelessly."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return (os.mkdir, (str(self.file),))


class TestFilesThatAreNoCheckpoint:
    @pytest.mark.parametrize("name", ["weights.pth", "weights.pt", "weights"])
    def test_any_other_file(self, cityscapes, tmp_path, capfd, name):
        file = tmp_path / name
        file.write_text("nothing of the kind")
        line = refused(raw(file, cityscapes), capfd)
        assert str(file) in line

    def test_code_in_a_pickle_does_not_run(self, cityscapes, tmp_path, capfd):
        trap, file = tmp_path / "sprung", tmp_path / "weights.pth"
        file.write_bytes(pickle.dumps(Trap(trap)))
        assert str(file) in refused(raw(file, cityscapes), capfd)
        torch.save({"state_dict": Trap(trap)}, file)
        assert str(file) in refused(raw(file, cityscapes), capfd)
        assert not trap.exists()
        pickle.loads(pickle.dumps(Trap(trap)))  # it would have worked
        assert trap.exists()

    def test_another_network(self, cityscapes, tmp_path, capfd):
        file = tmp_path / "weights.pth"
        torch.save({"layer.weight": torch.zeros(3)}, file)
        assert "SegmenTron" in refused(raw(file, cityscapes), capfd)

    def test_convert_writes_nothing(self, tmp_path, capfd):
        file = tmp_path / "weights.pth"
        torch.save({"layer.weight": torch.zeros(3)}, file)
        before = sorted(tmp_path.iterdir())
        words = ["convert", "segmentron", str(file), str(tmp_path / "out")]
        assert "SegmenTron" in refused(words, capfd)
        assert sorted(tmp_path.iterdir()) == before


def test_predict_says_what_it_wrote(checkpoint, cityscapes, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["predict", str(checkpoint), str(cityscapes / "leftImg8bit"), str(out)]
    assert main([*words, "--format", "overlay", "--batch", "2"]) == 0
    assert capsys.readouterr().out == f"{out}: 4 label maps (overlay)\n"
    assert len(list(out.rglob("*_pred_overlay.png"))) == 4


def test_predict_of_an_empty_folder(checkpoint, tmp_path, capfd):
    (tmp_path / "photos").mkdir()
    words = ["predict", str(checkpoint), str(tmp_path / "photos"), str(tmp_path / "out")]
    assert "got no images" in refused(words, capfd)
    assert not (tmp_path / "out").exists()
