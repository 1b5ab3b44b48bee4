"""How the figures of a search look: colours, marks, and words of a trial under the pointer."""

import html
from typing import Any

import plotly.graph_objects as go

from cluster.search_words import METRIC_NAMES, changes_in_words, cut, one_line
from cluster.trials import Search, Status, Trial

BEST = "#0f8a5f"
HAND_SET = "#7b4bb7"
INK, FAINT, GRID = "#1f2933", "#6b7785", "#e6eaee"
STATUS_COLOURS: dict[Status, str] = {
    "running": "#e08e1b",
    "finished": "#2f6db3",
    "stopped": "#8c99a8",
    "failed": "#c43d35",
}
STATUS_SYMBOLS: dict[Status, str] = {
    "running": "diamond",
    "finished": "circle",
    "stopped": "circle-open",
    "failed": "x-thin-open",
}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"
# From low to high, readable on white: the lightest is dark enough for a line.
SCALE = [[0, "#d9b44a"], [0.5, "#3a9d9d"], [1, "#2b2d7c"]]

_HOVER_WIDTH = 90


def figure(*traces: Any, height: int = 380, **layout: Any) -> go.Figure:
    """A figure of these traces in our style."""
    return styled(go.Figure(list(traces)), height=height, **layout)


def styled(made: go.Figure, *, height: int, **layout: Any) -> go.Figure:
    """The figure itself, in our style."""
    made.update_layout(
        template="none",
        height=height,
        margin={"l": 64, "r": 24, "t": 40, "b": 52},
        font={"family": FONT, "size": 13, "color": INK},
        paper_bgcolor="#ffffff",
        plot_bgcolor="#ffffff",
        hovermode="closest",
        hoverlabel={"align": "left", "bgcolor": "#ffffff", "font": {"color": INK, "size": 12}},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"},
    )
    axis = {"gridcolor": GRID, "zeroline": False, "linecolor": "#c3cbd3", "automargin": True}
    made.update_xaxes(**axis)
    made.update_yaxes(**axis)
    return made.update_layout(**layout)


def hover(search: Search, trial: Trial, *more: str) -> str:
    """What Plotly shows of a trial under the pointer, as the little HTML that it understands."""
    value = trial.value(search.metric)
    lines = [
        f"trial {trial.number}, {trial.status}{f': {trial.reason}' if trial.reason else ''}",
        f"{METRIC_NAMES[search.metric]} {'-' if value is None else f'{value:.4f}'}, "
        f"step {trial.step}",
        *more,
        changes_in_words(search, trial),
    ]
    return "<br>".join(escaped(cut(one_line(line), _HOVER_WIDTH)) for line in lines)


def escaped(text: str) -> str:
    """For Plotly, which takes labels for HTML."""
    return html.escape(text, quote=False)
