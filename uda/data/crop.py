"""From an encoded row to one training crop: decode, random scale, crop, flip.

Only geometry happens here, on the CPU, in uint8; everything photometric is left to the device.
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

from uda.classes import IGNORE
from uda.data.decode import row_label, row_window
from uda.data.rows import EncodedRow
from uda.data.sampling import PlanItem
from uda.types import UserError


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """The window that training sees of an image."""

    height: int = 512
    width: int = 512
    scale: tuple[float, float] = (1.0, 1.0)  # the image is resized by a factor drawn from these
    flip: float = 0.5  # probability of a left-right flip
    wanted_tries: int = 10  # windows tried until one shows the wanted class (DAFormer: 10)
    wanted_fraction: float = 0.0057  # of the window's pixels (DAFormer: 1500 of 512 x 512)

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise UserError(f"height, width: got {self.height}, {self.width}, want 1 or more")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise UserError(f"scale: got {self.scale}, want 0 < smallest <= largest")
        if not 0 <= self.flip <= 1:
            raise UserError(f"flip: got {self.flip}, want a probability")
        if self.wanted_tries < 1:
            raise UserError(f"wanted_tries: got {self.wanted_tries}, want at least 1")
        if not 0 <= self.wanted_fraction <= 1:
            raise UserError(f"wanted_fraction: got {self.wanted_fraction}, want 0 to 1")


class Window(NamedTuple):
    """A rectangle of the stored image and the size it is resized to, in pixels.

    The resized part is smaller than the crop where the scaled image is; the rest is padding.
    """

    top: int
    left: int
    height: int
    width: int
    resized_height: int
    resized_width: int

    def of(self, array: np.ndarray) -> np.ndarray:
        return array[self.top : self.top + self.height, self.left : self.left + self.width]


def load_crop(
    row: EncodedRow, item: PlanItem, config: CropConfig, *, labels: bool
) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"] | None]:
    """The crop that `item` asks for; every random number comes from its `crop_seed`.

    Padding is black with label 255, below and on the right. Images are resized bilinearly
    (averaged below half size), labels by nearest neighbour. UserError names a damaged row.
    """
    label = row_label(row) if labels else None
    draws = np.random.default_rng(item.crop_seed)
    window = _choose_window(row, label, item.wanted_class, config, draws)
    flip = bool(draws.random() < config.flip)
    part = row_window(row, window.top, window.left, window.height, window.width)
    image = _finish(_resize(part, window, image=True), config, flip, padding=(0, 0, 0))
    if label is not None:
        label = _resize(window.of(label), window, image=False)
        label = _finish(label, config, flip, padding=(IGNORE,))
    return image, label


def _choose_window(
    row: EncodedRow,
    label: np.ndarray | None,
    wanted_class: int,
    config: CropConfig,
    draws: np.random.Generator,
) -> Window:
    """The first of up to `wanted_tries` random windows that shows the wanted class, or the last."""
    scale = float(draws.uniform(*config.scale))
    height, resized_height = _span(row.height, config.height, scale)
    width, resized_width = _span(row.width, config.width, scale)
    searches = label is not None and wanted_class >= 0
    for _ in range(config.wanted_tries if searches else 1):
        top = int(draws.integers(row.height - height + 1))
        left = int(draws.integers(row.width - width + 1))
        window = Window(top, left, height, width, resized_height, resized_width)
        if label is not None and searches:
            shown = np.count_nonzero(window.of(label) == wanted_class)
            if shown > config.wanted_fraction * height * width:
                break
    return window


def _span(length: int, crop: int, scale: float) -> tuple[int, int]:
    """Along one axis: stored pixels to take, and crop pixels that they fill after resizing."""
    wanted = max(1, round(crop / scale))
    if wanted <= length:
        return wanted, crop
    return length, min(crop, max(1, round(length * scale)))


def _resize(part: np.ndarray, window: Window, *, image: bool) -> np.ndarray:
    size = (window.resized_width, window.resized_height)
    if part.shape[:2] == size[::-1]:
        return part
    if not image:
        method = cv2.INTER_NEAREST_EXACT  # samples pixel centres, as the image's methods do
    elif 2 * size[0] < part.shape[1] or 2 * size[1] < part.shape[0]:
        method = cv2.INTER_AREA
    else:
        method = cv2.INTER_LINEAR
    return cv2.resize(part, size, interpolation=method)


def _finish(
    part: np.ndarray, config: CropConfig, flip: bool, padding: tuple[int, ...]
) -> np.ndarray:
    """Pads to the size of the crop and flips; the result is contiguous."""
    below, right = config.height - part.shape[0], config.width - part.shape[1]
    if below or right:
        part = cv2.copyMakeBorder(part, 0, below, 0, right, cv2.BORDER_CONSTANT, value=padding)
    return cv2.flip(part, 1) if flip else np.ascontiguousarray(part)
