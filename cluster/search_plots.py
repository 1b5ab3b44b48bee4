"""Figures of a search by Plotly, each with a sentence on what it shows, or on why it is missing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from scipy.stats import spearmanr

from cluster.search_axes import parallel, slices
from cluster.search_importance import FEWEST_TRIALS, importance
from cluster.search_style import (
    BEST,
    HAND_SET,
    STATUS_COLOURS,
    STATUS_SYMBOLS,
    escaped,
    figure,
    hover,
)
from cluster.search_words import METRIC_NAMES, short_names
from cluster.trials import STATUSES, Search, Status, Trial

_CROWD = 60  # curves of a status
_FEWEST_RANKED = 3  # trials; a rank correlation of two is always 1 or -1


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the report; without a figure, `text` says why."""

    title: str
    text: str
    figure: go.Figure | None = None


def sections(search: Search) -> list[Section]:
    """All there is to show, in the order of reading."""
    trials = [trial for trial in search.trials if trial.value(search.metric) is not None]
    makers: list[Callable[[Search, Sequence[Trial]], Section]] = [_history, _curves]
    if search.axes:
        makers += [_parallel, _slices, _importance]
    if search.allow_oracle:
        makers.append(_against_oracle)
    if trials:
        return [make(search, trials) for make in makers]
    return [Section(title="Figures", text="No trial has a value yet, so there is nothing to draw.")]


