"""Materials of vehicles: glass, doors, lamps, rows of windows."""

import numpy as np

from uda.data.streets.patch import Patch, fade, fraction, line, mix, rgb, rough


def glass(patch: Patch) -> np.ndarray:
    """Dark glass that mirrors the sky towards its top. params: height."""
    return _mirror(patch, patch.params[:, 0])


def _mirror(patch: Patch, height: np.ndarray) -> np.ndarray:
    shine = 0.06 + 0.30 * np.clip(patch.v / height, 0, 1) ** 2
    streak = (fraction((patch.u + 0.8 * patch.v) * 0.9) < 0.25) * np.float32(0.06)
    return rgb(0.75, 0.92, 1.0) * (shine + streak)[:, None]


def car_side(patch: Patch) -> np.ndarray:
    """params: height of the waist line."""
    seam = line(patch.u / 1.05 + 0.2, 0.03) * fade(patch, 0.08)
    sill = patch.v < 0.16
    tone = 0.8 + 0.35 * np.clip(patch.v / patch.params[:, 0], 0, 1) - 0.3 * seam
    color = patch.rgb * tone[:, None]
    return mix(color, rgb(0.02, 0.02, 0.02), sill, 0.85)


def car_end(patch: Patch) -> np.ndarray:
    """params: half width, height, rear (0, 1), lamp width, lamp height."""
    half, high, rear, lamp_width, lamp_height = patch.params[:, :5].T
    x, y = np.abs(patch.u), patch.v / high
    color = patch.rgb * (0.8 + 0.3 * y)[:, None]
    dark = rgb(0.025, 0.025, 0.028)
    color = mix(
        color, dark, ((y < 0.22) | ((rear < 0.5) & (y > 0.35) & (y < 0.6) & (x < half * 0.6))), 0.9
    )
    plate = (x < 0.27) & (np.abs(y - 0.38) < 0.1)
    color = mix(color, rgb(0.75, 0.74, 0.68), plate)
    lamp = (x > half - lamp_width) & (x < half - 0.04) & (np.abs(y - 0.66) < lamp_height)
    front, back = rgb(0.95, 0.95, 0.88), rgb(0.62, 0.02, 0.02)
    return mix(color, np.where(rear[:, None] > 0.5, back, front), lamp, 0.92)


def cabin(patch: Patch) -> np.ndarray:
    """Side windows with pillars. params: half length, height, pillar spacing."""
    half, high, spacing = patch.params[:, :3].T
    pillar = line(patch.u / spacing + 0.5, 0.09).astype(bool) | (np.abs(patch.u) > half - 0.12)
    solid = (patch.v > high * 0.9) | (patch.v < high * 0.06) | pillar
    return mix(_mirror(patch, high), patch.rgb, solid)


def coach(patch: Patch) -> np.ndarray:
    """A bus or tram side. params: window bottom, window top, spacing, door spacing, stripe
    bottom, stripe top."""
    bottom, top, spacing, door, low, high = patch.params[:, :6].T
    tone = rough(patch, 18, 2.0, 0.08)
    color = patch.rgb * tone[:, None]
    color = mix(color, patch.accent, (patch.v > low) & (patch.v < high))
    color = mix(color, rgb(0.03, 0.03, 0.03), patch.v < 0.12, 0.7)
    at_door = fraction(patch.u / door + 0.5) * door < 1.5
    pane = (patch.v > np.where(at_door, 0.25, bottom)) & (patch.v < top)
    pane &= line(patch.u / np.where(at_door, 0.75, spacing), 0.09) < 0.5
    return mix(color, _mirror(patch, top + 0.4), pane)


def cargo(patch: Patch) -> np.ndarray:
    """A box body with ribs and a broad emblem. params: rib spacing, height, emblem."""
    spacing, high, emblem = patch.params[:, :3].T
    ribs = line(patch.u / spacing, 0.12) * fade(patch, 0.15)
    tone = (1.0 - 0.22 * ribs) * rough(patch, 19, 2.0, 0.12)
    band = (np.abs(patch.v / high - 0.55) < 0.16) & (emblem > 0.5)
    return mix(patch.rgb, patch.accent, band, 0.85) * tone[:, None]
