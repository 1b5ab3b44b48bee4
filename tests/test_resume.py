"""A run that was stopped, crashed or killed continues as if nothing had happened, bit by bit."""

import dataclasses
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.tiny import every_part, loaded_tensors, open_pair, run_training, shards, tiny_config
from uda.checkpoint import TrainState, checkpoints, find_checkpoint, last_step, load_model
from uda.config import Config
from uda.journal import (
    SCALARS_FILE,
    TENSORBOARD_FOLDER,
    Journal,
    latest_scalars,
    read_scalars,
)
from uda.loop import train
from uda.models import ModelConfig
from uda.run import open_run
from uda.schedule import Schedule
from uda.solo import SoloWorker
from uda.task import AdaptationTask
from uda.tree import override
from uda.types import UserError


class CrashError(Exception):
    """A crash of the test's own."""


def stop_after(config: Config, out: Path, step: int) -> None:
    """Trains and is asked, as by Ctrl-C, to stop after `step` steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SoloWorker, "should_stop", lambda self: read_scalars(out)[-1]["step"] >= step)
        assert run_training(config, out) == step


def crash_at(config: Config, out: Path, step: int, *, resume: bool = False) -> None:
    """Trains and crashes in the forward of `step`."""
    forward = AdaptationTask.forward

    def crashing(task, batch):
        if batch.step == step:
            raise CrashError
        return forward(task, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AdaptationTask, "forward", crashing)
        with pytest.raises(CrashError):
            run_training(config, out, resume=resume)


def everything_and_more() -> Config:
    """BatchNorm, dropout, clipping, the teacher as result, schedules and a second level."""
    config = tiny_config(changes={
        "model.norm": "batch",
        "model.dropout": 0.3,
        "optim.clip_norm": 1.0,
        "evaluated": "teacher",
        "data.source_sampling.kind": "rare_class",
        "data.crop.scale": [0.8, 1.6],
        "losses.contrastive.weight": {"value": 0.5, "start": 3, "ramp": 10},
        "losses.self_training.weight": {"value": 1.0, "start": 5, "stop": 15, "decay": "poly"},
    })  # fmt: skip
    late = dataclasses.replace(
        config.levels[0], name="late", reads="layer2", sees="plain",
        weight=Schedule(value=0.1, start=12),
    )  # fmt: skip
    return dataclasses.replace(config, levels=(*config.levels, late))


def with_resnet18() -> Config:
    model = ModelConfig(backbone="resnet18", aspp_channels=8, aspp_dilations=(1,),
                        low_level_channels=8, decoder_channels=8)  # fmt: skip
    config = tiny_config(changes={"steps": 6, "runtime.log_every": 3, "batch_size": 2})
    return dataclasses.replace(config, model=model)


def unequal_tensors(config: Config, one: Path, other: Path) -> list[str]:
    """Names of all tensors of networks and optimisers that differ between two checkpoints."""
    first, second = loaded_tensors(config, one), loaded_tensors(config, other)
    assert first.keys() == second.keys()
    assert any(name.startswith("optimiser.0.0.exp_avg") for name in first)
    exported, again = (load_model(folder).state_dict() for folder in (one, other))
    return [
        *(name for name in first if not torch.equal(first[name], second[name])),
        *(name for name in exported if not torch.equal(exported[name], again[name])),
    ]


@pytest.mark.slow
class TestBitEqual:
    @pytest.mark.parametrize(
        "config",
        [
            pytest.param(tiny_config(), id="everything"),
            pytest.param(everything_and_more(), id="batch norm, dropout, schedules"),
            pytest.param(
                tiny_config(changes={"runtime.decode_threads": 2, "runtime.channels_last": True}),
                id="threads, channels_last",
            ),
            pytest.param(with_resnet18(), id="resnet18"),
            pytest.param(every_part(), id="every part"),
            pytest.param(
                override(every_part(), {"model.norm": "batch", "model.dropout": 0.3}),
                id="every part, batch norm of the target",
            ),
        ],
    )
    def test_stop_and_resume(self, config, tmp_path):
        assert run_training(config, tmp_path / "whole") == config.steps
        stop_after(config, tmp_path / "parts", config.steps // 2)
        assert run_training(config, tmp_path / "parts", resume=True) == config.steps
        whole, parts = (find_checkpoint(tmp_path / name) for name in ("whole", "parts"))
        assert unequal_tensors(config, whole, parts) == []

    def test_crash_and_resume(self, tmp_path):
        config = tiny_config()
        run_training(config, tmp_path / "whole")
        crash_at(config, tmp_path / "parts", 17)
        assert last_step(tmp_path / "parts") == 10
        run_training(config, tmp_path / "parts", resume=True)
        whole, parts = (find_checkpoint(tmp_path / name) for name in ("whole", "parts"))
        assert unequal_tensors(config, whole, parts) == []
        assert logged(tmp_path / "whole") == logged(tmp_path / "parts")

    def test_the_comparison_can_fail(self, tmp_path):
        config = tiny_config(changes={"steps": 2})
        run_training(config, tmp_path / "one")
        run_training(config, tmp_path / "two")
        state = TrainState(config, torch.device("cpu"))
        state.load(find_checkpoint(tmp_path / "two"))
        next(iter(state.task.discriminators.parameters())).data[0] += 1e-6
        state.save(find_checkpoint(tmp_path / "two"), {})
        assert unequal_tensors(
            config, find_checkpoint(tmp_path / "one"), find_checkpoint(tmp_path / "two")
        ) == ["task.discriminators.output.layers.0.weight"]


def test_fused_optimiser_is_the_choice_of_the_run_that_resumes(tmp_path):
    config = tiny_config("source_only", {"steps": 2})
    run_training(config, tmp_path)
    state = TrainState(
        tiny_config("source_only", {"steps": 2, "runtime.fused_optimiser": True}),
        torch.device("cpu"),
    )
    state.load(find_checkpoint(tmp_path))
    groups = state.optimisers.state_dict()["0"]["param_groups"]
    assert all(group["fused"] is True for group in groups)


@pytest.mark.parametrize("saved", [False, True])
def test_memory_format_of_the_run_that_saved_does_not_matter(saved, tmp_path):
    """Fused optimisers go through memory: moments in another order than weights would be wrong."""
    fused = {"steps": 4, "runtime.checkpoint_every": 1, "runtime.fused_optimiser": True}
    one, other = (
        tiny_config("adversarial", fused | {"runtime.channels_last": is_last})
        for is_last in (saved, not saved)
    )
    crash_at(one, tmp_path / "same", 2)
    shutil.copytree(tmp_path / "same", tmp_path / "changed")
    run_training(one, tmp_path / "same", resume=True)
    run_training(other, tmp_path / "changed", resume=True)
    same, changed = (
        loaded_tensors(one, find_checkpoint(tmp_path / name)) for name in ("same", "changed")
    )
    for name, tensor in same.items():
        torch.testing.assert_close(changed[name], tensor, rtol=1e-3, atol=1e-5, msg=name)


class TestJournal:
    def test_no_step_twice_after_a_crash(self, tmp_path):
        """Steps 12 and 14 were logged, but the checkpoint is of step 10."""
        config = tiny_config("source_only", {"steps": 16, "runtime.log_every": 2})
        crash_at(config, tmp_path, 15)
        assert steps(tmp_path) == [2, 4, 6, 8, 10, 12, 14]
        with (tmp_path / SCALARS_FILE).open("a") as file:
            file.write('{"step": 16, "loss/tot')  # killed while writing
        time.sleep(1)  # TensorBoard orders its files by the second they were begun in
        run_training(config, tmp_path, resume=True)
        assert steps(tmp_path) == [2, 4, 6, 8, 10, 12, 14, 16]
        assert tensorboard_steps(tmp_path) == [2, 4, 6, 8, 10, 12, 14, 16]

    def test_no_step_is_lost_when_the_last_stretch_is_short(self, tmp_path):
        """The first line after the resume, of step 12, comes two steps after the checkpoint."""
        config = tiny_config("source_only", {"steps": 12, "runtime.log_every": 5})
        crash_at(config, tmp_path, 11)
        run_training(config, tmp_path, resume=True)
        assert steps(tmp_path) == [5, 10, 12]

    def test_no_step_is_lost_when_log_every_changes(self, tmp_path):
        changes = {"steps": 14, "runtime.checkpoint_every": 7, "runtime.log_every": 7}
        crash_at(tiny_config("source_only", changes), tmp_path, 9)
        later = tiny_config("source_only", changes | {"runtime.log_every": 10})
        run_training(later, tmp_path, resume=True)
        assert steps(tmp_path) == [7, 10, 14]

    def test_a_crash_before_the_first_checkpoint_leaves_nothing_behind(self, tmp_path):
        config = tiny_config("source_only", {"steps": 6, "runtime.log_every": 1})
        crash_at(config, tmp_path, 4)
        assert steps(tmp_path) == [1, 2, 3, 4]
        run_training(config, tmp_path)
        assert steps(tmp_path) == tensorboard_steps(tmp_path) == [1, 2, 3, 4, 5, 6]

    def test_writing_is_whole_lines_and_text(self, tmp_path):
        with Journal(tmp_path, 0) as journal:
            journal.show_config("{}")
            journal.write(1, {"loss/total": 0.5})
            assert read_scalars(tmp_path) == [{"step": 1, "loss/total": 0.5}]  # already flushed
            journal.write(2, {"loss/total": 0.25})
        assert latest_scalars(tmp_path) == {"step": 2, "loss/total": 0.25}
        assert read_scalars(tmp_path / "nowhere") == []
        assert latest_scalars(tmp_path / "nowhere") == {}


class TestCheckpointsOfARun:
    def test_only_the_latest_are_kept(self, tmp_path):
        changes = {"steps": 6, "runtime.checkpoint_every": 1, "runtime.keep_checkpoints": 3}
        run_training(tiny_config("source_only", changes), tmp_path)
        assert [folder.name for folder in checkpoints(tmp_path)] == [
            "step-0000004", "step-0000005", "step-0000006"
        ]  # fmt: skip
        assert not list(tmp_path.glob(".*"))

    def test_half_written_folders_are_invisible_and_swept_up(self, tmp_path):
        config = tiny_config("source_only", {"steps": 2})
        run_training(config, tmp_path)
        done = find_checkpoint(tmp_path)
        partial = tmp_path / ".step-0000009.0123abcd.partial"
        partial.mkdir()
        for file in done.iterdir():
            (partial / file.name).write_bytes(file.read_bytes())
        (tmp_path / "step-0000008").mkdir()  # no model in it
        assert checkpoints(tmp_path) == [done]
        assert find_checkpoint(tmp_path) == done
        state = TrainState(config, torch.device("cpu"))
        with SoloWorker(config, tmp_path, torch.device("cpu"), quiet=True) as worker:
            worker.report(3, lambda folder: state.save(folder, {}))
        assert [folder.name for folder in checkpoints(tmp_path)] == ["step-0000002", "step-0000003"]
        assert not partial.exists()

    def test_an_error_while_writing_leaves_nothing(self, tmp_path, monkeypatch):
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        state = TrainState(tiny_config("source_only"), torch.device("cpu"))
        monkeypatch.setattr(torch, "save", full)
        with pytest.raises(OSError, match="No space left"):
            state.save(tmp_path / "step-0000001", {})
        assert list(tmp_path.iterdir()) == []

    def test_a_finished_run_returns_at_once(self, tmp_path, monkeypatch):
        config = tiny_config("source_only", {"steps": 2})
        run_training(config, tmp_path)
        monkeypatch.setattr(SoloWorker, "wrap", lambda *_: pytest.fail("must not start"))
        assert run_training(config, tmp_path, resume=True) == 2

    def test_other_settings_are_refused_but_another_runtime_is_not(self, tmp_path):
        config = tiny_config("source_only", {"steps": 2})
        run_training(config, tmp_path)
        with pytest.raises(UserError, match=config.digest()):
            run_training(tiny_config("source_only", {"steps": 3}), tmp_path, resume=True)
        with pytest.raises(UserError, match="--resume"):
            run_training(config, tmp_path)
        runtime = tiny_config("source_only", {"steps": 2, "runtime.log_every": 1})
        assert run_training(runtime, tmp_path, resume=True) == 2

    def test_other_data_are_refused(self, tmp_path):
        config = tiny_config("source_only", {"steps": 2})
        run_training(config, tmp_path)
        with pytest.raises(UserError, match=r"step-0000002: it was trained on another target;"):
            run_training(config, tmp_path, shards("game"), resume=True)
        (tmp_path / "step-0000002" / "report.json").write_text("{")
        with pytest.raises(UserError, match=r"report\.json: cannot be read"):
            run_training(config, tmp_path, resume=True)

    def test_a_checkpoint_for_evaluation_alone_is_not_resumed(self, tmp_path):
        changes = {"steps": 3, "runtime.checkpoint_every": 1, "runtime.keep_checkpoints": 9}
        config = tiny_config("source_only", changes)
        run_training(config, tmp_path)
        before = loaded_tensors(config, tmp_path / "step-0000003")
        (tmp_path / "step-0000003" / "state.pt").unlink()
        assert run_training(config, tmp_path, resume=True) == 3
        again = loaded_tensors(config, tmp_path / "step-0000003")
        assert all(torch.equal(before[name], again[name]) for name in before)
        for folder in checkpoints(tmp_path):
            (folder / "state.pt").unlink()
        with pytest.raises(UserError, match=r"got no state\.pt in any of its checkpoints"):
            run_training(config, tmp_path, resume=True)

    def test_data_may_be_named_by_a_relative_path(self, tmp_path, monkeypatch):
        monkeypatch.chdir(shards("game").parent)
        run = open_run(tiny_config("source_only"), tmp_path, "game", "camera")
        monkeypatch.chdir(tmp_path)  # a worker of a cluster is somewhere else
        assert [len(folder.samples(["key"])) for folder in run.data.values()] == [8, 8]

    def test_the_loop_itself_refuses_another_experiment(self, tmp_path):
        config = tiny_config("source_only", {"steps": 2})
        run_training(config, tmp_path)
        other = tiny_config("source_only", {"steps": 3})
        with (
            open_pair(other, shards("game"), shards("camera")) as feed,
            SoloWorker(other, tmp_path, torch.device("cpu"), quiet=True) as worker,
            pytest.raises(UserError, match="another --out"),
        ):
            train(other, worker, feed, {})


KILLED_IN_SAVE = """
import os, signal, sys, torch
from pathlib import Path
from tests.tiny import tiny_config
from uda.checkpoint import TrainState

