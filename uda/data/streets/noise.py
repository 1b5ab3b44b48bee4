"""Tileable random textures, drawn once per process from fixed seeds."""

from functools import lru_cache

import numpy as np

SIZE = 256  # texels per side; a power of two, so that wrapping is a bit mask
WRAP = SIZE - 1


@lru_cache(maxsize=64)
def white(seed: int) -> np.ndarray:
    """Independent uniform values in [0, 1), float32 (SIZE, SIZE)."""
    return np.random.default_rng([9001, seed]).random((SIZE, SIZE), dtype=np.float32)


@lru_cache(maxsize=64)
def fractal(seed: int) -> np.ndarray:
    """Smooth noise in about [-1, 1] with detail down to a few texels, float32 (SIZE, SIZE)."""
    rng = np.random.default_rng([9002, seed])
    total = np.zeros((SIZE, SIZE), np.float32)
    for cells, weight in ((4, 0.5), (8, 0.4), (16, 0.3), (32, 0.25), (64, 0.2), (128, 0.15)):
        lattice = rng.random((cells, cells), dtype=np.float32) * 2 - 1
        total += np.float32(weight) * _stretch(_stretch(lattice).T).T
    return total


def _stretch(lattice: np.ndarray) -> np.ndarray:
    """Interpolate rows (n, m) periodically to (SIZE, m)."""
    num = len(lattice)
    place = np.arange(SIZE) * (num / SIZE)
    low = place.astype(np.intp)
    part = (place - low).astype(np.float32)[:, None]
    part = part * part * (3 - 2 * part)
    return lattice[low] * (1 - part) + lattice[(low + 1) % num] * part


def look_up(texture: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The texel under (u, v), in texels, wrapped; u and v float32 of one shape."""
    column = np.floor(u).astype(np.int32) & WRAP
    row = np.floor(v).astype(np.int32) & WRAP
    return texture[row, column]
