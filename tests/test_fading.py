"""Adversarial weights that fade where a run stalls: by how much, when, and also after a resume."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.test_loop import FakeWorker, Noise
from tests.test_resume import logged, unequal_tensors
from tests.test_selection import log_qualities
from tests.test_validation import add_checkpoint
from tests.tiny import random_batch, run_training, tiny_config
from uda.adversaries import FADE
from uda.checkpoint import (
    STATE_FILE,
    WAITING_FILE,
    TrainState,
    fades_before,
    find_checkpoint,
    step_folder,
)
from uda.config import Config, RuntimeConfig
from uda.journal import read_scalars
from uda.loop import train
from uda.selection import fades_wanted, is_over, seems_over
from uda.solo import SoloWorker
from uda.task import AdaptationTask
from uda.tree import override
from uda.types import UserError

FADES = {
    "runtime.select_by": "quality",
    "runtime.patience": 2,
    "runtime.on_stall": "fade",
}
CPU = torch.device("cpu")


def fading(method: str = "adversarial", **changes: object) -> Config:
    plain = {key.replace("__", "."): value for key, value in changes.items()}
    return tiny_config(method, FADES | plain)


class TestConfig:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"runtime.patience": 0}, "on_stall: got 'fade' with patience 0, want 1 or more"),
            ({"runtime.select_by": "last"}, "patience: got 2, want select_by 'quality' with it"),
            ({"runtime.on_stall": "faint"}, "on_stall: got 'faint'"),
            ({"levels.output.weight": 0}, r"runtime\.on_stall: got 'fade' without a level to fade"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, changes, message):
        with pytest.raises(UserError, match=message) as caught:
            override(tiny_config("adversarial"), FADES | changes)
        assert "\n" not in str(caught.value)

    def test_without_levels_there_is_nothing_to_fade(self):
        with pytest.raises(UserError, match="without a level to fade, want levels or 'stop'"):
            tiny_config("source_only", FADES)

    def test_it_is_no_part_of_the_experiment(self):
        assert fading().digest() == tiny_config("adversarial").digest()


class TestStrength:
    def gradients(self, fades: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Of student and discriminators, after a step with so many fades before it."""
        config = fading("levels")
        task = AdaptationTask(config)
        for step in range(fades):
            task.fade(step + 1)
        output = task(random_batch(config))
        output.loss.backward()
        student = {name: p.grad for name, p in task.student.named_parameters()}
        others = {name: p.grad for name, p in task.discriminators.named_parameters()}
        return student, others

    def test_what_fools_is_halved_and_nothing_else(self):
        """The student's gradient is supervision plus a part that goes with the factor."""
        (plain, judge), (half, same), (quarter, _) = map(self.gradients, range(3))
        assert judge.keys() == same.keys()
        assert all(torch.equal(judge[name], same[name]) for name in judge), "they learn as before"
        for name, grad in plain.items():
            fooling = 2 * (grad - half[name])
            torch.testing.assert_close(
                half[name] - quarter[name], fooling / 4, rtol=1e-3, atol=1e-7, msg=name
            )
        assert max(float((plain[n] - half[n]).abs().max()) for n in plain) > 1e-5

    def test_the_factor_is_that_of_all_fades(self):
        task = AdaptationTask(fading())
        factors = [task.levels_factor]
        for step in (5, 10):
            task.fade(step)
            factors.append(task.levels_factor)
        assert factors == [1.0, FADE, FADE**2]
        assert (FADE, task.faded_at) == (0.5, (5, 10))


class Asked(FakeWorker):
    """Asked for fades at the steps of some lines."""

    def __init__(self, run: Path, *asked_at: int, stop_at: int = 0, others: int = 0) -> None:
        super().__init__(run, stop_at=stop_at)
        self._asked_at = asked_at
        self._others = others  # the step at which another worker says yes to all

    def fades_asked(self) -> int:
        return sum(max(self.lines) >= step for step in self._asked_at)

    def sum(self, values: Tensor) -> Tensor:
        is_flag = values.numel() == 1 and self.lines and max(self.lines) == self._others
        return values + 1 if is_flag else values


