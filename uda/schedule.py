"""Strengths that change during training, as pure functions of the step.

There is nothing to save, to plot wrongly or to resume wrongly: the value at a step depends on the
step alone.
"""

import math
from dataclasses import dataclass
from typing import Literal

Decay = Literal["none", "linear", "poly", "cosine"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """`value` during [start, stop), zero outside; optionally ramped in and faded out.

    - `ramp`: number of steps over which the value rises linearly from the start.
    - `decay`: how it falls to zero at `stop`: not at all, `linear`, `poly` ((1 - progress) ** 0.9,
      the field's usual learning-rate curve) or `cosine`.
    - `stop`: first step at which the value is zero for good; 0 means never, and needs decay "none".
    """

    value: float
    start: int = 0
    stop: int = 0
    ramp: int = 0
    decay: Decay = "none"

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"value: got {self.value}, want a finite number")
        if min(self.start, self.stop, self.ramp) < 0:
            raise ValueError(
                f"start, stop, ramp: got {self.start}, {self.stop}, {self.ramp}, want >= 0"
            )
        if self.stop and self.stop <= self.start:
            raise ValueError(
                f"stop: got {self.stop}, want more than start = {self.start} (or 0: never)"
            )
        if self.decay != "none" and not self.stop:
            raise ValueError(f"decay: got {self.decay!r} without a stop step to decay to")
        if self.decay not in ("none", "linear", "poly", "cosine"):
            raise ValueError(f"decay: got {self.decay!r}, want one of none, linear, poly, cosine")

    def at(self, step: int) -> float:
        """The strength at `step` (0 is the first step)."""
        if step < self.start or (self.stop and step >= self.stop):
            return 0.0
        rise = min(1.0, (step - self.start + 1) / self.ramp) if self.ramp else 1.0
        if self.decay == "none":
            return self.value * rise
        progress = (step - self.start) / (self.stop - self.start)
        fall = {
            "linear": 1.0 - progress,
            "poly": (1.0 - progress) ** 0.9,
            "cosine": 0.5 * (1.0 + math.cos(math.pi * progress)),
        }[self.decay]
        return self.value * rise * fall

    @property
    def is_off(self) -> bool:
        """True if the strength is zero at every step: the part is then not even built."""
        return self.value == 0.0

    def pauses_before(self, steps: int) -> bool:
        """True if the strength is zero at some, but not all, of the first `steps` steps."""
        return not self.is_off and (self.start > 0 or 0 < self.stop < steps)


def constant(value: float) -> Schedule:
    """The same strength at every step."""
    return Schedule(value=value)
