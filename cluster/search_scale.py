"""Where values of a parameter stand on its axis: by size, by order of magnitude, or in a row."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster.search_words import cut, show_value
from cluster.trials import Axis, Value

LABEL_WIDTH = 20  # of a name or a word beside an axis
SLOT = 0.12  # of an axis: the distance to what stands apart from its numbers

_TICKS = 5
_NEAREST = 0.08  # of an axis: ticks that come closer to its ends are left out


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Places from `low` to `high`; the 0 of a logarithmic axis stands apart, below the others.

    Room is there for all that may be drawn, and for what else was set.
    """

    axis: Axis
    words: tuple[str, ...]  # of a choice
    low: float
    high: float
    first: float  # the place of the least number; above `low` where a 0 stands apart

    @classmethod
    def of(cls, axis: Axis, values: Sequence[Value | None]) -> "Scale":
        """The scale of an axis on which these values are to be shown; None has no place."""
        used = [value for value in values if value is not None]
        if axis.kind == "choice":
            words = tuple(dict.fromkeys(_word(value) for value in (*axis.values, *used)))
            return cls(axis=axis, words=words, low=0, high=len(words) - 1, first=0)
        numbers = [axis.low, axis.high, *(float(value) for value in used)]
        numbers += [0.0] if axis.or_zero else []
        if axis.kind == "linear":
            low, high = min(numbers), max(numbers)
            return cls(axis=axis, words=(), low=low, high=high, first=low)
        places = [math.log10(number) for number in numbers if number > 0]
        first, high = min(places), max(places)
        low = first if min(numbers) > 0 else first - SLOT * (high - first or 1.0)
        return cls(axis=axis, words=(), low=low, high=high, first=first)

    @property
    def span(self) -> float:
        return self.high - self.low or 1.0

    def place(self, value: Value) -> float:
        if self.axis.kind == "choice":
            return float(self.words.index(_word(value)))
        number = float(value)
        if self.axis.kind == "log":
            return math.log10(number) if number > 0 else self.low
        return number

    @property
    def ticks(self) -> dict[float, str]:
        """Words, or the ends and round numbers between them, by their places."""
        if self.axis.kind == "choice":
            return {float(place): word for place, word in enumerate(self.words)}
        if self.axis.kind == "linear":
            return {n: show_value(n) for n in _with_ends(self.low, self.high, _round_numbers)}
        zero = {self.low: "0"} if self.low < self.first else {}
        numbers = _with_ends(self.first, self.high, _whole_numbers)
        return zero | {place: show_value(10**place) for place in numbers}


def _with_ends(
    low: float, high: float, between: Callable[[float, float], Sequence[float]]
) -> list[float]:
    room = _NEAREST * (high - low)
    inside = (place for place in between(low, high) if low + room < place < high - room)
    return list(dict.fromkeys([low, *inside, high]))


def _whole_numbers(low: float, high: float) -> Sequence[float]:
    """Powers of ten, as `low` and `high` are logarithms: each, or each other one, and so on."""
    step = math.ceil((high - low) / _TICKS / 1.5) or 1
    return range(math.ceil(low), math.floor(high) + 1, step)


def _round_numbers(low: float, high: float) -> Sequence[float]:
    """Multiples of 1, 2 or 5 times a power of ten."""
    if high <= low:
        return []
    least = (high - low) / _TICKS
    power = 10 ** math.floor(math.log10(least))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * 0.999)
    return [step * count for count in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _word(value: Value) -> str:
    return cut(show_value(value), LABEL_WIDTH)
