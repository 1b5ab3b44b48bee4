"""`make study-pairs`: how alike the class distributions of streets are, raw and re-weighted.

Labels of rendered `game` streets; whole images and the cells of a 2x4 grid. Nothing is trained.
"""

import json
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from tests.record import STUDIES, write_record
from tests.studies._data import shards
from uda.classes import NUM_CLASSES
from uda.data.codec import decode_label
from uda.data.rows import ShardRows
from uda.losses.regions import class_counts
from uda.losses.similarity import (
    Similarity,
    inverse_frequency,
    pairwise_similarity,
    present_classes,
    reweight,
)

STRIDE = 5  # every fifth image: 240 are enough for quantiles
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
GRIDS = {"whole images": (1, 1), "cells of 2x4": (2, 4)}
# presence, power, idf
WEIGHTINGS = {
    "raw": (0.0, 1.0, False),
    "presence, power": (0.01, 0.5, False),
    "presence, power, idf": (0.01, 0.5, True),
}


def main() -> None:
    labels = _labels(shards("streets")["source"])
    figures = {
        grid_name: {
            name: _quantiles(labels, grid, *weighting) for name, weighting in WEIGHTINGS.items()
        }
        for grid_name, grid in GRIDS.items()
    }
    write_record(
        STUDIES / "pairs.json",
        "make study-pairs",
        {"images": len(labels), "quantiles": QUANTILES, "similarity": figures},
        {},
    )
    print(json.dumps(figures, indent=1))


def _labels(folder: Path) -> Tensor:
    rows = ShardRows(folder, labels=True)
    found = []
    for index in range(0, len(rows), STRIDE):
        row = rows.row(index)
        assert row.label is not None
        label = decode_label(row.label, row.height, row.width)
        found.append(torch.from_numpy(label.copy()).long())
    return torch.stack(found)


def _quantiles(
    labels: Tensor, grid: tuple[int, int], presence: float, power: float, idf: bool
) -> dict[str, list[float]]:
    """Of the similarities of all pairs of regions, by kind of similarity."""
    counts = class_counts(labels, grid)[..., :NUM_CLASSES].flatten(0, 1)
    shares = counts / counts.sum(-1, keepdim=True).clamp_min(1)
    containing = present_classes(shares, presence).sum(0)
    rarity = inverse_frequency(containing, torch.tensor(len(shares)))
    q = reweight(shares, presence, power, rarity if idf else torch.ones(NUM_CLASSES))
    pairs = torch.triu_indices(len(q), len(q), offset=1)
    result = {}
    for kind in get_args(Similarity):
        values = pairwise_similarity(q, q, kind)[pairs[0], pairs[1]].sort().values
        places = [int(x * (len(values) - 1)) for x in QUANTILES]
        result[kind] = [round(float(values[place]), 3) for place in places]
    return result


if __name__ == "__main__":
    main()
