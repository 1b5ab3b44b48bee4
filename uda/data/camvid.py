"""CamVid (Brostow et al., 2009) in the 11-class form of the SegNet tutorial, 480 x 360.

Real street photographs. `root` holds train, val, test (images) and trainannot, valannot, testannot
(label ids as grey PNGs of the same names). Terms: personal and research use only.
"""

from pathlib import Path

import numpy as np

from uda.classes import IGNORE, lookup_table
from uda.data.raw import check_same_size, check_split, need_folder, read_ids, read_image
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
_TRAIN_IDS = lookup_table(_IDS)
_KNOWN = np.isin(np.arange(256), list(_IDS))
_IMAGE_SUFFIXES = (".jpg", ".png")


class CamVid:
    """The 12 raw ids become trainIds; any other id is counted and ignored."""

    name = "camvid"
    class_list = "camvid11"
    splits = ("train", "val", "test")

    def domain(self, root: str) -> str:
        return self.name

    def keys(self, root: str, split: str) -> list[str]:
        check_split(self, split)
        folder = need_folder(root, split)
        need_folder(root, f"{split}annot")
        keys = sorted(file.stem for file in folder.iterdir() if file.suffix in _IMAGE_SUFFIXES)
        if not keys:
            raise UserError(f"{folder}: got no images, want {' or '.join(_IMAGE_SUFFIXES)} files")
        return keys

    def load(self, root: str, split: str, key: str) -> Sample:
        image_file = _image_file(Path(root) / split, key)
        label_file = Path(root) / f"{split}annot" / f"{key}.png"
        image, ids = read_image(image_file), read_ids(label_file)
        check_same_size(image, ids, image_file, label_file)
        return Sample(
            key=key,
            image=image,
            label=_TRAIN_IDS[ids],
            source_path=image_file.relative_to(root).as_posix(),
            unknown_label_pixels=int(np.count_nonzero(~_KNOWN[ids])),
        )


def _image_file(folder: Path, key: str) -> Path:
    files = [folder / (key + suffix) for suffix in _IMAGE_SUFFIXES]
    return next((file for file in files if file.is_file()), files[0])
