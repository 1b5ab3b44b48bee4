"""Domains: what may stand at a path of the config."""

import math
from dataclasses import dataclass

Value = float | int | str | bool | tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """`low` to `high`, both included.

    - `log`: all orders of magnitude alike, instead of all numbers alike.
    - `whole`: whole numbers only.
    - `or_zero`: or 0, which switches something off; for random draws as likely as all the rest.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False
    or_zero: bool = False

    @property
    def flaw(self) -> str:
        """Why nothing can be drawn, empty if something can."""
        if not -math.inf < self.low <= self.high < math.inf:
            return f"got {self.low:g} to {self.high:g}, want low <= high, both finite"
        if self.whole and not (isinstance(self.low, int) and isinstance(self.high, int)):
            return f"got {self.low!r} to {self.high!r}, want whole numbers"
        if self.log and self.low <= 0:
            return f"got {self.low:g} to {self.high:g} by orders of magnitude, want low > 0"
        if self.or_zero and self.low <= 0 <= self.high:
            return f"got {self.low:g} to {self.high:g} or 0, want a range without 0"
        return ""

    @property
    def ends(self) -> tuple[Value, ...]:
        return (*self._zeros, self.low, self.high)

    def holds(self, value: Value) -> bool:
        if isinstance(value, bool | str | tuple):
            return False
        return (self.or_zero and value == 0) or self.low <= value <= self.high

    def grid(self, points: int) -> tuple[Value, ...]:
        """`points` numbers from `low` to `high`, or the one in the middle; 0 beside them."""
        shares = [i / (points - 1) for i in range(points)] if points > 1 else [0.5]
        numbers = [self._at(share) for share in shares]
        return tuple(dict.fromkeys((*self._zeros, *numbers)))

    @property
    def zero(self) -> float:
        """0, in the type of the numbers."""
        return type(self.low)(0)

    @property
    def _zeros(self) -> tuple[float, ...]:
        return (self.zero,) if self.or_zero else ()

    def _at(self, share: float) -> float:
        """`share` of the way from `low` to `high`."""
        if share in (0, 1):  # exactly: rounding must not lead out of the range
            return self.high if share else self.low
        if self.log:
            number = self.low * (self.high / self.low) ** share
        else:
            number = self.low + (self.high - self.low) * share
        return round(number) if self.whole else number


@dataclass(frozen=True)
class Choice:
    """One of the values, which are in no order."""

    values: tuple[Value, ...]

    @property
    def flaw(self) -> str:
        """Why nothing can be drawn, empty if something can."""
        if not self.values or len(set(self.values)) < len(self.values):
            return f"got {list(self.values)}, want one value or more, each once"
        return ""

    @property
    def ends(self) -> tuple[Value, ...]:
        """All of them: none stands for another."""
        return self.values

    def holds(self, value: Value) -> bool:
        return value in self.values

    def grid(self, points: int) -> tuple[Value, ...]:
        return self.values


Drawn = Numbers | Choice


@dataclass(frozen=True)
class OfRun:
    """Whole numbers of steps from `low` to `high`, given as shares of the run's length."""

    low: float
    high: float

    @property
    def flaw(self) -> str:
        """Why nothing can be drawn of any run, empty if something can."""
        if not 0 <= self.low <= self.high <= 1:
            return f"got {self.low:g} to {self.high:g} of the run, want 0 <= low <= high <= 1"
        return ""

    def at(self, steps: int) -> Numbers:
        """In steps, none of them outside of the shares: ranges apart never meet, however short."""
        # 0.29 * 100 is 28.999999999999996 in floating point, and yet 29 steps.
        low, high = (round(share * steps, 9) for share in (self.low, self.high))
        return Numbers(low=math.ceil(low), high=math.floor(high), whole=True)


@dataclass(frozen=True)
class SharesOfRun:
    """One of these shares of the run's length, in whole steps."""

    shares: tuple[float, ...]

    @property
    def flaw(self) -> str:
        """Why nothing can be drawn of any run, empty if something can."""
        if not self.shares or not all(0 <= share <= 1 for share in self.shares):
            return f"got {list(self.shares)} of the run, want one share or more, 0 to 1"
        return ""

    def at(self, steps: int) -> Choice:
        """In steps; shares that are the same step of a short run are one choice."""
        return Choice(tuple(dict.fromkeys(math.floor(round(s * steps, 9)) for s in self.shares)))


Domain = Drawn | OfRun | SharesOfRun


def uniform(low: float, high: float) -> Numbers:
    """Any number from `low` to `high`, all alike."""
    return Numbers(low=float(low), high=float(high))


def loguniform(low: float, high: float, *, or_zero: bool = False) -> Numbers:
    """Any number from `low` to `high`, all orders of magnitude alike; or 0, which switches off."""
    return Numbers(low=float(low), high=float(high), log=True, or_zero=or_zero)


def integers(low: int, high: int, *, log: bool = False) -> Numbers:
    """Any whole number from `low` to `high`."""
    return Numbers(low=low, high=high, log=log, whole=True)


def choice(*values: Value) -> Choice:
    """One of the values."""
    return Choice(values)


def shares_of_run(*shares: float) -> SharesOfRun:
    """The step at one of these shares of the run."""
    return SharesOfRun(shares)


def of_run(low: float, high: float) -> OfRun:
    """Any step from the share `low` of the run to the share `high`."""
    return OfRun(low, high)
