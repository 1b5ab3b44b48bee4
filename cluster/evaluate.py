"""Evaluation by a pool of Ray actors: each loads the network once and counts samples."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from cluster.pool import GPU_DECODE_THREADS, Work, run_pool
from uda.checkpoint import load_model
from uda.classes import CLASS_LISTS, ClassList
from uda.data.rows import ShardRows
from uda.data.shards import open_shards
from uda.evaluate import evaluate_predictions as count_predictions
from uda.evaluate import evaluate_rows, prediction_files
from uda.inference import SegmentationModel
from uda.metrics import Confusion
from uda.report import EvalReport


def evaluate(
    checkpoint: str | Path,
    data: str | Path,
    *,
    class_list: ClassList | None = None,
    actors: int | None = None,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    gpu: bool = False,
    progress: bool = True,
    load: Callable[[str], SegmentationModel] = load_model,
) -> EvalReport:
    """Scores a checkpoint on a folder of labelled shards, by the official Cityscapes rule.

    `class_list` is by default the one of the data set. An actor has one CPU, with `gpu` also one
    GPU; there are by default as many as the cluster has room for. `load` turns the checkpoint into
    a network in eval mode. All nodes must see both folders under these paths.
    """
    folder = open_shards(data)
    checkpoint_path, data_path = str(Path(checkpoint).absolute()), str(folder.path.absolute())

    def make() -> Work[Confusion]:
        model = load(checkpoint_path)
        if gpu:
            assert isinstance(model, torch.nn.Module)
            model.to("cuda")
        rows = ShardRows(data_path, labels=True)
        threads = GPU_DECODE_THREADS if gpu else 0
        return lambda indices: evaluate_rows(
            model, rows, indices, scales=scales, flip=flip, decode_threads=threads
        )

    confusion = _count(make, len(folder), actors=actors, gpu=gpu, progress=progress)
    return EvalReport.of(
        confusion,
        class_list or CLASS_LISTS[folder.manifest.class_list],
        images=len(folder),
        checkpoint=str(checkpoint),
        data=str(data),
    )


def evaluate_predictions(
    predictions: str | Path,
    data: str | Path,
    *,
    ids: str = "labelids",
    class_list: ClassList | None = None,
    actors: int | None = None,
    progress: bool = True,
) -> EvalReport:
    """Scores label maps that any program wrote against the labels of a folder of shards.

    Files are found by `uda.evaluate.prediction_files`; `ids` says what their pixels hold. The
    report names the folder of predictions where it would name the checkpoint.
    """
    folder = open_shards(data)
    keys = folder.samples(["key"])["key"].to_pylist()
    files = prediction_files(Path(predictions).absolute(), keys)
    data_path = str(folder.path.absolute())

    def make() -> Work[Confusion]:
        rows = ShardRows(data_path, labels=True)
        return lambda indices: count_predictions(files, rows, indices, ids=ids)

    confusion = _count(make, len(folder), actors=actors, gpu=False, progress=progress)
    return EvalReport.of(
        confusion,
        class_list or CLASS_LISTS[folder.manifest.class_list],
        images=len(folder),
        checkpoint=str(predictions),
        data=str(data),
    )


def _count(
    make: Callable[[], Work[Confusion]],
    samples: int,
    *,
    actors: int | None,
    gpu: bool,
    progress: bool,
) -> Confusion:
    """The sum over all samples."""
    confusion = Confusion.empty()
    for _, counts in run_pool("evaluate", make, samples, actors=actors, gpu=gpu, progress=progress):
        confusion += counts
    return confusion
