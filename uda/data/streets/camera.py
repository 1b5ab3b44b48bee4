"""A pinhole camera whose rays are separable into columns and rows.

World axes: x right, y up, z along the street, metres; the camera stands at z = 0. Pitch is a
vertical shift of the principal point, as with a shift lens. So the horizontal part of a ray
depends on the pixel column only and its vertical part on the row only, and every box that stands
upright can be intersected with two vectors instead of a full image of rays.
"""

from dataclasses import dataclass

import numpy as np

NEAR_M = 0.2


@dataclass(frozen=True, kw_only=True)
class Camera:
    """Position, heading and intrinsics. Rays have unit depth, so ray length is camera depth."""

    x_m: float
    height_m: float
    yaw_rad: float
    focal_px: float
    centre_column_px: float
    horizon_row_px: float

    def column_directions(self, width: int) -> tuple[np.ndarray, np.ndarray]:
        """World x and z of the ray through each column centre: two (W,) float64 arrays."""
        right = (np.arange(width) + 0.5 - self.centre_column_px) / self.focal_px
        cos, sin = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        return right * cos + sin, cos - right * sin

    def row_directions(self, height: int) -> np.ndarray:
        """World y (up) of the ray through each row centre: (H,) float64."""
        return (self.horizon_row_px - (np.arange(height) + 0.5)) / self.focal_px

    def to_view(self, points: np.ndarray) -> np.ndarray:
        """World points (..., 3) -> right, up and depth in metres (3, ...)."""
        x, y, z = np.moveaxis(points, -1, 0)
        x, y = x - self.x_m, y - self.height_m
        cos, sin = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        return np.stack([x * cos - z * sin, y, x * sin + z * cos])

    def project(self, points: np.ndarray) -> np.ndarray:
        """World points (..., 3) in front of the camera -> column, row in pixels (2, ...)."""
        right, up, depth = self.to_view(points)
        column = self.centre_column_px + self.focal_px * right / depth
        return np.stack([column, self.horizon_row_px - self.focal_px * up / depth])

    def bounds(self, corners: np.ndarray, height: int, width: int) -> np.ndarray:
        """Pixel rectangles that hold the convex hulls of P sets of corners (P, 8, 3).

        Returns int64 (P, 4): top, bottom, left, right; conservative where a hull crosses the near
        plane; empty (top >= bottom or left >= right) where it is unseen.
        """
        right, up, depth = self.to_view(corners)
        shallow = depth.min(1) <= NEAR_M
        scale = self.focal_px / np.where(shallow[:, None], 1.0, depth)
        columns, rows = self.centre_column_px + scale * right, self.horizon_row_px - scale * up
        low, high = rows.min(1), rows.max(1)
        first, last = columns.min(1), columns.max(1)
        horizon, centre = self.horizon_row_px, self.centre_column_px
        low = np.where(shallow, np.where(up.max(1) < 0, horizon, 0), low)
        high = np.where(shallow, np.where(up.min(1) > 0, horizon, height), high)
        first = np.where(shallow, np.where(right.min(1) > 0, centre, 0), first)
        last = np.where(shallow, np.where(right.max(1) < 0, centre, width), last)
        last = np.where(depth.max(1) <= NEAR_M, -2.0, last)
        box = np.stack(
            [
                np.clip(low - 1, 0, height),
                np.clip(np.ceil(high + 1), 0, height),
                np.clip(first - 1, 0, width),
                np.clip(np.ceil(last + 1), 0, width),
            ],
            axis=1,
        )
        return box.astype(np.int64)
