"""Procedural materials: from a paint and a place on its face to a colour (linear, 0..1)."""

from collections.abc import Callable

import numpy as np

from uda.data.streets import bodywork
from uda.data.streets.materials import Material
from uda.data.streets.noise import fractal, look_up, white
from uda.data.streets.patch import Patch, fade, fraction, line, mix, rgb, rough


def colour(material: Material, patch: Patch) -> np.ndarray:
    """The albedo of every sample, (n, 3) float32."""
    return MATERIALS[material](patch)


def _flat(patch: Patch) -> np.ndarray:
    return patch.rgb * rough(patch, 1, 20.0, 0.1)[:, None]


def _glow(patch: Patch) -> np.ndarray:
    return patch.rgb


def _cloth(patch: Patch) -> np.ndarray:
    return patch.rgb * (rough(patch, 2, 60.0, 0.3) * (1.0 - 0.5 * np.abs(patch.u)))[:, None]


def _road(patch: Patch) -> np.ndarray:
    """params: half width, lane width, lanes per direction, crosswalk z, parking left, right,
    track x, wear."""
    params = patch.params_table[patch.rows[0]].tolist()  # there is one road per scene
    half, lane, lanes, walk, park_left, park_right, track, wear = params
    x, z = patch.u, patch.v
    tone = rough(patch, 3, 2.5, 0.22) * rough(patch, 4, 24.0, 0.14)
    wheels = np.abs(fraction(np.abs(x) / lane) - 0.5)
    tone *= 1.0 - 0.06 * patch.grain * (np.abs(wheels - 0.25) < 0.1)
    patches = look_up(white(1), x * 0.4, z * 0.13)
    tone *= 1.0 - 0.16 * patch.grain * (patches > 0.86)
    color = patch.rgb * tone[:, None]
    distance = np.abs(x)
    away = (np.abs(z - walk - 2.0) > 3.2) & (distance < half)
    dashes = fraction(z * (1 / 9.0)) < 0.42
    mark = (distance < 0.09) & (dashes | (lanes > 1))
    for number in range(1, int(lanes)):
        mark |= (np.abs(distance - number * lane) < 0.08) & dashes
    edge = half - np.where(x < 0, park_left, park_right)
    mark |= (np.abs(distance - edge + 0.15) < 0.07) & ((park_left > 0) | (x > 0))
    mark &= away & (np.abs(z - walk - 2.0) > 3.5)
    mark |= (np.abs(z - walk - 2.0) < 1.7) & (fraction(x * 0.9) < 0.5) & (distance < half - 0.3)
    mark |= (np.abs(z - walk + 1.6) < 0.22) & (x > 0.2) & (x < half - park_right - 0.2)
    paint = mark * (wear * (0.75 + 0.4 * look_up(fractal(5), x * 30, z * 30)))
    color = mix(color, rgb(0.72, 0.72, 0.68), np.clip(paint, 0, 1))
    rail = (np.abs(np.abs(x - track) - 0.72) < 0.07).astype(np.float32)
    bed = (np.abs(x - track) < 1.25) * (0.25 + 0.2 * (line(z * 1.2, 0.3)))
    color = mix(color, rgb(0.16, 0.15, 0.14), bed)
    return mix(color, rgb(0.10, 0.09, 0.09), rail)


def _paving(patch: Patch) -> np.ndarray:
    """params: tile size."""
    size = patch.params[:, 0]
    u, v = patch.u / size, patch.v / size
    v = v + 0.5 * (np.floor(u) % 2)
    joints = np.maximum(line(u, 0.06), line(v, 0.06)) * fade(patch, 0.12)
    tile = look_up(white(2), u, v) - 0.5
    tone = 1.0 - 0.28 * patch.grain * joints + 0.14 * patch.grain * tile * fade(patch, 0.6)
    return patch.rgb * (tone * rough(patch, 6, 4.0, 0.16))[:, None]


def _grass(patch: Patch) -> np.ndarray:
    tone = rough(patch, 7, 3.0, 0.3) * rough(patch, 8, 26.0, 0.3)
    dry = look_up(fractal(9), patch.u * 1.7, patch.v * 1.7)
    return mix(patch.rgb, patch.accent, np.clip(dry * 0.6, 0, 0.6)) * tone[:, None]


def _leaves(patch: Patch) -> np.ndarray:
    tone = rough(patch, 10, 13.0, 0.55) * rough(patch, 11, 45.0, 0.3)
    return patch.rgb * np.maximum(tone, 0.25)[:, None]


def _facade(patch: Patch) -> np.ndarray:
    """params: cell width, floor height, window width, window height (fractions), brick, seed,
    shop, sill."""
    cell, floor, wide, high, brick, seed, shop, sill = patch.params.T
    across, up = patch.u / cell, patch.v / floor
    fx, fy = np.abs(fraction(across) - 0.5), fraction(up)
    ground = up < 1.0
    big = ground & (shop > 0.5)
    wide, high = np.where(big, 0.86, wide), np.where(big, 0.68, high)
    low = np.where(big, 0.12, sill)
    draw = look_up(white(3), np.floor(across) + seed, np.floor(up) * 7 + seed * 3)
    door = ground & (draw > 0.72) & ~big
    low, high = np.where(door, 0.0, low), np.where(door, 0.72, high)
    wide = np.where(door, np.minimum(wide, 0.5), wide)
    glass = (fx < wide / 2) & (fy > low) & (fy < low + high)
    bar = 0.07
    frame = (fx < wide / 2 + bar / 2) & (fy > low - 0.03) & (fy < low + high + 0.04)
    split = (fx < 0.02) & (draw < 0.6) & ~big
    trim = patch.accent
    color = _wall(patch, brick)
    color = mix(color, trim, frame)
    band = big & (fy > 0.84)
    sign_tone = 0.35 + 1.1 * look_up(white(4), np.floor(across / 3) + seed, seed)
    color = mix(color, trim * sign_tone[:, None], band, 0.9)
    pane = _pane(trim, draw, fy, low, high)
    pane = np.where(door[:, None], trim * (0.25 + 0.5 * draw)[:, None], pane)
    return mix(color, pane, glass & ~split)


