"""Checkpoints are scored beside the training: in order, once, and whatever goes wrong.

Most of it with checkpoints that are hollow and a score that is made up; in the end for real.
"""

import json
import math
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cluster.validation import VALIDATION_FOLDER, Validator
from tests.tiny import shards, tiny_config
from uda.checkpoint import (
    WAITING_FILE,
    TrainState,
    checkpoints,
    load_model,
    prune,
    step_folder,
    step_of,
    waiting_checkpoints,
)
from uda.classes import CLASS_LISTS
from uda.data.examples import open_examples
from uda.data.prepare import prepare
from uda.data.shards import open_shards
from uda.evaluate import evaluate_images, total
from uda.inference import PLAIN, ready
from uda.journal import Journal, read_scalars
from uda.report import EvalReport
from uda.run import Run, open_run
from uda.selection import EVALUATION_FILE, VALIDATION_FILE, read_evaluation
from uda.types import UserError, WorkError

pytestmark = pytest.mark.slow  # much of it waits for a thread

TAG = "oracle/miou"


def add_checkpoint(run: Path, step: int, *, waits: bool = True) -> Path:
    """A hollow one, complete at once as real ones are."""
    partial = run / f".{step}"
    partial.mkdir(parents=True)
    whole = ("model.safetensors", "config.json", "state.pt")
    for name in (*whole, *([WAITING_FILE] if waits else [])):
        (partial / name).touch()
    return partial.rename(step_folder(run, step))


def step_score(checkpoint: Path) -> dict[str, float]:
    """A score that tells which checkpoint it is of."""
    return {TAG: int(checkpoint.name.removeprefix("step-")) / 128}


def validator(
    run: Path, score: Callable = step_score, *, keep: int = 2, **options: object
) -> Validator:
    known = {"cancel": nothing, "prune": lambda: prune(run, keep), "data": "abc"}
    return Validator(run, score, **(known | options))


def nothing() -> None:
    pass


def validate(run: Path, score: Callable = step_score) -> None:
    """Scores what waits, as when the training is over."""
    with validator(run, score) as running:
        running.finish()


def lines(run: Path) -> dict[float, Mapping[str, float]]:
    """The logged scalars by step; fails where a step is there twice."""
    found = read_scalars(run, VALIDATION_FILE)
    steps = [line.pop("step") for line in found]
    assert len(set(steps)) == len(steps)
    return dict(zip(steps, found, strict=True))


def events(run: Path, tag: str = TAG) -> dict[int, float]:
    """What TensorBoard shows by step; fails where it shows a step twice."""
    accumulator = EventAccumulator(str(run / VALIDATION_FOLDER), {"scalars": 0})
    accumulator.Reload()
    found = [(event.step, event.value) for event in accumulator.Scalars(tag)]
    assert len(dict(found)) == len(found)
    return dict(found)


def expected(*steps: int) -> dict[int, float]:
    return {step: step / 128 for step in steps}


