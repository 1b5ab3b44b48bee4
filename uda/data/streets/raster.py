"""Visibility: which face of which primitive each sample sees, and how far away it is."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from uda.data.streets.camera import NEAR_M, Camera
from uda.data.streets.scene import FACES, FIRST_CUT, TOP, Box, Card, Cut, Pose, Scene

SKY = -1
Rays = tuple[np.ndarray, np.ndarray, np.ndarray]
TINY = 1e-9  # a ray exactly parallel to a face must not divide by zero


class Visible(NamedTuple):
    """depth: float32 (H, W) metres, inf in the sky; code: int32 (H, W), primitive * FACES + face.

    The ground plane is primitive 0; `scene.primitives[i]` is primitive i + 1. Sky is SKY.
    """

    depth: np.ndarray
    code: np.ndarray


def rasterize(scene: Scene, camera: Camera, height: int, width: int) -> Visible:
    """Cast one ray through every sample centre and keep the nearest hit."""
    columns, rows = camera.column_directions(width), camera.row_directions(height)
    visible = _ground(camera, rows, width)
    if not scene.primitives:
        return visible
    boxes = camera.bounds(_corners(scene.primitives), height, width).tolist()
    for number, primitive in enumerate(scene.primitives, start=1):
        top, bottom, left, right = boxes[number - 1]
        if top >= bottom or left >= right:
            continue
        window = Visible(*(plane[top:bottom, left:right] for plane in visible))
        part = columns[0][left:right], rows[top:bottom], columns[1][left:right]
        if isinstance(primitive, Box):
            _draw_box(primitive, number * FACES, camera, part, window)
        else:
            _draw_card(primitive, number * FACES, camera, part, window)
    return visible


def _ground(camera: Camera, rows: np.ndarray, width: int) -> Visible:
    depth = np.full(rows.shape, np.inf)
    depth[rows < 0] = camera.height_m / -rows[rows < 0]
    code = np.where(rows < 0, TOP, SKY).astype(np.int32)
    shape = len(rows), width
    planes = depth.astype(np.float32), code
    return Visible(*(np.broadcast_to(plane[:, None], shape).copy() for plane in planes))


def _corners(primitives: Sequence[Box | Card]) -> np.ndarray:
    """The eight corners of every primitive, (P, 8, 3)."""
    size = np.array(
        [
            (
                p.pose.x,
                p.pose.z,
                p.pose.yaw,
                p.base,
                p.height,
                p.width / 2,
                p.length / 2 if isinstance(p, Box) else 0.0,
            )
            for p in primitives
        ]
    )
    x, z, yaw, base, height, half_x, half_z = size.T[:, :, None]
    right = half_x * np.array([-1, -1, -1, -1, 1, 1, 1, 1])
    forward = half_z * np.array([-1, -1, 1, 1, -1, -1, 1, 1])
    up = base + height * np.array([0, 1, 0, 1, 0, 1, 0, 1])
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.stack([x + cos * right + sin * forward, up, z - sin * right + cos * forward], axis=2)


def _to_local(
    pose: Pose, camera: Camera, x: np.ndarray, z: np.ndarray
) -> tuple[tuple[float, float], np.ndarray, np.ndarray]:
    """Camera position and column directions in the frame of a pose: (ox, oz), dx, dz."""
    cos, sin = math.cos(pose.yaw), math.sin(pose.yaw)
    dx, dz = camera.x_m - pose.x, -pose.z
    origin = cos * dx - sin * dz, sin * dx + cos * dz
    return origin, cos * x - sin * z, sin * x + cos * z


def _slab(origin: float, direction: np.ndarray, low: float, high: float) -> Rays:
    """Entry and exit distance of a slab low..high, and whether the low side is entered."""
    safe = np.where(np.abs(direction) < TINY, TINY, direction)
    first, second = (low - origin) / safe, (high - origin) / safe
    return np.minimum(first, second), np.maximum(first, second), safe > 0


def _draw_box(box: Box, base_code: int, camera: Camera, part: Rays, window: Visible) -> None:
    x, y, z = part
    origin, dx, dz = _to_local(box.pose, camera, x, z)
    up = camera.height_m - box.base
    in_x, out_x, from_left = _slab(origin[0], dx, -box.width / 2, box.width / 2)
    in_z, out_z, from_near = _slab(origin[1], dz, -box.length / 2, box.length / 2)
    in_y, out_y, from_below = _slab(up, y, 0.0, box.height)
    side = np.where(in_x > in_z, np.where(from_left, 0, 1), np.where(from_near, 2, 3))
    lid = np.where(from_below, 5, 4)
    entry_side = np.maximum(in_x, in_z).astype(np.float32)[None, :]
    entry_lid = in_y.astype(np.float32)[:, None]
    entry = np.maximum(entry_side, entry_lid)
    leave = np.minimum(
        np.minimum(out_x, out_z).astype(np.float32)[None, :], out_y.astype(np.float32)[:, None]
    )
    face = np.where(entry_lid > entry_side, lid.astype(np.int32)[:, None], side.astype(np.int32))
    for index, cut in enumerate(box.cuts):
        entry, leave, face = _apply_cut(
            cut, index, (origin[0], up, origin[1]), (dx, y, dz), (entry, leave, face)
        )
    hit = (entry < leave) & (entry < window.depth) & (entry > NEAR_M)
    np.copyto(window.depth, entry, where=hit)
    np.copyto(window.code, face + np.int32(base_code), where=hit)


def _apply_cut(
    cut: Cut, index: int, origin: tuple[float, float, float], direction: Rays, span: Rays
) -> Rays:
    entry, leave, face = span
    nx, ny, nz = cut.normal
    slope = (nx * direction[0] + nz * direction[2]).astype(np.float32)[None, :] + (
        ny * direction[1]
    ).astype(np.float32)[:, None]
    slope = np.where(np.abs(slope) < TINY, np.float32(TINY), slope)
    room = cut.offset - (nx * origin[0] + ny * origin[1] + nz * origin[2])
    distance = np.float32(room) / slope
    inward = slope < 0
    nearer = inward & (distance > entry)
    face = np.where(nearer, np.int32(FIRST_CUT + index), face)
    entry = np.where(nearer, distance, entry)
    leave = np.where(inward, leave, np.minimum(leave, distance))
    return entry, leave, face


def _draw_card(card: Card, base_code: int, camera: Camera, part: Rays, window: Visible) -> None:
    x, y, z = part
    origin, dx, dz = _to_local(card.pose, camera, x, z)
    distance = -origin[1] / np.where(np.abs(dz) < TINY, TINY, dz)
    across = (origin[0] + distance * dx) / card.width + 0.5
    inside = (distance > NEAR_M) & (across >= 0) & (across < 1)
    if not inside.any():
        return
    num_rows, num_columns = card.mask.shape
    texel_column = np.where(inside, across * num_columns, 0).astype(np.intp)
    safe = np.where(inside, distance, 1.0).astype(np.float32)[None, :]
    above = (camera.height_m - card.base) / card.height
    down = 1.0 - (np.float32(above) + safe * (y / card.height).astype(np.float32)[:, None])
    texel_row = np.floor(down * num_rows).astype(np.intp)
    hit = (texel_row >= 0) & (texel_row < num_rows) & inside[None, :] & (safe < window.depth)
    face = card.mask[np.where(hit, texel_row, 0), texel_column[None, :]]
    hit &= face > 0
    np.copyto(window.depth, np.broadcast_to(safe, hit.shape), where=hit)
    np.copyto(window.code, face.astype(np.int32) + np.int32(base_code), where=hit)
