"""Label maps as PNG files: those that other programs wrote, and ours."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from uda.classes import (
    IGNORE,
    LABEL_ID_OF_TRAIN_ID,
    NUM_CLASSES,
    NUM_LABEL_IDS,
    TRAIN_ID_OF_LABEL_ID,
)
from uda.data.raw import read_ids
from uda.data.write import atomic
from uda.pictures import colorize, overlay
from uda.types import UserError

# What the pixels of a file of predictions may hold, by the name of the option.
PREDICTION_IDS = ("labelids", "trainids")


# What can be written of a prediction, and how its file's name ends: as Cityscapes names its own.
FORMATS = {
    "labelids": "_pred_labelIds",
    "trainids": "_pred_labelTrainIds",
    "color": "_pred_color",
    "overlay": "_pred_overlay",
}


@dataclass(frozen=True, kw_only=True)
class LabelMap:
    """What a file says: `values` are Cityscapes ids where it `holds_label_ids`, else trainIds."""

    values: UInt8[np.ndarray, "H W"]
    holds_label_ids: bool

    @property
    def label_ids(self) -> UInt8[np.ndarray, "H W"] | None:
        return self.values if self.holds_label_ids else None

    @property
    def train_ids(self) -> UInt8[np.ndarray, "H W"]:
        """255 where the file says none of the 19."""
        return cv2.LUT(self.values, TRAIN_ID_OF_LABEL_ID) if self.holds_label_ids else self.values


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


def read_prediction(path: Path, ids: str, shape: tuple[int, ...]) -> LabelMap:
    """One file of `shape` pixels.

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
        if largest >= NUM_LABEL_IDS:
            want = f"0..{NUM_LABEL_IDS - 1} (are these trainIds?)"
            raise UserError(f"{path}: got label id {largest}, want {want}")
        return LabelMap(values=values, holds_label_ids=True)
    wrong = values[(values >= NUM_CLASSES) & (values != IGNORE)]
    if wrong.size:
        raise UserError(f"{path}: got trainId {wrong[0]}, want 0..18 or 255 (are these labelIds?)")
    return LabelMap(values=values, holds_label_ids=False)


def map_file(out: Path, key: str, form: str) -> Path:
    """Where the map of the image `key` goes: aachen/aachen_000000_000019_pred_labelIds.png.

    The official program finds such names by the frame's.
    """
    return out / f"{key}{FORMATS[form]}.png"


def write_map(
    file: Path,
    form: str,
    prediction: UInt8[np.ndarray, "H W"],
    image: UInt8[np.ndarray, "H W 3"],
) -> None:
    """Writes trainIds of a prediction in one of FORMATS; whole or not at all."""
    pictures = {
        "labelids": lambda: cv2.LUT(prediction, LABEL_ID_OF_TRAIN_ID),
        "trainids": lambda: prediction,
        "color": lambda: colorize(prediction),
        "overlay": lambda: overlay(image, prediction),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic(file) as partial:
        Image.fromarray(pictures[form]()).save(partial, "PNG")


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, reversed(shape[:2]))) + " pixels"
