"""Silhouettes for cards: small part maps drawn once per process from circles and strokes.

A mask is uint8 (rows, columns), row 0 on top; 0 is transparent and 1.. are parts.
"""

from functools import lru_cache

import numpy as np

from uda.data.streets.noise import fractal

HAIR, SKIN, TOP, TROUSERS, SHOES, FRAME, TYRE, METAL = range(1, 9)
HOUSING, DARK, LIT = 1, 2, 3
BORDER, FILL, SYMBOL = 1, 2, 3
TEXELS_PER_M = 40
PERSON_SIZE_M = (0.9, 1.8)
RIDER_SIZE_M = (2.0, 1.9)
RIDER_END_SIZE_M = (0.9, 1.9)


class _Canvas:
    """Paints parts into a mask; coordinates in metres, x from the middle, y up from the base."""

    def __init__(self, width_m: float, height_m: float) -> None:
        columns, rows = round(width_m * TEXELS_PER_M), round(height_m * TEXELS_PER_M)
        self.x = ((np.arange(columns) + 0.5) / TEXELS_PER_M - width_m / 2)[None, :]
        self.y = (height_m - (np.arange(rows) + 0.5) / TEXELS_PER_M)[:, None]
        self.mask = np.zeros((rows, columns), np.uint8)

    def disc(self, part: int, x: float, y: float, rx: float, ry: float) -> None:
        self.mask[((self.x - x) / rx) ** 2 + ((self.y - y) / ry) ** 2 <= 1] = part

    def stroke(self, part: int, start: tuple, end: tuple, radius: float) -> None:
        dx, dy = end[0] - start[0], end[1] - start[1]
        along = ((self.x - start[0]) * dx + (self.y - start[1]) * dy) / (dx * dx + dy * dy)
        along = np.clip(along, 0, 1)
        away = (self.x - start[0] - along * dx) ** 2 + (self.y - start[1] - along * dy) ** 2
        self.mask[away <= radius * radius] = part

    def wheel(self, x: float, radius: float, thickness: float) -> None:
        away = np.hypot(self.x - x, self.y - radius)
        angle = np.arctan2(self.y - radius, self.x - x)
        self.mask[(away < radius) & (np.sin(angle * 6) > 0.1)] = METAL
        self.mask[(away <= radius) & (away >= radius - thickness)] = TYRE
        self.mask[away < 0.05] = METAL


@lru_cache(maxsize=64)
def person(variant: int) -> np.ndarray:
    """A standing or walking person, PERSON_SIZE_M; eight variants."""
    draw = _Canvas(*PERSON_SIZE_M)
    stride = (0.0, 0.1, 0.17, 0.22, 0.05, 0.14, 0.2, 0.08)[variant % 8]
    stout = (0.0, 0.02, -0.01, 0.03)[variant % 4]
    for side in (-1, 1):
        foot = side * (0.08 + stride)
        draw.stroke(TROUSERS, (side * 0.07, 0.9), (foot, 0.1), 0.075 + stout / 2)
        draw.stroke(SHOES, (foot, 0.04), (foot + 0.06, 0.04), 0.05)
        arm = side * (0.2 + stout)
        draw.stroke(TOP, (arm, 1.4), (arm + side * (0.03 + stride * 0.7), 1.0), 0.055)
        draw.disc(SKIN, arm + side * (0.03 + stride * 0.8), 0.93, 0.05, 0.06)
    draw.stroke(TOP, (-0.09, 1.38), (0.09, 1.38), 0.1 + stout)
    draw.stroke(TOP, (0, 1.35), (0, 0.95), 0.15 + stout)
    if variant % 5 == 2:  # a skirt or a long coat
        draw.stroke(TOP, (-0.05, 0.7), (0.05, 0.7), 0.17)
    if variant % 3 == 1:  # a bag
        draw.disc(SHOES, 0.27, 0.85, 0.09, 0.13)
    draw.disc(SKIN, 0.0, 1.64, 0.095, 0.125)
    draw.disc(HAIR, 0.0, 1.7, 0.105, 0.09)
    return draw.mask


