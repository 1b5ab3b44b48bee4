"""GTA5, "Playing for Data" (Richter et al., 2016): 24 966 frames of a game, most 1914 x 1052.

`root` holds images/00001.png ... and labels/00001.png ..., palette PNGs whose indices are the ids
of Cityscapes. Known to be bad, and found by `uda prepare`: frames 15188 and 17705 are blank, and
in a few pairs image and label differ in size. Terms: research and education.
"""

import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from uda.classes import IGNORE
from uda.data.cityscapes import LABEL_ID_TABLE
from uda.data.raw import (
    check_split,
    frames,
    load_pair,
    need_folder,
    no_frames,
    read_ids,
    train_ids,
)
from uda.types import Sample, UserError

_IDS = {**LABEL_ID_TABLE, 34: IGNORE}  # 34 is the licence plate, -1 in Cityscapes
_OFFICIAL = "split.mat"
_BLOCK = 500  # frames
_SPLIT_OF_BLOCK = ("train", "train", "val", "test")  # 0, 1, 2, 3, and again from the start


class GTA5:
    """Keys are the frames' numbers as written, 00001 ... 24966.

    `all` is what the literature adapts from. `train`, `val` and `test` are the authors' lists where
    their split.mat lies in `root`: of 12 403, 6 382 and 6 181 frames, less what was not downloaded.
    Without it they are ours: blocks of 500 frames in the order train, train, val, test, since
    neighbours are a second of one drive apart and show nearly the same.
    """

    name = "gta5"

    def domain(self, root: str) -> str:
        return self.name

    def class_list(self, root: str) -> str:
        return "cityscapes19"

    def settings(self, root: str) -> str:
        return ""

    def splits(self, root: str) -> tuple[str, ...]:
        return ("all", "train", "val", "test")

    def keys(self, root: str, split: str) -> list[str]:
        check_split(self, root, split)
        images = need_folder(root, "images")
        found = frames(images) | frames(need_folder(root, "labels"))
        keys = sorted(found if split == "all" else _of_split(found, Path(root), split))
        if not keys:
            raise no_frames(images, split, found, "00001.png")
        return keys

    def load(self, root: str, split: str, key: str) -> Sample:
        image_file, label_file = (Path(root, kind, f"{key}.png") for kind in ("images", "labels"))
        return load_pair(root, key, image_file, label_file, _read_label)


def _of_split(keys: set[str], root: Path, split: str) -> set[str]:
    if (root / _OFFICIAL).exists():
        numbers = _official(root / _OFFICIAL, split)
        return {key for key in keys if int(key) in numbers}
    blocks = {key: (int(key) - 1) // _BLOCK for key in keys}
    return {key for key, n in blocks.items() if _SPLIT_OF_BLOCK[n % len(_SPLIT_OF_BLOCK)] == split}


def _official(file: Path, split: str) -> set[int]:
    """The frames of a split by the authors' MATLAB file."""
    from scipy.io import loadmat, matlab  # here, as nothing else needs it

    name = f"{split}Ids"
    try:
        variables = loadmat(file)
    except (
        matlab.MatReadError,
        OSError,
        ValueError,
        TypeError,
        NotImplementedError,
        LookupError,
        EOFError,
        zlib.error,
    ) as error:
        raise UserError(f"{file}: does not read: {' '.join(str(error).split())}") from error
    if name not in variables:
        have = sorted(key for key in variables if not key.startswith("__"))
        raise UserError(f"{file}: got no variable {name}; have {have}")
    return {int(number) for number in variables[name].ravel()}


def _read_label(file: Path) -> UInt8[np.ndarray, "H W"]:
    return train_ids(read_ids(file), _IDS, file)
