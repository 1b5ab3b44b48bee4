"""What `uda prepare` needs to know of a raw data set, and help for reading its files."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from uda.types import Sample, UserError


@runtime_checkable
class RawDataset(Protocol):
    """A data set as its authors publish it, below a folder `root`."""

    @property
    def name(self) -> str: ...

    @property
    def class_list(self) -> str:
        """A key of uda.classes.CLASS_LISTS: the classes that its labels tell apart."""
        ...

    @property
    def splits(self) -> tuple[str, ...]: ...

    def domain(self, root: str) -> str:
        """The name of the look of these images: most data sets have just one."""
        ...

    def keys(self, root: str, split: str) -> list[str]:
        """The samples' names, sorted and unique; UserError says what is there instead."""
        ...

    def load(self, root: str, split: str, key: str) -> Sample:
        """Decodes one sample; UserError names a file that is missing or damaged."""
        ...


@runtime_checkable
class GeneratedDataset(RawDataset, Protocol):
    """A data set that is computed: it has any number of samples, of any size."""

    @property
    def count(self) -> int: ...

    @property
    def size(self) -> tuple[int, int]:
        """Width, height."""
        ...

    def configured(
        self, *, count: int | None, seed: int, size: tuple[int, int] | None
    ) -> "GeneratedDataset":
        """`count` samples of `size` (width, height) that follow from `seed`; None: default."""
        ...


def check_split(dataset: RawDataset, split: str) -> None:
    if split not in dataset.splits:
        raise UserError(f"split: got {split}, want one of {list(dataset.splits)}")


def need_folder(root: str, name: str) -> Path:
    """The folder `name` of `root`; UserError lists the folders that exist."""
    base, folder = Path(root), Path(root) / name
    if not base.is_dir():
        raise UserError(f"{base}: got no such folder, want the data set's root")
    if not folder.is_dir():
        have = sorted(entry.name for entry in base.iterdir() if entry.is_dir())
        raise UserError(f"{base}: got no folder {name}; have {have}")
    return folder


def read_image(file: Path) -> UInt8[np.ndarray, "H W 3"]:
    """RGB of an image file."""
    return np.array(_open(file, modes=None).convert("RGB"))


def read_ids(file: Path) -> UInt8[np.ndarray, "H W"]:
    """Raw label ids of a grey or palette image: of a palette image the indices, not the colours."""
    return np.array(_open(file, modes=("L", "P")))


def check_same_size(image: np.ndarray, label: np.ndarray, image_file: Path, file: Path) -> None:
    if image.shape[:2] != label.shape:
        (rows, columns), (label_rows, label_columns) = image.shape[:2], label.shape
        raise UserError(
            f"size: got {columns}x{rows} of {image_file} but {label_columns}x{label_rows} of {file}"
        )


def _open(file: Path, modes: Iterable[str] | None) -> Image.Image:
    if not file.is_file():
        raise UserError(f"{file}: is missing")
    try:
        with Image.open(file) as image:
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{file}: does not decode: {' '.join(str(error).split())}") from error
    if modes is not None and image.mode not in modes:
        raise UserError(f"{file}: mode: got {image.mode}, want one of {list(modes)}")
    return image
