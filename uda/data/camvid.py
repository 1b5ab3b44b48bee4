"""CamVid (Brostow et al., 2009) in the 11-class form of the SegNet tutorial, 480 x 360.

Real street photographs. `root` holds train, val, test (images) and trainannot, valannot, testannot
(label ids as grey PNGs of the same names). Terms: personal and research use only.
"""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from uda.classes import IGNORE
from uda.data.raw import (
    check_split,
    file_stems,
    find_file,
    load_pair,
    need_folder,
    read_ids,
    train_ids,
)
from uda.types import Sample, UserError

_IDS = {
    0: 10,  # Sky
    1: 2,  # Building
    2: 5,  # Pole
    3: 0,  # Road
    4: 1,  # Pavement
    5: 8,  # Tree
    6: 7,  # SignSymbol
    7: 4,  # Fence
    8: 13,  # Car, with buses and trucks
    9: 11,  # Pedestrian
    10: 18,  # Bicyclist
    11: IGNORE,  # Unlabelled
}
_IMAGE_SUFFIXES = (".jpg", ".png")


class CamVid:
    """The 12 raw ids become trainIds."""

    name = "camvid"

    def domain(self, root: str) -> str:
        return self.name

    def class_list(self, root: str) -> str:
        return "camvid11"

    def settings(self, root: str) -> str:
        return ""

    def splits(self, root: str) -> tuple[str, ...]:
        return ("train", "val", "test")

    def keys(self, root: str, split: str) -> list[str]:
        check_split(self, root, split)
        images, labels = need_folder(root, split), need_folder(root, f"{split}annot")
        keys = file_stems(images, _IMAGE_SUFFIXES) | file_stems(labels, [".png"])
        if not keys:
            raise UserError(f"{images}: got no images, want {' or '.join(_IMAGE_SUFFIXES)} files")
        return sorted(keys)

    def load(self, root: str, split: str, key: str) -> Sample:
        image_file = find_file(Path(root, split), key, _IMAGE_SUFFIXES)
        label_file = Path(root, f"{split}annot", f"{key}.png")
        return load_pair(root, key, image_file, label_file, _read_label)


def _read_label(file: Path) -> UInt8[np.ndarray, "H W"]:
    return train_ids(read_ids(file), _IDS, file)
