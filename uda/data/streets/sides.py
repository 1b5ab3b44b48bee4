"""What stands along the street: buildings, and between them walls, fences, hedges and lawns."""

import numpy as np
from numpy.random import Generator

from uda.data.streets import classes19 as ids
from uda.data.streets.domain import Domain
from uda.data.streets.furniture import bush, tree
from uda.data.streets.materials import Material
from uda.data.streets.plan import AHEAD_M, BEHIND_M, CURB_M, Plan, Side, choose
from uda.data.streets.scene import FIRST_CUT, TOP, Cut, Paint, Pose, Scene


def build_sides(scene: Scene, plan: Plan, domain: Domain, rng: Generator) -> None:
    """Fill both sides lot by lot, close the cross street and the far end."""
    for side in plan.sides:
        z = BEHIND_M + rng.uniform(0, 8)
        while z < AHEAD_M:
            length = rng.uniform(*domain.town.lot_m)
            start, end = plan.crossing
            if z < end and z + length > start:
                if start - z < 5.0:
                    z = end
                    continue
                length = start - z
            _fill_lot(scene, side, (z, z + length), domain, rng)
            z += length
        _barrier(scene, side, plan, domain, rng)
        if plan.crossing[0] > 0:
            middle = sum(plan.crossing) / 2
            _house(scene, Pose(side.sign * rng.uniform(48, 75), middle), (14.0, 34.0), domain, rng)
    _far_end(scene, domain, rng)


def _barrier(scene: Scene, side: Side, plan: Plan, domain: Domain, rng: Generator) -> None:
    """A railing or parapet between sidewalk and road."""
    if rng.random() >= domain.town.barrier_chance:
        return
    start = rng.uniform(3, 14)
    length = rng.uniform(10, 40)
    if plan.crossing[0] > 0:
        length = min(length, plan.crossing[0] - 3.0 - start)
    if length < 4.0:
        return
    pose = Pose(side.sign * (side.curb + 0.32), start + length / 2)
    build, height = (fence, (0.9, 1.3)) if rng.random() < 0.6 else (wall, (0.6, 1.1))
    build(scene, pose, (length, rng.uniform(*height)), domain, rng)


def _fill_lot(
    scene: Scene, side: Side, span: tuple[float, float], domain: Domain, rng: Generator
) -> None:
    length = span[1] - span[0]
    middle = (span[0] + span[1]) / 2
    if rng.random() < domain.town.building_chance:
        depth = rng.uniform(9, 14)
        pose = Pose(side.sign * (side.line + depth / 2 + rng.uniform(0, 0.4)), middle)
        _house(scene, pose, (depth, length - rng.uniform(0.0, 1.2)), domain, rng)
        if side.line > side.garden + 1.5:
            _border(scene, side, side.garden + 0.2, span, domain, rng, tall=False)
            if rng.random() < 0.5:
                place = Pose(side.sign * (side.garden + 1.3), middle + rng.uniform(-3, 3))
                bush(scene, place, rng.uniform(0.8, 1.8), domain, rng)
        return
    _border(scene, side, side.line + 0.2, span, domain, rng, tall=True)
    for _ in range(rng.integers(1, 4)):
        place = Pose(side.sign * (side.line + rng.uniform(3, 9)), rng.uniform(*span))
        tree(scene, place, domain, rng)


def _border(
    scene: Scene,
    side: Side,
    x: float,
    span: tuple[float, float],
    domain: Domain,
    rng: Generator,
    *,
    tall: bool,
) -> None:
    """A wall, fence, hedge or nothing along a lot."""
    weights = np.array(domain.town.border_weights)
    kind = rng.choice(4, p=weights / weights.sum())
    pose = Pose(side.sign * x, (span[0] + span[1]) / 2)
    length = span[1] - span[0]
    colors = domain.colors
    if kind == 0:
        wall(
            scene,
            pose,
            (length, rng.uniform(1.6, 3.0) if tall else rng.uniform(0.7, 1.4)),
            domain,
            rng,
        )
    elif kind == 1:
        fence(
            scene,
            pose,
            (length, rng.uniform(1.4, 2.3) if tall else rng.uniform(0.9, 1.4)),
            domain,
            rng,
        )
    elif kind == 2:
        height = rng.uniform(1.2, 2.4) if tall else rng.uniform(0.7, 1.3)
        paint = Paint(ids.VEGETATION, Material.LEAVES, choose(rng, colors.leaves))
        scene.box(pose, (0.9, height, length), paint, base=CURB_M, shadow=True)


def wall(
    scene: Scene, pose: Pose, size: tuple[float, float], domain: Domain, rng: Generator
) -> None:
    """A free-standing wall of `size` (length, height) along the pose's heading."""
    blocks = ((0.5, 0.22, 1.0), (1.1, 0.5, 0.8), (3.0, 2.6, 0.7), (0.35, 0.12, 0.9))
    paint = Paint(
        ids.WALL,
        Material.MASONRY,
        choose(rng, domain.colors.walls),
        params=blocks[rng.integers(len(blocks))],
    )
    length, height = size
    scene.box(pose, (0.3, height, length), paint, base=CURB_M, shadow=True)
    if rng.random() < 0.6:
        cap = Paint(ids.WALL, Material.FLAT, choose(rng, domain.colors.walls))
        scene.box(pose, (0.44, 0.12, length), cap, base=CURB_M + height)


