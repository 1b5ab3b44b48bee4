"""The ground plan of a scene: lanes, curbs, verges, sidewalks, gardens and a crossing.

The road's middle is x = 0 and traffic keeps to the right, so our lanes have x > 0.
"""

from dataclasses import dataclass

from numpy.random import Generator

from uda.data.streets import classes19 as ids
from uda.data.streets.domain import Color, Domain, Palette
from uda.data.streets.materials import Material
from uda.data.streets.scene import Paint, Pose, Scene

BEHIND_M, AHEAD_M, FAR_M = -12.0, 150.0, 700.0
NOWHERE_M = -90.0
CURB_M = 0.13
LAND_M = 120.0


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side of the street, distances in metres from the road's middle outwards."""

    sign: int  # -1 left, 1 right
    curb: float
    walk: float  # inner edge of the sidewalk, after the verge
    garden: float  # outer edge of the sidewalk
    line: float  # the building line
    parking: float  # width of the parking lane inside the curb, 0 = none
    trees: bool


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The whole street. crossing: (start, end) of a cross street in z, or behind the camera."""

    lane: float
    num_lanes: int
    sides: tuple[Side, Side]
    crossing: tuple[float, float]
    track_x: float  # NOWHERE_M without rails

    def lane_x(self, number: int) -> float:
        """Middle of the lane; 0, 1.. are ours from the middle outwards, -1, -2.. oncoming."""
        return (number + 0.5) * self.lane

    def clear_of_crossing(self, z: float, margin: float = 0.0) -> bool:
        """Whether z lies outside the cross street."""
        return not self.crossing[0] - margin < z < self.crossing[1] + margin


def choose(rng: Generator, palette: Palette) -> Color:
    """One colour with a slight individual tint."""
    color = palette[rng.integers(len(palette))]
    *tint, gain = rng.uniform(-1, 1, 4).tolist()
    return tuple(
        min(max((c + 10 * t) * (1 + 0.07 * gain), 4.0), 250.0)
        for c, t in zip(color, tint, strict=True)
    )


def draw_plan(domain: Domain, rng: Generator) -> Plan:
    """Draw widths and what the street offers."""
    town = domain.town
    lane = rng.uniform(*town.lane_width_m)
    num_lanes = int(town.num_lanes[rng.integers(len(town.num_lanes))])
    crossing = (NOWHERE_M, NOWHERE_M + 1)
    if rng.random() < town.crossing_chance:
        start = rng.uniform(12.0, 44.0)
        crossing = (start, start + rng.uniform(8.0, 13.0))
    track = rng.random() < domain.traffic.train_chance
    inner = -1 if rng.random() < 0.6 else 0
    return Plan(
        lane=lane,
        num_lanes=num_lanes,
        sides=(
            _draw_side(-1, lane * num_lanes, domain, rng),
            _draw_side(1, lane * num_lanes, domain, rng),
        ),
        crossing=crossing,
        track_x=(inner + 0.5) * lane if track else NOWHERE_M,
    )


def _draw_side(sign: int, lanes: float, domain: Domain, rng: Generator) -> Side:
    town = domain.town
    parking = 2.2 if rng.random() < town.parking_chance else 0.0
    curb = lanes + parking + 0.3
    walk = curb + (rng.uniform(1.2, 2.6) if rng.random() < town.verge_chance else 0.0)
    garden = walk + rng.uniform(*town.sidewalk_m)
    line = garden + (rng.uniform(2.0, 6.0) if rng.random() < town.setback_chance else 0.0)
    trees = rng.random() < town.tree_chance
    return Side(
        sign=sign,
        curb=curb,
        walk=walk,
        garden=garden,
        line=line,
        parking=parking,
        trees=bool(trees),
    )


def road_paint(plan: Plan, domain: Domain, rng: Generator) -> Paint:
    """The ground plane's paint; what `texture` needs to draw lane marks."""
    left, right = plan.sides
    half = max(left.curb, right.curb)
    walk = plan.crossing[0] - 4.6 if plan.crossing[0] > 0 else NOWHERE_M
    if plan.crossing[0] < 0 and rng.random() < 0.3:
        walk = rng.uniform(8, 30)
    params = (
        half,
        plan.lane,
        plan.num_lanes,
        walk,
        left.parking + half - left.curb,
        right.parking + half - right.curb,
        plan.track_x,
        rng.uniform(0.45, 0.95),
    )
    return Paint(ids.ROAD, Material.ROAD, choose(rng, domain.colors.asphalt), params=params)


def lay_ground(scene: Scene, plan: Plan, domain: Domain, rng: Generator) -> None:
    """Curbs, sidewalks, verges, gardens and the land behind, as slabs beside the road."""
    colors = domain.colors
    stone = choose(rng, colors.paving)
    curb = tuple(min(255.0, c * 1.08) for c in stone)
    grass = Paint(ids.TERRAIN, Material.GRASS, choose(rng, colors.grass), choose(rng, colors.grass))
    paving = Paint(ids.SIDEWALK, Material.PAVING, stone, params=(rng.uniform(0.5, 1.4),))
    edge = Paint(ids.SIDEWALK, Material.FLAT, curb)
    start, end = plan.crossing
    pieces = [(BEHIND_M, start), (end, FAR_M)] if start > BEHIND_M else [(BEHIND_M, FAR_M)]
    for side in plan.sides:
        garden = grass if side.line > side.garden else paving
        strips = (
            (side.curb, side.curb + 0.18, edge),
            (side.curb + 0.18, side.walk, grass),
            (max(side.walk, side.curb + 0.18), side.garden, paving),
            (side.garden, side.line, garden),
            (side.line, LAND_M, grass),
        )
        for low, high in pieces:
            for inner, outer, paint in strips:
                if outer - inner > 0.05:
                    pose = Pose(side.sign * (inner + outer) / 2, (low + high) / 2)
                    scene.box(pose, (outer - inner, CURB_M, high - low), paint)
