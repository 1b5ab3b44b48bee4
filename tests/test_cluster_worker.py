"""cluster/worker.py, one worker without a cluster: what Ray Train answers is put in its place."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.tiny import shards, tiny_config
from uda.checkpoint import TrainState, checkpoints, fades_before
from uda.config import Config
from uda.journal import read_scalars

pytestmark = pytest.mark.ray  # imports Ray


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """What is reported to Ray."""
    import ray.train
    import ray.train.torch

    calls: list[tuple[Any, Any]] = []
    context = SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1)
    monkeypatch.setattr(ray.train, "get_context", lambda: context)
    monkeypatch.setattr(ray.train.torch, "get_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(ray.train, "report", lambda *args, **kwargs: calls.append((args, kwargs)))
    return calls


def trained(config: Config, out: Path) -> int:
    """Trains as a worker of a cluster does."""
    from cluster.worker import RayWorker
    from tests.tiny import open_pair
    from uda.loop import train

    with (
        RayWorker(config, out) as worker,
        open_pair(config, shards("game"), shards("camera")) as feed,
    ):
        return train(config, worker, feed, {})


def test_keeps_the_latest_checkpoints_and_tells_ray_of_none(tmp_path, reports):
    changes = {"steps": 5, "runtime.checkpoint_every": 1, "runtime.keep_checkpoints": 2}
    (tmp_path / ".step-0000009.0123abcd.partial").mkdir()  # left by a worker that was killed
    assert trained(tiny_config("source_only", changes), tmp_path) == 5
    assert [folder.name for folder in checkpoints(tmp_path)] == ["step-0000004", "step-0000005"]
    assert not list(tmp_path.glob(".step*"))
    # Ray would not start where a checkpoint that it knows of is gone.
    assert reports == [(({"step": step},), {}) for step in range(1, 6)]


def test_no_line_is_lost_when_the_last_stretch_is_short(tmp_path, reports):
    """The line of step 10 was logged before the checkpoint; the next one comes at step 12."""
    config = tiny_config("source_only", {"steps": 12, "runtime.log_every": 5})
    trained(config, tmp_path)
    latest = checkpoints(tmp_path)[-1]
    assert latest.name == "step-0000012"
    for file in latest.iterdir():  # as if it had crashed after the checkpoint of step 10
        file.unlink()
    latest.rmdir()
    assert trained(config, tmp_path) == 12
    assert [line["step"] for line in read_scalars(tmp_path)] == [5, 10, 12]


def test_a_checkpoint_for_evaluation_alone_is_not_resumed(tmp_path, reports):
    config = tiny_config("source_only", {"steps": 3, "runtime.checkpoint_every": 1})
    trained(config, tmp_path)
    (tmp_path / "step-0000003" / "state.pt").unlink()
    reports.clear()
    assert trained(config, tmp_path) == 3
    assert reports == [(({"step": 3},), {})]


def test_fades_as_often_as_the_file_says(tmp_path, reports):
    from cluster.worker import ask_for_fades, fades_asked

    changes = {"runtime.select_by": "quality", "runtime.patience": 1, "runtime.on_stall": "fade"}
    config = tiny_config("adversarial", {"steps": 15, **changes})
    assert fades_asked(tmp_path) == 0
    for count in (1, 2):
        ask_for_fades(tmp_path, count)
    assert trained(config, tmp_path) == 15
    assert fades_before(tmp_path) == [5, 10], "one at a line"
    assert [line["levels/factor"] for line in read_scalars(tmp_path)] == [1, 0.5, 0.25]
    assert [file.name for file in tmp_path.glob("*FADE*")] == ["FADE"], "nothing half-written"


def test_stops_when_the_file_appears(tmp_path, reports):
    from cluster.worker import STOP_FILE

    (tmp_path / STOP_FILE).touch()
    assert trained(tiny_config("source_only"), tmp_path) == 5
    state = TrainState(tiny_config("source_only"), torch.device("cpu"))
    state.load(tmp_path / "step-0000005")
    assert state.step == 5
