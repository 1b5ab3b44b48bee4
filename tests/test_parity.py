"""Other programs' numbers through our command lines: SegmenTron's, and the official script's."""

import json
import math
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.raw_layouts import write_png
from tests.segmentron_weights import GOLDEN, golden_state
from tests.small_checkpoint import write_checkpoint
from uda.__main__ import main as main_without_ray
from uda.checkpoint import load_model
from uda.classes import CLASS_LISTS, LABEL_ID_OF_TRAIN_ID
from uda.data.examples import open_examples
from uda.data.streets import DOMAINS, render
from uda.evaluate import evaluate_images
from uda.inference import Inference
from uda.judge import judge

MINI = GOLDEN / "mini_cityscapes"
OFFICIAL = Path(".venv-official/bin/csEvalPixelLevelSemanticLabeling")


@pytest.fixture(scope="module")
def pth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as SegmenTron would have saved it."""
    file = tmp_path_factory.mktemp("segmentron") / "deeplabv3_plus_resnet101_segmentron.pth"
    torch.save(golden_state(), file)
    return file


def comparable(output: str) -> str:
    """Without the time, and the lines of progress: they depend on the order of a folder's files."""
    varying = re.compile(r"(Sample: .*|Eval use time: .*|true pixel accuracy: .*)\n")
    return varying.sub("", output)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "golden"),
    [
        ([], "eval_plain.txt"),
        (["--crop-size", "129x257", "--batch", "4"], "eval_plain.txt"),
        (["--scales", "0.75", "1.0", "1.25", "--flip"], "eval_ms_flip.txt"),
    ],
)
def test_segmentrons_output_byte_for_byte(pth, capsys, tmp_path, options, golden):
    words = [str(pth), str(MINI), "--dataset", "cityscapes", "--protocol", "segmentron"]
    scores = tmp_path / "scores.json"
    assert main_without_ray(["evaluate", *words, *options, "--json", str(scores)]) == 0
    expected = (GOLDEN / golden).read_text()
    output = capsys.readouterr().out
    assert comparable(output) == comparable(expected)
    assert len(re.findall("Sample: ", output)) == len(re.findall("Sample: ", expected)) == 2
    result = json.loads(scores.read_text())
    end = re.search(r"End validation pixAcc: (\S+), mIoU: (\S+)", expected)
    assert f"{100 * result['pixel_accuracy_truncated']:.3f}" == end[1]
    assert f"{100 * result['miou']:.3f}" == end[2]
    assert result["pixel_accuracy"] != result["pixel_accuracy_truncated"]
    assert (result["protocol"], result["images"]) == ("segmentron", 6)


@pytest.mark.slow
def test_segmentrons_lines_of_progress_in_its_own_order(pth):
    """Its first batch was these four: no other four of the six give its first line."""
    examples = open_examples(MINI, "cityscapes")
    first = ["aachen_000000_000019", *(f"ulm_00000{n}_000019" for n in (1, 3, 5))]
    examples.keys = [*first, *(key for key in examples.keys if key not in first)]
    inference = Inference(protocol="segmentron", batch_size=2)
    results = evaluate_images(load_model(pth), examples, range(6), inference)
    said: list[str] = []
    judge(results, 6, CLASS_LISTS["cityscapes19"], say=said.append)
    untimed = re.compile(r"Eval use time: .* second")
    expected = (GOLDEN / "eval_plain.txt").read_text()
    assert untimed.sub("", "\n".join(said)) == untimed.sub("", expected).rstrip("\n")


@pytest.mark.slow
@pytest.mark.ray
def test_segmentrons_output_by_actors_and_from_a_converted_checkpoint(
    ray_local, pth, capsys, tmp_path
):
    from cluster.__main__ import main

    converted = tmp_path / "converted"
    assert main(["convert", "segmentron", str(pth), str(converted)]) == 0
    capsys.readouterr()
    words = [str(converted), str(MINI), "--dataset", "cityscapes", "--protocol", "segmentron"]
    assert main(["evaluate", *words, "--actors", "2"]) == 0
    expected = (GOLDEN / "eval_plain.txt").read_text()
    assert comparable(capsys.readouterr().out) == comparable(expected)


@pytest.fixture(scope="module")
def cityscapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rendered streets in the layout of Cityscapes, with instances."""
    root = tmp_path_factory.mktemp("cityscapes")
    for number in range(5):
        image, label = render(DOMAINS["camera"], 7, number, 96, 192)
        city = ("ulm", "lindau")[number % 2]
        frame = f"{city}_{number:06d}_000019"
        ids = LABEL_ID_OF_TRAIN_ID[label]
        columns = np.arange(192) // 40  # objects are cut where they are wide
        instances = np.where(ids >= 24, ids.astype(np.int64) * 1000 + columns, ids)
        for kind, folder in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine")):
            (root / folder / "val" / city).mkdir(parents=True, exist_ok=True)
            end = "_leftImg8bit" if kind == "leftImg8bit" else "_gtFine_labelIds"
            values = image if kind == "leftImg8bit" else ids
            Image.fromarray(values).save(root / folder / "val" / city / f"{frame}{end}.png")
        file = root / "gtFine" / "val" / city / f"{frame}_gtFine_instanceIds.png"
        write_png(file, instances[..., None], depth=16)
    return root


@pytest.mark.slow
@pytest.mark.skipif(not OFFICIAL.exists(), reason="needs .venv-official, which `make test` makes")
def test_official_program_agrees_about_our_predictions(cityscapes, tmp_path, capsys):
    checkpoint, out = write_checkpoint(tmp_path / "checkpoint"), tmp_path / "results"
    words = [str(checkpoint), str(cityscapes / "leftImg8bit" / "val"), str(out)]
    assert main_without_ray(["predict", *words, "--format", "labelids"]) == 0
    assert capsys.readouterr().out == f"{out}: 5 label maps (labelids)\n"
    official = run_official(cityscapes, out, tmp_path)
    assert sum(score > 0 for score in official["classScores"].values()) >= 3, "several classes"

    ours = evaluated([str(checkpoint)], cityscapes, tmp_path / "network.json")
    assert_equal(ours, official)
    ours = evaluated(["--predictions", str(out)], cityscapes, tmp_path / "files.json")
    assert_equal(ours, official)


def run_official(root: Path, results: Path, export: Path) -> dict[str, Any]:
    folders = {"DATASET": root, "RESULTS": results, "EXPORT_DIR": export}
    environment = {f"CITYSCAPES_{name}": str(folder) for name, folder in folders.items()}
    done = subprocess.run(
        [OFFICIAL.absolute()], env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-500:]
    return json.loads((export / "resultPixelLevelSemanticLabeling.json").read_text())


def evaluated(words: list[str], root: Path, file: Path) -> dict[str, Any]:
    words = ["evaluate", *words, str(root), "--dataset", "cityscapes", "--json", str(file)]
    assert main_without_ray(words) == 0
    return json.loads(file.read_text())


def assert_equal(ours: Any, official: Any, path: str = "") -> None:
    """Every number of the official file to 1e-12; null where it has NaN."""
    if isinstance(official, dict):
        for name, value in official.items():
            assert_equal(ours[name], value, f"{path}.{name}")
    elif isinstance(official, float) and math.isnan(official):
        assert ours is None, path
    elif isinstance(official, float):
        assert ours == pytest.approx(official, abs=1e-12), path
    else:
        assert ours == official, path
