"""Discriminators that teach nothing any more, told from their logged accuracies."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from uda.types import HEALTH

_CERTAIN = 0.98  # from here on the network does not fool it, and its verdict has hardly a slope
_MARGIN = 0.02  # with a mean as close to one half it does not tell the domains apart


@dataclass(frozen=True)
class News:
    """What one line of the log says: scalars to log with it, and sentences for the user."""

    scalars: dict[str, float] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)


class CollapseWatch:
    """Follows the accuracies `health/<level>/accuracy` from one log line to the next.

    It looks back at a window: the latest lines with the accuracy, as many as it takes for
    `num_lines` that are at least `num_steps` apart from first to last. A discriminator has
    collapsed when its accuracy was 0.98 or more on every line of the window, or within 0.02 of one
    half in the mean over the window: of a few verdicts a line, flipped coins are close to one half
    in the mean alone. It is said once, until it is no longer so; for the mean, not before it is
    0.04 away, for flipped coins come and go at the edge. A line without the accuracy, because the
    discriminator did not learn since the line before, is passed over.

    Nothing of it is saved: a resumed run starts a watch of its own, so that a report may come later
    than it would have, or once more.
    """

    def __init__(self, levels: Iterable[str], *, num_lines: int = 10, num_steps: int = 200) -> None:
        self._num_lines = num_lines
        self._num_steps = num_steps
        self._windows = {level: _Window() for level in levels}

    def look(self, step: int, scalars: Mapping[str, float]) -> News:
        """Takes note of the line of `step`; gives `health/<level>/collapsed` (0 or 1) and news."""
        news = News()
        for level, window in self._windows.items():
            accuracy = scalars.get(f"{HEALTH}{level}/accuracy")
            if accuracy is None:
                continue
            before = window.state
            window.add(step, accuracy, self._num_lines, self._num_steps)
            news.scalars[f"{HEALTH}{level}/collapsed"] = float(window.state != "")
            if window.state not in ("", before):
                news.sentences.append(_sentence(level, window))
        return news


@dataclass
class _Window:
    """Steps and accuracies of the latest lines, and what they say."""

    lines: deque[tuple[int, float]] = field(default_factory=deque)
    state: str = ""  # "certain", "blind", or "" where the sides are in balance or lines are too few

    def add(self, step: int, accuracy: float, num_lines: int, num_steps: int) -> None:
        self.lines.append((step, accuracy))
        while len(self.lines) > num_lines and step - self.lines[1][0] >= num_steps:
            self.lines.popleft()
        if len(self.lines) < num_lines or step - self.lines[0][0] < num_steps:
            return
        if min(value for _, value in self.lines) >= _CERTAIN:
            self.state = "certain"
        elif abs(self.mean - 0.5) <= (2 * _MARGIN if self.state == "blind" else _MARGIN):
            self.state = "blind"
        else:
            self.state = ""

    @property
    def mean(self) -> float:
        return sum(value for _, value in self.lines) / len(self.lines)


def _sentence(level: str, window: _Window) -> str:
    (first, _), (last, accuracy) = window.lines[0], window.lines[-1]
    if window.state == "certain":
        return (
            f"levels.{level}: the discriminator has not been fooled since step {first} (accuracy "
            f"{accuracy:.3f} at step {last}), its gradient teaches nothing; try a lower lr_factor "
            "or a higher learn_every"
        )
    return (
        f"levels.{level}: the discriminator has not told the domains apart since step {first} "
        f"(mean accuracy {window.mean:.3f} until step {last}); either they look alike there or it "
        "does not learn: try a higher lr_factor or a lower weight"
    )
