"""Persons, bicycles and motorcycles with or without riders, as cards."""

import math

import numpy as np
from numpy.random import Generator

from uda.data.streets import classes19 as ids
from uda.data.streets import masks
from uda.data.streets.domain import Domain
from uda.data.streets.materials import Material
from uda.data.streets.plan import choose
from uda.data.streets.scene import Paint, Pose, Scene

SKIN_TONES = ((236, 194, 164), (214, 164, 128), (160, 112, 80), (104, 70, 50))
HAIR_TONES = ((40, 30, 24), (90, 62, 38), (170, 134, 80), (120, 118, 116), (24, 22, 22))


def _body(label: int, domain: Domain, rng: Generator) -> dict[int, Paint]:
    clothes = domain.colors.clothes
    colors = {
        masks.HAIR: choose(rng, HAIR_TONES),
        masks.SKIN: choose(rng, SKIN_TONES),
        masks.TOP: choose(rng, clothes),
        masks.TROUSERS: tuple(0.75 * c for c in choose(rng, clothes)),
        masks.SHOES: choose(rng, ((40, 36, 34), (80, 60, 44), (210, 208, 204))),
    }
    return {part: Paint(label, Material.CLOTH, color) for part, color in colors.items()}


def person(scene: Scene, pose: Pose, base: float, domain: Domain, rng: Generator) -> None:
    """A person facing the camera's side of the world, adult or child."""
    size = np.array(masks.PERSON_SIZE_M) * (rng.uniform(0.92, 1.06) if rng.random() < 0.9 else 0.7)
    mask = masks.person(int(rng.integers(16)))
    mask = mask[:, ::-1] if rng.random() < 0.5 else mask
    place = Pose(pose.x, pose.z, rng.uniform(-0.5, 0.5))
    scene.card(place, tuple(size), mask, _body(ids.PERSON, domain, rng), base=base, shadow=True)


def two_wheeler(
    scene: Scene,
    pose: Pose,
    domain: Domain,
    rng: Generator,
    *,
    motor: bool,
    ridden: bool,
    base: float = 0.0,
) -> None:
    """A bicycle or motorcycle heading along the pose; seen from an end or from its side."""
    label = ids.MOTORCYCLE if motor else ids.BICYCLE
    color = choose(rng, domain.colors.cars)
    paints = _body(ids.RIDER, domain, rng) | {
        masks.FRAME: Paint(label, Material.FLAT, color),
        masks.TYRE: Paint(label, Material.FLAT, (26, 26, 28)),
        masks.METAL: Paint(label, Material.FLAT, (104, 106, 112) if motor else (88, 88, 92)),
    }
    if ridden and (motor or rng.random() < 0.5):  # a helmet
        paints[masks.HAIR] = Paint(ids.RIDER, Material.FLAT, choose(rng, domain.colors.cars))
    across = math.sin(pose.yaw)
    end_view = abs(across) < 0.5
    size = masks.RIDER_END_SIZE_M if end_view else masks.RIDER_SIZE_M
    mask = masks.two_wheeler(motor, ridden, end_view)
    turn = 0.0 if end_view else pose.yaw - math.copysign(math.pi / 2, across)
    mask = mask[:, ::-1] if across < 0 else mask
    grow = rng.uniform(1.0, 1.1)
    scene.card(
        Pose(pose.x, pose.z, turn),
        (size[0] * grow, size[1] * grow),
        mask,
        paints,
        base=base,
        shadow=True,
    )
