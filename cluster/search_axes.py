"""Figures of a search that have an axis for every parameter: parallel coordinates and slices."""

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cluster.search_scale import LABEL_WIDTH, SLOT, Scale
from cluster.search_style import (
    BEST,
    HAND_SET,
    SCALE,
    STATUS_COLOURS,
    STATUS_SYMBOLS,
    escaped,
    figure,
    hover,
    styled,
)
from cluster.search_words import METRIC_NAMES, cut, short_names
from cluster.trials import STATUSES, Search, Trial, Value

_COLUMNS = 3  # of slices
_PANEL_PX, _GAP_PX, _MARGIN_PX = 190, 62, 110


def parallel(search: Search, trials: Sequence[Trial]) -> go.Figure:
    """A line for every trial through its values; log axes where the space is log."""
    names = short_names(search.paths)
    measured = [trial.value(search.metric) or 0.0 for trial in trials]
    dimensions = []
    for axis in search.axes:
        values = [search.values_of(trial).get(axis.path) for trial in trials]
        dimensions.append(_dimension(Scale.of(axis, values), names[axis.path], values))
    low, high = min(measured), max(measured)
    if low == high:
        low, high = low - 0.01, high + 0.01
    rank = {value: place for place, value in enumerate(sorted(set(measured)))}
    dimensions.append({
        "label": METRIC_NAMES[search.metric], "values": measured, "range": [low, high],
        "tickformat": ".3f",
    })  # fmt: skip
    lines = go.Parcoords(
        dimensions=dimensions,
        # By rank: values lie close together but for those of trials that were stopped early.
        line={"color": [rank[value] for value in measured], "colorscale": SCALE},
        labelangle=-18,
        labelside="top",
        unselected={"line": {"color": "#d5dade", "opacity": 0.25}},
    )
    # The labels stand above, aslant, and to the right of the last axis there are ticks.
    return figure(lines, height=460, margin={"l": 72, "r": 72, "t": 96, "b": 28})


def slices(search: Search, trials: Sequence[Trial]) -> go.Figure | None:
    """The metric against each parameter that has been set, a panel each; None where none has."""
    axes = [axis for axis in search.axes if any(axis.path in search.values_of(t) for t in trials)]
    if not axes:
        return None
    rows = math.ceil(len(axes) / _COLUMNS)
    height = _PANEL_PX * rows + _GAP_PX * (rows - 1) + _MARGIN_PX
    panels = make_subplots(
        rows=rows,
        cols=_COLUMNS,
        shared_yaxes="all",
        horizontal_spacing=0.03,
        vertical_spacing=_GAP_PX / (height - _MARGIN_PX) if rows > 1 else 0,
    )
    styled(panels, height=height)
    names, explained = short_names(search.paths), set[str]()
    for index, axis in enumerate(axes):
        place = {"row": index // _COLUMNS + 1, "col": index % _COLUMNS + 1}
        scale = Scale.of(axis, [search.values_of(trial).get(axis.path) for trial in trials])
        for trace in _slice(search, trials, scale):
            if trace.x:  # where nobody has a value there, Plotly would stumble
                trace.showlegend = trace.name not in explained
                explained.add(trace.name)
                panels.add_trace(trace, **place)
        panels.update_xaxes(_x_axis(scale, names[axis.path]), **place)
        if place["col"] == 1:
            panels.update_yaxes(title=METRIC_NAMES[search.metric], **place)
    return panels


def _dimension(scale: Scale, name: str, values: Sequence[Value | None]) -> dict[str, Any]:
    """Of parallel coordinates, which know neither logarithms nor missing values nor words."""
    places = [None if value is None else scale.place(value) for value in values]
    low, high = scale.low, scale.high
    ticks = scale.ticks
    if None in places:
        low -= 1.0 if scale.axis.kind == "choice" else SLOT * scale.span
        ticks = {low: "not set", **ticks}
    room = 0.25 if scale.axis.kind == "choice" or low == high else 0.0
    return {
        "label": escaped(cut(name, LABEL_WIDTH)),
        "values": [low if place is None else place for place in places],
        "range": [low - room, high + room],
        "tickvals": list(ticks),
        "ticktext": list(ticks.values()),
    }


def _slice(search: Search, trials: Sequence[Trial], scale: Scale) -> list[go.Scatter]:
    """The trials that have a value at the axis, by status; the hand-set and the best on top."""
    traces = []
    for status in STATUSES:
        of_status = [trial for trial in trials if trial.status == status]
        if of_status:
            look = {"color": STATUS_COLOURS[status], "symbol": STATUS_SYMBOLS[status], "size": 7}
            traces.append(_dots(search, of_status, scale, status, look))
    if (hand_set := search.hand_set) in trials and hand_set is not None:
        look = {"color": HAND_SET, "symbol": "star", "size": 13}
        traces.append(_dots(search, [hand_set], scale, "hand-set preset", look))
    if search.best is not None:
        ring = {"color": BEST, "symbol": "circle-open", "size": 14, "line": {"width": 2.5}}
        traces.append(_dots(search, [search.best], scale, "best", ring))
    return traces


def _dots(
    search: Search, trials: Sequence[Trial], scale: Scale, name: str, look: dict[str, Any]
) -> go.Scatter:
    placed = [(search.values_of(trial).get(scale.axis.path), trial) for trial in trials]
    there = [(value, trial) for value, trial in placed if value is not None]
    return go.Scatter(
        x=[scale.place(value) for value, _ in there],
        y=[trial.value(search.metric) for _, trial in there],
        mode="markers",
        marker=look,
        name=name,
        legendgroup=name,
        hoverinfo="text",
        hovertext=[hover(search, trial) for _, trial in there],
    )


def _x_axis(scale: Scale, name: str) -> dict[str, Any]:
    room = 0.5 if scale.axis.kind == "choice" else 0.05 * scale.span
    return {
        "title": {"text": escaped(cut(name, 40)), "standoff": 6},
        "range": [scale.low - room, scale.high + room],
        "tickvals": list(scale.ticks),
        "ticktext": [escaped(text) for text in scale.ticks.values()],
    }
