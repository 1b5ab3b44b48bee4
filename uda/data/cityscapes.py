"""Cityscapes (Cordts et al., 2016): street scenes of 50 cities, 2048 x 1024.

`root` holds leftImg8bit/SPLIT/CITY/FRAME_leftImg8bit.png and, of train and val,
gtFine/SPLIT/CITY/FRAME_gtFine_labelIds.png, with FRAME_gtFine_instanceIds.png beside it.
Terms: research and teaching, no redistribution.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8

from uda.classes import IGNORE, LABEL_IDS, NUM_CLASSES, NUM_LABEL_IDS
from uda.data.raw import (
    check_pair,
    check_same_size,
    check_split,
    file_stems,
    load_image,
    load_pair,
    need_folder,
    read_ids,
    read_image,
    read_wide_ids,
    train_ids,
)
from uda.types import Sample, Truth, UserError

# Raw id -> trainId. A licence plate has the id -1, which no PNG can hold: the authors' program does
# not draw it, so that these pixels have the id of the car. Hence 255 is not among the ids.
LABEL_ID_TABLE: Mapping[int, int] = {raw: IGNORE for raw in range(NUM_LABEL_IDS)} | {
    raw: train_id for train_id, raw in enumerate(LABEL_IDS)
}
_TRAIN_ID_TABLE = {train_id: train_id for train_id in (*range(NUM_CLASSES), IGNORE)}

_IMAGE = "_leftImg8bit"
# In the order of preference. The second comes from the authors' csCreateTrainIdLabelImgs.
_LABELS = {"_gtFine_labelIds": LABEL_ID_TABLE, "_gtFine_labelTrainIds": _TRAIN_ID_TABLE}
_INSTANCES = "_gtFine_instanceIds"
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
        image_file = _image_file(root, split, key)
        if split not in _LABELLED:
            return load_image(root, key, image_file)
        label_file = _label_file(Path(root, "gtFine", split, _city(key)), key)
        return load_pair(root, key, image_file, label_file, _read_label)

    def truth_keys(self, root: str, split: str) -> list[str]:
        """The frames that have a label file, whether or not their images are there."""
        folder = self._label_folder(root, split)
        keys = _frames(folder, [f"{end}.png" for end in _LABELS])
        if not keys:
            raise UserError(f"{folder}: got no labels, want CITY/CITY_*{next(iter(_LABELS))}.png")
        return sorted(keys)

    def check_pairs(self, root: str, split: str) -> None:
        folder = self._label_folder(root, split)
        for key in self.keys(root, split):
            check_pair(_image_file(root, split, key), _label_file(folder / _city(key), key))

    def truth(self, root: str, split: str, key: str) -> Truth:
        """With label ids where the file has them, and instances where theirs lies beside it."""
        folder = self._label_folder(root, split) / _city(key)
        label_file, instance_file = _label_file(folder, key), folder / f"{key}{_INSTANCES}.png"
        ids = read_ids(label_file)
        table = _table_of(label_file)
        label = train_ids(ids, table, label_file)
        if table is not LABEL_ID_TABLE:
            return Truth(label=label)
        if not instance_file.is_file():
            return Truth(label=label, label_ids=ids)
        instance_ids = _read_instances(instance_file)
        check_same_size(ids, instance_ids, label_file, instance_file)
        return Truth(label=label, label_ids=ids, instance_ids=instance_ids)

    def pair(self, root: str, split: str, key: str) -> tuple[UInt8[np.ndarray, "H W 3"], Truth]:
        """Image and truth, each file decoded once."""
        image_file = _image_file(root, split, key)
        label_file = _label_file(self._label_folder(root, split) / _city(key), key)
        check_pair(image_file, label_file)
        image, truth = read_image(image_file), self.truth(root, split, key)
        check_same_size(image, truth.label, image_file, label_file)
        return image, truth

    def _label_folder(self, root: str, split: str) -> Path:
        check_split(self, root, split)
        if split not in _LABELLED:
            raise UserError(f"split: got {split}, want one with labels: {list(_LABELLED)}")
        return need_folder(root, "gtFine", split)


def _city(key: str) -> str:
    return key.partition("_")[0]


def _image_file(root: str, split: str, key: str) -> Path:
    return Path(root, "leftImg8bit", split, _city(key), f"{key}{_IMAGE}.png")


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
    return train_ids(read_ids(file), _table_of(file), file)


def _table_of(file: Path) -> Mapping[int, int]:
    return next(table for end, table in _LABELS.items() if file.stem.endswith(end))


def _read_instances(file: Path) -> Int32[np.ndarray, "H W"]:
    ids = read_wide_ids(file)
    if (highest := int(ids.max())) >= 1000 * (1 + max(LABEL_ID_TABLE)):
        raise UserError(f"{file}: instances: got {highest}, want 1000 * id + number, ids 0..33")
    return ids
