"""`python -m uda` as a user types it: the whole way, every mistake in one line, and Ctrl-C."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.camvid_like import write_camvid
from tests.edited_shards import edit_shards, with_column
from tests.raw_layouts import write_folder
from tests.test_task import damage_labels
from tests.tiny import loaded_tensors, run_training, shards, tiny_config
from uda.__main__ import main
from uda.arguments import CODECS, ROOTS, share
from uda.checkpoint import find_checkpoint, last_step, load_model
from uda.config import Config
from uda.data import DATASETS
from uda.data.codec import IMAGE_CODECS
from uda.journal import read_scalars

ROOT = Path(__file__).parent.parent
TINY = {
    "steps": "2",
    "batch_size": "2",
    "model.backbone": "tiny",
    "model.pretrained": '""',
    "model.aspp_channels": "16",
    "model.low_level_channels": "8",
    "model.decoder_channels": "16",
    "data.crop.height": "32",
    "data.crop.width": "48",
    "runtime.log_every": "1",
    "runtime.decode_threads": "0",
}


def assignments(settings: dict[str, str]) -> list[str]:
    return [word for path, value in settings.items() for word in ("--set", f"{path}={value}")]


def train_words(config: str | Path, out: Path, **changes: str | Path) -> list[str]:
    """Words of a `train` on the tiny shards; `source` and `target` may be other folders."""
    data = {"source": shards("game"), "target": shards("camera")} | changes
    words = [f"--{name}={value}" for name, value in (data | {"out": out}).items()]
    return ["train", str(config), *words]


@pytest.fixture
def config_file(tmp_path) -> Path:
    return write_config(tiny_config("source_only", {"steps": 2}), tmp_path / "settings.json")


def write_config(config: Config, file: Path) -> Path:
    file.write_text(config.to_json())
    return file


@pytest.mark.slow
def test_prepare_train_evaluate(tmp_path, capfd):
    for look, split in (("game", "train"), ("camera", "train"), ("camera", "val")):
        out = str(tmp_path / f"{look}_{split}")
        words = ["streets", look, out, "--split", split, "--size", "64x48", "--count", "4"]
        assert main(["prepare", *words]) == 0
    run = tmp_path / "run"
    data = [f"--source={tmp_path}/game_train", f"--target={tmp_path}/camera_train"]
    words = ["demo_self_training", *data, f"--out={run}", *assignments(TINY)]
    assert main(["train", *words]) == 0
    assert "2 steps done" in capfd.readouterr().out
    assert [line["step"] for line in read_scalars(run)] == [1, 2]
    report = json.loads((run / "step-0000002" / "report.json").read_text())
    assert set(report["data"]) == {"source", "target"}
    scores = tmp_path / "scores.json"
    words = [str(run), str(tmp_path / "camera_val"), "--json", str(scores), "--flip"]
    assert main(["evaluate", *words]) == 0
    assert "mean IoU" in capfd.readouterr().out
    result = json.loads(scores.read_text())
    assert result["images"] == 4
    assert sum(map(sum, result["confusion"])) > 0
    assert 0 <= result["miou"] <= 1
    assert main(["train", *words_of_resume(run, data)]) == 0  # nothing left to do


def words_of_resume(run: Path, data: list[str]) -> list[str]:
    return [str(run / "config.json"), *data, f"--out={run}", "--resume"]


@pytest.mark.slow
def test_as_a_module_of_its_own_process(tmp_path, config_file):
    done = call(*train_words(config_file, tmp_path / "run"))
    assert done.returncode == 0
    assert "2 steps done" in done.stdout
    bad = call(*train_words("no_such_preset", tmp_path / "other"))
    assert bad.returncode == 2
    assert bad.stdout == ""
    assert bad.stderr.count("\n") == 1


class TestMistakesBeforeTraining:
    """Exit status 2, one line on stderr, nothing written."""

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"optim.speed": "1"}, ["optim.speed", "have", "weight_decay"]),
            ({"steps": "many"}, ["steps", "many", "int"]),
            ({"steps": "0"}, ["steps", "0"]),
            ({"batch_size": "0"}, ["batch_size", "0"]),
            ({"optim.lr": "-1"}, ["optim.lr", "-1"]),
            ({"losses.supervised.weight": "0"}, ["losses"]),
            ({"losses.other.weight": "1"}, ["losses.other", "self_training"]),
            ({"model.backbone": "vgg"}, ["vgg", "resnet101"]),
            ({"model.backbone": "resnet18", "model.pretrained": "package"}, ["resnet18"]),
            ({"model.pretrained": "no/such.pth"}, ["no/such.pth"]),
            ({"data.crop.height": "1", "data.crop.width": "1", "batch_size": "1",
              "model.backbone": "resnet18"}, ["training step"]),
            ({"data.source_sampling.kind": "rare_class",
              "data.source_sampling.min_fraction": "1"}, ["rare_class", "min_fraction"]),
            ({"runtime.precision": "float16"}, ["runtime.precision", "bfloat16"]),
            ({"=": "1"}, ["PATH=VALUE"]),
        ],
    )  # fmt: skip
    def test_settings(self, settings, words, tmp_path, config_file, capfd):
        line = refused([*train_words(config_file, tmp_path / "out"), *assignments(settings)], capfd)
        for word in words:
            assert word in line
        assert not (tmp_path / "out").exists()

    def test_unknown_preset_lists_those_there_are(self, tmp_path, capfd):
        line = refused(train_words("demoo", tmp_path / "out"), capfd)
        assert "demoo" in line
        assert "demo_source_only" in line
        assert not (tmp_path / "out").exists()

    def test_config_file_that_is_missing_or_none(self, tmp_path, capfd):
        file = tmp_path / "settings.json"
        assert str(file) in refused(train_words(file, tmp_path / "out"), capfd)
        for text in ("", "{", "[]", '{"name": "x"}', '{"steps": {"a": 1}}', "\xff"):
            file.write_bytes(text.encode("latin-1"))
            assert "config" in refused(train_words(file, tmp_path / "out"), capfd)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("role", ["source", "target"])
    @pytest.mark.parametrize(
        ("damage", "words"),
        [
            ("missing", ["no such folder"]),
            ("empty", ["manifest.json"]),
            ("truncated", ["bytes", "shard-00000.parquet"]),
            ("schema", ["schema", "image string"]),
            ("manifest", ["manifest.json"]),
        ],
    )
    def test_data(self, role, damage, words, tmp_path, config_file, capfd):
        folder = DAMAGES[damage](tmp_path / "shards")
        line = refused(train_words(config_file, tmp_path / "out", **{role: folder}), capfd)
        for word in [*words, str(folder)]:
            assert word in line
        assert not (tmp_path / "out").exists()

    def test_source_without_labels(self, tmp_path, config_file, capfd):
        folder = damage_labels(shards("game"), tmp_path / "unlabelled", "deleted")
        line = refused(train_words(config_file, tmp_path / "out", source=folder), capfd)
        assert "no labels" in line
        assert not (tmp_path / "out").exists()

    def test_source_with_some_labels(self, tmp_path, config_file, capfd):
        """Drawn uniformly, an image without a label would end the training some time later."""
        folder = shutil.copytree(shards("game"), tmp_path / "some")
        edit_shards(folder, lambda t: with_column(t, "label", [None, *t["label"].to_pylist()[1:]]))
        line = refused(train_words(config_file, tmp_path / "out", source=folder), capfd)
        assert "got 1 of 8 samples without labels" in line
        assert not (tmp_path / "out").exists()

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_gpu_where_there_is_none(self, tmp_path, config_file, capfd):
        line = refused([*train_words(config_file, tmp_path / "out"), "--gpu"], capfd)
        assert "CUDA" in line
        assert not (tmp_path / "out").exists()


class TestOut:
    def test_a_file_is_no_folder(self, tmp_path, config_file, capfd):
        (tmp_path / "out").write_text("precious")
        assert "file" in refused(train_words(config_file, tmp_path / "out"), capfd)
        assert (tmp_path / "out").read_text() == "precious"

    def test_a_folder_that_cannot_be_made_is_one_line_too(self, tmp_path, config_file, capfd):
        (tmp_path / "file").touch()
        assert main(train_words(config_file, tmp_path / "file" / "out")) in (1, 2)
        assert capfd.readouterr().err.count("\n") == 1

    def test_a_run_is_not_overwritten_nor_mixed_with_another(self, tmp_path, config_file, capfd):
        out = tmp_path / "out"
        assert main(train_words(config_file, out)) == 0
        before = contents(out)
        capfd.readouterr()
        assert "--resume" in refused(train_words(config_file, out), capfd)
        words = [*train_words(config_file, out), "--resume", "--set", "optim.lr=0.5"]
        assert "experiment" in refused(words, capfd)
        assert contents(out) == before


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run of one step, to read from."""
    out = tmp_path_factory.mktemp("run")
    run_training(tiny_config("source_only", {"steps": 1}), out)
    return out


