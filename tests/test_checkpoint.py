"""What is saved is what is loaded, and whatever is not whole is refused in one line."""

import io
import json
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

import uda
from tests.tiny import random_batch, state_tensors, tiny_config
from uda.checkpoint import (
    WAITING_FILE,
    TrainState,
    checkpoints,
    find_checkpoint,
    last_step,
    load_model,
    load_weights,
    provenance,
    prune,
    resumable_checkpoint,
    step_folder,
    waiting_checkpoints,
)
from uda.config import Config
from uda.models import DeepLabV3Plus, build_model
from uda.types import UserError

CPU = torch.device("cpu")


def trained_state(config: Config, num_steps: int = 2) -> TrainState:
    state = TrainState(config, CPU)
    state.task.train()
    for step in range(num_steps):
        state.task(random_batch(config, step)).loss.backward()
        state.optimisers.step(step)
        state.task.after_step(step)
        state.step += 1
    return state


@pytest.fixture(scope="module")
def state() -> TrainState:
    return trained_state(tiny_config())


@pytest.fixture
def saved(state, tmp_path) -> Path:
    folder = step_folder(tmp_path, state.step)
    state.save(folder, provenance({"source": "abc", "target": "def"}))
    return folder


class TestSaveAndLoad:
    def test_every_tensor_and_the_step_come_back(self, state, saved):
        fresh = TrainState(tiny_config(), CPU)
        fresh.load(saved)
        assert fresh.step == 2
        ours, theirs = state_tensors(state), state_tensors(fresh)
        assert ours.keys() == theirs.keys()
        assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
        assert {name.split(".")[1] for name in ours if name.startswith("task.")} == {
            "student", "teacher", "projection", "memories", "discriminators"
        }  # fmt: skip
        assert {name[:11] for name in ours if name.startswith("opt")} == {
            "optimiser.0",
            "optimiser.1",
        }

    def test_the_folder_holds_these_four_files(self, saved):
        assert sorted(file.name for file in saved.iterdir()) == [
            "config.json", "model.safetensors", "report.json", "state.pt"
        ]  # fmt: skip
        assert [folder.name for folder in saved.parent.iterdir()] == ["step-0000002"]

    def test_the_same_step_again_replaces_the_folder(self, state, saved):
        (saved / "model.safetensors").write_bytes(b"old")
        state.save(saved, {})
        load_model(saved)

    def test_report_says_where_the_weights_come_from(self, saved, state):
        report = json.loads((saved / "report.json").read_text())
        assert report["step"] == 2
        assert report["digest"] == state.config.digest()
        assert report["data"] == {"source": "abc", "target": "def"}
        assert report["versions"]["uda"] == uda.__version__
        assert report["versions"]["torch"] == torch.__version__
        assert report["versions"]["python"] == sys.version.split()[0]
        assert report["command"].split()[0] == Path(sys.argv[0]).name
        assert Config.from_json(saved / "config.json") == state.config

    def test_state_is_plain_data(self, saved):
        state = torch.load(saved / "state.pt", weights_only=True)
        assert set(state) == {"step", "faded_at", "task", "optimisers"}

    def test_channels_last_weights_are_saved_too(self, tmp_path):
        state = TrainState(tiny_config("source_only"), CPU)
        state.task.to(memory_format=torch.channels_last)
        state.save(tmp_path / "step-0000001", {})
        mine = state.task.student.state_dict()
        loaded = load_model(tmp_path).state_dict()
        assert all(torch.equal(mine[name], loaded[name]) for name in mine)


