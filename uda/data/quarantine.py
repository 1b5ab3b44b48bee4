"""Inputs of a raw data set that did not become samples: which ones, and why."""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from uda.types import UserError

QUARANTINE_FILE = "quarantine.jsonl"
ON_ERROR = ("quarantine", "fail")
_SAME_IMAGE = "same image as"


@dataclass(frozen=True, kw_only=True)
class BadInput:
    """`source_path` is that of the image, below the data set's root; empty where it is unknown."""

    key: str
    source_path: str
    reason: str

    @property
    def kind(self) -> str:
        """The reason without what differs from input to input: files, numbers, what is wanted."""
        if self.reason.startswith(_SAME_IMAGE):
            return f"{_SAME_IMAGE} another"
        text = _FILE.sub("FILE", self.reason).removeprefix("FILE: ").partition(", want ")[0]
        # Not the digits of PIL's mode I;16.
        return re.sub(r"N(, N)+( and N more)?", "N", re.sub(r"(?<![;\d])\d+", "N", text))


# A word with a slash or a suffix. Names with spaces are found in part: then kinds are finer.
_FILE = re.compile(r"[^\s:,]*/[^\s:,]*|[^\s:,]+\.[A-Za-z]{3,4}(?![\w.])")


def duplicate(key: str, source_path: str, first: str) -> BadInput:
    """A sample that shows what sample `first` shows."""
    return BadInput(key=key, source_path=source_path, reason=f"{_SAME_IMAGE} {first}")


def quarantine_text(bad: Iterable[BadInput]) -> str:
    """One JSON object per line, by key."""
    ordered = sorted(bad, key=lambda each: each.key)
    return "".join(json.dumps(asdict(each)) + "\n" for each in ordered)


def parse_quarantine(text: str) -> list[BadInput]:
    """ValueError or TypeError where the text is not what `quarantine_text` wrote."""
    return [BadInput(**json.loads(line)) for line in text.splitlines()]


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How many bad inputs are too many. Decides whether shards are made, never what is in them."""

    on_error: str
    max_bad: float  # share of the inputs, 0..1

    def __post_init__(self) -> None:
        if self.on_error not in ON_ERROR:
            raise UserError(f"on_error: got {self.on_error}, want one of {list(ON_ERROR)}")
        if not 0 <= self.max_bad <= 1:
            raise UserError(f"max_bad: got {self.max_bad:g}, want a share from 0 to 1")

    def check(self, root: str, bad: list[BadInput], inputs: int) -> None:
        """UserError where `bad` are too many of so many `inputs`, or not one would be left."""
        if not bad:
            return
        first = min(bad, key=lambda each: each.key)
        cause = f"{first.key}: {first.reason}"
        if self.on_error == "fail":
            raise UserError(f"{root}: bad inputs: got one, want none (--on-error fail): {cause}")
        if len(bad) == inputs:
            raise UserError(f"{root}: bad inputs: got all {inputs}; the first: {cause}")
        if len(bad) > self.max_bad * inputs:
            raise UserError(
                f"{root}: bad inputs: got at least {len(bad)} of {inputs}, want at most "
                f"{100 * self.max_bad:g}% (--max-bad); the first: {cause}"
            )