state = TrainState(tiny_config("source_only"), torch.device("cpu"))
run = Path(sys.argv[1])
state.save(run / "step-0000001", {})
save = torch.save

def save_half(values, file):
    save(values, file)
    Path(file).write_bytes(Path(file).read_bytes()[:1000])
    os.kill(os.getpid(), signal.SIGKILL)

torch.save = save_half
state.save(run / "step-0000002", {})
"""


@pytest.mark.slow
def test_a_process_killed_while_it_saves_leaves_the_checkpoint_before(tmp_path):
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", KILLED_IN_SAVE, tmp_path], cwd=root, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2  # there is a half-written one
    assert find_checkpoint(tmp_path) == tmp_path / "step-0000001"
    state = TrainState(tiny_config("source_only"), torch.device("cpu"))
    state.load(tmp_path / "step-0000001")


def steps(run: Path) -> list[int]:
    return [int(line["step"]) for line in read_scalars(run)]


def logged(run: Path) -> list[dict[str, float]]:
    """All scalars but those of the clock."""
    return [
        {name: value for name, value in line.items() if not name.startswith("speed/")}
        for line in read_scalars(run)
    ]


def tensorboard_steps(run: Path) -> list[int]:
    """The steps that TensorBoard shows, after it has hidden what was purged."""
    events = EventAccumulator(str(run / TENSORBOARD_FOLDER), {"scalars": 0})
    events.Reload()
    return [event.step for event in events.Scalars("loss/total")]
