"""Tiny data sets in the form in which the real ones are published: same folders, same encodings.

`LAYOUTS` has one entry for each data set that is read from files. Images are noise; the labels of
the first `count` frames hold every id of the published table, in stripes.
"""

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tests.camvid_like import write_camvid

CITIES = ("aachen", "bad-honnef")
SIZE = {"height": 40, "width": 56}


def write_cityscapes(
    root: Path,
    split: str = "train",
    *,
    count: int = 4,
    height: int = 40,
    width: int = 56,
    label: str = "labelIds",
) -> Path:
    """Frames of two cities by turns. `label` is "labelIds" or "labelTrainIds"; test gets dummies,
    as published, and train_extra none."""
    values = {"labelIds": range(34), "labelTrainIds": (*range(19), 255)}[label]
    for number in range(count):
        city = CITIES[number % 2]
        frame = f"{city}_{number:06d}_000019"
        image = root / "leftImg8bit" / split / city / f"{frame}_leftImg8bit.png"
        write_image(image, [number, height, width])
        if split != "train_extra":
            ids = stripes((0,) if split == "test" else values, height, width, number)
            write_grey(root / "gtFine" / split / city / f"{frame}_gtFine_{label}.png", ids)
    return root


def write_gta5(
    root: Path, *, count: int = 4, height: int = 40, width: int = 56, first: int = 1
) -> Path:
    """Frames first, first + 1, ...; labels are palette images with the ids 0..34."""
    for number in range(first, first + count):
        write_image(root / "images" / f"{number:05d}.png", [number, height, width])
        ids = stripes(range(35), height, width, number)
        write_palette(root / "labels" / f"{number:05d}.png", ids)
    return root


def write_synthia(
    root: Path, *, count: int = 4, height: int = 40, width: int = 56, first: int = 0
) -> Path:
    """Frames first, first + 1, ...; labels have 16-bit channels: class 0..22, instance, nothing."""
    for number in range(first, first + count):
        write_image(root / "RGB" / f"{number:07d}.png", [number, height, width])
        classes = stripes(range(23), height, width, number)
        write_synthia_label(root / "GT" / "LABELS" / f"{number:07d}.png", classes)
    return root


FOLDER_IDS = {"0": "road", "1": "car", "7": 8, "200": "ignore", "255": "sky"}
FOLDER_COLORS = {"#804080": "road", "#00008E": "car", "#000000": "ignore"}


def write_folder(
    root: Path,
    split: str = "train",
    *,
    count: int = 4,
    height: int = 40,
    width: int = 56,
    labels: str = "ids",
    suffix: str = ".jpg",
) -> Path:
    """Frames of two drives by turns. `labels` is "ids" (grey PNGs), "colors" or "" for none."""
    for number in range(count):
        key = f"drive_{number % 2}/{number:03d}"
        write_image(root / "images" / split / f"{key}{suffix}", [number, height, width])
        label = root / "labels" / split / f"{key}.png"
        if labels == "ids":
            write_grey(label, stripes([int(n) for n in FOLDER_IDS], height, width, number))
        elif labels == "colors":
            index = stripes(range(len(FOLDER_COLORS)), height, width, number)
            colors = [tuple(bytes.fromhex(color[1:])) for color in FOLDER_COLORS]
            _save(label, Image.fromarray(np.array(colors, np.uint8)[index]))
    if labels:
        ids = FOLDER_IDS if labels == "ids" else FOLDER_COLORS
        (root / "mapping.json").write_text(json.dumps({"ids": ids}))
    return root


def stripes(values, height: int, width: int, shift: int = 0) -> np.ndarray:
    """All values side by side, one pixel wide, each row and each `shift` in another order."""
    rows, columns = np.mgrid[:height, :width]
    return np.array(list(values), np.uint8)[(rows + columns + shift) % len(values)]


def write_image(file: Path, seed: list[int]) -> None:
    """Noise of seed [number, height, width]; the file's suffix says how it is encoded."""
    _, height, width = seed
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    _save(file, Image.fromarray(noise))


def write_grey(file: Path, ids: np.ndarray) -> None:
    _save(file, Image.fromarray(ids.astype(np.uint8)))


def write_palette(file: Path, ids: np.ndarray) -> None:
    """Mode P. Neither a colour nor its brightness is the index, and many indices share one."""
    image = Image.fromarray(ids.astype(np.uint8))
    image.putpalette([value for n in range(256) for value in (250 - n % 3, 70, n % 5)])
    _save(file, image)


def write_synthia_label(file: Path, classes: np.ndarray) -> None:
    """16-bit RGB: class, instance (which exceeds 255), 0."""
    instances = np.arange(classes.size, dtype=np.uint16).reshape(classes.shape)
    write_png(file, np.stack([classes, instances, np.zeros_like(classes)], axis=-1), depth=16)


def write_png(file: Path, channels: np.ndarray, *, depth: int) -> None:
    """(H, W, 1 to 4 channels) as grey, grey with alpha, RGB or RGBA of 8 or 16 bits.

    Written byte by byte from the PNG specification, as PIL cannot write such files.
    """
    height, width, count = channels.shape
    color_type = {1: 0, 2: 4, 3: 2, 4: 6}[count]
    rows = channels.astype({8: ">u1", 16: ">u2"}[depth])
    pixels = b"".join(b"\0" + row.tobytes() for row in rows)  # each row has filter type 0
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(pixels))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _save(file: Path, image: Image.Image) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How to write a data set, and where then the files of its sample `key` lie."""

    write: Callable[..., Path]  # (root, count=, height=, width=) -> root
    split: str
    key: str  # of the first sample
    image: str
    label: str
    write_label: Callable[[Path, np.ndarray], None] = write_grey

    def image_file(self, root: Path) -> Path:
        return root / self.image

    def label_file(self, root: Path) -> Path:
        return root / self.label


LAYOUTS = {
    "camvid": Layout(
        write=write_camvid,
        split="train",
        key="seq_000",
        image="train/seq_000.jpg",
        label="trainannot/seq_000.png",
    ),
    "cityscapes": Layout(
        write=write_cityscapes,
        split="train",
        key="aachen_000000_000019",
        image="leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png",
        label="gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png",
    ),
    "folder": Layout(
        write=write_folder,
        split="train",
        key="drive_0/000",
        image="images/train/drive_0/000.jpg",
        label="labels/train/drive_0/000.png",
    ),
    "gta5": Layout(
        write=write_gta5,
        split="all",
        key="00001",
        image="images/00001.png",
        label="labels/00001.png",
        write_label=write_palette,
    ),
    "synthia": Layout(
        write=write_synthia,
        split="all",
        key="0000000",
        image="RGB/0000000.png",
        label="GT/LABELS/0000000.png",
        write_label=write_synthia_label,
    ),
}