@lru_cache(maxsize=64)
def two_wheeler(motor: bool, ridden: bool, end_view: bool) -> np.ndarray:
    """A bicycle or motorcycle, RIDER_SIZE_M from the side or RIDER_END_SIZE_M from an end."""
    draw = _Canvas(*(RIDER_END_SIZE_M if end_view else RIDER_SIZE_M))
    (_end if end_view else _side)(draw, motor, ridden)
    return draw.mask


def _side(draw: _Canvas, motor: bool, ridden: bool) -> None:
    for x in (-0.66, 0.66) if motor else (-0.55, 0.55):
        draw.wheel(x, 0.34, 0.13 if motor else 0.075)
    if motor:
        draw.stroke(METAL, (-0.4, 0.36), (0.3, 0.36), 0.16)
        draw.stroke(FRAME, (-0.8, 0.72), (-0.2, 0.68), 0.11)
        draw.disc(FRAME, 0.18, 0.76, 0.34, 0.17)
        draw.stroke(METAL, (0.66, 0.34), (0.45, 1.0), 0.06)
        draw.stroke(METAL, (0.42, 1.0), (0.22, 1.06), 0.05)
        draw.disc(FRAME, 0.56, 0.86, 0.13, 0.13)
    else:
        for start, end in (
            ((-0.55, 0.34), (-0.1, 0.34)),
            ((-0.1, 0.34), (-0.22, 0.85)),
            ((-0.1, 0.34), (0.38, 0.8)),
            ((-0.2, 0.78), (0.38, 0.8)),
            ((-0.55, 0.34), (-0.2, 0.78)),
            ((0.55, 0.34), (0.36, 1.0)),
        ):
            draw.stroke(FRAME, start, end, 0.04)
        draw.stroke(METAL, (0.36, 1.0), (0.22, 1.03), 0.04)
        draw.stroke(METAL, (-0.34, 0.9), (-0.14, 0.9), 0.05)
    if ridden:
        seat, hand, foot = ((-0.22, 0.9), (0.3, 1.08), (0.0, 0.3))
        draw.stroke(TROUSERS, seat, (0.12, 0.72), 0.1)
        draw.stroke(TROUSERS, (0.12, 0.72), foot, 0.075)
        draw.stroke(SHOES, foot, (0.1, 0.27), 0.055)
        draw.stroke(TOP, seat, (-0.04, 1.4), 0.15)
        draw.stroke(TOP, (-0.02, 1.4), (0.16, 1.12), 0.06)
        draw.stroke(TOP, (0.16, 1.12), hand, 0.05)
        draw.disc(SKIN, 0.06, 1.66, 0.1, 0.12)
        draw.disc(HAIR, 0.04, 1.72, 0.15 if motor else 0.12, 0.13 if motor else 0.1)


def _end(draw: _Canvas, motor: bool, ridden: bool) -> None:
    draw.stroke(TYRE, (0, 0.07), (0, 0.6), 0.1 if motor else 0.05)
    draw.stroke(METAL, (-0.3, 1.02), (0.3, 1.02), 0.045)
    draw.stroke(FRAME, (0, 0.55), (0, 1.0), 0.17 if motor else 0.05)
    if not ridden:
        draw.disc(METAL, 0.0, 0.9, 0.12, 0.06)
        return
    for side in (-1, 1):
        draw.stroke(TROUSERS, (side * 0.11, 0.92), (side * (0.2 if motor else 0.13), 0.45), 0.085)
        draw.disc(SHOES, side * (0.2 if motor else 0.13), 0.34, 0.07, 0.1)
        draw.stroke(TOP, (side * 0.19, 1.38), (side * 0.3, 1.06), 0.065)
    draw.stroke(TOP, (0, 1.36), (0, 1.0), 0.2)
    draw.disc(SKIN, 0.0, 1.62, 0.09, 0.11)
    draw.disc(HAIR, 0.0, 1.7, 0.14 if motor else 0.12, 0.14 if motor else 0.11)