class TestEvaluateMistakes:
    def copied(self, run: Path, to: Path) -> Path:
        return Path(shutil.copytree(find_checkpoint(run), to / "checkpoint"))

    def test_no_checkpoint(self, tmp_path, capfd):
        words = ["evaluate", str(tmp_path / "nowhere"), str(shards("camera"))]
        assert "nowhere" in refused(words, capfd)

    def test_no_data(self, run, tmp_path, capfd):
        assert "nowhere" in refused(["evaluate", str(run), str(tmp_path / "nowhere")], capfd)

    def test_another_architecture(self, run, tmp_path, capfd):
        checkpoint = self.copied(run, tmp_path)
        config = tiny_config("source_only", {"model.backbone": "resnet18"})
        write_config(config, checkpoint / "config.json")
        line = refused(["evaluate", str(checkpoint), str(shards("camera"))], capfd)
        assert "another architecture" in line

    def test_truncated_weights(self, run, tmp_path, capfd):
        weights = self.copied(run, tmp_path) / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
        line = refused(["evaluate", str(weights.parent), str(shards("camera"))], capfd)
        assert str(weights) in line

    def test_data_without_labels(self, run, tmp_path, capfd):
        folder = damage_labels(shards("camera"), tmp_path / "unlabelled", "deleted")
        assert "label" in refused(["evaluate", str(run), str(folder)], capfd)

    @pytest.mark.parametrize(
        ("words", "expected"),
        [(["--classes", "mine"], "cityscapes19"), (["--scales", "0"], "scales")],
    )
    def test_options(self, words, expected, run, capfd):
        line = refused(["evaluate", str(run), str(shards("camera")), *words], capfd)
        assert expected in line


