"""What a sampler was asked for and told, as a file: replayed, it goes on as if nothing had been."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from uda.data.write import atomic
from uda.types import UserError

DRAWS_FILE = "draws.jsonl"

_ROUNDING = 1e-9

Changes = Mapping[str, Any]


class Sampler(Protocol):
    """As `tune_spaces.sampler.Sampler` is: the same asks and tells in the same order draw alike."""

    @property
    def pending(self) -> Mapping[int, Changes]: ...

    def ask(self) -> tuple[int, Changes] | None: ...

    def tell(self, number: int, value: float | None) -> None: ...


class Draws:
    """A sampler with a memory: `file` has a line for everything that it is asked and told.

    Raises:
        UserError: the file is of another sampler, or cannot be read.
    """

    def __init__(self, sampler: Sampler, file: Path) -> None:
        self._sampler = sampler
        self._file = file
        self._lines = file.read_text().splitlines() if file.exists() else []
        self.count = 0  # how many points have been drawn
        self.is_exhausted = False  # no other point is left
        for number, line in enumerate(self._lines, 1):
            try:
                self._replay(json.loads(line))
            except (ValueError, KeyError, AssertionError) as error:
                raise UserError(
                    f"resume {file} line {number}: got {line[:60]!r}, want what is drawn now "
                    f"({error}); it takes the versions of uda and Optuna that the search began with"
                ) from None

    @property
    def pending(self) -> Mapping[int, Changes]:
        """The points of trials that have not ended, by number."""
        return self._sampler.pending

    def draw(self) -> tuple[int, Changes] | None:
        """The number and the changes of the next trial; None where there is no other point."""
        drawn = self._sampler.ask()
        if drawn is None:
            self.is_exhausted = True
            return None
        self.count += 1
        self._note({"asked": drawn[0], "changes": _plain(drawn[1])})
        return drawn

    def tell(self, number: int, value: float | None) -> None:
        """How good a trial was, None if it has failed."""
        self._sampler.tell(number, value)
        self._note({"told": number, "value": value})

    def _replay(self, event: dict[str, Any]) -> None:
        if "told" in event:
            self._sampler.tell(event["told"], event["value"])
            return
        drawn = self._sampler.ask()
        if drawn is None or drawn[0] != event["asked"] or not _alike(drawn[1], event["changes"]):
            raise ValueError("which is something else")
        self.count += 1

    def _note(self, event: dict[str, Any]) -> None:
        self._lines.append(json.dumps(event))
        with atomic(self._file) as partial:  # a killed process leaves no half line behind
            partial.write_text("".join(f"{line}\n" for line in self._lines))


def _alike(drawn: Changes, before: Mapping[str, Any]) -> bool:
    """Equal, but for the last digits of numbers: another processor may round them otherwise."""
    now = _plain(drawn)
    return now.keys() == before.keys() and all(
        math.isclose(value, before[path], rel_tol=_ROUNDING)
        if isinstance(value, float) and isinstance(before[path], float)
        else (type(value), value) == (type(before[path]), before[path])
        for path, value in now.items()
    )


def _plain(changes: Changes) -> dict[str, Any]:
    """As JSON reads it back: tuples are lists."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(changes)))
    return plain