def _wall(patch: Patch, brick: np.ndarray) -> np.ndarray:
    tone = rough(patch, 12, 1.5, 0.16) * rough(patch, 13, 14.0, 0.08)
    rows = patch.v * 4.0
    joints = np.maximum(line(rows, 0.22), line(patch.u * 1.8 + 0.5 * (np.floor(rows) % 2), 0.1))
    bricks = look_up(white(5), patch.u * 1.8 + 0.5 * (np.floor(rows) % 2), rows) - 0.5
    detail = brick * patch.grain * (0.25 * joints + 0.35 * bricks) * fade(patch, 0.35)
    dirt = 0.16 * patch.grain * np.clip(1.0 - patch.v / 1.5, 0, 1)
    return patch.rgb * (tone - detail - dirt)[:, None]


def _pane(
    trim: np.ndarray, draw: np.ndarray, fy: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Window glass: dark with the sky in its upper part, sometimes a curtain."""
    glass = rgb(0.05, 0.065, 0.085)
    shine = 0.5 + 1.3 * draw + 0.9 * np.clip((fy - low) / high, 0, 1) * fraction(draw * 7)
    curtain = fraction(draw * 13) > 0.8
    return mix(glass * shine[:, None], trim * 0.6, curtain, 0.7)


def _masonry(patch: Patch) -> np.ndarray:
    """params: block width, block height, contrast."""
    width, height, contrast = patch.params[:, :3].T
    rows = patch.v / height
    along = patch.u / width + 0.5 * (np.floor(rows) % 2)
    joints = np.maximum(line(rows, 0.12), line(along, 0.06)) * fade(patch, 0.15)
    block = (look_up(white(6), along, rows) - 0.5) * fade(patch, 0.3)
    tone = 1.0 - contrast * patch.grain * (0.3 * joints - 0.3 * block)
    stain = 1.0 - 0.25 * patch.grain * np.clip(0.4 - patch.v, 0, 0.4)
    return patch.rgb * (tone * stain * rough(patch, 14, 3.0, 0.3))[:, None]


def _planks(patch: Patch) -> np.ndarray:
    """params: plank width."""
    along = patch.u / patch.params[:, 0]
    gap = line(along, 0.16) * fade(patch, 0.12)
    plank = look_up(white(7), along, 0 * along) - 0.5
    rail = (np.abs(fraction(patch.v / 0.9) - 0.5) < 0.06) * np.float32(0.18)
    grain = rough(patch, 15, 40.0, 0.15)
    tone = (1.0 + 0.4 * patch.grain * plank * fade(patch, 0.3)) * (1.0 - 0.75 * gap) - rail
    return patch.rgb * (tone * grain)[:, None]


def _mesh(patch: Patch) -> np.ndarray:
    """Bars before a dark screen. params: bar spacing, slant."""
    spacing, slant = patch.params[:, :2].T
    first = line((patch.u + slant * patch.v) / spacing, 0.36)
    second = line((patch.u - slant * patch.v) / spacing, 0.36)
    bars = np.maximum(first, second)
    posts = line(patch.u / 2.4, 0.05)
    rail = ((patch.v < 0.12) | (fraction(patch.v / 1.0) > 0.92)).astype(np.float32)
    seen = fade(patch, 0.16)
    bars = np.maximum(bars * seen + 0.45 * (1 - seen), np.maximum(posts, rail))
    return mix(patch.accent, patch.rgb, bars) * rough(patch, 16, 5.0, 0.12)[:, None]


def _roof(patch: Patch) -> np.ndarray:
    rows = line(patch.v * 2.6, 0.25) * fade(patch, 0.2)
    tone = 1.0 - 0.25 * patch.grain * rows
    return patch.rgb * (tone * rough(patch, 17, 3.0, 0.2))[:, None]


MATERIALS: dict[Material, Callable[[Patch], np.ndarray]] = {
    Material.FLAT: _flat,
    Material.ROAD: _road,
    Material.PAVING: _paving,
    Material.GRASS: _grass,
    Material.LEAVES: _leaves,
    Material.FACADE: _facade,
    Material.MASONRY: _masonry,
    Material.PLANKS: _planks,
    Material.MESH: _mesh,
    Material.ROOF: _roof,
    Material.GLASS: bodywork.glass,
    Material.GLOW: _glow,
    Material.CAR_SIDE: bodywork.car_side,
    Material.CAR_END: bodywork.car_end,
    Material.CABIN: bodywork.cabin,
    Material.COACH: bodywork.coach,
    Material.CARGO: bodywork.cargo,
    Material.CLOTH: _cloth,
}
