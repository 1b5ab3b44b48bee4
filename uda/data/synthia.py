"""SYNTHIA-RAND-CITYSCAPES (Ros et al., 2016): 9400 views of a virtual city, 1280 x 760.

`root` holds RGB/0000000.png ... and GT/LABELS/0000000.png ...: PNGs of 16 bits per channel, whose
first channel is the class and whose second is the instance. GT/COLOR is for looking at: two of its
classes share a colour. Other SYNTHIA packages number the classes in another way.
"""

import struct
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16

from uda.classes import IGNORE
from uda.data.raw import (
    check_split,
    frames,
    load_pair,
    need_folder,
    no_frames,
    train_ids,
    verified,
)
from uda.types import Sample, UserError

_IDS = {
    0: IGNORE,  # void
    1: 10,  # sky
    2: 2,  # building
    3: 0,  # road
    4: 1,  # sidewalk
    5: 4,  # fence
    6: 8,  # vegetation
    7: 5,  # pole
    8: 13,  # car
    9: 7,  # traffic sign
    10: 11,  # pedestrian
    11: 18,  # bicycle
    12: 17,  # motorcycle
    13: IGNORE,  # parking-slot
    14: IGNORE,  # road-work
    15: 6,  # traffic light
    16: 9,  # terrain: no pixel of it in the data, nor of truck and train
    17: 12,  # rider
    18: 14,  # truck
    19: 15,  # bus
    20: 16,  # train
    21: 3,  # wall
    22: IGNORE,  # lanemarking, as in all published work
}
_BLOCK = 100  # frames
_EVERY = 10  # of so many blocks the last is `val`

_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6  # colour types of PNG


class Synthia:
    """Keys are the frames' numbers as written, 0000000 ... 0009399.

    There is no published split: `all` is what the literature adapts from, `val` is every tenth
    block of 100 frames and `train` the rest.
    """

    name = "synthia"

    def domain(self, root: str) -> str:
        return self.name

    def class_list(self, root: str) -> str:
        return "synthia16"

    def settings(self, root: str) -> str:
        return ""

    def splits(self, root: str) -> tuple[str, ...]:
        return ("all", "train", "val")

    def keys(self, root: str, split: str) -> list[str]:
        check_split(self, root, split)
        images = need_folder(root, "RGB")
        found = frames(images) | frames(need_folder(root, "GT", "LABELS"))
        keys = sorted(key for key in found if split in ("all", _split_of(key)))
        if not keys:
            raise no_frames(images, split, found, "0000000.png")
        return keys

    def load(self, root: str, split: str, key: str) -> Sample:
        image_file, label_file = (Path(root, kind, f"{key}.png") for kind in ("RGB", "GT/LABELS"))
        return load_pair(root, key, image_file, label_file, _read_label)


def _split_of(key: str) -> str:
    return "val" if int(key) // _BLOCK % _EVERY == _EVERY - 1 else "train"


def _read_label(file: Path) -> UInt8[np.ndarray, "H W"]:
    return train_ids(_read_classes(file), _IDS, file)


def _read_classes(file: Path) -> UInt16[np.ndarray, "H W"]:
    """The first channel of a 16-bit PNG of several channels; UserError for any other file.

    Decoded by OpenCV: PIL reduces 16-bit colours to their high bytes, which makes every class 0.
    """
    data = verified(file)
    depth, color_type = _png_header(data)
    if depth != 16 or color_type not in (_RGB, _RGB_ALPHA, _GREY_ALPHA):
        raise UserError(f"{file}: label: got {_described(depth, color_type)}")
    # Channels are blue, green, red (, alpha). Of grey with alpha OpenCV makes three equal colours,
    # so that the third is the first of the file for every colour type.
    channels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if channels is None or channels.dtype != np.uint16 or channels.ndim != 3:
        raise UserError(f"{file}: does not decode as 16-bit channels")
    return np.ascontiguousarray(channels[:, :, 2])


def _png_header(data: bytes) -> tuple[int, int]:
    """Bits per channel and colour type; zeros where it is no PNG."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR":
        return 0, 0
    depth, color_type = struct.unpack("BB", data[24:26])
    return depth, color_type


def _described(depth: int, color_type: int) -> str:
    want = "want a PNG of several 16-bit channels, as in the published GT/LABELS"
    if depth == 0:
        return f"no PNG, {want}"
    if color_type in (_GREY, _PALETTE):
        return f"one channel of {depth} bits (perhaps mapped to other ids already), {want}"
    return f"colours of {depth} bits (perhaps of GT/COLOR), {want}"
