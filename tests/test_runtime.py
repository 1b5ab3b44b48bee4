"""The switches of `Config.runtime`: each is really thrown, and the results stay what they were."""

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny import loaded_tensors, random_batch, run_training, tiny_config
from uda.checkpoint import TrainState, find_checkpoint
from uda.config import Config
from uda.journal import read_scalars

STEPS = 5


def config_of(switches: dict[str, Any]) -> Config:
    return tiny_config(changes={"steps": STEPS, "runtime.log_every": 1} | switches)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """The run with no switch thrown."""
    folder = tmp_path_factory.mktemp("plain")
    run_training(config_of({}), folder)
    return folder


def losses(run: Path) -> dict[str, torch.Tensor]:
    lines = read_scalars(run)
    assert len(lines) == STEPS
    names = [name for name in lines[0] if name.startswith("loss/")]
    return {name: torch.tensor([line[name] for line in lines]) for name in names}


def assert_same_losses(run: Path, plain: Path, rtol: float, atol: float = 1e-6) -> None:
    ours, reference = losses(run), losses(plain)
    assert ours.keys() == reference.keys()
    for name, expected in reference.items():
        if not name.endswith(("accuracy", "anchors")):  # these count, and jump
            torch.testing.assert_close(ours[name], expected, rtol=rtol, atol=atol, msg=name)


def assert_same_weights(run: Path, plain: Path, tolerance: float) -> None:
    ours, reference = (
        loaded_tensors(config_of({}), find_checkpoint(folder)) for folder in (run, plain)
    )
    for name, expected in reference.items():
        if name.startswith("task."):
            torch.testing.assert_close(
                ours[name].contiguous(), expected, rtol=1e-3, atol=tolerance, msg=name
            )


class TestSameNumbers:
    """Five steps with everything on; a weight moves by about 1e-3 in each of them."""

    @pytest.mark.parametrize("switch", ["channels_last", "fused_optimiser"])
    def test_exact_switches(self, switch, plain, tmp_path):
        run_training(config_of({f"runtime.{switch}": True}), tmp_path)
        assert_same_losses(tmp_path, plain, rtol=1e-4)
        assert_same_weights(tmp_path, plain, tolerance=5e-5)

    def test_decode_threads(self, plain, tmp_path):
        run_training(config_of({"runtime.decode_threads": 2}), tmp_path)
        assert_same_losses(tmp_path, plain, rtol=0.0, atol=0.0)

    def test_bfloat16(self, plain, tmp_path):
        run_training(config_of({"runtime.precision": "bfloat16"}), tmp_path)
        assert_same_losses(tmp_path, plain, rtol=0.03)
        with pytest.raises(AssertionError):  # it did compute otherwise
            assert_same_losses(tmp_path, plain, rtol=1e-6)

    @pytest.mark.slow
    def test_compile(self, plain, tmp_path):
        # In a process of its own: compilation must not meet the tests' shape checks and warnings.
        context = multiprocessing.get_context("spawn")
        config = config_of({"runtime.compile": True})
        process = context.Process(target=run_compiled, args=(config, tmp_path))
        process.start()
        process.join(100)
        if process.is_alive():
            process.kill()
        assert process.exitcode == 0
        assert_same_losses(tmp_path, plain, rtol=1e-4)
        assert_same_weights(tmp_path, plain, tolerance=5e-5)


def run_compiled(config: Config, out: Path) -> None:
    """Trains with graphs that torch captures, forward and backward, but runs without inductor.

    Inductor's C++ takes minutes to build on a small CPU, and is not ours to test.
    """
    torch.set_num_threads(1)
    compile_module = torch.nn.Module.compile
    torch.nn.Module.compile = lambda self: compile_module(self, backend="aot_eager")
    run_training(config, out)
    # One graph for the source's, the target's and the mixed images, and no break in it.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


class TestSwitchesAreThrown:
    def state(self, switches: dict[str, Any]) -> TrainState:
        state = TrainState(config_of(switches), torch.device("cpu"))
        state.task.train()
        return state

    @pytest.mark.parametrize("on", [False, True])
    def test_channels_last(self, on):
        state = self.state({"runtime.channels_last": on})
        seen = []
        for network in (state.task.student, state.task.teacher.network):
            network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        state.task(random_batch(state.config))
        assert len(seen) == 4
        for images in seen:
            assert images.is_contiguous(memory_format=torch.channels_last) == on
            assert images.shape == (4, 3, 32, 48)
        stem = state.task.student.encoder.stem.conv1.weight
        assert stem.is_contiguous(memory_format=torch.channels_last) == on

    @pytest.mark.parametrize("on", [False, True])
    def test_fused_optimiser(self, on):
        optimisers = self.state({"runtime.fused_optimiser": on}).optimisers.state_dict().values()
        groups = [group for optimiser in optimisers for group in optimiser["param_groups"]]
        assert all(bool(group["fused"]) is on for group in groups)

    @pytest.mark.parametrize(
        ("precision", "kind"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)]
    )
    def test_precision(self, precision, kind):
        state = self.state({"runtime.precision": precision})
        kinds, logits = [], []
        for network in (state.task.student, state.task.teacher.network):
            network.classifier.register_forward_hook(lambda _m, _i, low: kinds.append(low.dtype))
            network.register_forward_hook(lambda _m, _i, output: logits.append(output.logits.dtype))
        output = state.task(random_batch(state.config))
        assert kinds == [kind] * 4
        assert logits == [torch.float32] * 4, "resized in float32 whatever they were computed in"
        assert output.loss.dtype == torch.float32
        output.loss.backward()
        assert all(p.dtype == torch.float32 for p in state.task.parameters())
        assert all(p.grad.dtype == torch.float32 for p in state.task.student.parameters())
