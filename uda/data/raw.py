"""What `uda prepare` needs to know of a raw data set, and help for reading its files."""

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Int32, Integer, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from uda.classes import CLASS_NAMES, IGNORE
from uda.types import Sample, UserError


@runtime_checkable
class RawDataset(Protocol):
    """A data set as its authors publish it, below a folder `root`."""

    @property
    def name(self) -> str: ...

    def domain(self, root: str) -> str:
        """The name of the look of these images: most data sets have just one."""
        ...

    def class_list(self, root: str) -> str:
        """A key of uda.classes.CLASS_LISTS: the classes that its labels tell apart."""
        ...

    def settings(self, root: str) -> str:
        """What the user wrote about the labels, as text; empty where their ids are published.

        Shards of other settings are other shards.
        """
        ...

    def splits(self, root: str) -> tuple[str, ...]: ...

    def keys(self, root: str, split: str) -> list[str]:
        """The samples' names, sorted and unique; UserError says what is there instead.

        An image without its label and a label without its image have one too: what lies in the
        folders is counted, and `load` says what is wrong with it.
        """
        ...

    def load(self, root: str, split: str, key: str) -> Sample:
        """Decodes one sample; UserError names the file that is missing, damaged or odd."""
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


def check_split(dataset: RawDataset, root: str, split: str) -> None:
    if split not in dataset.splits(root):
        raise UserError(f"split: got {split}, want one of {list(dataset.splits(root))}")


def need_folder(root: str | Path, *names: str) -> Path:
    """The folder root/name/...; UserError lists the folders beside the one that is missing."""
    folder = Path(root)
    if not folder.is_dir():
        raise UserError(f"{folder}: got no such folder, want the data set's root")
    for name in names:
        if not (folder / name).is_dir():
            have = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
            raise UserError(f"{folder}: got no folder {name}; have {have}")
        folder /= name
    return folder


def file_stems(folder: Path, suffixes: Iterable[str]) -> set[str]:
    """Names without suffix of the folder's files that have one of these suffixes.

    One listing, no look at any file: a data set has 25 000 of them, perhaps on a network drive.
    Names that begin with a dot are leftovers of other programs.
    """
    names = [name for name in os.listdir(folder) if not name.startswith(".")]
    return {name[: -len(end)] for end in suffixes for name in names if name.endswith(end)}


def frames(folder: Path) -> set[str]:
    """The numbers of a folder of frames, as they are written: 00001.png, 00002.png, ..."""
    return {stem for stem in file_stems(folder, [".png"]) if stem.isdecimal()}


def no_frames(folder: Path, split: str, found: set[str], example: str) -> UserError:
    """For a split without any of the frames that were found."""
    have = f"; have {min(found)} to {max(found)}" if found else f", want {example}"
    return UserError(f"{folder}: got no frame of {split} among {len(found)}{have}")


def find_file(folder: Path, stem: str, suffixes: Sequence[str]) -> Path:
    """The file of this stem; where there is none, the name it would have with the first suffix."""
    files = [folder / (stem + suffix) for suffix in suffixes]
    # By inode: where upper and lower case are one, `a.jpg` and `a.JPG` are two names of one file.
    have = list({file.stat().st_ino: file for file in files if file.is_file()}.values())
    if len(have) > 1:
        raise UserError(f"{have[0]}: has the same name as {have[1].name}, want one of the two")
    return have[0] if have else files[0]


def load_image(root: str, key: str, image_file: Path) -> Sample:
    """A sample without label."""
    source_path = image_file.relative_to(root).as_posix()
    return Sample(key=key, image=read_image(image_file), label=None, source_path=source_path)


def load_pair(
    root: str,
    key: str,
    image_file: Path,
    label_file: Path,
    read_label: Callable[[Path], UInt8[np.ndarray, "H W"]],
) -> Sample:
    """The sample of an image and a label file, which `read_label` turns into trainIds."""
    check_pair(image_file, label_file)
    sample = load_image(root, key, image_file)
    label = read_label(label_file)
    check_same_size(sample.image, label, image_file, label_file)
    return replace(sample, label=label)


def read_image(file: Path) -> UInt8[np.ndarray, "H W 3"]:
    """RGB of an image file, turned upright where a camera noted how it was held."""
    return _decode(file, _IMAGE_MODES, want="8 bits per channel", to="RGB")


def read_ids(file: Path) -> UInt8[np.ndarray, "H W"]:
    """Raw label ids of a grey or palette image: of a palette image the indices, not the colours."""
    return _decode(file, ("L", "P"), want="ids: grey values of 8 bits, or a palette")


def read_wide_ids(file: Path) -> Int32[np.ndarray, "H W"]:
    """Raw ids of a grey image of 16 bits."""
    return _decode(file, ("I;16", "I"), want="ids: grey values of 16 bits").astype(np.int32)


def read_colors(file: Path) -> Integer[np.ndarray, "H W"]:
    """0xRRGGBB of an image in 8-bit colours."""
    colors = _decode(file, ("P", "RGB", "RGBA"), want="8-bit colours", to="RGB").astype(np.int32)
    return colors[..., 0] << 16 | colors[..., 1] << 8 | colors[..., 2]


