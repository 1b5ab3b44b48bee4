"""Predicted class distributions of unlabelled images: what matched sampling goes by.

A network's label maps are counted, one image after the other; labels are neither needed nor read.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np
from jaxtyping import Int64

from uda.classes import CLASS_NAMES, NUM_CLASSES, ClassDistribution
from uda.data.decode import row_window
from uda.data.rows import RowReader
from uda.evaluate import ahead
from uda.inference import PLAIN, SegmentationModel, labels_of, look_at
from uda.report import WIDTH


def predict_distributions(
    model: SegmentationModel, rows: RowReader, indices: Iterable[int], *, decode_threads: int = 0
) -> Int64[np.ndarray, "N K"]:
    """Pixels of each predicted class in each of these images, seen whole at native size.

    The model runs where its parameters are; `rows` are read without labels. `decode_threads` > 0
    decodes the next images meanwhile. UserError names the first row that does not decode.
    """
    counts = []
    with ThreadPoolExecutor(decode_threads) if decode_threads else nullcontext() as pool:
        for image in ahead(lambda index: _image(rows, index), indices, pool, decode_threads):
            predicted = labels_of(look_at(model, [image], PLAIN))[0].cpu().numpy()
            counts.append(ClassDistribution.of_label(predicted).pixels)
    return np.array(counts, np.int64).reshape(-1, NUM_CLASSES)


def distribution_table(class_pixels: Int64[np.ndarray, "N K"]) -> str:
    """The share of each class among all pixels, and the share of images that show it."""
    shares = ClassDistribution(class_pixels.sum(axis=0)).frequencies
    shown = (class_pixels > 0).mean(axis=0)
    name_width = max(map(len, CLASS_NAMES))
    header = f"{'predicted class':<{name_width}}  pixels, %  images, %"
    bar_width = WIDTH - len(header) - 2
    lines = [header, "-" * len(header)]
    for name, share, images in zip(CLASS_NAMES, shares, shown, strict=True):
        bar = "#" * round(bar_width * share)
        line = f"{name:<{name_width}}  {100 * share:9.2f}  {100 * images:9.2f}  {bar}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def _image(rows: RowReader, index: int) -> np.ndarray:
    row = rows.row(index)
    assert row.label is None, "distributions are predicted from rows that are read without labels"
    return row_window(row, 0, 0, row.height, row.width)
