"""Places vehicles and people on a plan."""

import math

from numpy.random import Generator

from uda.data.streets.domain import Domain
from uda.data.streets.people import person, two_wheeler
from uda.data.streets.plan import CURB_M, NOWHERE_M, Plan, Side
from uda.data.streets.scene import Pose, Scene
from uda.data.streets.vehicles import bus, car, train, truck

REACH_M = 90.0


class Lots:
    """Remembers which stretches of a lane are taken."""

    def __init__(self) -> None:
        self.taken: list[tuple[float, float, float]] = []

    def take(self, x: float, z: float, half_length: float) -> bool:
        """Reserve a place; False if something stands there already."""
        for other_x, low, high in self.taken:
            if abs(other_x - x) < 1.6 and z - half_length < high and z + half_length > low:
                return False
        self.taken.append((x, z - half_length, z + half_length))
        return True


def fill_traffic(scene: Scene, plan: Plan, own_lane: int, domain: Domain, rng: Generator) -> None:
    """Tram first, then the vehicles that must be seen, lanes, parked cars and people."""
    lots = Lots()
    lots.take(plan.lane_x(own_lane), 0.0, 6.5)
    _tram(scene, plan, own_lane, lots, domain, rng)
    _showpieces(scene, plan, lots, domain, rng)
    _riders(scene, plan, lots, domain, rng)
    for lane in range(-plan.num_lanes, plan.num_lanes):
        _lane(scene, plan, lane, lots, domain, rng)
    for side in plan.sides:
        _parked(scene, plan, side, lots, domain, rng)
        _stands(scene, plan, side, domain, rng)
    _persons(scene, plan, domain, rng)


def _heading(lane: int, rng: Generator) -> float:
    return (math.pi if lane < 0 else 0.0) + rng.normal(0, 0.015)


def _tram(
    scene: Scene, plan: Plan, own_lane: int, lots: Lots, domain: Domain, rng: Generator
) -> None:
    if plan.track_x == NOWHERE_M:
        return
    lane = math.floor(plan.track_x / plan.lane)
    near = 24.0 if lane == own_lane else 18.0
    z = rng.uniform(near, near + 20.0)
    if lots.take(plan.track_x, z, 17.0):
        train(scene, Pose(plan.track_x, z, math.pi if lane < 0 else 0.0), domain, rng)


def _showpieces(scene: Scene, plan: Plan, lots: Lots, domain: Domain, rng: Generator) -> None:
    """Trucks and buses near enough to be more than specks."""
    traffic = domain.traffic
    for make, rate, half in ((truck, traffic.truck_rate, 5.0), (bus, traffic.bus_rate, 6.2)):
        for _ in range(rng.poisson(rate)):
            lane = int(rng.integers(-plan.num_lanes, plan.num_lanes))
            z = rng.uniform(12.0, 34.0)
            if lots.take(plan.lane_x(lane), z, half):
                make(scene, Pose(plan.lane_x(lane), z, _heading(lane, rng)), domain, rng)
    start, end = plan.crossing
    if start > 0 and rng.random() < 0.5:
        make = (car, car, truck, bus)[rng.integers(4)]
        way = 1 if rng.random() < 0.5 else -1
        x, z = rng.uniform(-18, 18), start + (end - start) * (0.7 if way < 0 else 0.3)
        if lots.take(x, z, 2.0):
            make(scene, Pose(x, z, way * math.pi / 2), domain, rng)


def _lane(scene: Scene, plan: Plan, lane: int, lots: Lots, domain: Domain, rng: Generator) -> None:
    traffic = domain.traffic
    z = rng.uniform(7.0, 7.0 + traffic.car_gap_m[1])
    while z < REACH_M:
        draw = rng.random()
        make, half = car, 2.6
        if draw < traffic.truck_share:
            make, half = truck, 5.0
        elif draw < traffic.truck_share + traffic.bus_share:
            make, half = bus, 6.2
        z += half
        x = plan.lane_x(lane) + rng.uniform(-0.3, 0.3)
        if lots.take(x, z, half):
            make(scene, Pose(x, z, _heading(lane, rng)), domain, rng)
        z += half + rng.uniform(*traffic.car_gap_m)