class TestLoadModel:
    def test_is_the_student_ready_to_evaluate(self, saved, state):
        model = load_model(saved)
        assert isinstance(model, DeepLabV3Plus)
        assert not model.training
        assert next(model.parameters()).device == CPU
        images = model.normalise(random_batch(tiny_config()).target.images)
        with torch.no_grad():
            logits = model(images).logits
            expected = state.task.student.eval()(images).logits
        state.task.train()
        assert logits.shape == (4, 19, 32, 48)
        assert torch.equal(logits, expected)

    def test_is_the_teacher_where_the_config_says_so(self, tmp_path):
        state = trained_state(tiny_config("source_only", {"evaluated": "teacher"}), 3)
        state.save(tmp_path / "step-0000003", {})
        loaded = load_model(tmp_path).state_dict()
        teacher = state.task.teacher.network.state_dict()
        student = state.task.student.state_dict()
        assert all(torch.equal(loaded[name], teacher[name]) for name in loaded)
        assert not all(torch.equal(loaded[name], student[name]) for name in loaded)

    def test_takes_a_run_or_a_text(self, saved):
        for path in (saved, saved.parent, str(saved), str(saved.parent)):
            assert isinstance(load_model(path), DeepLabV3Plus)

    def test_wants_only_the_network_of_the_config(self, saved):
        expected = load_model(saved).state_dict()
        config = json.loads((saved / "config.json").read_text())
        converted = {"name": "x", "model": config["model"], "losses": "of another version"}
        (saved / "config.json").write_text(json.dumps(converted))
        loaded = load_model(saved).state_dict()
        assert all(torch.equal(expected[name], loaded[name]) for name in expected)

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ([], "want an object with an entry 'model'"),
            ({"name": "x"}, "want an object with an entry 'model'"),
            ({"model": 3}, "model: got 3, want ModelConfig"),
            ({"model": {"depth": 3}}, "model.depth: no 'depth' in model"),
            ({"model": {"norm": 3}}, "model.norm: got 3, want str"),
            ({"model": {"norm": "layer"}}, "norm: got 'layer'"),
        ],
    )
    def test_is_strict_about_the_network(self, config, message, saved):
        (saved / "config.json").write_text(json.dumps(config))
        got = one_line(lambda: load_model(saved))
        assert got.startswith(f"config {saved / 'config.json'}: ")
        assert message in got


class TestFind:
    def run(self, tmp_path: Path, *steps: int) -> Path:
        for step in steps:
            folder = step_folder(tmp_path, step)
            folder.mkdir()
            for name in ("model.safetensors", "config.json", "state.pt"):
                (folder / name).touch()
        return tmp_path

    def test_the_latest_by_number(self, tmp_path):
        run = self.run(tmp_path, 9, 10, 1000000)
        assert find_checkpoint(run) == run / "step-1000000"
        assert last_step(run) == 1000000
        assert find_checkpoint(run / "step-0000009") == run / "step-0000009"

    def test_nothing_there(self, tmp_path):
        assert last_step(tmp_path) == 0
        assert checkpoints(tmp_path / "nowhere") == []
        three_forms = "want a folder with model.safetensors.*a run with step-.*a SegmenTron file"
        with pytest.raises(UserError, match=f"no such folder or file; {three_forms}"):
            find_checkpoint(tmp_path / "nowhere")
        with pytest.raises(UserError, match=three_forms):
            find_checkpoint(tmp_path)

    def test_a_file_is_looked_at_when_it_is_loaded(self, tmp_path):
        file = tmp_path / "file"
        file.touch()
        assert find_checkpoint(file) == file
        assert str(file) in one_line(lambda: load_model(file))

    def test_weights_of_ours_are_no_checkpoint_without_their_folder(self, saved):
        message = one_line(lambda: load_model(saved / "model.safetensors"))
        assert "not SegmenTron's (keys such as 'aspp." in message

    def test_folders_of_other_names_are_not_checkpoints(self, tmp_path):
        run = self.run(tmp_path, 3)
        shutil.copytree(run / "step-0000003", run / "step-final")
        assert find_checkpoint(run) == run / "step-0000003"
        assert last_step(run) == 3

    def test_prune(self, tmp_path):
        run = self.run(tmp_path, 1, 2, 3, 4)
        prune(run, 2)
        assert [folder.name for folder in checkpoints(run)] == ["step-0000003", "step-0000004"]
        prune(run, 5)
        assert len(checkpoints(run)) == 2

    def test_prune_takes_the_state_of_what_waits(self, tmp_path):
        run = self.run(tmp_path, 1, 2, 3, 4)
        for step in (1, 2, 4):
            (step_folder(run, step) / WAITING_FILE).touch()
        prune(run, 1)
        assert waiting_checkpoints(run) == [step_folder(run, step) for step in (1, 2, 4)]
        assert [file.parent.name for file in run.rglob("state.pt")] == ["step-0000004"]
        shutil.rmtree(step_folder(run, 4))  # by hand: now nothing can be resumed
        assert find_checkpoint(run) == step_folder(run, 2)
        assert resumable_checkpoint(run) is None
        assert last_step(run) == 0
        prune(run, 1)
        assert len(checkpoints(run)) == 2

    def test_resumed_is_the_latest_that_has_its_state(self, tmp_path):
        run = self.run(tmp_path, 1, 2, 3)
        (step_folder(run, 3) / "state.pt").unlink()
        assert find_checkpoint(run) == step_folder(run, 3)
        assert resumable_checkpoint(run) == step_folder(run, 2)
        assert last_step(run) == 2
        prune(run, 1)
        assert checkpoints(run) == [step_folder(run, 2), step_folder(run, 3)]


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def write_garbage(file: Path) -> None:
    file.write_bytes(b"\x00garbage\n" * 100)


