"""Cars, trucks, buses and trams as a few cut boxes each; local +z is the direction of travel."""

import math

from numpy.random import Generator

from uda.data.streets import classes19 as ids
from uda.data.streets import masks
from uda.data.streets.domain import Color, Domain
from uda.data.streets.materials import Material
from uda.data.streets.plan import choose
from uda.data.streets.scene import FAR, FIRST_CUT, LEFT, NEAR, RIGHT, Cut, Paint, Pose, Scene

DETAIL_M = 40.0  # farther tyres are below a pixel

# length, width, waist, roof, cabin start, cabin end (from the rear), slopes rear and front
CAR_SHAPES = (
    (4.1, 1.76, 0.92, 1.48, 0.02, 0.66, 0.35, 0.75),  # hatchback
    (4.6, 1.82, 0.90, 1.43, 0.13, 0.70, 0.70, 0.80),  # saloon
    (4.6, 1.82, 0.92, 1.47, 0.00, 0.68, 0.25, 0.75),  # estate
    (4.7, 1.92, 1.08, 1.78, 0.02, 0.70, 0.25, 0.60),  # off-roader
    (5.0, 1.94, 1.10, 2.05, 0.00, 0.84, 0.08, 0.60),  # van
)


def car(scene: Scene, pose: Pose, domain: Domain, rng: Generator) -> None:
    """A passenger car of one of five shapes."""
    length, width, waist, roof, start, end, rear, front = CAR_SHAPES[
        rng.choice(len(CAR_SHAPES), p=(0.3, 0.28, 0.16, 0.16, 0.1))
    ]
    color = choose(rng, domain.colors.cars)
    half, high = width / 2, waist - 0.24
    body = Paint(ids.CAR, Material.FLAT, color)
    side = Paint(ids.CAR, Material.CAR_SIDE, color, params=(high,))
    ends = [
        Paint(ids.CAR, Material.CAR_END, color, params=(half, high, back, 0.42, 0.15))
        for back in (1.0, 0.0)
    ]
    bonnet = Cut((0.0, 1.0, 0.22), high + 0.22 * length * 0.34)
    boot = Cut((0.0, 1.0, -0.2), high + 0.2 * length * 0.40)
    scene.box(
        pose,
        (width, high, length),
        body,
        base=0.24,
        cuts=(bonnet, boot),
        shadow=True,
        faces={LEFT: side, RIGHT: side, NEAR: ends[0], FAR: ends[1]},
    )
    _cabin(
        scene,
        pose.at(0.0, length * ((start + end) / 2 - 0.5)),
        color,
        (width * 0.94, waist, roof, length * (end - start)),
        (rear, front),
    )
    dark = Paint(ids.CAR, Material.FLAT, (22, 22, 24))
    scene.box(pose, (width * 0.9, 0.2, length * 0.9), dark, base=0.14)
    _wheels(scene, pose, ids.CAR, (width, 0.33), (-0.3 * length, 0.31 * length))


def _cabin(
    scene: Scene, pose: Pose, color: Color, size: tuple[float, ...], slopes: tuple[float, float]
) -> None:
    width, base, roof, length = size
    high = roof - base
    glass = Paint(ids.CAR, Material.GLASS, color, params=(high,))
    sides = Paint(ids.CAR, Material.CABIN, color, params=(length / 2, high, 1.15))
    lean = 0.28
    cuts = (
        Cut((0.0, slopes[1], high), high * length / 2),
        Cut((0.0, slopes[0], -high), high * length / 2),
        Cut((1.0, lean, 0.0), width / 2),
        Cut((-1.0, lean, 0.0), width / 2),
    )
    faces = {FIRST_CUT: glass, FIRST_CUT + 1: glass, FIRST_CUT + 2: sides, FIRST_CUT + 3: sides}
    scene.box(
        pose,
        (width, high, length),
        Paint(ids.CAR, Material.FLAT, color),
        base=base,
        cuts=cuts,
        faces=faces,
    )


