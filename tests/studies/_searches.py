"""What searches over the table come to, by what they are judged by; and what the table itself says.

A judge guides a search and takes the network in the end:

- "quality": label-free.
- "source": mIoU on labelled source images that no training has seen.
- "end": guided by quality, and taken by it, but from the networks at the end of their training.
- "lot": guided by quality, but the network taken is that of the trial that ended last.
- "oracle": mIoU by the target's test labels.

Whatever the judge, a result is told by its true mIoU, which is the oracle's.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.studies._correlation import spearman
from tests.studies._lattice import AXES, HAND_SET, SPACE, Key, value_at
from tests.studies._replay import CONCURRENT, Search, Seen, incumbents, replay
from tests.studies._table import MEASURES, Filled, Row, Table
from tune_spaces.space import Space
from uda.quality.score import GUARDS, WEIGHTS

TRIALS = 20  # as `uda tune` has it, of the lattice's 48
GUIDES = {
    "quality": "quality",
    "source": "source",
    "end": "quality",
    "lot": "quality",
    "oracle": "oracle",
}


def searches(points: int) -> dict[str, Search]:
    """By name; the grid is all of a lattice of so many points, to the end."""
    return {
        "random": Search(kind="random", trials=TRIALS),
        "tpe": Search(kind="tpe", trials=TRIALS),
        "asha": Search(kind="random", trials=TRIALS, halving=True),
        "asha_tpe": Search(kind="tpe", trials=TRIALS, halving=True),
        "grid": Search(kind="grid", trials=points),
    }


def figures(filled: Filled, repeats: int, share: float) -> dict[str, Any]:
    """The record but for its goals; after `share` of a search's steps all are compared."""
    table = filled.table
    every = {name: outcomes(table, SPACE, search, repeats, share)
             for name, search in searches(len(table)).items()}  # fmt: skip
    return {
        "points": len(table),
        "steps": table[HAND_SET].steps,
        "trials": TRIALS,
        "concurrent": CONCURRENT,
        "repeats": repeats,
        "compared_after": share,
        "score": {"weights": WEIGHTS, "guards": GUARDS},
        "best": round(best_of(table), 3),
        "mean_at_end": round(statistics.mean(r.values["oracle"][-1] for r in table.values()), 3),
        "hand_set": _hand_set(table[HAND_SET]),
        "searches": every,
        "predicts": predicts(table),
        "choices": choices(table),
        "made": filled.made,
        "table": [_plain(key, row) for key, row in table.items()],
    }


def outcomes(
    table: Table, space: Space, search: Search, repeats: int, share: float
) -> dict[str, dict[str, Any]]:
    """By judge: true mIoU of what is taken, and how it grows with the steps spent.

    Their `share` is of the steps that all trials of the search would take to their end, and
    `of_lattice` of those of the whole table.
    """
    guides = dict.fromkeys(GUIDES.values()) if search.is_guided else ["quality"]
    seen = {guide: [replay(table, space, search, guide, seed) for seed in range(repeats)]
            for guide in guides}  # fmt: skip
    whole = search.trials * next(iter(table.values())).steps[-1]
    return {
        judge: _outcome(
            table, seen[guide if search.is_guided else "quality"], judge, whole, share * whole
        )
        for judge, guide in GUIDES.items()
    }


def _outcome(
    table: Table, repeats: Sequence[Sequence[Seen]], judge: str, whole: int, compared_at: float
) -> dict[str, Any]:
    interval = next(iter(table.values())).steps[0]
    curves = [curve_of(seen, judge, interval) for seen in repeats]
    true = [curve[-1] for curve in curves]
    curve = mean_curve(curves)
    spent = statistics.mean(seen[-1].spent for seen in repeats)
    return {
        "true_miou": round(statistics.mean(true), 3),
        "deviation": round(statistics.pstdev(true), 3),
        "regret": round(best_of(table) - statistics.mean(true), 3),
        "share": round(spent / whole, 4),
        "of_lattice": round(spent / steps_of(table), 4),
        "compared": round(curve[min(len(curve), max(1, int(compared_at / interval))) - 1], 3),
        "curve": [round(value, 3) for value in curve],
    }


def curve_of(seen: Sequence[Seen], judge: str, interval: int) -> list[float]:
    """True mIoU of what would be taken after each `interval` of steps spent, to the end."""
    taken = list(incumbents(seen, judge))
    curve, place = [], 0
    for spent in range(interval, seen[-1].spent + 1, interval):
        while place + 1 < len(seen) and seen[place + 1].spent <= spent:
            place += 1
        curve.append(taken[place].value("oracle"))
    return curve


def mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    """Of searches of several lengths: what has ended stays where it is."""
    longest = max(map(len, curves))
    padded = [[*curve, *[curve[-1]] * (longest - len(curve))] for curve in curves]
    return [statistics.mean(values) for values in zip(*padded, strict=True)]


def steps_of(table: Table) -> int:
    """Of all points, each to its end."""
    return sum(row.steps[-1] for row in table.values())


def best_of(table: Table) -> float:
    """The highest true mIoU of all checkpoints."""
    return max(max(row.values["oracle"]) for row in table.values())


def _hand_set(row: Row) -> dict[str, float]:
    """True mIoU of the checkpoint of the highest quality, as that of a trial, and of the last."""
    quality, oracle = row.values["quality"], row.values["oracle"]
    chosen = max(range(len(quality)), key=lambda index: (quality[index], index))
    return {"true_miou": oracle[chosen], "last": oracle[-1], "quality": round(max(quality), 4)}


def predicts(table: Table) -> dict[str, list[float | None]]:
    """Rank correlation of a measure at every checkpoint with true mIoU at the end."""
    end = np.array([row.values["oracle"][-1] for row in table.values()])
    found: dict[str, list[float | None]] = {}
    for name in MEASURES:
        columns = zip(*(row.values[name] for row in table.values()), strict=True)
        values = [spearman(np.array(column), end) for column in columns]
        found[name] = [round(value, 3) if np.isfinite(value) else None for value in values]
    return found


def choices(table: Table) -> dict[str, list[dict[str, Any]]]:
    """At the end, over all points that have a value: means, for every value of every axis.

    A value of None is that of points where what the axis belongs to is off.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for axis in AXES:
        found[axis] = []
        for value in dict.fromkeys(value_at(key, axis) for key in table):
            rows = [row for key, row in table.items() if value_at(key, axis) == value]
            ends = {name: [row.values[name][-1] for row in rows] for name in MEASURES}
            means = {name: round(statistics.mean(values), 4) for name, values in ends.items()}
            spread = round(statistics.pstdev(ends["oracle"]), 3)
            found[axis].append({"value": value, "points": len(rows), **means, "spread": spread})
    return found


def _plain(key: Key, row: Row) -> dict[str, Any]:
    at = {axis: value_at(key, axis) for axis in AXES}
    values: Mapping[str, Any] = {name: [round(v, 4) for v in row.values[name]] for name in MEASURES}
    return {"at": at, **values}
