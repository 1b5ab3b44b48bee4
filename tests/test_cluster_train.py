"""Training by real Ray Train workers: the same result as one process, whatever happens to them."""

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.tiny import loaded_tensors, run_training, shards, tiny_config
from uda.checkpoint import checkpoints
from uda.config import Config
from uda.journal import read_scalars
from uda.run import Run, open_run
from uda.types import UserError

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    # Ray Data warns about parts of itself.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
]


def opened(config: Config, out: Path, *, workers: int, resume: bool = False) -> Run:
    return open_run(
        config, out, shards("game"), shards("camera"), num_workers=workers, resume=resume
    )


def run_on_ray(config: Config, out: Path, *, workers: int, resume: bool = False) -> int:
    from cluster.train import Scaling, train

    run = opened(config, out, workers=workers, resume=resume)
    return train(run, Scaling(num_workers=workers), progress=False)


def wait_for_step(out: Path, step: int) -> None:
    while not any(line["step"] >= step for line in read_scalars(out)):
        time.sleep(0.05)


def steps_logged(out: Path) -> list[float]:
    return [line["step"] for line in read_scalars(out)]


def test_two_workers_learn_what_one_process_learns(ray_local: None, tmp_path: Path) -> None:
    config = tiny_config("everything", {"steps": 10})
    assert run_training(config, tmp_path / "alone") == 10
    assert run_on_ray(config, tmp_path / "ray", workers=2) == 10
    alone = loaded_tensors(config, checkpoints(tmp_path / "alone")[-1])
    together = loaded_tensors(config, checkpoints(tmp_path / "ray")[-1])
    assert alone.keys() == together.keys()
    for name, tensor in alone.items():
        torch.testing.assert_close(together[name], tensor, rtol=1e-3, atol=1e-5, msg=name)
    assert steps_logged(tmp_path / "ray") == [5, 10]
    assert list((tmp_path / "ray" / "tensorboard").glob("events.*"))


def test_killed_worker_costs_at_most_a_checkpoint_interval(ray_local: None, tmp_path: Path) -> None:
    out = tmp_path / "run"
    config = tiny_config("source_only", {"steps": 300, "runtime.checkpoint_every": 20})
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


def test_row_that_does_not_decode_is_one_line(ray_local: None, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(shards("camera"), broken)
    spoil_image(broken, row=3)
    from cluster.train import Scaling, train

    run = open_run(
        tiny_config("source_only"), tmp_path / "run", shards("game"), broken, num_workers=2
    )
    with pytest.raises(UserError, match=r"broken sample 3 \(camera") as caught:
        train(run, Scaling(num_workers=2), progress=False)
    assert "\n" not in str(caught.value)
    assert checkpoints(tmp_path / "run") == []


def spoil_image(folder: Path, row: int) -> None:
    """Rewrites a shard with rubbish for an image, and the manifest to fit its new size."""
    file = folder / "shard-00000.parquet"
    table = pq.read_table(file)
    images = table["image"].to_pylist()
    images[row] = b"no image at all"
    at = table.schema.get_field_index("image")
    pq.write_table(table.set_column(at, "image", pa.array(images, pa.binary())), file)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["shards"][0]["bytes"] = file.stat().st_size
    (folder / "manifest.json").write_text(json.dumps(manifest))
