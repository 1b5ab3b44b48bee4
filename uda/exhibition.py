"""Pictures of what a network sees in some images: beside the truth, and where it is wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from uda.classes import IGNORE, ClassList
from uda.data.examples import Examples
from uda.data.write import atomic
from uda.inference import Inference, SegmentationModel, labels_of, look_at
from uda.judge import ImageScore
from uda.pictures import colorize, contact_sheet

_WIDTH_PX = 480
_RIGHT = (226, 228, 231)  # light, as no class is; black is what is ignored


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """One image, its truth and its prediction, made small: to be drawn."""

    image: UInt8[np.ndarray, "h w 3"]
    truth: UInt8[np.ndarray, "h w"]
    prediction: UInt8[np.ndarray, "h w"]

    @classmethod
    def of(
        cls,
        image: UInt8[np.ndarray, "H W 3"],
        truth: UInt8[np.ndarray, "H W"],
        prediction: UInt8[np.ndarray, "H W"],
    ) -> "Exhibit":
        width_px = min(_WIDTH_PX, image.shape[1])
        size = (width_px, max(1, round(image.shape[0] * width_px / image.shape[1])))
        shrunk = (cv2.resize(m, size, interpolation=cv2.INTER_NEAREST) for m in (truth, prediction))
        return cls(
            image=cv2.resize(image, size, interpolation=cv2.INTER_AREA),
            truth=next(shrunk),
            prediction=next(shrunk),
        )


def exhibit(
    model: SegmentationModel, examples: Examples, index: int, inference: Inference
) -> Exhibit:
    """Predicts one of the examples."""
    image, truth = examples.pair(index)
    predicted = labels_of(look_at(model, [image], inference))
    return Exhibit.of(image, truth.label, predicted[0].cpu().numpy())


def exhibition(
    exhibits: Sequence[Exhibit],
    scores: Sequence[ImageScore],
    examples: Examples,
    class_list: ClassList,
) -> Image.Image:
    """A row for each: image, truth, prediction, and the predictions that are wrong."""
    height, width = exhibits[0].truth.shape
    rows = []
    for exhibit in exhibits:
        wrong = np.where(exhibit.prediction == exhibit.truth, IGNORE, exhibit.prediction)
        wrong = np.where(exhibit.truth == IGNORE, IGNORE, wrong).astype(np.uint8)
        maps = [exhibit.image, *map(colorize, (exhibit.truth, exhibit.prediction, wrong))]
        maps[-1][(exhibit.prediction == exhibit.truth) & (exhibit.truth != IGNORE)] = _RIGHT
        # Images of another shape are stretched: a sheet has cells of one.
        rows.append([cv2.resize(m, (width, height), interpolation=cv2.INTER_NEAREST) for m in maps])
    titles = [f"{examples.keys[s.index]}\nmean IoU {100 * s.miou:.1f} %" for s in scores]
    columns = ["image", "truth", "prediction", "wrong pixels"]
    return contact_sheet(rows, columns, titles, class_list=class_list, cell_width=_WIDTH_PX)


def save_sheet(sheet: Image.Image, file: Path) -> None:
    """As PNG, whole or not at all; folders are made as needed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic(file) as partial:
        sheet.save(partial, "PNG")