def assert_logged(run: Path, *steps: int) -> None:
    assert {step: line[TAG] for step, line in lines(run).items()} == expected(*steps)
    assert events(run) == expected(*steps)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other attempts come at once."""
    monkeypatch.setattr("cluster.validation._RETRY_S", 0)


def names(folders: list[Path]) -> list[str]:
    return [folder.name for folder in folders]


class TestScoring:
    def test_oldest_first_and_at_the_right_step(self, tmp_path):
        seen = []

        def score(checkpoint: Path) -> dict[str, float]:
            seen.append(checkpoint.name)
            return step_score(checkpoint)

        with validator(tmp_path, score, keep=9) as running:
            add_checkpoint(tmp_path, 8, waits=False)
            for step in (16, 32):
                add_checkpoint(tmp_path, step)
            wait_until(lambda: not waiting_checkpoints(tmp_path))
            add_checkpoint(tmp_path, 64)
            running.finish()
        assert seen == ["step-0000016", "step-0000032", "step-0000064"]
        assert_logged(tmp_path, 16, 32, 64)
        assert len(checkpoints(tmp_path)) == 4
        assert read_evaluation(step_folder(tmp_path, 8)) is None
        kept = json.loads((step_folder(tmp_path, 32) / EVALUATION_FILE).read_text())
        assert kept == {"step": 32, "data": "abc", "scalars": {TAG: 0.25}}

    def test_shown_at_once_and_not_only_in_the_end(self, tmp_path):
        with validator(tmp_path):
            add_checkpoint(tmp_path, 16)
            wait_until(lambda: not waiting_checkpoints(tmp_path))
            assert_logged(tmp_path, 16)

    def test_what_has_no_value_is_left_out(self, tmp_path):
        add_checkpoint(tmp_path, 16)
        scores = {TAG: 0.5, "oracle/iou/train": None, "oracle/iou/bus": math.nan}
        validate(tmp_path, lambda checkpoint: scores)
        assert lines(tmp_path) == {16: {TAG: 0.5}}

    def test_old_checkpoints_go_when_they_are_scored(self, tmp_path):
        for step in (16, 32, 64, 128):
            add_checkpoint(tmp_path, step, waits=step < 100)
        prune(tmp_path, 2)  # as the workers do
        assert len(checkpoints(tmp_path)) == 4
        prune(tmp_path, 1)
        (step_folder(tmp_path, 32) / WAITING_FILE).unlink()
        prune(tmp_path, 1)
        assert names(checkpoints(tmp_path)) == ["step-0000016", "step-0000064", "step-0000128"]
        assert [file.parent.name for file in tmp_path.rglob("state.pt")] == ["step-0000128"]
        validate(tmp_path)
        assert names(checkpoints(tmp_path)) == ["step-0000128"]
        assert_logged(tmp_path, 16, 64)

    def test_what_was_scored_before_the_end_goes_too(self, tmp_path):
        with validator(tmp_path) as running:
            for step in (16, 32, 64):
                add_checkpoint(tmp_path, step)
            wait_until(lambda: not waiting_checkpoints(tmp_path))
            half_written = tmp_path / ".step-0000128.0123abcd.partial"
            half_written.mkdir()
            add_checkpoint(tmp_path, 65)
            wait_until(lambda: not waiting_checkpoints(tmp_path))
            assert half_written.exists(), "it is being written"
            assert len(checkpoints(tmp_path)) == 4
            running.finish()
        assert names(checkpoints(tmp_path)) == ["step-0000064", "step-0000065"]

    def test_without_checkpoints_nothing_is_written(self, tmp_path, capsys):
        validate(tmp_path)
        assert list(tmp_path.iterdir()) == []
        assert capsys.readouterr().err == ""


class TestTrouble:
    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (WorkError("ended 3 actors"), "WorkError: ended 3 actors"),
            (OSError(5, "Input/output error"), "OSError: [Errno 5] Input/output error"),
            (ValueError("trace\n  of many lines\nKeyError: 7"), "ValueError: KeyError: 7"),
            (ValueError(), "ValueError: no message"),
        ],
    )
    def test_a_score_that_always_fails_is_left_to_the_next_validator(
        self, tmp_path, capsys, impatient, error, reason
    ):
        seen = []

        def score(checkpoint: Path) -> dict[str, float]:
            seen.append(step_of(checkpoint))
            if checkpoint.name.endswith("16"):
                raise error
            return step_score(checkpoint)

        for step in (16, 32, 64):
            add_checkpoint(tmp_path, step)
        validate(tmp_path, score)
        assert seen == [16, 32, 64, 16, 16]
        assert read_evaluation(step_folder(tmp_path, 16)) is None
        said = capsys.readouterr().err.splitlines()
        assert [line for line in said if "before the end" not in line] == [
            f"uda: step-0000016 has no score yet: {reason}",
            f"uda: step-0000016 has no score yet: {reason}",
            f"uda: step-0000016 has no score after 3 attempts: {reason}",
            "uda: 1 checkpoint left to score; --resume with the same settings does it",
        ]
        assert_logged(tmp_path, 32, 64)
        time.sleep(1)  # TensorBoard orders its files by the second they were begun in
        validate(tmp_path)
        assert waiting_checkpoints(tmp_path) == []
        assert_logged(tmp_path, 16, 32, 64)
        assert list(lines(tmp_path)) == [16, 32, 64]

    def test_a_score_that_fails_once_comes_late(self, tmp_path, impatient):
        failed: list[Path] = []

        def score(checkpoint: Path) -> dict[str, float]:
            if checkpoint.name.endswith("16") and not failed:
                failed.append(checkpoint)
                raise WorkError("ended 3 actors")
            return step_score(checkpoint)

        for step in (16, 32, 64):
            add_checkpoint(tmp_path, step)
        validate(tmp_path, score)
        assert failed
        assert waiting_checkpoints(tmp_path) == []
        assert_logged(tmp_path, 16, 32, 64)
        assert list(lines(tmp_path)) == [16, 32, 64]

    def test_a_stop_does_not_wait_for_another_attempt(self, tmp_path, monkeypatch):
        monkeypatch.setattr("cluster.validation._RETRY_S", 1000)
        failed = threading.Event()

        def score(checkpoint: Path) -> dict[str, float]:
            failed.set()
            raise WorkError("ended 3 actors")

        add_checkpoint(tmp_path, 16)
        with validator(tmp_path, score):
            assert failed.wait(20)
        assert names(waiting_checkpoints(tmp_path)) == ["step-0000016"]

    def test_a_mistake_is_noted_and_the_rest_goes_on(self, tmp_path, capsys):
        seen = []

        def score(checkpoint: Path) -> dict[str, float]:
            seen.append(step_of(checkpoint))
            if checkpoint.name.endswith("16"):
                raise UserError("shard 3: does not read")
            return step_score(checkpoint)

        for step in (16, 32):
            add_checkpoint(tmp_path, step)
        validate(tmp_path, score)
        assert seen == [16, 32]
        assert read_evaluation(step_folder(tmp_path, 16)) == {
            "step": 16, "data": "abc", "error": "shard 3: does not read"
        }  # fmt: skip
        said = capsys.readouterr().err
        assert "uda: step-0000016 has no score: shard 3: does not read\n" in said
        assert waiting_checkpoints(tmp_path) == []
        assert_logged(tmp_path, 32)

    @pytest.mark.parametrize("error", [None, UserError("gone"), OSError("gone")])
    def test_a_checkpoint_removed_while_it_is_scored(self, tmp_path, capsys, error):
        def score(checkpoint: Path) -> dict[str, float]:
            if checkpoint.name.endswith("16"):
                shutil.rmtree(checkpoint)
                if error:
                    raise error
            return step_score(checkpoint)

        for step in (16, 32):
            add_checkpoint(tmp_path, step)
        validate(tmp_path, score)
        assert not step_folder(tmp_path, 16).exists()
        assert "no score" not in capsys.readouterr().err
        assert_logged(tmp_path, 32)

    def test_a_mark_that_somebody_has_removed(self, tmp_path):
        def score(checkpoint: Path) -> dict[str, float]:
            (checkpoint / WAITING_FILE).unlink()
            return step_score(checkpoint)

        for step in (16, 32):
            add_checkpoint(tmp_path, step)
        validate(tmp_path, score)
        assert_logged(tmp_path, 16, 32)

    def test_a_full_disk_ends_the_validation_alone(self, tmp_path, capsys, monkeypatch):
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("cluster.validation.json_text", full)
        add_checkpoint(tmp_path, 16)
        validate(tmp_path)
        said = capsys.readouterr().err
        assert "uda: validation stops: [Errno 28] No space left on device" in said
        assert said.endswith(
            "uda: 1 checkpoint left to score; --resume with the same settings does it\n"
        )
        assert names(waiting_checkpoints(tmp_path)) == ["step-0000016"]

    def test_a_stop_interrupts_the_score_and_leaves_the_marks(self, tmp_path, capsys):
        started, cancelled = threading.Event(), threading.Event()

        def score(checkpoint: Path) -> dict[str, float]:
            started.set()
            assert cancelled.wait(20)
            raise RuntimeError("the pool of actors is closed")

        for step in (16, 32):
            add_checkpoint(tmp_path, step)
        with validator(tmp_path, score, cancel=cancelled.set):
            assert started.wait(20)
        assert capsys.readouterr().err == (
            "uda: 2 checkpoints left to score; --resume with the same settings does it\n"
        )
        assert len(waiting_checkpoints(tmp_path)) == 2
        assert read_evaluation(step_folder(tmp_path, 16)) is None
        validate(tmp_path)
        assert_logged(tmp_path, 16, 32)

    def test_ctrl_c_while_waiting_for_the_rest(self, tmp_path, capsys):
        cancelled = threading.Event()

        def score(checkpoint: Path) -> dict[str, float]:
            if checkpoint.name.endswith("16"):
                return step_score(checkpoint)
            os.kill(os.getpid(), signal.SIGINT)
            assert cancelled.wait(20)
            raise RuntimeError("the pool of actors is closed")

        for step in (16, 32, 64):
            add_checkpoint(tmp_path, step)
        with (
            pytest.raises(KeyboardInterrupt),
            validator(tmp_path, score, cancel=cancelled.set) as running,
        ):
            running.finish()
        assert capsys.readouterr().err.splitlines() == [
            "uda: scoring 3 checkpoints before the end; Ctrl-C leaves that to --resume",
            "uda: 2 checkpoints left to score; --resume with the same settings does it",
        ]
        validate(tmp_path)
        assert_logged(tmp_path, 16, 32, 64)


class TestResume:
    @pytest.mark.parametrize("point", ["scored", "logged"])
    def test_a_crash_between_two_files(self, tmp_path, point):
        """Killed when the result was in the checkpoint, or when it was logged as well."""
        add_checkpoint(tmp_path, 16)
        add_checkpoint(tmp_path, 32)
        validate(tmp_path)
        (step_folder(tmp_path, 32) / WAITING_FILE).touch()
        if point == "scored":
            file = tmp_path / VALIDATION_FILE
            file.write_text(file.read_text().splitlines(keepends=True)[0] + '{"step": 32, "ora')
        time.sleep(1)  # TensorBoard orders its files by the second they were begun in
        add_checkpoint(tmp_path, 64)
        seen = []

        def score(checkpoint: Path) -> dict[str, float]:
            seen.append(checkpoint.name)
            return step_score(checkpoint)

        validate(tmp_path, score)
        assert seen == ["step-0000064"]
        assert_logged(tmp_path, 16, 32, 64)

    def test_another_attempt_from_an_earlier_checkpoint(self, tmp_path):
        """Somebody removed the last one; the step comes again with other weights."""
        add_checkpoint(tmp_path, 16)
        add_checkpoint(tmp_path, 32)
        validate(tmp_path, lambda checkpoint: {TAG: step_score(checkpoint)[TAG] % 0.25})
        for file in step_folder(tmp_path, 32).iterdir():
            file.unlink()
        step_folder(tmp_path, 32).rmdir()
        time.sleep(1)  # as above
        add_checkpoint(tmp_path, 32)
        validate(tmp_path)
        assert_logged(tmp_path, 16, 32)

    @pytest.mark.parametrize("text", ['{"step": 16, "data": "old", "scalars": {}}', "", "{"])
    def test_a_result_of_no_use_is_made_again(self, tmp_path, text):
        checkpoint = add_checkpoint(tmp_path, 16)
        (checkpoint / EVALUATION_FILE).write_text(text)
        validate(tmp_path)
        assert_logged(tmp_path, 16)


def test_the_journal_of_the_training_is_another_one(tmp_path):
    add_checkpoint(tmp_path, 16)
    with Journal(tmp_path, 0) as journal:
        journal.write(16, {"loss/total": 2.0})
        validate(tmp_path)
        journal.write(32, {"loss/total": 1.0})
    assert [line["step"] for line in read_scalars(tmp_path)] == [16, 32]
    accumulator = EventAccumulator(str(tmp_path / "tensorboard"), {"scalars": 0})
    accumulator.Reload()
    assert [event.step for event in accumulator.Scalars("loss/total")] == [16, 32]
    assert TAG not in accumulator.Tags()["scalars"]
    assert_logged(tmp_path, 16)


def test_a_checkpoint_is_marked_before_it_gets_its_name(tmp_path, monkeypatch):
    state = TrainState(tiny_config("source_only"), torch.device("cpu"))
    rename, renamed = Path.rename, []

    def record(partial: Path, folder: Path) -> Path:
        renamed.append((partial / WAITING_FILE).exists())
        return rename(partial, folder)

    monkeypatch.setattr(Path, "rename", record)
    state.save(step_folder(tmp_path, 1), {}, waits=True)
    state.save(step_folder(tmp_path, 2), {})
    assert renamed == [True, False]
    assert names(waiting_checkpoints(tmp_path)) == ["step-0000001"]


@pytest.mark.ray  # imports it
class TestShards:
    def run(self, tmp_path: Path, source: str = "game") -> Run:
        config = tiny_config("source_only")
        return open_run(config, tmp_path / "run", shards(source), shards("camera"))

    def opened(self, run: Run, val: Path, **options: float):
        from cluster.scores import open_validation

        return open_validation(run, val, **options)

    def test_scores_by_labels_of_the_target_are_oracle(self, tmp_path):
        run = self.run(tmp_path)
        assert self.opened(run, shards("camera")).are_of_target
        assert not self.opened(run, shards("game")).are_of_target
        assert self.opened(self.run(tmp_path, "camera"), shards("camera")).are_of_target

    def test_a_users_own_data_are_of_the_target_unless_they_are_surely_the_sources(
        self, tmp_path, monkeypatch
    ):
        """All data that are prepared as `folder` have that for their domain."""
        for name in ("one", "other"):
            self.labelled(tmp_path / name)
            for split in ("train", "val"):
                self.prepared(tmp_path / name, tmp_path / f"{name}_{split}", split)
        monkeypatch.chdir(tmp_path)
        for split in ("train", "val"):
            self.prepared(Path("one"), tmp_path / f"relative_{split}", split)
        config, camera = tiny_config("source_only"), shards("camera")

        def are_of_target(source: str, val: str, target: Path) -> bool:
            run = open_run(config, tmp_path / "run", tmp_path / source, target)
            return self.opened(run, tmp_path / val).are_of_target

        assert are_of_target("one_train", "other_val", camera)
        assert not are_of_target("one_train", "one_val", camera)
        assert not are_of_target("one_train", "one_train", camera)
        assert not are_of_target("relative_train", "relative_train", camera)
        assert are_of_target("relative_train", "relative_val", camera), "nobody knows"
        assert are_of_target("one_train", "one_val", tmp_path / "other_train")

    def labelled(self, root: Path) -> None:
        gradient = Image.linear_gradient("L").convert("RGB")
        for split, picture in (("train", gradient), ("val", gradient.rotate(90))):
            label = picture.convert("L").point(lambda grey: 7 + grey // 128)
            for kind, content in (("images", picture), ("labels", label)):
                (root / kind / split).mkdir(parents=True)
                content.save(root / kind / split / "1.png")
        mapping = {"class_list": "cityscapes19", "ids": {"7": "road", "8": "sidewalk"}}
        (root / "mapping.json").write_text(json.dumps(mapping))

    def prepared(self, root: Path, out: Path, split: str) -> None:
        prepare("folder", str(root), out, split, progress=False)

    @pytest.mark.parametrize("are_of_target", [True, False])
    def test_tags(self, are_of_target, monkeypatch):
        from cluster import scores

        oracle = {"miou": 0.5, "pixel_accuracy": 0.75, "iou": {"road": 1.0, "traffic light": None}}
        monkeypatch.setattr(scores, "evaluate", lambda *_, **__: EvalReport(oracle=oracle))
        on = scores.Validation(shards=open_shards(shards("game")), are_of_target=are_of_target)
        prefix = "oracle" if are_of_target else "validation"
        assert scores.score(Path("step-0000001"), on, None) == {
            f"{prefix}/miou": 0.5,
            f"{prefix}/pixel_accuracy": 0.75,
            f"{prefix}/iou/road": 1.0,
            f"{prefix}/iou/traffic_light": None,
        }

    def test_mistakes_are_one_line(self, tmp_path):
        run = self.run(tmp_path)
        with pytest.raises(UserError, match="nowhere: got no such folder"):
            self.opened(run, tmp_path / "nowhere")
        with pytest.raises(UserError, match="actors that validate: got 0, want 1 or more"):
            self.opened(run, shards("camera"), actors=0)
        with pytest.raises(UserError, match=r"GPUs per actor: got 1\.5"):
            self.opened(run, shards("camera"), gpus_per_actor=1.5)

    def test_shards_without_labels(self, tmp_path):
        (tmp_path / "images").mkdir()
        Image.linear_gradient("L").convert("RGB").save(tmp_path / "images" / "1.png")
        prepare("folder", str(tmp_path / "images"), tmp_path / "bare", "train", progress=False)
        with pytest.raises(UserError, match="bare: got shards without labels"):
            self.opened(self.run(tmp_path), tmp_path / "bare")

    def test_a_run_has_one_set_of_shards(self, tmp_path):
        run = self.run(tmp_path)
        add_checkpoint(run.folder, 16)
        validate(run.folder)
        with pytest.raises(UserError, match=r"got other shards than those of .*evaluation\.json"):
            self.opened(run, shards("camera"))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--val", "nowhere"], "nowhere: got no such folder"),
            (["--val-actors", "2"], "--val-actors, --val-gpus: got them without --val SHARDS"),
            (["--val-gpus", "0.5"], "--val-actors, --val-gpus: got them without --val SHARDS"),
        ],
    )
    def test_a_mistake_is_found_before_ray_starts(
        self, tmp_path, capsys, monkeypatch, options, message
    ):
        from cluster.__main__ import main

        monkeypatch.setenv("RAY_ADDRESS", "no Ray starts here")
        (tmp_path / "config.json").write_text(tiny_config("source_only").to_json())
        words = ["train", tmp_path / "config.json", "--source", shards("game")]
        words += ["--target", shards("camera"), "--out", tmp_path / "run", *options]
        assert main([str(word) for word in words]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
        assert not (tmp_path / "run").exists()


@pytest.mark.ray
class TestResources:
    @pytest.mark.parametrize(("cpus", "actors"), [(4, 0), (5, 1)])
    def test_actors_are_counted(self, cpus, actors):
        from cluster.runtime import compare_resources, required_cpus

        assert required_cpus(2, 1, actors) == cpus
        compare_resources({"CPU": cpus}, 2, 1, 0, actors)
        with pytest.raises(UserError, match=r"CPUs: got 3 in the cluster, want"):
            compare_resources({"CPU": 3}, 2, 1, 0, actors)

    def test_the_message_names_them(self):
        from cluster.runtime import compare_resources

        with pytest.raises(UserError, match=r"want 5 \(2 workers x 1 \+ 2 to read data \+ 1 to v"):
            compare_resources({"CPU": 4}, 2, 1, 0, 1)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
def test_scores_beside_a_real_training(
    ray_local: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every checkpoint of two workers; the scores are those of one process afterwards."""
    from cluster.__main__ import main

    out, file = tmp_path / "run", tmp_path / "config.json"
    changes = {"steps": 40, "runtime.checkpoint_every": 10, "runtime.keep_checkpoints": 9}
    file.write_text(tiny_config("source_only", changes).to_json())
    words = ["train", file, "--source", shards("game"), "--target", shards("camera")]
    words += ["--out", out, "--workers", 2, "--val", shards("camera")]
    assert main([str(word) for word in words]) == 0
    assert f"{out}: 40 steps done" in capfd.readouterr().out
    found = checkpoints(out)
    assert len(found) == 4
    assert waiting_checkpoints(out) == []
    logged = lines(out)
    assert list(logged) == [10, 20, 30, 40]
    for folder, (step, line) in zip(found, logged.items(), strict=True):
        assert line == one_process_scores(folder), step
        assert read_evaluation(folder)["scalars"] == line
    assert len({line[TAG] for line in logged.values()}) > 1, "the network has learned something"
    assert events(out) == pytest.approx({step: line[TAG] for step, line in logged.items()})
    assert "oracle/iou/road" in logged[40]
    assert [line["step"] for line in read_scalars(out)] == list(range(5, 41, 5))


def one_process_scores(checkpoint: Path) -> dict[str, float]:
    examples, classes = open_examples(shards("camera")), CLASS_LISTS["cityscapes19"]
    model = ready(load_model(checkpoint), PLAIN, "cpu")
    confusion = total(evaluate_images(model, examples, range(len(examples)))).confusion
    iou = {
        f"oracle/iou/{classes.class_name(k).replace(' ', '_')}": value
        for k, value in confusion.iou(classes).items()
        if not math.isnan(value)
    }
    scores = {
        TAG: confusion.miou(classes),
        "oracle/pixel_accuracy": confusion.pixel_accuracy(classes),
    }
    return scores | iou
