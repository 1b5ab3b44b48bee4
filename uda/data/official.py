"""What evaluation asks of a data set whose labels tell more apart than the 19 classes."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from uda.data.raw import RawDataset
from uda.types import Truth


@runtime_checkable
class OfficialDataset(RawDataset, Protocol):
    """A data set whose authors have a program that scores predictions from the label files."""

    def truth_keys(self, root: str, split: str) -> list[str]:
        """The samples that have a label file, sorted; nobody looks for their images."""
        ...

    def check_pairs(self, root: str, split: str) -> None:
        """UserError naming the first sample that lacks its image or its label; reads neither."""
        ...

    def truth(self, root: str, split: str, key: str) -> Truth:
        """Decodes the labels of one sample; UserError names the file that is wrong."""
        ...

    def pair(self, root: str, split: str, key: str) -> tuple[UInt8[np.ndarray, "H W 3"], Truth]:
        """The image of one sample and its truth."""
        ...