def fence(
    scene: Scene, pose: Pose, size: tuple[float, float], domain: Domain, rng: Generator
) -> None:
    """A fence of `size` (length, height): boards, or bars before a dark screen."""
    color = choose(rng, domain.colors.fences)
    dark = tuple(c * 0.45 + 12 for c in color)
    if rng.random() < 0.4:
        paint = Paint(ids.FENCE, Material.PLANKS, color, params=(rng.uniform(0.12, 0.24),))
    else:
        slant = 1.0 if rng.random() < 0.35 else 0.0
        green = choose(rng, domain.colors.leaves)
        screen = dark if rng.random() < 0.5 else tuple(0.7 * c for c in green)
        paint = Paint(ids.FENCE, Material.MESH, color, screen, (rng.uniform(0.14, 0.3), slant))
    length, height = size
    scene.box(pose, (0.08, height, length), paint, base=CURB_M, shadow=True)
    for end in np.arange(-length / 2, length / 2 + 0.1, 4.0) if pose.z < 40 else ():
        scene.box(
            pose.at(0.0, float(end)),
            (0.14, height + 0.12, 0.14),
            Paint(ids.FENCE, Material.FLAT, dark),
            base=CURB_M,
        )


def _house(
    scene: Scene, pose: Pose, plot: tuple[float, float], domain: Domain, rng: Generator
) -> None:
    """A building on a plot (depth, length): facade, ledges, flat or gabled roof."""
    town, colors = domain.town, domain.colors
    floor = rng.uniform(*town.floor_m)
    num_floors = int(rng.integers(town.num_floors[0], town.num_floors[1] + 1))
    height = floor * num_floors + rng.uniform(0.2, 0.8)
    color, trim = choose(rng, colors.facades), choose(rng, colors.trims)
    brick = float(rng.random() < town.brick_chance)
    high = rng.uniform(*town.window_height)
    params = (
        rng.uniform(*town.window_cell_m),
        floor,
        rng.uniform(*town.window_width),
        high,
        brick,
        float(rng.integers(0, 200)),
        float(rng.random() < town.shop_chance),
        (1 - high) * rng.uniform(0.4, 0.7),
    )
    facade = Paint(ids.BUILDING, Material.FACADE, color, trim, params)
    roof = Paint(ids.BUILDING, Material.ROOF, choose(rng, colors.roofs))
    depth, length = plot
    if num_floors <= 4 and rng.random() < town.gable_chance:
        rise = rng.uniform(2.2, 4.0)
        slope = rise / (depth / 2)
        cuts = tuple(Cut((sign, 1 / slope, 0.0), (height + rise) / slope) for sign in (-1, 1))
        faces = {FIRST_CUT: roof, FIRST_CUT + 1: roof}
        scene.box(pose, (depth, height + rise, length), facade, faces=faces, cuts=cuts, shadow=True)
        top = height
    else:
        scene.box(pose, (depth, height, length), facade, faces={TOP: roof}, shadow=True)
        ledge = Paint(ids.BUILDING, Material.FLAT, trim)
        scene.box(pose, (depth + 0.5, 0.35, length + 0.3), ledge, base=height)
        top = height + 0.35
    _details(scene, pose, plot, (floor, num_floors, top), domain, rng)


def _details(
    scene: Scene,
    pose: Pose,
    plot: tuple[float, float],
    storeys: tuple[float, int, float],
    domain: Domain,
    rng: Generator,
) -> None:
    depth, length = plot
    floor, num_floors, top = storeys
    towards = -1 if pose.x > 0 else 1  # the street's side of the house
    front = towards * depth / 2
    trim = Paint(ids.BUILDING, Material.FLAT, choose(rng, domain.colors.trims))
    if rng.random() < 0.45:  # an awning over the shops
        cloth = Paint(
            ids.BUILDING, Material.PLANKS, choose(rng, domain.colors.coaches), params=(0.5,)
        )
        scene.box(
            pose.at(front + towards * 0.55, 0.0),
            (1.1, 0.28, length * 0.8),
            cloth,
            base=floor * 0.82,
            shadow=True,
        )
    if num_floors > 2 and pose.z < 60 and rng.random() < 0.4:
        for storey in range(1, num_floors):
            for along in (-0.3, 0.05, 0.33):
                scene.box(
                    pose.at(front + towards * 0.4, along * length),
                    (0.8, 0.9, 2.2),
                    trim,
                    base=storey * floor + 0.05,
                )
    if rng.random() < 0.5:
        chimney = Paint(
            ids.BUILDING, Material.MASONRY, choose(rng, domain.colors.roofs), params=(0.4, 0.2, 1.0)
        )
        scene.box(
            pose.at(0.0, rng.uniform(-0.3, 0.3) * length), (0.9, 3.2, 1.2), chimney, base=top - 0.5
        )


def _far_end(scene: Scene, domain: Domain, rng: Generator) -> None:
    """What closes the view: a block of houses, or a line of trees."""
    closed = rng.random() < 0.6
    z = AHEAD_M + rng.uniform(10, 40)
    for x in np.arange(-110, 111, 20.0):
        if not closed and abs(x) < 12:
            continue
        place = Pose(float(x), z + rng.uniform(-5, 5))
        if rng.random() < 0.5:
            _house(scene, place, (20.0, 14.0), domain, rng)
        else:
            paint = Paint(ids.VEGETATION, Material.LEAVES, choose(rng, domain.colors.leaves))
            scene.box(place, (21.0, rng.uniform(5, 11), 6.0), paint)
