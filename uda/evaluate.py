"""Evaluation with labels: images and their truth in, one Tally per image out. Without Ray.

Both functions look at one image after the other and keep nothing, so their memory does not grow
with the data. They take the indices to visit: the sum of the results for any split of the images
is the result for all.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import UInt8

from uda.data.examples import Examples
from uda.inference import PLAIN, Inference, SegmentationModel, labels_of, look_at
from uda.label_maps import read_prediction
from uda.segmentron import truncated_hits
from uda.tally import Tally
from uda.types import Truth, UserError

_T = TypeVar("_T")
_U = TypeVar("_U")
_Item = TypeVar("_Item", bound=tuple)


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One image of the data, by number, and what was counted in it."""

    index: int
    tally: Tally


def evaluate_images(
    model: SegmentationModel,
    examples: Examples,
    indices: Iterable[int],
    inference: Inference = PLAIN,
    *,
    threads: int = 0,
) -> Iterator[Scored]:
    """Runs the model, where its parameters are, on whole images at native size and counts.

    In the order of `indices`. `threads` > 0 decode the next images and count the last ones
    meanwhile: worth it when the model is on a GPU. UserError names the first image that does not
    decode or has no label.
    """
    with ThreadPoolExecutor(threads) if threads else nullcontext() as pool:
        pairs = ahead(lambda index: (index, *examples.pair(index)), indices, pool, threads)
        looked = (
            item
            for batch in batches_of_one_shape(pairs, inference.batch_size)
            for item in _look(model, batch, inference)
        )
        yield from ahead(lambda seen: _count(seen, examples), looked, pool, threads)


def evaluate_predictions(
    files: Mapping[str, Path], examples: Examples, indices: Iterable[int], *, ids: str = "labelids"
) -> Iterator[Scored]:
    """Counts the label maps that another program wrote: `files` by key, see `prediction_files`."""
    for index in indices:
        key = examples.keys[index]
        if key not in files:
            raise UserError(f"predictions: got no PNG for {key}, want {key}*.png")
        truth = examples.truth(index)
        predicted = read_prediction(files[key], ids, truth.label.shape)
        with _naming(examples, index):
            if predicted.label_ids is not None and truth.label_ids is not None:
                tally = Tally.of_ids(predicted.label_ids, truth)
            else:
                tally = Tally.of(predicted.train_ids, truth)
        yield Scored(index=index, tally=tally)


def total(results: Iterable[Scored]) -> Tally:
    """The sum over all images."""
    return sum((scored.tally for scored in results), Tally())


def in_order(results: Iterable[Scored], num_images: int) -> Iterator[Scored]:
    """The results of the images 0 .. num_images - 1, which come in any order, by number."""
    early: dict[int, Scored] = {}
    expected = 0
    for scored in results:
        early[scored.index] = scored
        while expected in early:
            yield early.pop(expected)
            expected += 1
    assert expected == num_images, f"image {expected} of {num_images} has no result"


@dataclass(frozen=True)
class _Seen:
    index: int
    prediction: UInt8[np.ndarray, "H W"]
    truth: Truth
    truncated_hits: int | None


def _look(
    model: SegmentationModel,
    batch: Sequence[tuple[int, np.ndarray, Truth]],
    inference: Inference,
) -> Iterator[_Seen]:
    scores = look_at(model, [image for _, image, _ in batch], inference)
    predicted = labels_of(scores).cpu().numpy()
    hits: list[int | None] = [None] * len(batch)
    if inference.protocol == "segmentron":
        labels = torch.from_numpy(np.stack([truth.label for _, _, truth in batch]))
        labels = labels.to(scores.device)
        hits = truncated_hits(scores, labels).sum((1, 2)).tolist()
    for position, (index, _, truth) in enumerate(batch):
        yield _Seen(index, predicted[position], truth, hits[position])


def _count(seen: _Seen, examples: Examples) -> Scored:
    with _naming(examples, seen.index):
        tally = Tally.of(seen.prediction, seen.truth, truncated_hits=seen.truncated_hits)
    return Scored(index=seen.index, tally=tally)


@contextmanager
def _naming(examples: Examples, index: int) -> Iterator[None]:
    """Values that make no sense are those of this image."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{examples.path}: {examples.keys[index]}: {error}") from None


def batches_of_one_shape(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Neighbours whose images, the second of each item, have one shape, up to `size` together.

    Batches end where the first of an item, its number, is a multiple of `size`: so they are the
    same whatever part of the images is looked at.
    """
    batch: list[_Item] = []
    for item in items:
        if batch and item[1].shape != batch[0][1].shape:
            yield batch
            batch = []
        batch.append(item)
        if len(batch) == size or (item[0] + 1) % size == 0:
            yield batch
            batch = []
    if batch:
        yield batch


def ahead(
    work: Callable[[_T], _U], items: Iterable[_T], pool: Executor | None, most: int
) -> Iterator[_U]:
    """`work` of each item in order; with a pool, up to `most` + 1 results are made ahead."""
    if pool is None:
        yield from map(work, items)
        return
    pending: deque[Future[_U]] = deque()
    for item in items:
        pending.append(pool.submit(work, item))
        if len(pending) > most + 1:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
