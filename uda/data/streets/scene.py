"""A scene: what it is made of (boxes and cards) and how each face is painted."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from uda.data.streets.domain import Color
from uda.data.streets.materials import Material

FACES = 16  # codes per primitive: code = primitive * FACES + face
LEFT, RIGHT, NEAR, FAR, TOP, BOTTOM = range(6)
FIRST_CUT = 6  # a box's oblique faces follow its six straight ones


class Paint(NamedTuple):
    """How a face looks and what it is. Colours are display values 0..255."""

    label: int
    material: Material
    color: Color
    accent: Color = (40, 44, 52)
    params: tuple[float | int, ...] = ()


class Pose(NamedTuple):
    """A place on the ground and a heading; yaw 0 looks along +z, positive turns towards +x."""

    x: float
    z: float
    yaw: float = 0.0

    def at(self, right: float, forward: float, turn: float = 0.0) -> "Pose":
        """The pose `right` and `forward` metres from here, in this pose's own frame."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        x = self.x + cos * right + sin * forward
        return Pose(x, self.z - sin * right + cos * forward, self.yaw + turn)


class Cut(NamedTuple):
    """A half space normal . point <= offset in a box's frame (origin: middle of its base)."""

    normal: tuple[float, float, float]
    offset: float


class Box(NamedTuple):
    """An upright box, possibly with oblique cuts."""

    pose: Pose
    base: float
    width: float
    height: float
    length: float
    cuts: tuple[Cut, ...] = ()


class Card(NamedTuple):
    """An upright rectangle with a mask: uint8 (rows, columns), row 0 on top, 0 = transparent.

    Any other value is the face of the card, below FACES.
    """

    pose: Pose
    base: float
    width: float
    height: float
    mask: np.ndarray


class Shadow(NamedTuple):
    """A rectangle on the ground plan from which something `height` tall casts a shadow."""

    x: float
    z: float
    half_x: float
    half_z: float
    height: float
    base: float = 0.0


@dataclass(slots=True)
class Scene:
    """Primitive 0 is the ground plane y = 0; its only face is TOP."""

    ground: Paint
    primitives: list[Box | Card] = field(default_factory=list)
    paints: list[dict[int, Paint]] = field(default_factory=list)
    shadows: list[Shadow] = field(default_factory=list)

    def box(
        self,
        pose: Pose,
        size: tuple[float, float, float],
        paint: Paint,
        *,
        base: float = 0.0,
        faces: dict[int, Paint] | None = None,
        cuts: tuple[Cut, ...] = (),
        shadow: bool = False,
    ) -> None:
        """Add a box of `size` (width, height, length) standing at `base` over the pose."""
        self.primitives.append(Box(pose, base, *size, cuts))
        self.paints.append(dict.fromkeys(range(FIRST_CUT + len(cuts)), paint) | (faces or {}))
        if shadow:
            cos, sin = abs(math.cos(pose.yaw)), abs(math.sin(pose.yaw))
            half_x = (size[0] * cos + size[2] * sin) / 2
            half_z = (size[0] * sin + size[2] * cos) / 2
            self.shadows.append(Shadow(pose.x, pose.z, half_x, half_z, size[1], base))

    def card(
        self,
        pose: Pose,
        size: tuple[float, float],
        mask: np.ndarray,
        paints: dict[int, Paint],
        *,
        base: float = 0.0,
        shadow: bool = False,
    ) -> None:
        """Add a masked rectangle of `size` (width, height); mask value k shows paints[k]."""
        self.primitives.append(Card(pose, base, *size, mask))
        self.paints.append(paints)
        if shadow:
            half_x = size[0] * 0.4 * max(abs(math.cos(pose.yaw)), 0.3)
            half_z = size[0] * 0.4 * max(abs(math.sin(pose.yaw)), 0.5)
            self.shadows.append(Shadow(pose.x, pose.z, half_x, half_z, size[1], base))