def _history(search: Search, trials: Sequence[Trial]) -> Section:
    metric = METRIC_NAMES[search.metric]
    span = search.trials[-1].number - search.trials[0].number
    chart = figure(
        *(trace for status in STATUSES for trace in _of_status(search, trials, status)),
        _running_best(search, trials),
        *_hand_set_line(search),
        xaxis={"title": "trial", "range": _trial_range(search), "dtick": max(1, span // 10)},
        yaxis={"title": metric},
    )
    missing = len(search.trials) - len(trials)
    without = f" {missing} without a value {'is' if missing == 1 else 'are'} not shown."
    text = (
        f"The highest {metric} of each trial, in the order of their start. Each is one run, and "
        f"one stopped early had less time than the others.{without if missing else ''}"
    )
    return Section(title="History", text=text, figure=chart)


def _of_status(search: Search, trials: Sequence[Trial], status: Status) -> list[go.Scatter]:
    chosen = [trial for trial in trials if trial.status == status]
    places = [(trial.number, trial.value(search.metric)) for trial in chosen]
    return [_marks(status, places, [hover(search, trial) for trial in chosen])] if chosen else []


def _marks(
    status: Status, places: Sequence[tuple[float, float | None]], texts: list[str]
) -> go.Scatter:
    return go.Scatter(
        x=[x for x, _ in places],
        y=[y for _, y in places],
        mode="markers",
        name=status,
        marker={"color": STATUS_COLOURS[status], "symbol": STATUS_SYMBOLS[status], "size": 8},
        hoverinfo="text",
        hovertext=texts,
    )


def _running_best(search: Search, trials: Sequence[Trial]) -> go.Scatter:
    numbers: list[int] = []
    highest: list[float] = []
    for trial in trials:
        value = trial.value(search.metric)
        if value is not None and trial.status != "failed":
            numbers.append(trial.number)
            highest.append(max([value, *highest[-1:]]))
    if numbers and search.trials[-1].number > numbers[-1]:
        numbers.append(search.trials[-1].number)
        highest.append(highest[-1])
    return go.Scatter(
        x=numbers,
        y=highest,
        mode="lines",
        name="best so far",
        line={"color": BEST, "width": 2, "shape": "hv"},
        hoverinfo="skip",
    )


def _hand_set_line(search: Search) -> list[go.Scatter]:
    value = search.hand_set.value(search.metric) if search.hand_set else None
    if value is None:
        return []
    return [
        go.Scatter(
            x=_trial_range(search),
            y=[value, value],
            mode="lines",
            name="hand-set preset",
            line={"color": HAND_SET, "width": 1.5, "dash": "dash"},
            hoverinfo="skip",
        )
    ]


def _trial_range(search: Search) -> list[float]:
    """With room for the marks at both ends."""
    first, last = search.trials[0].number, search.trials[-1].number
    room = max(0.5, 0.02 * (last - first))
    return [first - room, last + room]


def _curves(search: Search, trials: Sequence[Trial]) -> Section:
    metric = METRIC_NAMES[search.metric]
    special = {id(search.best): "best", id(search.hand_set): "hand-set preset"}
    traces = []
    for status in STATUSES:
        plain = [t for t in trials if t.status == status and id(t) not in special]
        if plain:
            line = {"color": STATUS_COLOURS[status], "width": 1.2}
            opacity = 0.55 if len(plain) < _CROWD else 0.35
            traces.append(_curve(search, plain, status, line, opacity))
        ended = [t for t in trials if t.status == status and status in ("stopped", "failed")]
        if ended:
            traces.append(_ends(search, ended, status))
    if search.hand_set in trials and search.hand_set is not None:
        dashed = {"color": HAND_SET, "width": 2.5, "dash": "dash"}
        traces.append(_curve(search, [search.hand_set], "hand-set preset", dashed))
    if search.best is not None and search.best is not search.hand_set:
        traces.append(_curve(search, [search.best], "best", {"color": BEST, "width": 3}))
    chart = figure(
        *traces, height=440, xaxis={"title": "step", "range": _steps(search)},
        yaxis={"title": metric},
    )  # fmt: skip
    text = (
        f"The {metric} of every scored checkpoint. A cross is where a trial was stopped or failed."
    )
    return Section(title="Learning curves", text=text, figure=chart)


def _curve(
    search: Search, trials: Sequence[Trial], name: str, line: dict[str, Any], opacity: float = 1.0
) -> go.Scatter:
    """One trace for many trials, with gaps between them: a browser is slow with hundreds."""
    steps: list[int | None] = []
    values: list[float | None] = []
    texts: list[str] = []
    for trial in trials:
        for point in trial.curve:
            value = point.value(search.metric)
            if value is not None:
                steps.append(point.step)
                values.append(value)
                texts.append(f"trial {trial.number}, step {point.step}: {value:.4f}")
        steps.append(None)
        values.append(None)
        texts.append("")
    return go.Scatter(
        x=steps, y=values, mode="lines+markers", name=name, line=line, opacity=opacity,
        marker={"size": 4}, hoverinfo="text", hovertext=texts, connectgaps=False,
    )  # fmt: skip


def _ends(search: Search, trials: Sequence[Trial], status: str) -> go.Scatter:
    last = [
        (point.step, point.value(search.metric), trial)
        for trial in trials
        for point in [next(p for p in reversed(trial.curve) if p.value(search.metric) is not None)]
    ]
    return go.Scatter(
        x=[step for step, _, _ in last],
        y=[value for _, value, _ in last],
        mode="markers",
        name=f"{status} here",
        marker={
            "symbol": "x-thin",
            "size": 8,
            "line": {"width": 2, "color": STATUS_COLOURS[trials[0].status]},
        },
        hoverinfo="text",
        hovertext=[hover(search, trial) for _, _, trial in last],
    )


def _steps(search: Search) -> list[float]:
    end = max(search.steps, *(trial.step for trial in search.trials), 1)
    return [0, end * 1.02]


def _parallel(search: Search, trials: Sequence[Trial]) -> Section:
    text = (
        "A line is a trial, the darker the better its rank. Drag along an axis to keep only the "
        "lines that cross it there; drag a name to move its axis."
    )
    return Section(title="Parallel coordinates", text=text, figure=parallel(search, trials))


def _slices(search: Search, trials: Sequence[Trial]) -> Section:
    text = f"The {METRIC_NAMES[search.metric]} against each parameter, whatever the others were."
    chart = slices(search, trials)
    text = text if chart else "No trial has set any."
    return Section(title="Parameters one by one", text=text, figure=chart)


def _importance(search: Search, _: Sequence[Trial]) -> Section:
    title, found = "Importance of parameters", importance(search)
    num = found.num_trials
    if num < FEWEST_TRIALS:
        text = (
            f"Left out: it would rest on {num} finished trial{'' if num == 1 else 's'}, and below "
            f"{FEWEST_TRIALS} it says nothing."
        )
        return Section(title=title, text=text)
    if not found.shares:
        text = (
            f"Left out: no parameter tells the best of the {num} finished trials from the others."
        )
        return Section(title=title, text=text)
    text = (
        f"How much each parameter tells the best {found.num_best} of {num} finished trials from "
        "all of them (PED-ANOVA, shares of 100 %). It knows nothing of trials that were stopped "
        "early, and the fewer there are, the more of a small share is chance."
    )
    names, rising = short_names(search.paths), list(reversed(found.shares.items()))
    bars = go.Bar(
        x=[100 * share for _, share in rising],
        y=[escaped(names[path]) for path, _ in rising],
        orientation="h",
        marker={"color": STATUS_COLOURS["finished"]},
        text=[f"{100 * share:.0f} %" for _, share in rising],
        textposition="outside",
        cliponaxis=False,
        hoverinfo="skip",
    )
    chart = figure(
        bars, height=90 + 32 * len(rising), xaxis={"title": "share, %", "rangemode": "tozero"},
        yaxis={"type": "category"},
    )  # fmt: skip
    return Section(title=title, text=text, figure=chart)


def _against_oracle(search: Search, trials: Sequence[Trial]) -> Section:
    """Of each trial the checkpoint that quality chooses: what one would be left with."""
    title = "Quality against oracle mIoU (ORACLE: with target labels)"
    pairs = [
        (best.quality, best.oracle_miou, trial)
        for trial in trials
        if (best := trial.best) and best.quality is not None and best.oracle_miou is not None
    ]
    if not pairs:
        return Section(title=title, text="No checkpoint has both.")
    qualities, oracles = [q for q, _, _ in pairs], [o for _, o, _ in pairs]
    dots = []
    for status in STATUSES:
        chosen = [(q, o, trial) for q, o, trial in pairs if trial.status == status]
        if chosen:
            texts = [hover(search, t, f"oracle mIoU {o:.4f} there") for _, o, t in chosen]
            dots.append(_marks(status, [(q, o) for q, o, _ in chosen], texts))
    chart = figure(
        *dots, height=420, xaxis={"title": "quality, without labels"},
        yaxis={"title": "oracle mIoU, with target labels"},
    )  # fmt: skip
    if len(pairs) < _FEWEST_RANKED or 1 in (len(set(qualities)), len(set(oracles))):
        said = "A rank correlation would say nothing here."
    else:
        said = f"Spearman {spearmanr(qualities, oracles).statistic:.3f} over {len(pairs)} trials."
    text = f"Each trial's checkpoint of the highest quality: does quality rank as labels do? {said}"
    return Section(title=title, text=text, figure=chart)