class TestPrepareMistakes:
    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            (["streeets", "game"], "streets"),
            (["streets", "moon"], "camera"),
            (["streets", "game", "--split", "test"], "val"),
            (["streets", "game", "--count", "0"], "count"),
            (["streets", "game", "--size", "0x4"], "size"),
            (["camvid", "no/such/folder"], "no/such/folder"),
        ],
    )
    def test_one_line(self, words, expected, tmp_path, capfd):
        line = refused(["prepare", *words[:2], str(tmp_path / "out"), *words[2:]], capfd)
        assert expected in line
        assert not (tmp_path / "out").exists()

    def test_options_that_argparse_refuses(self, tmp_path, capfd):
        for words in (
            ["--size", "big"],
            ["--codec", "gif"],
            ["--on-error", "ignore"],
            ["--max-bad", "5"],
            ["--max-bad", "few"],
            ["--colour"],
        ):
            with pytest.raises(SystemExit) as caught:
                main(["prepare", "streets", "game", str(tmp_path / "out"), *words])
            assert caught.value.code == 2
            assert "Traceback" not in capfd.readouterr().err


class TestPrepareSays:
    def test_how_many_inputs_became_samples(self, tmp_path, capsys):
        root, out = write_camvid(tmp_path / "raw", count=21), tmp_path / "out"
        words = ["prepare", "camvid", str(root)]
        assert main([*words, str(tmp_path / "whole")]) == 0
        assert capsys.readouterr().out == f"{tmp_path / 'whole'}: 21 images in 1 shard\n"
        for number in (3, 4):
            (root / "train" / f"seq_{number:03d}.jpg").write_bytes(b"")
        line = refused([*words, str(out)], capsys)
        assert "bad inputs: got at least 2 of 21, want at most 5%" in line
        assert "train/seq_003.jpg: does not decode" in line
        assert "--on-error" in refused([*words, str(out), "--on-error", "fail"], capsys)
        assert main([*words, str(out), "--max-bad", "10%"]) == 0
        said = f"21 inputs = 19 written in 1 shard + 2 quarantined ({out}/quarantine.jsonl)"
        assert capsys.readouterr().out == f"{out}: {said}\n"

    def test_that_there_are_no_labels(self, tmp_path, capsys):
        root, out = write_folder(tmp_path / "raw", count=2, labels=""), tmp_path / "out"
        assert main(["prepare", "folder", str(root), str(out)]) == 0
        assert capsys.readouterr().out == f"{out}: 2 images without labels in 1 shard\n"

    @pytest.mark.parametrize(
        ("text", "value"), [("5%", 0.05), ("0.5 %", 0.005), ("0.2", 0.2), ("0", 0), ("100%", 1)]
    )
    def test_shares(self, text, value):
        assert share(text) == pytest.approx(value)

    def test_help_knows_what_there_is(self, capsys):
        """The tables beside the parser are copies, as the help must not import what is heavy."""
        assert list(ROOTS) == list(DATASETS)
        assert list(CODECS) == list(IMAGE_CODECS)
        with pytest.raises(SystemExit):
            main(["prepare", "--help"])
        said = capsys.readouterr().out
        assert all(f"\n  {name} " in said for name in DATASETS)


