"""Training by real Ray Train workers: the same result as one process, whatever happens to them."""

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
import torch

from cluster.__main__ import main
from tests.edited_shards import edit_shards, with_column
from tests.test_rows import damage
from tests.tiny import loaded_tensors, run_training, shards, state_tensors, tiny_config
from uda.checkpoint import TrainState, checkpoints
from uda.config import Config
from uda.data.shards import open_shards
from uda.journal import read_scalars
from uda.run import Run, open_run
from uda.types import UserError

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    # Ray Data warns about parts of itself.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
]


def opened(config: Config, out: Path, *, workers: int, resume: bool = False) -> Run:
    return open_run(
        config, out, shards("game"), shards("camera"), num_workers=workers, resume=resume
    )


def run_on_ray(config: Config, out: Path, *, workers: int, resume: bool = False) -> int:
    return train_run(opened(config, out, workers=workers, resume=resume), workers=workers)


def train_run(run: Run, *, workers: int) -> int:
    from cluster.train import Scaling, train

    return train(run, Scaling(num_workers=workers), progress=False)


def wait_for_step(out: Path, step: int) -> None:
    while not any(line["step"] >= step for line in read_scalars(out)):
        time.sleep(0.05)


def steps_logged(out: Path) -> list[float]:
    return [line["step"] for line in read_scalars(out)]


# Blocks of few steps and threads that wait for them; without these, one block would be enough.
STREAMING = {"ingest.mode": "streaming", "ingest.ahead_mb": 0.05, "runtime.decode_threads": 2}
INGEST = {
    "resident": {"ingest.mode": "resident"},
    "streaming": STREAMING,
    "decoding": STREAMING | {"ingest.decode": "cluster"},
}


def swapped_rows(folder: Path, to: Path) -> Path:
    """The same shards with the second image in the place of the first."""
    shutil.copytree(folder, to)

    def edit(table: pa.Table) -> pa.Table:
        images = table["image"].to_pylist()
        return with_column(table, "image", [images[1], *images[1:]])

    edit_shards(to, edit)
    return to


