"""The command line `uda`, as a user types it."""

import json
from pathlib import Path

import pytest

from cluster.__main__ import main
from tests.tiny import shards

TINY = {
    "steps": "4",
    "batch_size": "4",
    "data.crop.height": "32",
    "data.crop.width": "48",
    "model.backbone": "tiny",
    "model.pretrained": '""',
    "runtime.log_every": "2",
    "runtime.checkpoint_every": "2",
}


def train_words(out: Path, preset: str = "demo", **changes: str) -> list[str]:
    words = ["train", preset, "--source", str(shards("game")), "--target", str(shards("camera"))]
    words += ["--out", str(out), "--workers", changes.pop("workers", "2")]
    settings = TINY | {path.replace("__", "."): value for path, value in changes.items()}
    return [*words, *(w for path, value in settings.items() for w in ("--set", f"{path}={value}"))]


def mistake(words: list[str], capsys: pytest.CaptureFixture) -> str:
    """What `uda` says of a mistake: one line on stderr, nothing on stdout, exit status 2."""
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1, said.err
    return said.err


class TestMistakesAreFoundBeforeRayStarts:
    def test_unknown_preset_lists_all(self, tmp_path, capsys):
        said = mistake(train_words(tmp_path / "run", "dmeo"), capsys)
        assert "'dmeo'" in said
        assert "street_to_camvid" in said

    def test_unknown_path_lists_what_exists(self, tmp_path, capsys):
        said = mistake(train_words(tmp_path / "run", optim__rate="1"), capsys)
        assert "optim.rate" in said
        assert "lr" in said

    def test_batch_does_not_divide_by_workers(self, tmp_path, capsys):
        said = mistake(train_words(tmp_path / "run", workers="3"), capsys)
        assert "got 3, but batch_size = 4" in said
        assert "have 1, 2, 4" in said

    def test_missing_source(self, tmp_path, capsys):
        words = train_words(tmp_path / "run")
        words[3] = str(tmp_path / "nowhere")
        assert "nowhere: got no such folder" in mistake(words, capsys)

    def test_checkpoint_that_is_none(self, tmp_path, capsys):
        said = mistake(["evaluate", str(tmp_path), str(shards("camera"))], capsys)
        assert "want a folder with model.safetensors" in said

    def test_json_file_that_is_a_folder(self, tmp_path, capsys):
        words = ["evaluate", str(tmp_path), str(shards("camera")), "--json", str(tmp_path)]
        assert "which is a folder; want a file" in mistake(words, capsys)

    def test_missing_data(self, tmp_path, capsys):
        said = mistake(["evaluate", str(tmp_path), str(tmp_path / "nowhere")], capsys)
        assert "nowhere: got no such folder" in said

    def test_prepare(self, tmp_path, capsys):
        words = ["prepare", "camvid", str(tmp_path / "nowhere"), str(tmp_path / "run")]
        assert "nowhere: got no such folder" in mistake(words, capsys)

    def test_inspect_needs_no_ray(self, tmp_path, capsys):
        assert "nowhere" in mistake(["inspect", str(tmp_path / "nowhere")], capsys)

    def test_neither_checkpoint_nor_predictions(self, capsys):
        with pytest.raises(SystemExit) as ended:
            main(["evaluate", str(shards("camera"))])
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert "[--predictions DIR]" in said
        assert said.endswith("the following arguments are required: data\n")

    @pytest.fixture(autouse=True)
    def nothing_is_started_or_written(self, tmp_path, monkeypatch):
        monkeypatch.setenv("RAY_ADDRESS", "no Ray starts here")
        yield
        assert not (tmp_path / "run").exists()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
def test_prepare_train_evaluate(ray_local: None, tmp_path: Path, capsys) -> None:
    val, run, scores = tmp_path / "val", tmp_path / "run", tmp_path / "scores.json"
    size = ["--size", "64x48", "--count", "6"]
    assert main(["prepare", "streets", "camera", str(val), "--split", "val", *size]) == 0
    assert main(train_words(run)) == 0
    assert main(["evaluate", str(run), str(val), "--json", str(scores)]) == 0
    assert main(["inspect", str(val), "--verify"]) == 0
    said = capsys.readouterr().out
    assert "verified: 3 files" in said
    assert "6 images in 1 shard\n" in said
    assert "4 steps done" in said
    assert "mean IoU" in said
    result = json.loads(scores.read_text())
    assert result["images"] == 6
    assert len(result["confusion"]) == 19
    assert result["protocol"] == "cityscapes"
    assert mistake(train_words(run), capsys).count("--resume") == 1
    assert main([*train_words(run), "--resume"]) == 0
