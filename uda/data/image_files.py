"""A folder of photographs, with folders in it or not: all that prediction needs."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from uda.data.raw import read_image
from uda.types import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


class ImageFiles:
    """The image files below a folder, by their path in it without suffix; sorted.

    Nothing below `without` counts: that is where results are written. UserError where there is no
    image, or two of one name, whose results would have one name too.
    """

    def __init__(self, root: Path, without: Path) -> None:
        if not root.is_dir():
            raise UserError(f"{root}: got no such folder, want a folder of images")
        root, without = root.resolve(), without.resolve()
        self.paths = sorted(
            path
            for path in root.rglob("*")
            if path.suffix.lower() in SUFFIXES
            and not path.name.startswith(".")
            and not path.is_relative_to(without)
            and path.is_file()
        )
        if not self.paths:
            raise UserError(f"{root}: got no images, want files of {', '.join(SUFFIXES)}")
        self.keys = [path.relative_to(root).with_suffix("").as_posix() for path in self.paths]
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