def assert_learned_alike(config: Config, run: Path, other: Path) -> None:
    """The latest checkpoints differ by little of what has been learned since the start.

    A discriminator's gradients nearly cancel while the domains look alike to it, and Adam takes
    steps of full length all the same: so the last bits of a sum, which depend on the processor and
    on how many images are summed, grow to some per cent of its change. Other images would make all
    of it.
    """
    start = TrainState(config, torch.device("cpu"))
    start.task.start_copies()
    begun = state_tensors(start)
    learned, wanted = (loaded_tensors(config, checkpoints(each)[-1]) for each in (run, other))
    assert learned.keys() == wanted.keys()
    for name, tensor in wanted.items():
        if not name.startswith("task.") or not tensor.is_floating_point():
            continue
        change, difference = (tensor - begun[name]).norm(), (learned[name] - tensor).norm()
        most = 0.3 if ".discriminators." in name else 0.01
        assert difference <= most * change, f"{name}: {difference:.2g} of {change:.2g}"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten steps of everything in one process, without Ray."""
    out = tmp_path_factory.mktemp("alone") / "run"
    assert run_training(tiny_config("everything", {"steps": 10}), out) == 10
    return out


def test_other_images_are_told_apart(alone: Path, tmp_path: Path) -> None:
    """One image of eight is another one: far more than the last bits of a sum."""
    config = tiny_config("everything", {"steps": 10})
    other = swapped_rows(shards("camera"), tmp_path / "swapped")
    assert run_training(config, tmp_path / "run", other) == 10
    with pytest.raises(AssertionError, match=r"task\."):
        assert_learned_alike(config, tmp_path / "run", alone)


@pytest.mark.parametrize("ingest", INGEST)
def test_two_workers_learn_what_one_process_learns(
    ray_local: None, alone: Path, tmp_path: Path, ingest: str
) -> None:
    out = tmp_path / "run"
    config = tiny_config("everything", {"steps": 10} | INGEST[ingest])
    assert run_on_ray(config, out, workers=2) == 10
    assert_learned_alike(config, out, alone)
    assert steps_logged(out) == [5, 10]
    assert list((out / "tensorboard").glob("events.*"))


def test_killed_worker_costs_at_most_a_checkpoint_interval(ray_local: None, tmp_path: Path) -> None:
    """And changes nothing: the stream goes on where the checkpoint is."""
    out = tmp_path / "run"
    changes = {"steps": 300, "runtime.checkpoint_every": 20} | STREAMING
    config = tiny_config("source_only", changes)
    victims: list[int] = []

    def kill() -> None:
        wait_for_step(out, 40)
        for process in psutil.process_iter(["cmdline"]):
            if any("RayTrainWorker" in part for part in process.info["cmdline"] or ()):
                victims.append(process.pid)
                os.kill(process.pid, signal.SIGKILL)
                return

    killer = threading.Thread(target=kill)
    killer.start()
    assert run_on_ray(config, out, workers=2) == 300
    killer.join()
    assert victims, "the test must kill somebody"
    assert steps_logged(out) == list(range(5, 301, 5)), "no step is missing or logged twice"
    assert [c.name for c in checkpoints(out)] == ["step-0000280", "step-0000300"]
    assert run_training(config, tmp_path / "alone") == 300
    losses, wanted = (
        [line["loss/total"] for line in read_scalars(each)] for each in (out, tmp_path / "alone")
    )
    # Only until step 100: orders of summation drift apart, by then 0.0002, in the end 0.004.
    assert losses[:20] == pytest.approx(wanted[:20], rel=0.002)


def test_ctrl_c_saves_and_another_number_of_workers_resumes(
    ray_local: None, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    config = tiny_config("source_only", {"steps": 400, "runtime.checkpoint_every": 1000})

    def interrupt() -> None:
        wait_for_step(out, 20)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    stopped = run_on_ray(config, out, workers=2)
    assert 20 <= stopped < 400
    assert [c.name for c in checkpoints(out)] == [f"step-{stopped:07d}"]
    with pytest.raises(UserError, match=r"already holds a run at step .*--resume"):
        opened(config, out, workers=1)
    assert run_on_ray(config, out, workers=1, resume=True) == 400
    assert steps_logged(out) == list(range(5, 401, 5))


def broken_target(folder: Path) -> Path:
    """The target with one flipped bit in the image of its sample 3."""
    shutil.copytree(shards("camera"), folder)
    damage(open_shards(folder), "image", 3)
    return folder


@pytest.mark.parametrize("ingest", ["resident", "streaming"])
def test_a_damaged_row_is_one_line(
    ray_local: None, tmp_path: Path, capsys: pytest.CaptureFixture, ingest: str
) -> None:
    out, target = tmp_path / "run", broken_target(tmp_path / "broken")
    file = tmp_path / "config.json"
    file.write_text(tiny_config("source_only", INGEST[ingest]).to_json())
    words = ["train", file, "--source", shards("game"), "--target", target, "--out", out]
    assert main([str(word) for word in [*words, "--workers", 2]]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"uda: {target}/shard-00000.parquet row 3: does not read")
    assert checkpoints(out) == []


def test_a_damaged_row_is_skipped_on_request(
    ray_local: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """By two workers as by one process; each of the two counts it."""
    target = broken_target(tmp_path / "broken")
    changes = {"steps": 10, "ingest.on_bad_row": "skip"} | STREAMING
    config = tiny_config("everything", changes)
    assert run_training(config, tmp_path / "alone", target) == 10
    run = open_run(config, tmp_path / "ray", shards("game"), target, num_workers=2)
    assert train_run(run, workers=2) == 10
    assert_learned_alike(config, run.folder, tmp_path / "alone")
    assert read_scalars(tmp_path / "alone")[-1]["data/bad_rows"] == 1
    assert read_scalars(run.folder)[-1]["data/bad_rows"] == 2
    file = run.folder / "skipped.log"
    assert f"uda: bad rows skipped: 1, see {file}" in capfd.readouterr().err
    assert "shard-00000.parquet row 3: " in file.read_text()


def test_a_collapsed_discriminator_is_said_in_the_terminal(
    ray_local: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One that does not learn (its rate is next to nothing) tells nothing apart."""
    changes = {
        "steps": 220,
        "batch_size": 1,
        "runtime.log_every": 10,
        "runtime.checkpoint_every": 220,
        "optim.discriminator_lr": 1e-12,
        "ingest.mode": "resident",
    }
    config = tiny_config("adversarial", changes)
    assert run_on_ray(config, tmp_path / "run", workers=1) == 220
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("uda: levels.")]
    assert len(said) == 1
    assert "uda: levels.output: the discriminator has not " in said[0]
    assert read_scalars(tmp_path / "run")[-1]["health/output/collapsed"] == 1.0