class TestInspect:
    """What it finds is tested in test_inspect.py."""

    def test_mistakes_are_one_line(self, tmp_path, capsys):
        assert "no such folder" in refused(["inspect", str(tmp_path / "nowhere")], capsys)
        assert "manifest.json" in refused(["inspect", str(tmp_path)], capsys)
        folder = str(shards("game"))
        assert "--png" in refused(["inspect", folder, "--png", str(tmp_path)], capsys)
        assert "--json" in refused(["inspect", folder, "--json", str(tmp_path)], capsys)
        assert "--pictures" in refused(["inspect", folder, "--pictures", "0"], capsys)

    def test_damage_is_one_line_and_status_1(self, tmp_path, capsys):
        folder = truncated(tmp_path / "shards")
        (folder / "samples.parquet").unlink()
        assert main(["inspect", str(folder), "--verify"]) == 1
        said = capsys.readouterr()
        assert said.out == ""
        line = said.err.splitlines()[-1]  # after the progress bar
        assert line.startswith(f"uda: {folder}: 2 of 3 files are not those that were written: ")
        assert "shard-00000.parquet (holds other bytes), samples.parquet (is missing)" in line


@pytest.mark.parametrize("verb", [[], ["prepare"], ["inspect"], ["train"], ["evaluate"]])
def test_help(verb, capfd):
    with pytest.raises(SystemExit) as caught:
        main([*verb, "--help"])
    assert caught.value.code == 0
    assert "example" in capfd.readouterr().out or not verb


@pytest.mark.slow
class TestInterrupt:
    def test_ctrl_c_saves_and_resume_finishes_as_if_it_had_not_been(self, tmp_path):
        config = tiny_config(changes={"steps": 30, "runtime.log_every": 1})
        file = write_config(config, tmp_path / "settings.json")
        out = tmp_path / "run"
        with started(*train_words(file, out)) as process:
            wait_for(lambda: len(read_scalars(out)) >= 3, process)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        stopped_at = last_step(out)
        assert 3 <= stopped_at < 30
        assert errors.splitlines()[-1] == f"stopped at step {stopped_at}; continue with --resume"
        assert "Traceback" not in errors
        assert isinstance(load_model(out), torch.nn.Module)
        assert call(*train_words(file, out), "--resume").returncode == 0
        run_training(config, tmp_path / "whole")
        resumed = loaded_tensors(config, find_checkpoint(out))
        whole = loaded_tensors(config, find_checkpoint(tmp_path / "whole"))
        assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []
        assert [line["step"] for line in read_scalars(out)] == list(range(1, 31))

    def test_a_second_ctrl_c_does_not_wait(self, tmp_path):
        changes = {"steps": 100_000, "runtime.log_every": 50_000, "runtime.checkpoint_every": 1}
        file = write_config(tiny_config("source_only", changes), tmp_path / "settings.json")
        out = tmp_path / "run"
        with started(*train_words(file, out)) as process:
            wait_for(lambda: last_step(out) >= 2, process)
            process.send_signal(signal.SIGINT)
            time.sleep(0.5)
            assert process.poll() is None  # the first one waits for a line to be logged
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        assert errors.splitlines()[-1] == "uda: interrupted"
        assert "Traceback" not in errors
        assert isinstance(load_model(out), torch.nn.Module)


# --- helpers -----------------------------------------------------------------------------------


def refused(words: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr of a call that must end with status 2."""
    capfd.readouterr()
    status = main(words)
    captured = capfd.readouterr()
    assert status == 2, captured.err
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if not is_progress(line)]
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("uda: ")
    return lines[0]


def is_progress(line: str) -> bool:
    """Of a bar, which is drawn over itself until a line ends."""
    return not line or "image/s]" in line or line.startswith("camvid train:")


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def copied_shards(to: Path) -> Path:
    return Path(shutil.copytree(shards("game"), to))


def truncated(to: Path) -> Path:
    file = copied_shards(to) / "shard-00000.parquet"
    file.write_bytes(file.read_bytes()[:-50])
    return to


def of_another_schema(to: Path) -> Path:
    """A whole Parquet file of the listed size, in which the image is text."""
    file = copied_shards(to) / "shard-00000.parquet"
    table = pq.read_table(file)
    position = table.column_names.index("image")
    table = table.set_column(position, "image", pa.array(["picture"] * len(table), pa.string()))
    pq.write_table(table, file)
    manifest = json.loads((to / "manifest.json").read_text())
    manifest["shards"][0]["bytes"] = file.stat().st_size
    (to / "manifest.json").write_text(json.dumps(manifest))
    return to


def with_half_a_manifest(to: Path) -> Path:
    file = copied_shards(to) / "manifest.json"
    file.write_text(file.read_text()[:100])
    return to


def empty(to: Path) -> Path:
    to.mkdir()
    return to


DAMAGES: dict[str, Callable[[Path], Path]] = {
    "missing": lambda to: to,
    "empty": empty,
    "truncated": truncated,
    "schema": of_another_schema,
    "manifest": with_half_a_manifest,
}


def call(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "uda", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def started(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "uda", *words]
    environment = os.environ | {"PYTHONWARNINGS": "default"}
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment,
    )  # fmt: skip


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
