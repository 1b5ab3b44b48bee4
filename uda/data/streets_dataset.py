"""Our renderer as a data set: any number of labelled street scenes, computed instead of read.

Where a raw data set has a root folder, this one has the name of a look: a key of DOMAINS.
"""

import hashlib
from dataclasses import dataclass, replace

from uda.data.raw import check_split
from uda.data.streets import DOMAINS, render
from uda.randomness import generator
from uda.types import Sample, UserError


@dataclass(frozen=True, kw_only=True)
class Streets:
    """`count` scenes that follow from `seed`; the splits are different streams of scenes."""

    count: int = 400
    seed: int = 0
    size: tuple[int, int] = (256, 128)  # width, height

    name = "streets"

    def configured(
        self, *, count: int | None, seed: int, size: tuple[int, int] | None
    ) -> "Streets":
        count = self.count if count is None else count
        return replace(self, count=count, seed=seed, size=size or self.size)

    def domain(self, root: str) -> str:
        if root not in DOMAINS:
            raise UserError(f"streets: got domain {root}, want one of {sorted(DOMAINS)}")
        return root

    def class_list(self, root: str) -> str:
        return "cityscapes19"

    def settings(self, root: str) -> str:
        """Names everything that the look is made of: shards of another one are not the same."""
        return hashlib.sha256(repr(DOMAINS[self.domain(root)]).encode()).hexdigest()[:16]

    def splits(self, root: str) -> tuple[str, ...]:
        return ("train", "val")

    def keys(self, root: str, split: str) -> list[str]:
        self.domain(root)
        check_split(self, root, split)
        return [f"{root}_{split}_{self.seed}_{index:06d}" for index in range(self.count)]

    def load(self, root: str, split: str, key: str) -> Sample:
        index = int(key.rpartition("_")[2])
        # A seed of its own per split: however many scenes are drawn, none is in two splits.
        seed = int(generator(self.seed, f"streets.{split}").integers(2**31))
        width, height = self.size
        image, label = render(DOMAINS[self.domain(root)], seed, index, height, width)
        return Sample(key=key, image=image, label=label, source_path=f"{root}/{split}/{index:06d}")
