"""Predicted class distributions by a pool of Ray actors, see `cluster.pool`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from cluster.pool import Work, run_pool
from uda.checkpoint import load_model
from uda.classes import NUM_CLASSES
from uda.data.predictions import write_predictions
from uda.data.rows import ShardRows
from uda.data.shards import open_shards
from uda.distributions import predict_distributions
from uda.inference import SegmentationModel, decode_threads


def write_distributions(
    checkpoint: str | Path,
    data: str | Path,
    file: Path,
    *,
    actors: int | None = None,
    gpus_per_actor: float = 0.0,
    progress: bool = True,
    load: Callable[[str], SegmentationModel] = load_model,
) -> np.ndarray:
    """Writes what a checkpoint predicts for a folder of shards, for matched sampling.

    No label is read. Returns the predicted pixels of each image and class, (N, K) int64. `actors`,
    `gpus_per_actor` and `load` are those of `cluster.evaluate.evaluate`.
    """
    folder = open_shards(data)
    checkpoint_path, data_path = str(Path(checkpoint).absolute()), str(folder.path.absolute())

    def make() -> Work[np.ndarray]:
        model = load(checkpoint_path)
        if gpus_per_actor:
            assert isinstance(model, torch.nn.Module)
            model.to("cuda")
        rows = ShardRows(data_path, labels=False)
        threads = decode_threads("cuda" if gpus_per_actor else "cpu")
        return lambda indices: predict_distributions(model, rows, indices, decode_threads=threads)

    counts = np.zeros((len(folder), NUM_CLASSES), np.int64)
    for chunk, predicted in run_pool(
        "distributions",
        make,
        len(folder),
        actors=actors,
        gpus_per_actor=gpus_per_actor,
        progress=progress,
    ):
        counts[list(chunk)] = predicted
    write_predictions(file, folder, counts, str(checkpoint))
    return counts
