"""A made-up data set in CamVid's form, and shard folders of it, for tests of the data layer."""

from pathlib import Path

import numpy as np
from PIL import Image

from uda.data.prepare import prepare


def write_camvid(
    root: Path, split: str = "train", *, count: int = 6, height: int = 40, width: int = 56
) -> Path:
    """Random images; labels are blocks of random raw ids 0..11 of 8 x 8 pixels."""
    draws = np.random.default_rng([count, height, width])
    for folder in (root / split, root / f"{split}annot"):
        folder.mkdir(parents=True)
    for number in range(count):
        key = f"seq_{number:03d}"
        image = draws.integers(0, 256, (height, width, 3), np.uint8)
        ids = draws.integers(0, 12, (-(-height // 8), -(-width // 8)), np.uint8)
        ids = ids.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
        Image.fromarray(image).save(root / split / f"{key}.jpg", quality=90)
        Image.fromarray(ids).save(root / f"{split}annot" / f"{key}.png")
    return root


def make_shards(folder: Path, *, rows_per_shard: int = 4, codec: str = "jpeg", **options) -> Path:
    """A shard folder `folder/shards` of `write_camvid(folder / "raw", **options)`."""
    root = write_camvid(folder / "raw", **options)
    out = folder / "shards"
    prepare(
        "camvid",
        str(root),
        out,
        "train",
        codec=codec,
        rows_per_shard=rows_per_shard,
        progress=False,
    )
    return out