def trained(worker: FakeWorker, **changes: object) -> FakeWorker:
    config = fading(**{"steps": 8, "runtime__log_every": 1} | changes)
    assert train(config, worker, Noise(config), {}) <= config.steps
    return worker


class TestTraining:
    @pytest.mark.parametrize(
        ("asked_at", "factors"),
        [
            ((), [1] * 8),
            ((3,), [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5]),
            ((3, 6), [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]),
            ((3, 3), [1, 1, 1, 0.5, 0.25, 0.25, 0.25, 0.25]),  # one at a time
            ((8,), [1] * 8),
        ],
    )
    def test_the_loss_follows_from_the_next_step_on(self, tmp_path, asked_at, factors):
        lines = trained(Asked(tmp_path, *asked_at)).lines
        assert [line["levels/factor"] for line in lines.values()] == factors
        for line, factor in zip(lines.values(), factors, strict=True):
            fooling = factor * 0.01 * line["loss/output/fooling"]
            total = line["loss/supervised"] + fooling + line["loss/output/discriminator"]
            assert line["loss/total"] == pytest.approx(total, rel=1e-6)
        assert fades_before(tmp_path) == list(asked_at[:1]) + [
            max(step, asked_at[0] + 1) for step in asked_at[1:]
        ]

    def test_a_run_that_only_stops_is_not_asked(self, tmp_path):
        worker = Asked(tmp_path, 1)
        trained(worker, runtime__on_stall="stop")
        assert not any("levels/factor" in line for line in worker.lines.values())
        assert fades_before(tmp_path) == []

    def test_all_fade_where_one_was_asked(self, tmp_path):
        """Not this worker: another one sees the file first, at step 5, and one that says stop."""
        worker = trained(Asked(tmp_path, others=5))
        assert list(worker.lines) == [1, 2, 3, 4, 5]
        assert fades_before(tmp_path) == [5]


class TestResume:
    def run(self, out: Path, asked: Callable[[int], int], stop_at: int = 0, **options: bool) -> int:
        """Trains on a CPU; `asked` is how many fades are asked for after some steps."""

        def step() -> int:
            return int(read_scalars(out)[-1]["step"])

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SoloWorker, "fades_asked", lambda _: asked(step()))
            patch.setattr(SoloWorker, "should_stop", lambda _: 0 < stop_at <= step())
            return run_training(fading("levels"), out, **options)

    @pytest.mark.slow
    def test_a_faded_run_goes_on_as_if_it_had_not_been_stopped(self, tmp_path):
        def asked(step: int) -> int:
            return (step >= 5) + (step >= 15)

        assert self.run(tmp_path / "whole", asked) == 20
        assert self.run(tmp_path / "parts", asked, stop_at=10) == 10
        # Nobody asks again for what was done: the second fade is the next one.
        assert self.run(tmp_path / "parts", lambda step: 2 * (step >= 15), resume=True) == 20
        whole, parts = (find_checkpoint(tmp_path / name) for name in ("whole", "parts"))
        assert unequal_tensors(fading("levels"), whole, parts) == []
        assert logged(tmp_path / "whole") == logged(tmp_path / "parts")
        assert [line["levels/factor"] for line in logged(tmp_path / "parts")] == [1, 0.5, 0.5, 0.25]
        assert fades_before(tmp_path / "parts") == [5, 15]
        assert self.run(tmp_path / "plain", lambda _: 0) == 20
        assert unequal_tensors(fading("levels"), whole, find_checkpoint(tmp_path / "plain"))

    def test_a_checkpoint_of_before_loads_with_whole_weights(self, tmp_path):
        folder = step_folder(tmp_path, 3)
        state = TrainState(fading(), CPU)
        state.task.fade(2)
        state.save(folder, {})
        again = TrainState(fading(), CPU)
        again.load(folder)
        assert (again.task.faded_at, again.task.levels_factor) == ((2,), 0.5)
        saved = torch.load(folder / STATE_FILE, weights_only=True)
        del saved["faded_at"]
        torch.save(saved, folder / STATE_FILE)
        report = json.loads((folder / "report.json").read_text())
        assert report.pop("faded_at") == [2]
        (folder / "report.json").write_text(json.dumps(report))
        again.load(folder)
        assert (again.task.faded_at, again.task.levels_factor) == ((), 1.0)
        assert fades_before(tmp_path) == []

    def test_a_faded_run_that_goes_on_without_fading_stays_faded_and_says_so(self, tmp_path):
        trained(Asked(tmp_path, 2, stop_at=4))
        worker = trained(FakeWorker(tmp_path), runtime__on_stall="stop")
        assert [line["levels/factor"] for line in worker.lines.values()] == [0.5] * 4
        assert fades_before(tmp_path) == [2]


