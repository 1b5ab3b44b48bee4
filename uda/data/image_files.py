"""A folder of photographs, with folders in it or not: all that prediction needs."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from uda.data.raw import read_image
from uda.types import UserError

_CITYSCAPES_ENDING = "_leftImg8bit"
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


class ImageFiles:
    """The image files below a folder, by their path in it without suffix; sorted.

    Where results are written, `without`, may be a folder in it, and nothing there counts. UserError
    where there is no image, or two of one name, whose results would have one name too. Cityscapes'
    ending is no part of a name: label maps lack it.
    """

    def __init__(self, root: Path, without: Path) -> None:
        if not root.is_dir():
            raise UserError(f"{root}: got no such folder, want a folder of images")
        root, without = root.resolve(), without.resolve()
        if without == root:
            raise UserError(f"{root}: got the folder of images to write to, want another one")
        self.paths = sorted(
            path
            for path in root.rglob("*")
            if path.suffix.lower() in SUFFIXES
            and not path.name.startswith(".")
            and not (path.is_relative_to(without) and without.is_relative_to(root))
            and path.is_file()
        )
        if not self.paths:
            raise UserError(f"{root}: got no images, want files of {', '.join(SUFFIXES)}")
        stems = [path.relative_to(root).with_suffix("").as_posix() for path in self.paths]
        self.keys = [stem.removesuffix(_CITYSCAPES_ENDING) for stem in stems]
        first: dict[str, Path] = {}
        for key, path in zip(self.keys, self.paths, strict=True):
            if key in first:
                raise UserError(f"{path}: has the same name as {first[key].name}, want one of them")
            first[key] = path

    def __len__(self) -> int:
        return len(self.paths)

    def image(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """RGB, upright; UserError names the file that does not decode."""
        return read_image(self.paths[index])
