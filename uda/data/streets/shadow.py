"""Shadows on a ground plan: one coarse map per scene, looked up by every sample near the ground."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from uda.data.streets.scene import Shadow

CELL_M = 0.25
LEFT_M, NEAR_M = -30.0, -6.0
COLUMNS, ROWS = 240, 400  # 60 m x 100 m
MAX_STEPS = 10


class ShadowMap(NamedTuple):
    """plan: float32 (ROWS, COLUMNS), one where the sun is hidden; shift: metres per metre up."""

    plan: np.ndarray
    shift: tuple[float, float]

    def sample(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """How shaded points close to the ground are (n,); higher ones fade to unshaded."""
        column = ((x - LEFT_M) * (1 / CELL_M)).astype(np.int32)
        row = ((z - NEAR_M) * (1 / CELL_M)).astype(np.int32)
        inside = (column >= 0) & (column < COLUMNS) & (row >= 0) & (row < ROWS) & (y < 0.4)
        index = np.where(inside, row * COLUMNS + column, 0)
        return np.where(inside, self.plan.ravel()[index], np.float32(0))


def shadow_map(shadows: Sequence[Shadow], sun: np.ndarray, softness_m: float) -> ShadowMap:
    """Sweep every caster's footprint along the sun's shadow direction."""
    plan = np.zeros((ROWS, COLUMNS), np.float32)
    tall = max(float(sun[1]), 0.25)
    shift = -float(sun[0]) / tall, -float(sun[2]) / tall
    for caster in shadows:
        _sweep(plan, caster, shift)
    radius = round(softness_m / CELL_M)
    for axis in (0, 1):
        if radius:
            plan = _blur(plan, radius, axis)
    return ShadowMap(plan, shift)


def _sweep(plan: np.ndarray, caster: Shadow, shift: tuple[float, float]) -> None:
    reach = caster.height * max(abs(shift[0]), abs(shift[1]))
    stride = max(min(caster.half_x, caster.half_z), CELL_M)
    steps = min(MAX_STEPS, 1 + int(reach / stride))
    for step in range(steps + 1):
        up = caster.base + caster.height * step / steps
        x, z = caster.x + up * shift[0], caster.z + up * shift[1]
        top, bottom = _cells(z - caster.half_z, z + caster.half_z, NEAR_M, ROWS)
        left, right = _cells(x - caster.half_x, x + caster.half_x, LEFT_M, COLUMNS)
        plan[top:bottom, left:right] = 1.0


def _cells(low: float, high: float, origin: float, num: int) -> tuple[int, int]:
    first = min(max(int((low - origin) / CELL_M + 0.5), 0), num)
    last = min(max(int((high - origin) / CELL_M + 0.5), 0), num)
    return first, max(last, min(first + 1, num) if high > origin else first)


def _blur(plan: np.ndarray, radius: int, axis: int) -> np.ndarray:
    padded = np.concatenate([np.zeros_like(plan.take([0], axis)), plan.cumsum(axis)], axis)
    length = plan.shape[axis]
    high = np.minimum(np.arange(length) + radius + 1, length)
    low = np.maximum(np.arange(length) - radius, 0)
    return (padded.take(high, axis) - padded.take(low, axis)) / np.float32(2 * radius + 1)
