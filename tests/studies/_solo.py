"""One training run and its score, in this process and without Ray; a run that is done is kept."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from uda.checkpoint import STATE_FILE, load_model
from uda.classes import CLASS_LISTS
from uda.config import Config
from uda.data.examples import open_examples
from uda.evaluate import evaluate_images
from uda.feed import open_local_feed
from uda.inference import Inference
from uda.judge import judge
from uda.loop import train
from uda.report import write_json
from uda.run import open_run
from uda.solo import SoloWorker

CPU = torch.device("cpu")


def train_and_score(
    config: Config,
    out: Path,
    *,
    source: Path,
    target: Path,
    test: Path,
    scales: Sequence[float] = (1.0,),
    device: torch.device = CPU,
    quiet: bool = False,
) -> dict:
    """The evaluation JSON of the last step, with the minutes that training took, all parts of it.

    A run that is done gives up its training state: the network stays.
    """
    file = out / "result.json"
    if file.exists():
        return json.loads(file.read_text())
    minutes = trained(config, out, source=source, target=target, device=device, quiet=quiet)
    examples = open_examples(test)
    inference = Inference(scales=tuple(scales))
    results = evaluate_images(load_model(out).to(device), examples, range(len(examples)), inference)
    judgement = judge(results, len(examples), CLASS_LISTS[examples.class_list])
    report = judgement.report(examples, out, inference)
    result = {**report.json(), "minutes": round(minutes, 2), "steps": config.steps}
    write_json(file, result)
    for state in out.glob(f"*/{STATE_FILE}"):
        state.unlink()
    return result


def trained(
    config: Config,
    out: Path,
    *,
    source: Path,
    target: Path,
    device: torch.device = CPU,
    quiet: bool = False,
) -> float:
    """Trains in `out`, or goes on there; the minutes that it took, all parts of it."""
    run = open_run(config, out, source, target, resume=True)
    run.create()
    started = time.perf_counter()
    with (
        open_local_feed(config, run.data, pin_memory=device.type == "cuda") as feed,
        SoloWorker(config, run.folder, device, quiet=quiet) as worker,
    ):
        train(config, worker, feed, run.provenance)
    minutes = _add_minutes(out / "minutes", (time.perf_counter() - started) / 60)
    if worker.was_stopped:
        raise SystemExit("stopped; the same command continues")
    return minutes


def _add_minutes(file: Path, minutes: float) -> float:
    """The minutes of this start and of those before."""
    before = float(file.read_text()) if file.exists() else 0.0
    file.write_text(str(before + minutes))
    return before + minutes
