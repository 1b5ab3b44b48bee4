"""The names of the procedural materials; `texture` says what each looks like."""

from enum import IntEnum


class Material(IntEnum):
    """What a face is made of. `params` of the paint are listed where they are read."""

    FLAT = 0
    ROAD = 1
    PAVING = 2
    GRASS = 3
    LEAVES = 4
    FACADE = 5
    MASONRY = 6
    PLANKS = 7
    MESH = 8
    ROOF = 9
    GLASS = 10
    GLOW = 11
    CAR_SIDE = 12
    CAR_END = 13
    CABIN = 14
    COACH = 15
    CARGO = 16
    CLOTH = 17
