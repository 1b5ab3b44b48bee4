"""Trees, lamps, traffic signs and traffic lights."""

import numpy as np
from numpy.random import Generator

from uda.data.streets import classes19 as ids
from uda.data.streets import masks
from uda.data.streets.domain import Domain
from uda.data.streets.materials import Material
from uda.data.streets.plan import AHEAD_M, CURB_M, Plan, choose
from uda.data.streets.scene import Paint, Pose, Scene

SIGN_COLORS = {
    "disc": ((196, 24, 28), (240, 240, 236), (30, 30, 32)),
    "triangle": ((200, 30, 30), (244, 242, 232), (30, 30, 32)),
    "octagon": ((238, 238, 234), (190, 24, 30), (240, 240, 238)),
    "square": ((236, 238, 240), (24, 84, 172), (240, 242, 244)),
    "diamond": ((240, 240, 236), (240, 184, 24), (40, 38, 34)),
}
LIT_COLORS = ((255, 50, 40), (255, 190, 60), (70, 255, 150))


def furnish(scene: Scene, plan: Plan, domain: Domain, rng: Generator) -> None:
    """Rows of trees and lamps, scattered signs, and lights at the crossing."""
    for side in plan.sides:
        inner = side.curb + 0.55
        z = rng.uniform(1, 10)
        while side.trees and z < AHEAD_M * 0.8:
            if plan.clear_of_crossing(z, 1.5):
                tree(scene, Pose(side.sign * (inner + 0.3), z), domain, rng)
            z += rng.uniform(*domain.town.tree_spacing_m)
        z = rng.uniform(5, 16)
        spacing = rng.uniform(*domain.town.pole_spacing_m)
        while z < AHEAD_M * 0.7:
            if plan.clear_of_crossing(z, 0.5):
                lamp(scene, Pose(side.sign * inner, z), side.sign, domain, rng)
            z += spacing
        for _ in range(rng.poisson(domain.traffic.sign_rate / 2)):
            z = rng.uniform(5, 30)
            if plan.clear_of_crossing(z, 0.5):
                sign(scene, Pose(side.sign * (inner + rng.uniform(-0.2, 0.4)), z), domain, rng)
    _signals(scene, plan, domain, rng)


def tree(scene: Scene, pose: Pose, domain: Domain, rng: Generator) -> None:
    """A trunk and two or three cards of foliage at different depths."""
    height = rng.uniform(*domain.town.tree_height_m)
    bark = Paint(ids.VEGETATION, Material.FLAT, (82 + rng.uniform(-14, 14), 66, 52))
    girth = rng.uniform(0.2, 0.36)
    scene.box(pose, (girth, height * 0.55, girth), bark, base=CURB_M, shadow=True)
    width = height * rng.uniform(0.55, 0.8)
    variant, paints = int(rng.integers(12)), _leaf_paints(domain, rng)
    low = max(height * 0.3, 2.0)
    for number in range(3):
        mask = masks.crown((variant + 5 * number) % 15)
        shrink = 1.0 - 0.18 * number
        place = Pose(pose.x + (0, 0.22, -0.2)[number] * width, pose.z + (0.3, -0.5, -0.9)[number])
        size = width * shrink, (height - low) * shrink
        scene.card(
            place,
            size,
            mask,
            paints,
            base=low + (0, 0.25, 0.1)[number] * (height - low),
            shadow=number == 0,
        )


def bush(scene: Scene, pose: Pose, height: float, domain: Domain, rng: Generator) -> None:
    """A low round shrub."""
    mask = masks.crown(int(rng.integers(4)))
    size = height * rng.uniform(1.1, 1.7), height
    scene.card(pose, size, mask, _leaf_paints(domain, rng), base=CURB_M - 0.1 * height, shadow=True)


def _leaf_paints(domain: Domain, rng: Generator) -> dict[int, Paint]:
    color = np.array(choose(rng, domain.colors.leaves))
    tones = (0.5, 0.72, 0.92, 1.12, 1.3)
    return {
        tone + 1: Paint(ids.VEGETATION, Material.LEAVES, tuple(np.minimum(color * part, 250)))
        for tone, part in enumerate(tones)
    }


def pole_paint(domain: Domain, rng: Generator) -> Paint:
    """Painted or galvanised metal."""
    return Paint(ids.POLE, Material.FLAT, choose(rng, domain.colors.poles))


