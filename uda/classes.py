"""The label table: the 19 Cityscapes classes, their palette, look-up tables and class lists.

The table itself is torchvision's copy of the Cityscapes definition; everything else is derived.
Labels inside `uda` are always trainIds (0..18) with 255 for pixels that count nowhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64, UInt8
from torchvision.datasets import Cityscapes

from uda.types import UserError

IGNORE = 255

_TABLE = sorted(
    (c for c in Cityscapes.classes if 0 <= c.train_id < IGNORE), key=lambda c: c.train_id
)

NUM_CLASSES = len(_TABLE)
CLASS_NAMES: tuple[str, ...] = tuple(c.name for c in _TABLE)
LABEL_IDS: tuple[int, ...] = tuple(c.id for c in _TABLE)  # Cityscapes "regular" ids by trainId
NUM_LABEL_IDS = 1 + max(c.id for c in Cityscapes.classes)  # 0..33; -1, a licence plate, is none
PALETTE: UInt8[np.ndarray, "256 3"] = np.zeros((256, 3), np.uint8)  # ignore and unused: black
PALETTE[:NUM_CLASSES] = [c.color for c in _TABLE]


def lookup_table(mapping: Mapping[int, int]) -> UInt8[np.ndarray, "256"]:
    """Table that turns raw ids into trainIds by `table[raw]`; ids not in `mapping` become 255.

    The default is "ignore", never 0: a forgotten id must not silently become road.
    """
    table = np.full(256, IGNORE, np.uint8)
    for raw, train_id in mapping.items():
        if not 0 <= raw <= 255 or not (0 <= train_id < NUM_CLASSES or train_id == IGNORE):
            raise ValueError(f"label table: {raw} -> {train_id} is outside 0..255 -> 0..18 or 255")
        table[raw] = train_id
    return table


TRAIN_ID_OF_LABEL_ID = lookup_table({label_id: k for k, label_id in enumerate(LABEL_IDS)})
# And back; 255, none of the classes, becomes 0, "unlabeled". Other values, which are no trainIds,
# become ids that do not exist, so that counting refuses them.
LABEL_ID_OF_TRAIN_ID: UInt8[np.ndarray, "256"] = np.full(256, 255, np.uint8)
LABEL_ID_OF_TRAIN_ID[:NUM_CLASSES] = LABEL_IDS
LABEL_ID_OF_TRAIN_ID[IGNORE] = 0


@dataclass(frozen=True)
class ClassList:
    """Which classes a score is about.

    `scored` are the trainIds that count. `merge` folds classes that the data set does not tell
    apart into the one it has, on both axes of the confusion matrix, before scoring.
    """

    name: str
    scored: tuple[int, ...]
    merge: Mapping[int, int] = field(default_factory=dict)
    renamed: Mapping[int, str] = field(default_factory=dict)

    def class_name(self, train_id: int) -> str:
        return self.renamed.get(train_id, CLASS_NAMES[train_id])


# CamVid's 11 classes: its cars include trucks and buses, its signs include traffic lights, its
# fences include walls, its trees include grass, and "bicyclist" is a rider with the cycle.
_CAMVID_MERGE = {3: 4, 6: 7, 9: 8, 12: 18, 14: 13, 15: 13, 16: 13, 17: 18}

CLASS_LISTS: dict[str, ClassList] = {
    "cityscapes19": ClassList("cityscapes19", tuple(range(NUM_CLASSES))),
    "synthia16": ClassList("synthia16", (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 15, 17, 18)),
    "synthia13": ClassList("synthia13", (0, 1, 2, 6, 7, 8, 10, 11, 12, 13, 15, 17, 18)),
    "camvid11": ClassList(
        "camvid11", (0, 1, 2, 4, 5, 7, 8, 10, 11, 13, 18), _CAMVID_MERGE, {18: "bicyclist"}
    ),
}


def find_class_list(name: str) -> ClassList:
    """The class list called `name`; UserError lists all where there is none."""
    if name not in CLASS_LISTS:
        raise UserError(f"classes: got {name!r}, want one of {', '.join(CLASS_LISTS)}")
    return CLASS_LISTS[name]


@dataclass(frozen=True)
class ClassDistribution:
    """How many pixels of each class: of an image, a shard or a data set. Adds with `+`."""

    pixels: Int64[np.ndarray, "K"]

    @classmethod
    def empty(cls) -> "ClassDistribution":
        return cls(np.zeros(NUM_CLASSES, np.int64))

    @classmethod
    def of_label(cls, label: UInt8[np.ndarray, "H W"]) -> "ClassDistribution":
        """Counts of a map of trainIds; 255 is not counted."""
        return cls(np.bincount(label.ravel(), minlength=256)[:NUM_CLASSES].astype(np.int64))

    def __add__(self, other: "ClassDistribution") -> "ClassDistribution":
        return type(self)(self.pixels + other.pixels)

    @property
    def frequencies(self) -> np.ndarray:
        """Shares that sum to 1 (float64); all 0 where nothing is labelled."""
        return self.pixels / max(1, self.pixels.sum())
