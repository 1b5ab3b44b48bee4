"""One training run and its score, in this process and without Ray; a run that is done is kept."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from uda.checkpoint import load_model
from uda.classes import CLASS_LISTS
from uda.config import Config
from uda.data.rows import ShardRows
from uda.data.shards import open_shards
from uda.evaluate import evaluate_rows
from uda.feed import open_local_feed
from uda.loop import train
from uda.report import EvalReport, write_json
from uda.run import open_run
from uda.solo import SoloWorker


def train_and_score(
    config: Config,
    out: Path,
    *,
    source: Path,
    target: Path,
    test: Path,
    scales: Sequence[float] = (1.0,),
) -> dict:
    """The evaluation JSON of the last step, with the minutes that training took."""
    file = out / "result.json"
    if file.exists():
        return json.loads(file.read_text())
    run = open_run(config, out, source, target, resume=True)
    run.create()
    started = time.perf_counter()
    with (
        open_local_feed(config, run.data) as feed,
        SoloWorker(config, run.folder, torch.device("cpu")) as worker,
    ):
        train(config, worker, feed, run.provenance)
        if worker.was_stopped:
            raise SystemExit("stopped; the same command continues")
    minutes = (time.perf_counter() - started) / 60
    folder = open_shards(test)
    rows = ShardRows(folder, labels=True)
    confusion = evaluate_rows(load_model(out), rows, range(len(folder)), scales=scales)
    classes = CLASS_LISTS[folder.manifest.class_list]
    report = EvalReport.of(confusion, classes, images=len(folder))
    result = {**report.json(), "minutes": round(minutes, 1), "steps": config.steps}
    write_json(file, result)
    return result