def _parked(
    scene: Scene, plan: Plan, side: Side, lots: Lots, domain: Domain, rng: Generator
) -> None:
    if not side.parking:
        return
    x = side.sign * (side.curb - side.parking / 2 - 0.1)
    z = rng.uniform(2.0, 7.0)
    while z < REACH_M:
        free = plan.clear_of_crossing(z, 6.5)
        if free and rng.random() < domain.traffic.parked_chance and lots.take(x, z, 2.4):
            yaw = (0.0 if side.sign > 0 else math.pi) + rng.normal(0, 0.03)
            car(scene, Pose(x, z, yaw), domain, rng)
        z += rng.uniform(5.2, 6.6)


def _riders(scene: Scene, plan: Plan, lots: Lots, domain: Domain, rng: Generator) -> None:
    traffic = domain.traffic
    for motor, rate in ((False, traffic.cyclist_rate), (True, traffic.motorcyclist_rate)):
        for _ in range(rng.poisson(rate)):
            z = rng.uniform(5.5, 19.0)
            if rng.random() < 0.45:  # turning or crossing: seen from the side
                x = rng.uniform(-1.0, 1.0) * (plan.num_lanes * plan.lane + 1)
                yaw = (1 if rng.random() < 0.5 else -1) * rng.uniform(0.9, 2.2)
            else:
                ours = rng.random() < 0.6
                x = plan.lane * plan.num_lanes - rng.uniform(0.2, 1.2)
                x, yaw = (x, 0.0) if ours else (-x, math.pi)
            if lots.take(x, z, 1.2):
                two_wheeler(scene, Pose(x, z, yaw), domain, rng, motor=motor, ridden=True)


def _stands(scene: Scene, plan: Plan, side: Side, domain: Domain, rng: Generator) -> None:
    """Bicycles and motorcycles that stand on the sidewalk, singly or in a row."""
    rates = domain.traffic.parked_bicycle_rate, domain.traffic.parked_motorcycle_rate
    for motor, rate in zip((False, True), rates, strict=True):
        for _ in range(rng.poisson(rate / 2)):
            z, x = rng.uniform(5.0, 17.0), rng.uniform(side.curb + 0.6, side.garden - 0.3)
            yaw = (1 if rng.random() < 0.5 else -1) * rng.uniform(0.9, 1.9)
            for number in range(int(rng.integers(1, 4))):
                place = Pose(side.sign * x + rng.uniform(-0.2, 0.2), z + number * 0.9, yaw)
                if plan.clear_of_crossing(place.z, 0.5):
                    two_wheeler(scene, place, domain, rng, motor=motor, ridden=False, base=CURB_M)


def _persons(scene: Scene, plan: Plan, domain: Domain, rng: Generator) -> None:
    for _ in range(rng.poisson(domain.traffic.person_rate)):
        if rng.random() < 0.2:
            walk = plan.crossing[0] - 2.6 if plan.crossing[0] > 0 else rng.uniform(9, 30)
            x = rng.uniform(-1, 1) * plan.num_lanes * plan.lane
            person(scene, Pose(x, walk + rng.uniform(-1.3, 1.3)), 0.0, domain, rng)
            continue
        side = plan.sides[rng.integers(2)]
        z = 5.0 + 36.0 * rng.random() ** 1.8
        if not plan.clear_of_crossing(z):
            continue
        x = rng.uniform(side.curb + 0.3, max(side.garden - 0.2, side.curb + 0.6))
        for number in range(2 if rng.random() < 0.3 else 1):
            place = Pose(side.sign * x + number * 0.75, z + number * 0.2)
            person(scene, place, CURB_M, domain, rng)
