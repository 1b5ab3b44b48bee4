"""Label maps for a folder of images, written as PNG files."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from uda.data.image_files import ImageFiles
from uda.evaluate import ahead, batches_of_one_shape
from uda.inference import PLAIN, Inference, SegmentationModel, labels_of, look_at
from uda.label_maps import map_file, write_map


def predict_images(
    model: SegmentationModel,
    images: ImageFiles,
    indices: Iterable[int],
    out: Path,
    form: str,
    inference: Inference = PLAIN,
    *,
    threads: int = 0,
) -> int:
    """Writes the maps of these images, see `label_maps.FORMATS`; returns how many.

    The model runs where its parameters are. `threads` > 0 decode and write meanwhile: worth it
    when it is on a GPU. UserError names the first file that does not decode.
    """
    with ThreadPoolExecutor(threads) if threads else nullcontext() as pool:
        decoded = ahead(lambda index: (index, images.image(index)), indices, pool, threads)
        looked = (
            (index, image, label)
            for batch in batches_of_one_shape(decoded, inference.batch_size)
            for (index, image), label in zip(batch, _labels(model, batch, inference), strict=True)
        )

        def write(result: tuple[int, np.ndarray, np.ndarray]) -> None:
            index, image, label = result
            write_map(map_file(out, images.keys[index], form), form, label, image)

        return sum(1 for _ in ahead(write, looked, pool, threads))


def _labels(
    model: SegmentationModel, batch: Sequence[tuple[int, np.ndarray]], inference: Inference
) -> UInt8[np.ndarray, "B H W"]:
    scores = look_at(model, [image for _, image in batch], inference)
    return labels_of(scores).cpu().numpy()
