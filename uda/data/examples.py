"""Images with what people say is in them, from shards or from a data set as it is published.

For evaluation alone. Training reads `uda.data.crops`, and of its target no label.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from uda.data import DATASETS
from uda.data.decode import decode_row, row_label
from uda.data.official import OfficialDataset
from uda.data.raw import RawDataset
from uda.data.rows import ShardRows
from uda.data.shards import open_shards
from uda.types import Truth, UserError

Image = UInt8[np.ndarray, "H W 3"]


@runtime_checkable
class Examples(Protocol):
    """Images 0 .. len - 1 and their truth; safe in many threads, and small when pickled.

    UserError names the file, or the shard and row, that is missing, damaged or without label.
    """

    keys: Sequence[str]
    path: str  # where they are, as the user named it
    class_list: str  # the classes that the labels tell apart

    def __len__(self) -> int: ...

    def pair(self, index: int) -> tuple[Image, Truth]: ...

    def truth(self, index: int) -> Truth:
        """Without reading the image."""
        ...


def open_examples(
    data: str | Path, dataset: str | None = None, split: str = "val", *, images: bool = True
) -> Examples:
    """The images of a folder of shards, or of a split of `dataset` whose root is `data`.

    Without `images` only truths will be asked for, and a data set may lack the images. UserError
    where there is nothing to read.
    """
    if dataset is None:
        if (Path(data) / "gtFine").is_dir():
            raise UserError(f"{data}: got a raw data set, want shards; or say --dataset cityscapes")
        return ShardExamples(Path(data))
    if dataset not in DATASETS:
        raise UserError(f"dataset: got {dataset!r}, want one of {', '.join(DATASETS)}")
    return RawExamples(dataset, str(data), split, images=images)


class ShardExamples:
    """The samples of a folder of shards; they have labels of 19 classes and no more."""

    def __init__(self, path: Path) -> None:
        folder = open_shards(path.absolute())
        self.path = str(path)
        self._rows = ShardRows(folder, labels=True)
        self.keys: Sequence[str] = folder.samples(["key"])["key"].to_pylist()
        self.class_list = folder.manifest.class_list

    def __len__(self) -> int:
        return len(self.keys)

    def pair(self, index: int) -> tuple[Image, Truth]:
        image, label = decode_row(self._rows.row(index))
        return image, Truth(label=label)

    def truth(self, index: int) -> Truth:
        return Truth(label=row_label(self._rows.row(index)))


class RawExamples:
    """A split of a data set as its authors publish it, below the folder `root`."""

    def __init__(self, dataset: str, root: str, split: str, *, images: bool = True) -> None:
        raw: RawDataset = DATASETS[dataset]
        self._raw, self._split = raw, split
        self.path = root
        self._root = str(Path(root).absolute()) if Path(root).exists() else root
        if images or not isinstance(raw, OfficialDataset):
            self.keys: Sequence[str] = raw.keys(self._root, split)
            if isinstance(raw, OfficialDataset):
                raw.check_pairs(self._root, split)
        else:
            self.keys = raw.truth_keys(self._root, split)
        self.class_list = raw.class_list(self._root)

    def __len__(self) -> int:
        return len(self.keys)

    def pair(self, index: int) -> tuple[Image, Truth]:
        key = self.keys[index]
        if not isinstance(self._raw, OfficialDataset):
            sample = self._raw.load(self._root, self._split, key)
            return sample.image, Truth(label=self._label(sample.label, key))
        return self._raw.pair(self._root, self._split, key)

    def truth(self, index: int) -> Truth:
        key = self.keys[index]
        if isinstance(self._raw, OfficialDataset):
            return self._raw.truth(self._root, self._split, key)
        label = self._raw.load(self._root, self._split, key).label
        return Truth(label=self._label(label, key))

    def _label(self, label: np.ndarray | None, key: str) -> np.ndarray:
        if label is None:
            raise UserError(
                f"{self._root}: {key} of {self._split} has no label, want labelled data"
            )
        return label
