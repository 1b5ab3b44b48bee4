"""Cityscapes (Cordts et al., 2016): street scenes of 50 cities, 2048 x 1024.

`root` holds leftImg8bit/SPLIT/CITY/FRAME_leftImg8bit.png and, of train and val,
gtFine/SPLIT/CITY/FRAME_gtFine_labelIds.png. Terms: research and teaching, no redistribution.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from uda.classes import IGNORE, LABEL_IDS, NUM_CLASSES
from uda.data.raw import (
    check_split,
    file_stems,
    load_image,
    load_pair,
    need_folder,
    read_ids,
    train_ids,
)
from uda.types import Sample, UserError

# Raw id -> trainId. A licence plate has the id -1, which no PNG can hold: the authors' program does
# not draw it, so that these pixels have the id of the car. Hence 255 is not among the ids.
LABEL_ID_TABLE: Mapping[int, int] = {raw: IGNORE for raw in range(34)} | {
    raw: train_id for train_id, raw in enumerate(LABEL_IDS)
}
_TRAIN_ID_TABLE = {train_id: train_id for train_id in (*range(NUM_CLASSES), IGNORE)}

_IMAGE = "_leftImg8bit"
# In the order of preference. The second comes from the authors' csCreateTrainIdLabelImgs.
_LABELS = {"_gtFine_labelIds": LABEL_ID_TABLE, "_gtFine_labelTrainIds": _TRAIN_ID_TABLE}
_LABELLED = ("train", "val")


class Cityscapes:
    """Keys are the frames' names, such as aachen_000000_000019.

    `test` and `train_extra` have no labels: the published ones of `test` are all "ignore", and
    those of `train_extra` are coarse.
    """

    name = "cityscapes"

    def domain(self, root: str) -> str:
        return self.name

    def class_list(self, root: str) -> str:
        return "cityscapes19"

    def settings(self, root: str) -> str:
        return ""

    def splits(self, root: str) -> tuple[str, ...]:
        return (*_LABELLED, "test", "train_extra")

    def keys(self, root: str, split: str) -> list[str]:
        check_split(self, root, split)
        images = need_folder(root, "leftImg8bit", split)
        keys = _frames(images, [f"{_IMAGE}.png"])
        if split in _LABELLED:
            keys |= _frames(need_folder(root, "gtFine", split), [f"{end}.png" for end in _LABELS])
        if not keys:
            raise UserError(f"{images}: got no images, want CITY/CITY_*{_IMAGE}.png")
        return sorted(keys)

    def load(self, root: str, split: str, key: str) -> Sample:
        city = key.partition("_")[0]
        image_file = Path(root, "leftImg8bit", split, city, f"{key}{_IMAGE}.png")
        if split not in _LABELLED:
            return load_image(root, key, image_file)
        label_file = _label_file(Path(root, "gtFine", split, city), key)
        return load_pair(root, key, image_file, label_file, _read_label)


def _frames(folder: Path, suffixes: list[str]) -> set[str]:
    """The frames of all cities of a split."""
    found = set()
    for city in (entry for entry in folder.iterdir() if entry.is_dir()):
        stems = file_stems(city, suffixes)
        strangers = [stem for stem in stems if not stem.startswith(f"{city.name}_")]
        if strangers:
            raise UserError(f"{city}: got {min(strangers)}, want only frames {city.name}_*")
        found |= stems
    return found


def _label_file(folder: Path, key: str) -> Path:
    """The label in either encoding, which its name tells; the usual name where there is none."""
    files = [folder / f"{key}{end}.png" for end in _LABELS]
    return next((file for file in files if file.is_file()), files[0])


def _read_label(file: Path) -> UInt8[np.ndarray, "H W"]:
    table = next(table for end, table in _LABELS.items() if file.stem.endswith(end))
    return train_ids(read_ids(file), table, file)
