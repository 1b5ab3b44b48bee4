"""The bench as horizontal bars: CPU time per sample, ours in colour."""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

_PAPER, _INK, _FAINT = (255, 255, 255), (32, 36, 42), (140, 146, 154)
_COLORS = {
    "ours": (38, 112, 190),
    "peer": (168, 174, 182),
    "other": (208, 212, 218),
    "floor": (208, 212, 218),
}
_TEXT = 26  # px; the picture is meant to be shown at half its size
_LINE, _BAR = 52, 32
_LEFT, _BARS, _RIGHT, _MARGIN = 560, 1000, 260, 40


class Bar(NamedTuple):
    title: str
    kind: str
    value: float
    spread: tuple[float, float]


def draw_bars(bars: Sequence[Bar], title: str, footnote: str) -> Image.Image:
    """In the given order, from the top. A bar that would dwarf all others is drawn broken."""
    values = sorted(bar.value for bar in bars)
    longest = values[-1] if len(values) < 2 or values[-1] < 2 * values[-2] else 1.25 * values[-2]
    size = (_LEFT + _BARS + _RIGHT, 2 * _MARGIN + (len(bars) + 2) * _LINE)
    picture = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=_TEXT)
    draw.text((_MARGIN, _MARGIN + _LINE // 2), title, _INK, ImageFont.load_default(32), "lm")
    for number, bar in enumerate(bars, 1):
        middle = _MARGIN + number * _LINE + _LINE // 2
        ink = _COLORS["ours"] if bar.kind == "ours" else _INK
        draw.text((_LEFT - 20, middle), bar.title, ink, font, "rm")
        end = _LEFT + round(_BARS * min(1.0, bar.value / longest))
        top, bottom = middle - _BAR // 2, middle + _BAR // 2
        draw.rectangle((_LEFT, top, end, bottom), _COLORS[bar.kind])
        if bar.value > longest:
            for shift in (60, 80):
                cut = (end - shift, bottom + 4, end - shift + 16, top - 4)
                draw.line(cut, _PAPER, width=8)
        else:
            low, high = (_LEFT + round(_BARS * value / longest) for value in bar.spread)
            draw.line((low, middle, min(high, size[0]), middle), _INK, width=2)
            end = max(end, high)
        draw.text((end + 16, middle), f"{bar.value:.1f}", ink, font, "lm")
    last = _MARGIN + (len(bars) + 1) * _LINE + _LINE // 2
    draw.text((_MARGIN, last), footnote, _FAINT, ImageFont.load_default(22), "lm")
    return picture