def train_ids(
    ids: Integer[np.ndarray, "H W"],
    table: Mapping[int, int],
    file: Path,
    *,
    ignore_others: bool = False,
    write_id: Callable[[int], str] = str,
    known_by: str = "the data set",
) -> UInt8[np.ndarray, "H W"]:
    """trainIds by `table` (raw id -> trainId or 255); UserError for ids that are not in it.

    An id that nobody declared means that the label is damaged or in another encoding, and then
    nothing in it can be trusted. `ignore_others` makes such ids 255 instead.
    """
    size = 256 if ids.dtype == np.uint8 else 1 + max(int(ids.max()), *table)
    lookup = np.full(size, IGNORE if ignore_others else _UNKNOWN, np.uint8)
    for raw, train_id in table.items():
        lookup[raw] = train_id
    mapped = _looked_up(lookup, ids)
    if not ignore_others and (wrong := mapped == _UNKNOWN).any():
        unknown, counts = np.unique(ids[wrong], return_counts=True)
        listed = ", ".join(write_id(int(raw)) for raw in unknown[:5])
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise UserError(
            f"{file}: label: got unknown ids {listed}{more} at {counts.sum()} pixels, "
            f"want only those of {known_by}"
        )
    return mapped


_UNKNOWN = 254  # no trainId


def _looked_up(table: UInt8[np.ndarray, "N"], ids: Integer[np.ndarray, "H W"]) -> np.ndarray:
    return cv2.LUT(ids, table) if ids.dtype == np.uint8 else table[ids]  # 10 times faster


def check_same_size(image: np.ndarray, label: np.ndarray, image_file: Path, file: Path) -> None:
    if image.shape[:2] != label.shape:
        (rows, columns), (label_rows, label_columns) = image.shape[:2], label.shape
        raise UserError(
            f"size: got {columns}x{rows} of {image_file} but {label_columns}x{label_rows} of {file}"
        )


_BLANK_LEVELS = 4


def check_content(sample: Sample) -> None:
    """UserError for an image of one colour or a label of one class: files that decode, and lie.

    Blank: in every channel the levels from the 1st to the 99th percentile span at most 4 of 256.
    That lets noise, JPEG artefacts and a line of text pass as blank, but no scene: even at night
    or in fog, more than a hundredth of it differs. GTA5 and Cityscapes have such frames.
    """
    where = sample.source_path or sample.key
    if all(_span(sample.image, channel) <= _BLANK_LEVELS for channel in range(3)):
        raise UserError(f"{where}: image: got one colour all over, want a picture")
    label = sample.label
    if label is not None and (label == label[0, 0]).all():
        name = "ignored" if label[0, 0] == IGNORE else CLASS_NAMES[label[0, 0]]
        raise UserError(f"{where}: label: got {name} at every pixel, want more than one class")


def _span(image: np.ndarray, channel: int) -> int:
    """Levels between the 1st and the 99th percentile; a histogram, as sorting takes long."""
    counts = cv2.calcHist([image], [channel], None, [256], [0, 256]).ravel().astype(np.int64)
    shares = counts.cumsum() / counts.sum()
    low, high = np.searchsorted(shares, [0.01, 0.99])
    return int(high - low)


def check_pair(image_file: Path, label_file: Path) -> None:
    """UserError where just one of the two is there; that both are missing shows on reading."""
    has_image, has_label = image_file.is_file(), label_file.is_file()
    if has_image and not has_label:
        raise UserError(f"{image_file}: has no label, want {label_file}")
    if has_label and not has_image:
        raise UserError(f"{label_file}: has no image, want {image_file}")


def verified(file: Path) -> bytes:
    """The bytes of an image file whose structure and, in a PNG, checksums are right.

    Decoders let some damage pass: PIL ignores the checksums of a PNG's pixels and a missing end.
    """
    if not file.is_file():
        raise UserError(f"{file}: is missing")
    with _one_line(file):
        data = file.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            image.verify()
    return data


# Those with 16 bits in one channel are left out: PIL would cut them off at 255.
_IMAGE_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


def _decode(file: Path, modes: tuple[str, ...], *, want: str, to: str | None = None) -> np.ndarray:
    data = verified(file)
    with _one_line(file), Image.open(io.BytesIO(data)) as image:
        if image.mode not in modes:
            raise UserError(f"{file}: mode: got {image.mode}, want {want}")
        ImageOps.exif_transpose(image, in_place=True)
        return np.array(image.convert(to) if to else image)


@contextmanager
def _one_line(file: Path) -> Iterator[None]:
    """What decoders raise on damaged bytes becomes the user's error."""
    try:
        yield
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise UserError(f"{file}: does not decode: is no image of a known format") from error
    except _DAMAGE as error:
        raise UserError(f"{file}: does not decode: {' '.join(str(error).split())}") from error


_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    ArithmeticError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
