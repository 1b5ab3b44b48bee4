"""A space: a question about a preset, as dotted config paths with a domain each."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tune_spaces.domains import Domain, Drawn, OfRun, SharesOfRun, Value
from uda.config import Config
from uda.presets import preset
from uda.tree import override, to_plain
from uda.types import UserError

Changes = dict[str, Value]
Suggest = Callable[[str, Drawn], Value]

MAX_GRID = 10_000  # nobody trains as often; a grid of many paths would fill the memory


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A path is drawn only where `path`, drawn before it, has got one of `values`.

    Without `values`: where it is on, neither 0 nor false.
    """

    path: str
    values: tuple[Value, ...] = ()

    def met_by(self, value: Value | None) -> bool:
        """None: it was not drawn itself."""
        return value in self.values if self.values else bool(value)


def where(path: str, *values: Value) -> Condition:
    """The condition that `path` has got one of the values, or without any that it is on."""
    return Condition(path=path, values=values)


@dataclass(frozen=True, kw_only=True)
class Space:
    """What a search may change, and on what. `dataclasses.replace` asks it of another preset.

    - `question`: what the search is to answer, for help texts and the report.
    - `preset`: what is changed; a preset's name.
    - `domains`: dotted paths, as of `uda train --set`, and what may stand there, drawn in order.
    - `conditions`: of paths that mean something only beside others.
    - `fixed`: what every trial has beside, as of `--set`. Such a path is not drawn any more.
    - `steps`: of each trial; None for the preset's own. Domains in shares of the run follow it.
    """

    question: str
    preset: str
    domains: Mapping[str, Domain]
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    steps: int | None = None

    @property
    def run_steps(self) -> int:
        """The length of a trial."""
        return self.config({}).steps

    def config(self, changes: Mapping[str, Value]) -> Config:
        """The preset with these changes; UserError as of `uda.tree.override`."""
        return override(self._preset, {**self.fixed, **changes})

    @cached_property
    def resolved(self) -> dict[str, Drawn]:
        """The domains of what is drawn, with steps for shares of the run."""
        steps = self.run_steps
        return {
            path: domain.at(steps) if isinstance(domain, OfRun | SharesOfRun) else domain
            for path, domain in self.domains.items()
            if path not in self.fixed
        }

    def draw(self, suggest: Suggest) -> Changes:
        """One point: a value for every path whose condition is met."""
        changes: Changes = {}
        for path, domain in self.resolved.items():
            if self._is_drawn(path, changes):
                changes[path] = suggest(path, domain)
        return changes

    def start_values(self) -> Changes:
        """The preset's own values, where it has any, at the paths that a draw would have."""
        plain = to_plain(self.config({}))
        own = {path: value for path in self.domains if (value := _at(plain, path)) is not None}
        changes: Changes = {}
        for path in self.resolved:
            if path in own and self._is_drawn(path, changes):
                changes[path] = own[path]
        return changes

    def holds(self, changes: Mapping[str, Value]) -> bool:
        """Whether these changes could be drawn."""
        domains = self.resolved
        drawn = {path for path in domains if self._is_drawn(path, changes)}
        return drawn == changes.keys() and all(domains[p].holds(changes[p]) for p in drawn)

    def grid(self, points: int) -> list[Changes]:
        """Every choice with every other, and with `points` numbers of each range.

        Raises:
            UserError: there are more than ten thousand.
        """
        every = self._branches(list(self.resolved.items()), {}, points)
        found = list(itertools.islice(every, MAX_GRID + 1))
        if len(found) > MAX_GRID:
            raise UserError(
                f"grid: got more than {MAX_GRID} points of {len(self.domains)} paths, want less: "
                "fix some paths, take fewer points, or draw them at random"
            )
        return found

    def check(self) -> None:
        """Both ends of every range and every choice build, beside the ends of all others.

        Raises:
            UserError: naming the path at which something is unknown, empty, out of range, of the
                wrong type, or depends on what is not drawn before it.
        """
        if not self.resolved:
            fixed = ", ".join(self.fixed) or "none"
            raise UserError(f"space: got no path to draw, want one or more; fixed: {fixed}")
        for path, given in self.domains.items():
            if flaw := given.flaw:
                raise UserError(f"{path}: {flaw}")
        for path, domain in self.resolved.items():
            if flaw := domain.flaw:
                raise UserError(f"{path}: {flaw}, of {self.run_steps} steps")
        for path in self.conditions:
            self._check_condition(path)
        for changes in self._corners():
            self.config(changes)

    @cached_property
    def _preset(self) -> Config:
        return preset(self.preset, self.steps)

    def _check_condition(self, path: str) -> None:
        condition = self.conditions[path]
        known = list(self.domains)
        if path not in known:
            raise UserError(f"{path}: has a condition but no domain; have {', '.join(known)}")
        before = known[: known.index(path)]
        if condition.path not in before and condition.path not in self.fixed:
            raise UserError(
                f"{path}: depends on {condition.path}, which is not drawn before it; "
                f"have {', '.join(before) or 'none'}"
            )
        if condition.path in self.fixed:
            return
        ends = self.resolved[condition.path].ends
        unheard = [value for value in condition.values if value not in ends]
        if unheard or not any(map(condition.met_by, ends)):
            wanted = " or ".join(map(repr, condition.values)) or "on"
            raise UserError(f"{path}: wants {condition.path} to be {wanted}, which has {ends}")

    def _corners(self) -> list[Changes]:
        """Every end of every domain beside both ends of all others, each point once."""
        points = [
            self._corner(path, value, end)
            for path, domain in self.resolved.items()
            for value in domain.ends
            for end in (0, -1)
        ]
        return list({tuple(point.items()): point for point in points}.values())

    def _corner(self, path: str, value: Value, end: int) -> Changes:
        """A point with `value` at `path`, what that depends on, and one end of everything else."""
        domains = self.resolved
        pinned = {path: value}
        while (condition := self.conditions.get(path)) and condition.path in domains:
            path = condition.path
            pinned[path] = next(v for v in domains[path].ends if condition.met_by(v))
        return self.draw(lambda other, domain: pinned.get(other, domain.ends[end]))

    def _is_drawn(self, path: str, changes: Mapping[str, Value]) -> bool:
        condition = self.conditions.get(path)
        if condition is None:
            return True
        return condition.met_by(changes.get(condition.path, self.fixed.get(condition.path)))

    def _branches(
        self, rest: list[tuple[str, Drawn]], changes: Changes, points: int
    ) -> Iterator[Changes]:
        if not rest:
            yield changes
            return
        (path, domain), *later = rest
        if not self._is_drawn(path, changes):
            yield from self._branches(later, changes, points)
            return
        for value in domain.grid(points):
            yield from self._branches(later, {**changes, path: value}, points)


def _at(plain: Any, path: str) -> Any:
    """What stands at `path` of a plain tree, of a schedule its value; None where nothing does."""
    for name in path.split("."):
        plain = plain.get(name) if isinstance(plain, dict) else None
    if isinstance(plain, dict):
        return plain.get("value")
    return tuple(plain) if isinstance(plain, list) else plain
