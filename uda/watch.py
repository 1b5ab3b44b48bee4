"""Discriminators that teach nothing any more, told from their logged accuracies."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from uda.types import HEALTH

_CERTAIN = 0.98  # from here on the network does not fool it, and its verdict has hardly a slope
_MARGIN = 0.02  # as close to one half it does not tell the domains apart


@dataclass(frozen=True)
class News:
    """What one line of the log says: scalars to log with it, and sentences for the user."""

    scalars: dict[str, float] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)


class CollapseWatch:
    """Follows the accuracies `health/<level>/accuracy` from one log line to the next.

    A discriminator has collapsed when its accuracy was 0.98 or more, or within 0.02 of one half,
    on `num_lines` lines in a row that are at least `num_steps` apart from first to last. It is
    said once, until a line on which the accuracy is no longer so. A line without the accuracy,
    because the discriminator did not learn since the line before, is passed over.

    Nothing of it is saved: a resumed run starts a watch of its own, so that a report may come later
    than it would have, or once more.
    """

    def __init__(self, levels: Iterable[str], *, num_lines: int = 10, num_steps: int = 200) -> None:
        self._num_lines = num_lines
        self._num_steps = num_steps
        self._spells = {level: _Spell() for level in levels}

    def look(self, step: int, scalars: Mapping[str, float]) -> News:
        """Takes note of the line of `step`; gives `health/<level>/collapsed` (0 or 1) and news."""
        news = News()
        for level, spell in self._spells.items():
            accuracy = scalars.get(f"{HEALTH}{level}/accuracy")
            if accuracy is None:
                continue
            spell.go_on(_state_of(accuracy), step)
            collapsed = (
                spell.state != ""
                and spell.lines >= self._num_lines
                and step - spell.first_step >= self._num_steps
            )
            news.scalars[f"{HEALTH}{level}/collapsed"] = float(collapsed)
            if collapsed and not spell.told:
                spell.told = True
                news.sentences.append(_sentence(level, spell, step, accuracy))
        return news


@dataclass
class _Spell:
    """Lines in a row with accuracies of one state."""

    state: str = ""
    first_step: int = 0
    lines: int = 0
    told: bool = False

    def go_on(self, state: str, step: int) -> None:
        if state != self.state:
            self.state, self.first_step, self.lines, self.told = state, step, 0, False
        self.lines += 1


def _state_of(accuracy: float) -> str:
    """ "certain", "blind", or "" where the two sides are in balance."""
    if accuracy >= _CERTAIN:
        return "certain"
    return "blind" if abs(accuracy - 0.5) <= _MARGIN else ""


def _sentence(level: str, spell: _Spell, step: int, accuracy: float) -> str:
    since = f"since step {spell.first_step} (accuracy {accuracy:.3f} at step {step})"
    if spell.state == "certain":
        return (
            f"levels.{level}: the discriminator has not been fooled {since}, its gradient teaches "
            f"nothing; try a lower lr_factor or a higher learn_every"
        )
    return (
        f"levels.{level}: the discriminator has not told the domains apart {since}; either they "
        "look alike there or it does not learn: try a higher lr_factor or a lower weight"
    )
