"""Evaluation by a pool of Ray actors: each loads the network once and takes work when it is free.

The result is a sum of integers: it depends neither on the number of actors nor on their order nor
on actors that died on the way, whose work was given to others.
"""

import sys
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError
from tqdm import tqdm

from uda.checkpoint import load_model
from uda.classes import CLASS_LISTS, ClassList
from uda.data.rows import ShardRows
from uda.data.shards import open_shards
from uda.evaluate import evaluate_predictions as count_predictions
from uda.evaluate import evaluate_rows, prediction_files
from uda.inference import SegmentationModel
from uda.metrics import Confusion
from uda.report import EvalReport
from uda.types import UserError

Count = Callable[[Sequence[int]], Confusion]  # the counts of the samples with these indices

_CHUNKS_PER_ACTOR = 8  # small enough that the last actor is not long behind the others,
_MAX_CHUNK = 16  # and that little is lost with an actor
_GPU_DECODE_THREADS = 2  # a GPU is quicker with an image than one thread is with decoding it
_MAX_ATTEMPTS = 3  # a chunk that kills so many actors is at fault itself


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

    def make() -> Count:
        model = load(checkpoint_path)
        if gpu:
            assert isinstance(model, torch.nn.Module)
            model.to("cuda")
        rows = ShardRows(data_path, labels=True, cache_bytes=0)  # keeps one row group
        threads = _GPU_DECODE_THREADS if gpu else 0
        return lambda indices: evaluate_rows(
            model, rows, indices, scales=scales, flip=flip, decode_threads=threads
        )

    confusion = _run_pool(make, len(folder), actors=actors, gpu=gpu, progress=progress)
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

    def make() -> Count:
        rows = ShardRows(data_path, labels=True, cache_bytes=0)
        return lambda indices: count_predictions(files, rows, indices, ids=ids)

    confusion = _run_pool(make, len(folder), actors=actors, gpu=False, progress=progress)
    return EvalReport.of(
        confusion,
        class_list or CLASS_LISTS[folder.manifest.class_list],
        images=len(folder),
        checkpoint=str(predictions),
        data=str(data),
    )


class _Evaluator:
    """Holds what is expensive to make, and counts the chunks that it is given."""

    def prepare(self, make: Callable[[], Count]) -> None:
        """Not in the constructor, whose errors Ray reports without the original exception."""
        torch.set_num_threads(1)  # an actor has one CPU; more threads than that disturb the others
        self._count = make()

    def count(self, indices: Sequence[int]) -> Confusion:
        return self._count(indices)


@dataclass(frozen=True)
class _Call:
    """What an actor is doing: counting a chunk, or getting ready where `chunk` is empty."""

    actor: Any
    chunk: tuple[int, ...]


class _Pool:
    """Actors and what they are doing. Only an actor that is ready is given a chunk.

    So a cluster with less room than asked for, or one that shrinks, is slower but never stuck:
    actors that wait for a place hold no work.
    """

    def __init__(self, make: Callable[[], Count], chunks: Sequence[tuple[int, ...]]) -> None:
        self._make = ray.put(make)
        self._waiting = deque(chunks)
        self._calls: dict[Any, _Call] = {}
        self._losses: Counter[tuple[int, ...]] = Counter()

    def start_actor(self, *, gpu: bool) -> None:
        actor_class: Any = ray.remote(_Evaluator)
        actor = actor_class.options(num_cpus=1, num_gpus=1 if gpu else 0).remote()
        self._calls[actor.prepare.remote(self._make)] = _Call(actor, ())

    def next_result(self, *, gpu: bool) -> tuple[Confusion, int]:
        """Counts of some chunk and its number of samples; waits for them."""
        while True:
            (done,), _ = ray.wait(list(self._calls), num_returns=1)
            call = self._calls.pop(done)
            try:
                result = ray.get(done)
            except (RayActorError, OutOfMemoryError) as error:
                self._lost(call, error)
                self.start_actor(gpu=gpu)
                continue
            except RayTaskError as error:
                if isinstance(error.cause, UserError):
                    raise error.cause from None
                raise
            self._give_work(call.actor)
            if call.chunk:
                return result, len(call.chunk)

    def close(self) -> None:
        for call in self._calls.values():
            ray.kill(call.actor)
        self._calls.clear()

    def _give_work(self, actor: Any) -> None:
        """The next chunk, or the end: an actor that nobody refers to is stopped by Ray."""
        if self._waiting:
            chunk = self._waiting.popleft()
            self._calls[actor.count.remote(chunk)] = _Call(actor, chunk)

    def _lost(self, call: _Call, error: Exception) -> None:
        self._losses[call.chunk] += 1
        if self._losses[call.chunk] >= _MAX_ATTEMPTS:
            what = f"the samples {call.chunk}" if call.chunk else "loading the network"
            raise RuntimeError(f"evaluation: {what} ended {_MAX_ATTEMPTS} actors") from error
        if call.chunk:
            self._waiting.appendleft(call.chunk)


def _run_pool(
    make: Callable[[], Count], samples: int, *, actors: int | None, gpu: bool, progress: bool
) -> Confusion:
    """The sum over all samples of what the function that `make` makes in an actor counts."""
    num_actors = _num_actors(actors, samples, gpu)
    pool = _Pool(make, chunks_of(samples, num_actors))
    confusion, counted = Confusion.empty(), 0
    bar = tqdm(total=samples, unit="image", desc="evaluate", file=sys.stderr, disable=not progress)
    try:
        with bar:
            for _ in range(num_actors):
                pool.start_actor(gpu=gpu)
            while counted < samples:
                result, size = pool.next_result(gpu=gpu)
                confusion += result
                counted += size
                bar.update(size)
    finally:
        pool.close()
    return confusion


def chunks_of(samples: int, actors: int) -> list[tuple[int, ...]]:
    """The indices 0 .. samples - 1 in chunks of neighbours, which share a row group of a shard."""
    size = max(1, min(_MAX_CHUNK, samples // (actors * _CHUNKS_PER_ACTOR)))
    return [tuple(range(start, min(start + size, samples))) for start in range(0, samples, size)]


def _num_actors(wanted: int | None, samples: int, gpu: bool) -> int:
    """At least 1, not more than samples; UserError where the cluster could never start one."""
    resource = "GPU" if gpu else "CPU"
    room = int(ray.cluster_resources().get(resource, 0))
    if wanted is not None and wanted < 1:
        raise UserError(f"actors: got {wanted}, want 1 or more")
    if room < 1:
        raise UserError(f"evaluate: got a cluster without {resource}, want one per actor")
    return max(1, min(wanted or room, room, samples))