class TestDamage:
    @pytest.mark.parametrize("damage", [truncate, write_garbage, Path.unlink])
    @pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
    def test_load_model(self, damage: Callable[[Path], None], name, saved):
        damage(saved / name)
        for path in (saved, saved.parent):
            message = one_line(lambda path=path: load_model(path))
            assert str(saved.parent) in message

    @pytest.mark.parametrize("damage", [truncate, write_garbage, Path.unlink])
    def test_state(self, damage: Callable[[Path], None], saved):
        damage(saved / "state.pt")
        message = one_line(lambda: TrainState(tiny_config(), CPU).load(saved))
        assert str(saved / "state.pt") in message
        load_model(saved)  # evaluation does not need it

    @pytest.mark.parametrize(
        "values", [[], {"step": 3}, 7, {"step": 1, "task": {}, "optimisers": {}}]
    )
    def test_state_of_another_form(self, values, saved):
        torch.save(values, saved / "state.pt")
        message = one_line(lambda: TrainState(tiny_config(), CPU).load(saved))
        assert str(saved / "state.pt") in message

    def test_code_in_the_state_does_not_run(self, saved, tmp_path):
        target = tmp_path / "owned"

        class Payload:
            def __reduce__(self):
                return Path.touch, (target,)

        pickle.loads(pickle.dumps(Payload()))  # the payload works where code may run
        assert target.exists()
        target.unlink()
        for write in (torch.save, lambda value, file: file.write_bytes(pickle.dumps(value))):
            write({"step": 1, "task": Payload()}, saved / "state.pt")
            one_line(lambda: TrainState(tiny_config(), CPU).load(saved))
            assert not target.exists()

    def test_code_in_the_model_does_not_run(self, saved, tmp_path):
        target = tmp_path / "owned"

        class Payload:
            def __reduce__(self):
                return Path.touch, (target,)

        stream = io.BytesIO()
        torch.save(Payload(), stream)
        (saved / "model.safetensors").write_bytes(stream.getvalue())
        one_line(lambda: load_model(saved))
        assert not target.exists()

    def test_weights_of_another_architecture(self, saved):
        config = tiny_config(changes={"model.decoder_channels": 32})
        (saved / "config.json").write_text(config.to_json())
        message = one_line(lambda: load_model(saved))
        assert "another architecture" in message
        assert "decoder" in message
        assert "more" in message

    def test_names_that_are_missing_or_unknown(self, tmp_path):
        model = build_model(tiny_config().model)
        weights = model.state_dict()
        weights["extra"] = weights.pop("classifier.bias")
        safetensors.torch.save_file(weights, tmp_path / "model.safetensors")
        message = one_line(lambda: load_weights(model, tmp_path / "model.safetensors"))
        assert "classifier.bias missing; extra unknown" in message

    def test_another_experiment(self, saved):
        other = tiny_config(changes={"optim.lr": 0.5})
        message = one_line(lambda: TrainState(other, CPU).load(saved))
        assert other.digest() in message
        assert tiny_config().digest() in message

    def test_another_runtime_is_no_other_experiment(self, saved):
        TrainState(tiny_config(changes={"runtime.log_every": 1}), CPU).load(saved)


def one_line(action: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)