def lamp(scene: Scene, pose: Pose, side: int, domain: Domain, rng: Generator) -> None:
    """A street lamp with an arm over the road, or a plain mast."""
    paint = pole_paint(domain, rng)
    height, girth = rng.uniform(5.0, 8.5), rng.uniform(0.13, 0.24)
    scene.box(pose, (girth, height, girth), paint, base=CURB_M, shadow=True)
    if rng.random() < 0.75:
        reach = rng.uniform(1.0, 2.4)
        scene.box(pose.at(-side * reach / 2, 0.0), (reach, 0.1, 0.1), paint, base=height)
        scene.box(pose.at(-side * reach, 0.0), (0.7, 0.16, 0.3), paint, base=height - 0.06)


def sign(scene: Scene, pose: Pose, domain: Domain, rng: Generator) -> None:
    """One or two plates on a post."""
    girth, height = rng.uniform(0.09, 0.13), rng.uniform(2.0, 2.7)
    scene.box(pose, (girth, height + 0.7, girth), pole_paint(domain, rng), base=CURB_M, shadow=True)
    if rng.random() < 0.25:
        board(scene, pose, height, rng)
        return
    for number in range(1 + int(rng.random() < 0.3)):
        kind = sorted(SIGN_COLORS)[rng.integers(len(SIGN_COLORS))]
        size = rng.uniform(0.75, 1.05)
        paints = {
            part: Paint(ids.SIGN, Material.FLAT, color)
            for part, color in enumerate(SIGN_COLORS[kind], start=1)
        }
        place = Pose(pose.x, pose.z - girth / 2 - 0.02, rng.uniform(-0.35, 0.35))
        scene.card(place, (size, size), masks.sign(kind), paints, base=height - number * 0.9)


def board(scene: Scene, pose: Pose, height: float, rng: Generator) -> None:
    """A direction board: lines of text on a coloured plate."""
    back = ((24, 84, 172), (20, 110, 70), (240, 200, 40), (236, 236, 230))[rng.integers(4)]
    ink = (235, 235, 235) if sum(back) < 400 else (40, 40, 40)
    mask = np.full((20, 32), 1, np.uint8)
    mask[4:8, 4:26] = mask[12:15, 4:20] = 2
    paints = {1: Paint(ids.SIGN, Material.FLAT, back), 2: Paint(ids.SIGN, Material.FLAT, ink)}
    size = rng.uniform(1.3, 2.0), rng.uniform(0.8, 1.2)
    scene.card(Pose(pose.x, pose.z - 0.1), size, mask, paints, base=height - 0.2)


def _signals(scene: Scene, plan: Plan, domain: Domain, rng: Generator) -> None:
    lone = rng.random() < domain.traffic.lone_signal_chance
    crossing = plan.crossing[0] > 0 and rng.random() < domain.traffic.signal_chance
    if not crossing and not lone:
        return
    lit = int(rng.integers(3))
    near = plan.crossing[0] - 2.0 if crossing else rng.uniform(8, 24)
    for z in (near, plan.crossing[1] + 1.0) if crossing else (near,):
        for side in plan.sides:
            if rng.random() < 0.85:
                place = Pose(side.sign * (side.curb + 0.5), z)
                signal(scene, place, side.sign, lit, domain, rng)


def signal(scene: Scene, pose: Pose, side: int, lit: int, domain: Domain, rng: Generator) -> None:
    """A traffic light on a post; sometimes a second head on an arm over the road."""
    paint = pole_paint(domain, rng)
    arm = rng.random() < 0.45
    height = 5.6 if arm else 3.4
    scene.box(pose, (0.16, height, 0.16), paint, base=CURB_M, shadow=True)
    _head(scene, pose, 2.3, lit)
    if arm:
        reach = rng.uniform(2.5, 4.5)
        scene.box(pose.at(-side * reach / 2, 0.0), (reach, 0.13, 0.13), paint, base=height - 0.2)
        _head(scene, pose.at(-side * reach, 0.0), height - 1.0, lit)


def _head(scene: Scene, pose: Pose, base: float, lit: int) -> None:
    dark = Paint(ids.SIGNAL, Material.FLAT, (26, 28, 28))
    scene.box(pose.at(0.0, -0.22), (0.52, 1.3, 0.26), dark, base=base)
    paints = {
        masks.HOUSING: dark,
        masks.DARK: Paint(ids.SIGNAL, Material.FLAT, (60, 44, 40)),
        masks.LIT: Paint(ids.SIGNAL, Material.GLOW, LIT_COLORS[lit]),
    }
    scene.card(pose.at(0.0, -0.37), (0.52, 1.3), masks.lamps(lit), paints, base=base)
