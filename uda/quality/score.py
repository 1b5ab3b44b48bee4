"""The score: one number between 0 and 1 that says how well a network has come to the target."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from uda.classes import CLASS_NAMES
from uda.quality import MEASURES, Evidence, measure

# Exponents of a geometric mean, so that what is near 0 in one way is near 0 altogether. Chosen once
# on rendered streets (`python -m tests.studies._fit`: 89 checkpoints, 24 runs) and frozen: nothing
# is refitted to other data. None of them grows when a network is merely surer of the same.
WEIGHTS: dict[str, float] = {
    "consistency_small": 0.5,
    "consistency_dropout": 0.25,
    "proximity": 0.25,
}
# Factors: they are 1 for a network in order and make collapsed ones worthless. Classes that are
# never predicted need none: they count 0 in each of the measures above.
GUARDS = ("prior_fit",)


@dataclass(frozen=True, kw_only=True)
class Score:
    """`quality` in [0, 1], its `measures` by name, and in `notes` what to be wary of."""

    quality: float
    measures: dict[str, float]
    notes: tuple[str, ...] = ()

    def json(self) -> dict[str, object]:
        """Plain values; a measure that there is nothing to judge by is null."""
        return {
            "quality": self.quality,
            "measures": {k: v if math.isfinite(v) else None for k, v in self.measures.items()},
            "notes": list(self.notes),
        }


def score(evidence: Evidence) -> Score:
    """Never fails and never NaN: evidence that says nothing has quality 0 and a note."""
    measures = measure(evidence)
    assert measures.keys() == MEASURES.keys()
    quality = combined(measures, evidence.target.whole)
    return Score(quality=quality, measures=measures, notes=_notes(evidence))


def combined(
    measures: Mapping[str, float], whole: float = 1.0, weights: Mapping[str, float] = WEIGHTS
) -> float:
    """The geometric mean of the measures by `weights` times all `GUARDS`, 0 to 1; NaN counts 0.

    And times `whole`, the share of the target images whose scores are numbers.
    """
    logs = sum(weight * _log(measures[name]) for name, weight in weights.items())
    guards = math.prod(max(0.0, _number(measures[name])) for name in GUARDS)
    return min(1.0, max(0.0, whole * math.exp(logs / sum(weights.values())) * guards))


def _notes(evidence: Evidence) -> tuple[str, ...]:
    target, notes = evidence.target, []
    if not target.images:
        notes.append("no target image was seen: quality 0")
    if target.broken:
        notes.append(f"scores are not finite in {target.broken} of {target.images} target images")
    source = evidence.source.seen
    if source.images == source.broken:
        notes.append("no source image was seen, so no class is expected: quality 0")
    elif not len(evidence.expected):
        notes.append("no source pixel has a label, so no class is expected: quality 0")
    if target.images > target.broken:
        missing = [CLASS_NAMES[k] for k in evidence.expected if not target.predicted[k]]
        if (target.predicted > 0).sum() == 1:
            notes.append("one class is predicted everywhere")
        elif missing:
            notes.append(f"expected classes that are never predicted: {', '.join(missing)}")
    return tuple(notes)


def _number(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _log(value: float) -> float:
    return math.log(max(1e-9, _number(value)))
