"""Which weights of the score would have been best: how `uda.quality.score.WEIGHTS` were chosen.

`python -m tests.studies._fit`, on rendered streets alone; CamVid has no say.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tests.studies._correlation import regret, weighted_spearman
from tests.studies.quality import entries_of
from uda.quality.score import WEIGHTS, combined

# What may have a weight: between 0 and 1, higher is better, of one network alone.
MAY_COUNT = (
    "consistency",
    "consistency_photometric",
    "consistency_flip",
    "consistency_small",
    "consistency_large",
    "consistency_dropout",
    "separation",
    "confusability",
    "proximity",
    "certainty",
    "information",
    "nuclear_norm",
    "source_miou",
)
_QUARTERS = 4
_AT_MOST = 3  # measures with a weight: more would fit the noise
_SHOWN = 15

Weights = Mapping[str, float]
Entries = Mapping[str, dict[str, Any]]


def main() -> None:
    entries = entries_of("streets")
    ranked = sorted(((worth(w, entries), w) for w in choices()), key=lambda each: -each[0])
    print(f"{len(entries)} checkpoints; worth = weighted Spearman - regret / 10 - failures chosen")
    for value, weights in [*ranked[:_SHOWN], (worth(WEIGHTS, entries), WEIGHTS)]:
        said = " + ".join(f"{weight:g} {name}" for name, weight in weights.items())
        mark = "  <- in use" if weights == WEIGHTS else ""
        print(f"{value:7.3f}  {said}{mark}")


def choices() -> Iterator[Weights]:
    """All weights in quarters over up to three measures."""
    for count in range(1, _AT_MOST + 1):
        for names in itertools.combinations(MAY_COUNT, count):
            for parts in itertools.product(range(1, _QUARTERS + 1), repeat=count):
                if sum(parts) == _QUARTERS:
                    yield {n: part / _QUARTERS for n, part in zip(names, parts, strict=True)}


def worth(weights: Weights, entries: Entries) -> float:
    """How well these weights rank and choose; each planted failure that is chosen costs one."""

    def value(entry: dict[str, Any]) -> float:
        measures = {k: math.nan if v is None else v for k, v in entry["measures"].items()}
        return combined(measures, entry.get("whole", 1.0), weights)

    honest = [e for e in entries.values() if not e["planted"]]
    values, truth = np.array([*map(value, honest)]), np.array([e["oracle_miou"] for e in honest])
    first = honest[int(values.argmax())]
    chosen = sum(
        value(e) >= values.max() and e["oracle_miou"] < first["oracle_miou"]
        for e in entries.values()
        if e["planted"]
    )
    return weighted_spearman(values, truth) - regret(values, truth) / 10 - chosen


if __name__ == "__main__":
    main()
