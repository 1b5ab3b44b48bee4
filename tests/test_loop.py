"""The training loop with a worker that records what is asked of it."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.tiny import random_batch, tiny_config
from uda.checkpoint import TrainState, checkpoints, load_model, step_folder
from uda.config import Config
from uda.loop import Batches, TrainingError, Worker, train
from uda.losses.supervised import Supervised
from uda.solo import SoloWorker
from uda.types import Batch


class FakeWorker:
    """One of `world_size` equal workers: their sum is the own values times their number."""

    rank = 0
    device = torch.device("cpu")

    def __init__(self, run: Path, *, stop_at: int = 0, world_size: int = 1) -> None:
        self.world_size = world_size
        self.lines: dict[int, dict[str, float]] = {}
        self.reported: list[int] = []
        self._run = run
        self._stop_at = stop_at

    def wrap(self, task: nn.Module) -> nn.Module:
        self.task = task
        return task

    def sum(self, values: Tensor) -> Tensor:
        return values * self.world_size

    def log(self, step: int, scalars: dict[str, float]) -> None:
        self.lines[step] = scalars

    def report(self, step: int, save: Callable[[Path], None]) -> None:
        self.reported.append(step)
        save(step_folder(self._run, step))

    def restore(self) -> Path | None:
        found = checkpoints(self._run)
        return found[-1] if found else None

    def should_stop(self) -> bool:
        return bool(self._stop_at) and max(self.lines) >= self._stop_at

    def fades_asked(self) -> int:
        return 0


class Noise:
    """Batches of noise that each take a while."""

    def __init__(self, config: Config, seconds: float = 0.0) -> None:
        self._config = config
        self.wait_seconds = seconds
        self.bad_rows = 0
        self.first_steps: list[int] = []

    def batches(self, first_step: int) -> Iterator[Batch]:
        self.first_steps.append(first_step)
        step = first_step
        while True:
            time.sleep(self.wait_seconds)
            yield random_batch(self._config, step)
            step += 1


def config_of(method: str = "source_only", **changes: Any) -> Config:
    return tiny_config(
        method, {"steps": 12} | {k.replace("__", "."): v for k, v in changes.items()}
    )


def run(config: Config, worker: FakeWorker) -> int:
    return train(config, worker, Noise(config), {})


def test_the_fakes_are_what_the_protocols_say(tmp_path):
    assert isinstance(FakeWorker(tmp_path), Worker)
    assert isinstance(Noise(config_of()), Batches)
    assert isinstance(SoloWorker(config_of(), tmp_path, torch.device("cpu"), quiet=True), Worker)


class TestRhythm:
    def test_logs_and_checkpoints(self, tmp_path):
        worker = FakeWorker(tmp_path)
        assert run(config_of(), worker) == 12
        assert list(worker.lines) == [5, 10, 12]
        assert worker.reported == [10, 12]

    def test_the_last_step_is_reported_once(self, tmp_path):
        worker = FakeWorker(tmp_path)
        run(config_of(steps=10), worker)
        assert list(worker.lines) == [5, 10]
        assert worker.reported == [10]

    def test_stops_where_it_logs_and_saves(self, tmp_path):
        worker = FakeWorker(tmp_path, stop_at=4)
        assert run(config_of(), worker) == 5
        assert worker.reported == [5]

    def test_continues_with_the_data_of_the_next_step(self, tmp_path):
        run(config_of(), FakeWorker(tmp_path, stop_at=4))
        data = Noise(config_of())
        worker = FakeWorker(tmp_path)
        assert train(config_of(), worker, data, {}) == 12
        assert data.first_steps == [5]
        assert list(worker.lines) == [10, 12]

    def test_a_finished_run_touches_neither_data_nor_worker(self, tmp_path):
        run(config_of(), FakeWorker(tmp_path))
        data, worker = Noise(config_of()), FakeWorker(tmp_path)
        assert train(config_of(), worker, data, {}) == 12
        assert data.first_steps == []
        assert worker.lines == {}
        assert worker.reported == []

    def test_the_stream_is_closed_whatever_happens(self, tmp_path):
        closed = []

        class Closing(Noise):
            def batches(self, first_step: int) -> Iterator[Batch]:
                try:
                    yield from super().batches(first_step)
                finally:
                    closed.append(first_step)

        config = config_of(steps=2)
        train(config, FakeWorker(tmp_path / "a"), Closing(config), {})
        assert closed == [0]

    def test_workers_that_found_different_checkpoints_do_not_start(self, tmp_path):
        class Apart(FakeWorker):
            def sum(self, values: Tensor) -> Tensor:
                return values + torch.tensor([10.0, 100.0])  # the other one is at step 10

        data = Noise(config_of())
        with pytest.raises(TrainingError, match=r"different checkpoints \(this one step 0\)"):
            train(config_of(), Apart(tmp_path, world_size=2), data, {})
        assert data.first_steps == []


class TestScalars:
    def test_every_term_rate_and_speed(self, tmp_path):
        worker = FakeWorker(tmp_path)
        run(config_of("everything"), worker)
        assert set(worker.lines[5]) == {
            "loss/total", "loss/supervised", "loss/self_training", "health/self_training/trust",
            "loss/contrastive", "health/contrastive/anchors", "health/contrastive/trusted",
            "health/contrastive/across", "health/contrastive/positive_similarity",
            "health/contrastive/negative_similarity", "loss/output/fooling",
            "loss/output/discriminator", "health/output/accuracy", "health/output/collapsed",
            "lr/backbone", "lr/head", "lr/discriminator", "speed/samples_per_second",
            "speed/data_wait_share",
        }  # fmt: skip

    def test_skipped_rows_are_counted_over_all_workers(self, tmp_path):
        worker = FakeWorker(tmp_path, world_size=2)
        config = config_of(ingest__on_bad_row="skip")
        data = Noise(config)
        data.bad_rows = 3
        train(config, worker, data, {})
        assert worker.lines[5]["data/bad_rows"] == 6

    def test_losses_are_means_since_the_last_line(self, tmp_path):
        each, grouped = FakeWorker(tmp_path / "each"), FakeWorker(tmp_path / "grouped")
        run(config_of(runtime__log_every=1), each)
        run(config_of(runtime__log_every=5), grouped)
        for last, steps in ((5, range(1, 6)), (10, range(6, 11)), (12, range(11, 13))):
            mean = sum(each.lines[step]["loss/total"] for step in steps) / len(steps)
            assert grouped.lines[last]["loss/total"] == pytest.approx(mean, rel=1e-6)

    def test_a_paused_loss_is_the_mean_of_its_own_steps(self, tmp_path):
        config = tiny_config("self_training", {
            "steps": 5, "losses.self_training.weight": {"value": 1.0, "start": 3},
        })  # fmt: skip
        each = FakeWorker(tmp_path / "each")
        run(tiny_config("self_training", {
            "steps": 5, "runtime.log_every": 1,
            "losses.self_training.weight": {"value": 1.0, "start": 3},
        }), each)  # fmt: skip
        worker = FakeWorker(tmp_path / "grouped")
        run(config, worker)
        assert "loss/self_training" not in each.lines[3]
        mean = (each.lines[4]["loss/self_training"] + each.lines[5]["loss/self_training"]) / 2
        assert worker.lines[5]["loss/self_training"] == pytest.approx(mean, rel=1e-6)

    def test_means_do_not_grow_with_the_number_of_workers(self, tmp_path):
        one, four = FakeWorker(tmp_path / "1"), FakeWorker(tmp_path / "4", world_size=4)
        run(config_of(), one)
        run(config_of(), four)
        for name, value in one.lines[5].items():
            if not name.startswith("speed/"):
                assert four.lines[5][name] == pytest.approx(value), name

    def test_rates_are_those_of_the_step(self, tmp_path):
        worker = FakeWorker(tmp_path)
        run(config_of(optim__warmup=0, optim__decay="linear", runtime__log_every=1), worker)
        for step, scalars in worker.lines.items():
            assert scalars["lr/backbone"] == pytest.approx(1e-3 * (1 - (step - 1) / 12))
            assert scalars["lr/head"] == pytest.approx(2 * scalars["lr/backbone"])

    def test_speed_counts_the_images_of_both_domains_and_the_wait_for_them(self, tmp_path):
        config = config_of(steps=5)
        worker = FakeWorker(tmp_path)
        started = time.perf_counter()
        train(config, worker, Noise(config, seconds=0.05), {})
        seconds = time.perf_counter() - started
        speed = worker.lines[5]["speed/samples_per_second"]
        assert 2 * 4 * 5 / seconds < speed < 2 * 4 * 5 / (5 * 0.05)
        # Five waits of 0.05 s, in the time that the speed says.
        expected = 5 * 0.05 / (2 * 4 * 5 / speed)
        assert worker.lines[5]["speed/data_wait_share"] == pytest.approx(expected, rel=1e-3)


class TestNotFinite:
    """Whatever is not a number stops the run and is not saved."""

    def poison(self, monkeypatch, step: int, value: float = float("nan")) -> None:
        """Makes the supervised loss of one step not finite."""
        plain = Supervised.__call__
        calls = iter(range(1000))

        def poisoned(self, source_logits, source_labels):
            loss = plain(self, source_logits, source_labels)
            if loss.is_meta or next(calls) != step:
                return loss
            return loss * value

        monkeypatch.setattr(Supervised, "__call__", poisoned)

    def poison_gradient(self, monkeypatch, step: int) -> None:
        """Makes a gradient of one step not finite, though the loss is."""

        class Poison(torch.autograd.Function):
            @staticmethod
            def forward(ctx, tensor):
                return tensor.clone()

            @staticmethod
            def backward(ctx, grad):
                return grad * float("nan")

        plain = Supervised.__call__
        calls = iter(range(1000))

        def poisoned(self, source_logits, source_labels):
            bad = next(calls) == step
            return plain(self, Poison.apply(source_logits) if bad else source_logits, source_labels)

        monkeypatch.setattr(Supervised, "__call__", poisoned)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_the_term_and_the_step_are_named(self, value, tmp_path, monkeypatch):
        self.poison(monkeypatch, 6, value)
        worker = FakeWorker(tmp_path)
        with pytest.raises(TrainingError) as caught:
            run(config_of("everything"), worker)
        message = str(caught.value)
        assert "\n" not in message
        assert re.search(r"loss/supervised.* not finite at or shortly before step 10\b", message)
        assert list(worker.lines) == [5]  # nothing that is not finite was logged
        assert worker.reported == []

    @pytest.mark.parametrize("how", ["poison", "poison_gradient"])
    @pytest.mark.parametrize("step", [5, 7, 8, 9])
    def test_no_damaged_state_is_saved(self, how, step, tmp_path, monkeypatch):
        """Checkpoints at 4 and 8 lie between the lines at 5 and 10, or on the last step."""
        getattr(self, how)(monkeypatch, step)
        worker = FakeWorker(tmp_path)
        with pytest.raises(TrainingError, match="last checkpoint is intact"):
            run(config_of(steps=10, runtime__checkpoint_every=4), worker)
        last = 4 if step <= 7 else 8
        assert max(worker.reported) == last
        model = load_model(tmp_path)
        assert all(weight.isfinite().all() for weight in model.state_dict().values())
        state = TrainState(config_of(steps=10), torch.device("cpu"))
        state.load(checkpoints(tmp_path)[-1])
        assert state.step == last

    def test_broken_weights_to_start_from(self, tmp_path, monkeypatch):
        build = TrainState.__init__

        def broken(self, config, device):
            build(self, config, device)
            with torch.no_grad():
                self.task.student.classifier.bias[0] = float("nan")

        monkeypatch.setattr(TrainState, "__init__", broken)
        worker = FakeWorker(tmp_path)
        with pytest.raises(TrainingError, match=r"loss/supervised.*step 5"):
            run(config_of(), worker)
        assert worker.reported == []