def _wheels(
    scene: Scene, pose: Pose, label: int, size: tuple[float, ...], axles: tuple[float, ...]
) -> None:
    """Discs on both flanks and dark tyres that are seen from an end. size: (track, radius)."""
    track, radius = size
    tyre = Paint(label, Material.FLAT, (24, 24, 26))
    paints = {
        1: tyre,
        2: Paint(label, Material.FLAT, (140, 142, 146)),
        3: Paint(label, Material.FLAT, (44, 44, 48)),
    }
    for along in axles:
        for side in (-1, 1):
            place = pose.at(side * (track / 2 + 0.01), along, math.pi / 2)
            scene.card(place, (2 * radius, 2 * radius), masks.wheel(), paints)
            inside = pose.at(side * (track / 2 - 0.13), along)
            if pose.z < DETAIL_M:
                scene.box(inside, (0.22, radius, radius * 0.7), tyre)


def truck(scene: Scene, pose: Pose, domain: Domain, rng: Generator) -> None:
    """A cab and a box body, tipper or tank on a dark chassis."""
    body, cargo = choose(rng, domain.colors.cars), choose(rng, domain.colors.coaches)
    cab_length, long = rng.uniform(1.7, 2.3), rng.uniform(4.5, 8.0)
    width, cab_high = rng.uniform(2.2, 2.5), rng.uniform(1.9, 2.4)
    length = cab_length + long + 0.3
    front = pose.at(0.0, length / 2 - cab_length / 2)
    back = pose.at(0.0, -length / 2 + long / 2)
    dark = Paint(ids.TRUCK, Material.FLAT, (30, 30, 32))
    scene.box(pose, (width * 0.8, 0.45, length), dark, base=0.5, shadow=True)
    end = Paint(ids.TRUCK, Material.CAR_END, body, params=(width / 2, 1.0, 0.0, 0.45, 0.12))
    cab = Paint(ids.TRUCK, Material.FLAT, body)
    scene.box(
        front,
        (width, cab_high, cab_length),
        cab,
        base=0.55,
        faces={FAR: end},
        cuts=(Cut((0.0, 0.25, 1.0), cab_length / 2 + 0.25 * 1.1),),
    )
    _screen(scene, front.at(0.0, cab_length / 2 - 0.08), ids.TRUCK, (width * 0.88, 0.8), 1.6)
    for side in (-1, 1):
        pane = front.at(side * (width / 2 + 0.01), 0.2)
        glass = Paint(ids.TRUCK, Material.GLASS, body, params=(0.8,))
        scene.box(pane, (0.03, 0.7, cab_length * 0.5), glass, base=1.65)
    kind = rng.choice(3, p=(0.7, 0.2, 0.1))
    high = (rng.uniform(2.2, 2.8), rng.uniform(1.0, 1.5), rng.uniform(1.6, 1.9))[kind]
    emblem = float(rng.random() < 0.6)
    box = Paint(
        ids.TRUCK,
        Material.CARGO,
        cargo,
        choose(rng, domain.colors.coaches),
        (0.6 if kind else 1.2, high, emblem),
    )
    bevel = tuple(Cut((sign, 1.0, 0.0), width / 2 + high - 0.55) for sign in (-1.0, 1.0))
    scene.box(
        back,
        (width + 0.05, high, long),
        box,
        base=1.0,
        cuts=bevel if kind == 2 else (),
        shadow=True,
    )
    lamp = Paint(ids.TRUCK, Material.FLAT, (170, 16, 16))
    for side in (-1, 1):
        scene.box(
            pose.at(side * width * 0.38, -length / 2 - 0.02), (0.3, 0.18, 0.06), lamp, base=0.7
        )
    _wheels(scene, pose, ids.TRUCK, (width, 0.48), (-length * 0.36, -length * 0.22, length * 0.36))


def _screen(scene: Scene, pose: Pose, label: int, size: tuple[float, ...], base: float) -> None:
    glass = Paint(label, Material.GLASS, (0, 0, 0), params=(size[1] * 1.2,))
    scene.box(pose, (size[0], size[1], 0.2), glass, base=base)