@lru_cache(maxsize=64)
def crown(variant: int, density: float = 0.9) -> np.ndarray:
    """A tree crown or a bush, 72 x 72: tones 1 (deep shade) .. 5 (lit tips), ragged outline."""
    rng = np.random.default_rng([77, variant])
    grid = (np.arange(72) + 0.5) / 36 - 1
    x, y = grid[None, :], -grid[:, None]
    depth = np.full((72, 72), -1.0)
    conifer = variant % 5 == 4
    for _ in range(16):
        height = rng.uniform(-0.7, 0.75)
        reach = 0.55 * (0.9 - height) / 1.6 if conifer else 0.62 * np.sqrt(1 - 0.8 * height**2)
        cx, radius = rng.uniform(-reach, reach), rng.uniform(0.2, 0.38) * (0.8 if conifer else 1)
        ball = 1 - ((x - cx) ** 2 + (y - height) ** 2) / radius**2
        depth = np.maximum(depth, np.minimum(ball, 0.9))
    rough = fractal(3 + variant)[: 72 * 3 : 3, : 72 * 3 : 3]
    solid = depth + 0.7 * rough > 0.55 - 0.5 * density
    tone = 2.6 + 1.5 * y + 1.6 * rough + 0.8 * depth - 0.4 * x
    return np.where(solid, np.clip(np.round(tone), 1, 5), 0).astype(np.uint8)


@lru_cache(maxsize=64)
def sign(kind: str) -> np.ndarray:
    """A traffic sign's plate, 32 x 32, parts BORDER, FILL and SYMBOL."""
    grid = (np.arange(32) + 0.5) / 16 - 1
    x, y = grid[None, :], -grid[:, None]
    shapes = {
        "disc": (1 - np.hypot(x, y)),
        "triangle": np.minimum((y + 0.9) / 2, (0.9 - y) / 2.4 - np.abs(x) * 0.85 + 0.05),
        "octagon": np.minimum(0.96 - np.maximum(abs(x), abs(y)), 1.36 - abs(x) - abs(y)),
        "square": 0.98 - np.maximum(abs(x), abs(y)) + 0 * x,
        "diamond": 1 - abs(x) - abs(y),
    }
    inside = shapes[kind]
    mask = np.where(inside > 0, BORDER, 0).astype(np.uint8)
    mask[inside > (0.08 if kind in ("square", "octagon", "diamond") else 0.2)] = FILL
    symbol = (
        (abs(y) < 0.14) & (abs(x) < 0.45)
        if kind == "octagon"
        else ((abs(x) < 0.13) & (abs(y + 0.1) < 0.36))
    )
    mask[(inside > 0.22) & symbol] = SYMBOL
    return mask


@lru_cache(maxsize=8)
def lamps(lit: int) -> np.ndarray:
    """The face of a traffic light, 36 x 14, lamp `lit` (0 on top) on: HOUSING, DARK, LIT."""
    y, x = (np.arange(36) + 0.5)[:, None], (np.arange(14) + 0.5)[None, :]
    mask = np.full((36, 14), HOUSING, np.uint8)
    for lamp in range(3):
        disc = np.hypot(x - 7, y - 6.5 - 11.5 * lamp) < 4.6
        mask[disc] = LIT if lamp == lit else DARK
    return mask


@lru_cache(maxsize=2)
def wheel() -> np.ndarray:
    """A car's wheel, 24 x 24: 1 tyre, 2 rim, 3 hub and gaps."""
    grid = (np.arange(24) + 0.5) / 12 - 1
    away = np.hypot(grid[None, :], grid[:, None])
    angle = np.arctan2(grid[:, None], grid[None, :])
    mask = np.where(away <= 1, 1, 0).astype(np.uint8)
    mask[away < 0.66] = 2
    mask[(away < 0.56) & (away > 0.2) & (np.sin(angle * 5) > 0.35)] = 3
    return mask
