"""The samples of one material, and the brushes that the materials share."""

from typing import NamedTuple

import numpy as np

from uda.data.streets.noise import fractal, look_up


class Patch(NamedTuple):
    """All samples of one material: n of them.

    u, v: metres along and up the face (right and forward on lids) (n,); footprint: metres that a
    sample covers (n,); rgb: the paint's colour (n, 3); rows: where its other properties stand in
    the tables (n,); grain: contrast of the texture.
    """

    u: np.ndarray
    v: np.ndarray
    footprint: np.ndarray
    rgb: np.ndarray
    grain: float
    rows: np.ndarray
    accent_table: np.ndarray
    params_table: np.ndarray

    @property
    def accent(self) -> np.ndarray:
        """The paint's second colour (n, 3)."""
        return self.accent_table.take(self.rows, 0)

    @property
    def params(self) -> np.ndarray:
        """The paint's parameters (n, 8)."""
        return self.params_table.take(self.rows, 0)


def fade(patch: Patch, size_m: float) -> np.ndarray:
    """One where detail of `size_m` is resolved, zero where it would only alias."""
    return np.clip(1.5 - patch.footprint * (2.0 / size_m), 0.0, 1.0)


def rough(patch: Patch, seed: int, per_m: float, strength: float) -> np.ndarray:
    """A brightness factor of fractal noise, `per_m` texels to the metre."""
    noise = look_up(fractal(seed), patch.u * per_m, patch.v * per_m)
    return 1.0 + (strength * patch.grain) * noise


def mix(
    first: np.ndarray, second: np.ndarray, part: np.ndarray, strength: float = 1.0
) -> np.ndarray:
    """`second` where `part` (n,), a mask or a share, is one."""
    return first + (second - first) * (part * np.float32(strength))[:, None]


def rgb(red: float, green: float, blue: float) -> np.ndarray:
    """A linear colour, float32 (3,)."""
    return np.array([red, green, blue], np.float32)


def fraction(values: np.ndarray) -> np.ndarray:
    """The part after the decimal point, in [0, 1)."""
    return values - np.floor(values)


def line(values: np.ndarray, width: float) -> np.ndarray:
    """One within `width` (a fraction of the period one) of an integer."""
    return (fraction(values + width / 2) < width).astype(np.float32)