# --- when ---------------------------------------------------------------------------------------

RUNTIME = RuntimeConfig(select_by="quality", patience=2, on_stall="fade")


def wanted(run: Path, qualities: dict[int, float], faded_at: list[int]) -> int:
    """How many fades a run should have had; of all checkpoints the last one is there."""
    log_qualities(run, qualities)
    folder = step_folder(run, max(qualities))
    if not folder.exists():
        add_checkpoint(run, max(qualities), waits=False)
    (folder / "report.json").write_text(json.dumps({"faded_at": faded_at}))
    return fades_wanted(run, RUNTIME)


@pytest.mark.parametrize(
    ("qualities", "faded_at", "expected"),
    [
        ([0.9, 0.8], [], 0),
        ([0.9, 0.8, 0.7], [], 1),
        ([0.9, 0.8, 0.7], [35], 0),  # the count starts anew
        ([0.9, 0.8, 0.7, 0.6], [35], 0),
        ([0.9, 0.8, 0.7, 0.6, 0.5], [35], 2),
        ([0.9, 0.8, 0.7, 0.6, 0.5], [40], 0),  # of the step itself: trained before the fade
        ([0.9, 0.8, 0.7, 0.6, 0.89], [35], 2),  # against the best before
        ([0.9, 0.8, 0.7, 0.6, 0.95], [35], 0),
        ([0.9, 0.8, 0.7, 0.95, 0.94, 0.93], [35], 2),
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [35, 55], 0),
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3], [35, 55], 3),
        ([0.9, 0.8, 0.7, 0.9, 0.9], [35], 0),  # as good, and later
    ],
)
def test_a_fade_is_wanted_where_the_run_has_stalled_since_the_last_one(
    tmp_path, qualities, faded_at, expected
):
    scores = {10 * (i + 1): quality for i, quality in enumerate(qualities)}
    assert wanted(tmp_path, scores, faded_at) == expected


def test_no_fade_while_a_checkpoint_waits_for_another_attempt(tmp_path):
    late = add_checkpoint(tmp_path, 30)
    assert wanted(tmp_path, {10: 0.9, 20: 0.8, 40: 0.7}, []) == 0
    (late / WAITING_FILE).unlink()
    assert fades_wanted(tmp_path, RUNTIME) == 1


def test_fades_that_the_run_has_gone_back_behind_do_not_count(tmp_path):
    """Its last checkpoint knows of none; the scores of later ones are in the journal still."""
    log_qualities(tmp_path, {10: 0.9, 20: 0.8, 30: 0.7, 40: 0.6, 50: 0.5})
    folder = add_checkpoint(tmp_path, 20, waits=False)
    (folder / "report.json").write_text(json.dumps({"faded_at": []}))
    assert fades_wanted(tmp_path, RUNTIME) == 0


def test_a_run_that_fades_is_never_over(tmp_path):
    assert wanted(tmp_path, {10: 0.9, 20: 0.8, 30: 0.7}, []) == 1
    assert not is_over(tmp_path, RUNTIME)
    assert not seems_over(tmp_path, RUNTIME)


def test_nothing_is_wanted_of_a_run_that_has_not_begun(tmp_path):
    assert fades_wanted(tmp_path, RUNTIME) == 0
    assert fades_before(tmp_path) == []
