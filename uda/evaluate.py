"""Evaluation with labels: rows of shards in, one Confusion out. Runs anywhere, without Ray.

Both functions look at one sample after the other and keep nothing but the counts, so their memory
does not grow with the data. They take the indices to visit: the sum of the results for any split
of the samples is the result for all.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import UInt8

from uda.classes import LABEL_IDS, lookup_table
from uda.data.decode import decode_row, row_label
from uda.data.raw import read_ids
from uda.data.rows import RowReader
from uda.inference import SegmentationModel, predict_labels
from uda.metrics import Confusion
from uda.types import UserError

_MAX_LABEL_ID = 33  # the largest id of the Cityscapes table that can stand in a file
_TRAIN_ID_OF_LABEL_ID = lookup_table({label: k for k, label in enumerate(LABEL_IDS)})

# What the pixels of a file of predictions may hold, by the name of the option.
PREDICTION_IDS = ("labelids", "trainids")


_T = TypeVar("_T")


def evaluate_rows(
    model: SegmentationModel,
    rows: RowReader,
    indices: Iterable[int],
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    decode_threads: int = 0,
) -> Confusion:
    """Runs the model, where its parameters are, on whole images at native size and counts.

    `decode_threads` > 0 decodes the next images meanwhile: worth it when the model is on a GPU.
    UserError names the first row that has no label or does not decode.
    """
    device = next(model.parameters()).device
    confusion = Confusion.empty()
    for image, label in ahead(lambda i: decode_row(rows.row(i)), indices, decode_threads):
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].to(device)
        predicted = predict_labels(model, model.normalise(pixels), scales=scales, flip=flip)
        confusion += Confusion.of(predicted[0], torch.tensor(label, device=device))
    return confusion


def evaluate_predictions(
    files: Mapping[str, Path], rows: RowReader, indices: Iterable[int], *, ids: str = "labelids"
) -> Confusion:
    """Counts the label maps that another program wrote: `files` by key, see `prediction_files`."""
    confusion = Confusion.empty()
    for index in indices:
        row = rows.row(index)
        if row.key not in files:
            raise UserError(f"predictions: got no PNG for {row.key}, want {row.key}*.png")
        label = row_label(row)
        confusion += Confusion.of(read_prediction(files[row.key], ids, label.shape), label)
    return confusion


def prediction_files(folder: Path | str, keys: Sequence[str]) -> dict[str, Path]:
    """The PNG below `folder` of each key: named `<last part of key>.png` or `<that>_<more>.png`.

    So aachen_000000_000019_pred_labelIds.png is found for aachen_000000_000019, as by the official
    script. UserError where a key has no file or several.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"predictions: got {root}, want a folder of PNG files")
    by_prefix: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*.png")):
        parts = path.stem.split("_")
        for end in range(1, len(parts) + 1):
            by_prefix.setdefault("_".join(parts[:end]), []).append(path)
    found = {}
    for key in keys:
        name = key.rpartition("/")[2]
        candidates = by_prefix.get(name, [])
        exact = [path for path in candidates if path.stem == name]
        matches = exact if len(exact) == 1 else candidates
        if len(matches) != 1:
            have = ", ".join(path.name for path in matches[:3]) or "no file"
            raise UserError(
                f"predictions: got {have} in {root} for {key}, want one {name}.png or {name}_*.png"
            )
        found[key] = matches[0]
    return found


def read_prediction(path: Path, ids: str, shape: tuple[int, ...]) -> UInt8[np.ndarray, "H W"]:
    """trainIds of one file; 255 where it says a class that is none of the 19.

    `ids` is "labelids" (Cityscapes ids 0..33) or "trainids" (0..18, 255 = none). The PNG holds
    them as grey values or as palette indices.
    """
    if ids not in PREDICTION_IDS:
        raise UserError(f"ids: got {ids!r}, have {', '.join(PREDICTION_IDS)}")
    values = read_ids(path)
    if values.shape != tuple(shape):
        raise UserError(f"{path}: got {_size(values.shape)}, want {_size(shape)} as the label has")
    largest = int(values.max())
    if ids == "labelids":
        if largest > _MAX_LABEL_ID:
            raise UserError(f"{path}: got label id {largest}, want 0..33 (are these trainIds?)")
        return _TRAIN_ID_OF_LABEL_ID[values]
    wrong = values[(values >= len(LABEL_IDS)) & (values != 255)]
    if wrong.size:
        raise UserError(f"{path}: got trainId {wrong[0]}, want 0..18 or 255 (are these labelIds?)")
    return values


def ahead(work: Callable[[int], _T], indices: Iterable[int], threads: int) -> Iterator[_T]:
    """`work` of each index in order; with threads, up to `threads` + 1 results are made ahead."""
    if threads == 0:
        yield from map(work, indices)
        return
    with ThreadPoolExecutor(threads) as pool:
        pending: list[Future[_T]] = []
        for index in indices:
            pending.append(pool.submit(work, index))
            if len(pending) > threads + 1:
                yield pending.pop(0).result()
        while pending:
            yield pending.pop(0).result()


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, reversed(shape[:2]))) + " pixels"