def bus(scene: Scene, pose: Pose, domain: Domain, rng: Generator) -> None:
    """A city bus, sometimes with two decks."""
    color, stripe = choose(rng, domain.colors.coaches), choose(rng, domain.colors.coaches)
    length, width = rng.uniform(9.0, 12.0), 2.5
    decks = 2 if rng.random() < 0.15 else 1
    high = 2.75 if decks == 1 else 4.0
    side = Paint(
        ids.BUS, Material.COACH, color, stripe, (0.95, high - 0.65, 1.5, length / 2.6, 0.45, 0.72)
    )
    plain = Paint(ids.BUS, Material.FLAT, color)
    ends = [
        Paint(ids.BUS, Material.CAR_END, color, params=(1.25, 1.0, back, 0.4, 0.14))
        for back in (1.0, 0.0)
    ]
    scene.box(
        pose,
        (width, high, length),
        plain,
        base=0.3,
        shadow=True,
        faces={LEFT: side, RIGHT: side, NEAR: ends[0], FAR: ends[1]},
    )
    for way, tall in ((1, 1.25), (-1, 0.9)):
        _screen(scene, pose.at(0.0, way * (length / 2 - 0.07)), ids.BUS, (2.25, tall), 1.35)
        if decks == 2:
            _screen(scene, pose.at(0.0, way * (length / 2 - 0.07)), ids.BUS, (2.2, 0.8), 3.05)
    route = Paint(ids.BUS, Material.GLOW, (250, 180, 50))
    scene.box(pose.at(0.0, length / 2), (1.5, 0.24, 0.08), route, base=high - 0.1)
    _wheels(scene, pose, ids.BUS, (width, 0.47), (-0.28 * length, 0.32 * length))


def train(scene: Scene, pose: Pose, domain: Domain, rng: Generator) -> None:
    """A tram of two to four sections with slanted noses and a pantograph."""
    color, stripe = choose(rng, domain.colors.coaches), choose(rng, domain.colors.coaches)
    section, num, width, high = rng.uniform(7.5, 9.5), int(rng.integers(2, 5)), 2.45, 3.0
    side = Paint(ids.TRAIN, Material.COACH, color, stripe, (1.05, 2.35, 1.9, 4.1, 2.5, 2.85))
    plain = Paint(ids.TRAIN, Material.FLAT, color)
    dark = Paint(ids.TRAIN, Material.FLAT, (38, 38, 42))
    glass = Paint(ids.TRAIN, Material.GLASS, color, params=(high,))
    nose = 0.28
    for number in range(num):
        place = pose.at(0.0, (number - (num - 1) / 2) * (section + 0.5))
        first, last = number == 0, number == num - 1
        faces = {LEFT: side, RIGHT: side}
        cuts: list[Cut] = []
        for sign, outer in ((1, last), (-1, first)):
            if outer:
                faces[FIRST_CUT + len(cuts)] = glass
                cuts.append(Cut((0.0, nose, float(sign)), section / 2 + nose * 1.15))
        scene.box(
            place,
            (width, high, section),
            plain,
            base=0.3,
            faces=faces,
            cuts=tuple(cuts),
            shadow=True,
        )
        scene.box(place, (width * 0.7, 0.35, section * 0.9), dark, base=high + 0.3)
        if not last:
            scene.box(
                place.at(0.0, (section + 0.5) / 2), (width * 0.9, high - 0.2, 0.6), dark, base=0.4
            )
    total = num * (section + 0.5) - 0.5
    for way, color_end in ((1, (250, 248, 230)), (-1, (190, 20, 20))):
        for across in (-0.8, 0.8):
            scene.box(
                pose.at(across, way * total / 2),
                (0.3, 0.2, 0.1),
                Paint(ids.TRAIN, Material.FLAT, color_end),
                base=0.75,
            )
        number_plate = Paint(ids.TRAIN, Material.GLOW, (250, 190, 60))
        scene.box(pose.at(0.0, way * (total / 2 - 0.5)), (1.3, 0.26, 0.2), number_plate, base=2.85)
    scene.box(pose.at(0.0, total * 0.2), (0.06, 1.3, 0.06), dark, base=high + 0.5)
    scene.box(pose.at(0.0, total * 0.2), (1.5, 0.06, 0.1), dark, base=high + 1.8)
