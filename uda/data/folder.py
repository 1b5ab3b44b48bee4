"""A user's own data: any folder of image files, with labels or without.

    ROOT/images/[SPLIT/]**/NAME.jpg       or .jpeg, .png, .bmp, .tif, .tiff, .webp
    ROOT/labels/[SPLIT/]**/NAME.png       may be left out, or left out for some splits
    ROOT/mapping.json                     what the labels' ids mean, see label_mapping.py

Without a folder `images`, the images lie in ROOT itself and have no labels.
"""

import json
import os
from dataclasses import asdict
from pathlib import Path

from uda.data.label_mapping import DEFAULT_CLASS_LIST, MAPPING_FILE, LabelMapping, read_mapping
from uda.data.raw import check_split, file_stems, find_file, load_image, load_pair, need_folder
from uda.types import Sample, UserError

_LOWER = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_SUFFIXES = (*_LOWER, *(suffix.upper() for suffix in _LOWER))
_IMAGES, _LABELS = "images", "labels"
_EVERYTHING = "train"
_USUAL = ("train", "val", "test")  # also "training", "validation", "test_night", ...


class Folder:
    """Keys are paths below the split's folder without suffix, such as berlin/0001.

    Every folder in `images` is a split. `train` is all images where no folder's name begins with
    train, val or test: folders are then cities or drives.
    """

    name = "folder"

    def domain(self, root: str) -> str:
        return self.name

    def class_list(self, root: str) -> str:
        return _mapping(root).class_list if _has_labels(root) else DEFAULT_CLASS_LIST

    def settings(self, root: str) -> str:
        return json.dumps(asdict(_mapping(root)), sort_keys=True) if _has_labels(root) else ""

    def splits(self, root: str) -> tuple[str, ...]:
        folders = _folders(_images(root))
        divided = any(name.lower().startswith(_USUAL) for name in folders)
        return tuple(folders) if divided else (_EVERYTHING, *folders)

    def keys(self, root: str, split: str) -> list[str]:
        check_split(self, root, split)
        images, labels = _images_of(root, split), _labels_of(root, split)
        keys = _stems(images)
        if labels is not None:
            _mapping(root)  # a mistake in it shows before the work
            keys |= _stems(labels)
        elif _has_labels(root) and not set(self.splits(root)) & set(_folders(_labels(root))):
            have = _folders(_labels(root))
            raise UserError(f"{_labels(root)}: got no folder {split} as in images; have {have}")
        if not keys:
            raise UserError(f"{images}: got no images, want files of {', '.join(_LOWER)}")
        return sorted(keys)

    def load(self, root: str, split: str, key: str) -> Sample:
        image_file = find_file(_images_of(root, split), key, _SUFFIXES)
        labels = _labels_of(root, split)
        if labels is None:
            return load_image(root, key, image_file)
        label_file = find_file(labels, key, _SUFFIXES)
        return load_pair(root, key, image_file, label_file, _mapping(root).read_label)


def _images(root: str) -> Path:
    base = need_folder(root)
    if (base / _IMAGES).is_dir():
        return base / _IMAGES
    if _labels(root).is_dir():
        raise UserError(f"{base}: got a folder {_LABELS}, want a folder {_IMAGES} beside it")
    return base


def _labels(root: str) -> Path:
    return Path(root, _LABELS)


def _has_labels(root: str) -> bool:
    return _labels(root).is_dir()


def _images_of(root: str, split: str) -> Path:
    """The folder of the split, or of all images."""
    folder = _images(root) / split
    return folder if folder.is_dir() else folder.parent


def _labels_of(root: str, split: str) -> Path | None:
    """The folder beside that of the images; None where there is none, and so no labels."""
    if not _has_labels(root):
        return None
    folder = _labels(root) / _images_of(root, split).relative_to(_images(root))
    return folder if folder.is_dir() else None


def _mapping(root: str) -> LabelMapping:
    return read_mapping(Path(root, MAPPING_FILE))


def _folders(folder: Path) -> list[str]:
    names = (entry.name for entry in os.scandir(folder) if entry.is_dir())
    return sorted(name for name in names if not name.startswith("."))


def _stems(folder: Path) -> set[str]:
    """Paths below the folder, without suffix, of all image files."""
    stems = set()
    for parent, folders, _ in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(parent).relative_to(folder)
        stems |= {(inside / stem).as_posix() for stem in file_stems(Path(parent), _SUFFIXES)}
    odd = sorted(stem for stem in stems if not _is_text(stem))
    if odd:
        raise UserError(f"{folder}: got the file name {odd[0]!a}, want names in UTF-8")
    return stems


def _is_text(name: str) -> bool:
    """Whether the file system's bytes were UTF-8; else Python has put stand-ins into the name."""
    return not any("\udc80" <= character <= "\udcff" for character in name)
