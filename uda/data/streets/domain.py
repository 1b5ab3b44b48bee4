"""What a domain is: a camera, a town, its traffic, its colours, its light and its sensor.

All fields are plain data, so a further domain is `dataclasses.replace(CAMERA, ...)`. Pairs are
ranges that are drawn uniformly once per scene (or per object); `*_rate` is the expected number of
such things per scene, `*_chance` a probability.
"""

from dataclasses import dataclass

Range = tuple[float, float]
Color = tuple[float | int, ...]  # red, green, blue, display values 0..255
Palette = tuple[Color, ...]


@dataclass(frozen=True, kw_only=True)
class View:
    """Where the camera is mounted. `focal` is in units of the image's longer reference side."""

    height_m: Range
    focal: Range
    horizon: Range  # row of the horizon as a fraction of the image height
    yaw_degrees: Range
    lateral_m: Range  # offset from the middle of its lane
    bonnet_chance: float  # own bonnet in the picture, labelled 255


@dataclass(frozen=True, kw_only=True)
class Town:
    """Ground plan and buildings."""

    lane_width_m: Range
    num_lanes: tuple[int, ...]  # per direction
    parking_chance: float  # a parking lane along the curb, per side
    sidewalk_m: Range
    verge_chance: float  # a grass strip between curb and sidewalk, per side
    setback_chance: float  # a front garden, per side
    crossing_chance: float
    lot_m: Range
    building_chance: float  # per lot; otherwise a gap with a wall, fence, hedge or lawn
    num_floors: tuple[int, int]
    floor_m: Range
    window_cell_m: Range
    window_width: Range  # fractions of the cell
    window_height: Range
    brick_chance: float
    gable_chance: float
    shop_chance: float
    tree_spacing_m: Range
    tree_chance: float  # per side: a row of trees
    tree_height_m: Range
    pole_spacing_m: Range
    barrier_chance: float  # a railing or parapet along the curb, per side
    border_weights: tuple[float, float, float, float]  # wall, fence, hedge, open


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """The class mix of everything that moves or is bolted down."""

    car_gap_m: Range  # distance between cars in a lane
    parked_chance: float  # per parking place
    truck_share: float  # of the vehicles in lanes
    bus_share: float
    truck_rate: float  # further ones, placed where they are seen well
    bus_rate: float
    train_chance: float
    person_rate: float
    cyclist_rate: float
    motorcyclist_rate: float
    parked_bicycle_rate: float
    parked_motorcycle_rate: float
    sign_rate: float
    signal_chance: float  # of traffic lights at a crossing
    lone_signal_chance: float  # of one without a crossing


@dataclass(frozen=True, kw_only=True)
class Colors:
    """Display colours 0..255, before light, air and sensor."""

    facades: Palette
    trims: Palette
    roofs: Palette
    glass: Palette
    asphalt: Palette
    paving: Palette
    grass: Palette
    leaves: Palette
    walls: Palette
    fences: Palette
    poles: Palette
    cars: Palette
    coaches: Palette
    clothes: Palette
    texture: float  # contrast of the procedural grain


@dataclass(frozen=True, kw_only=True)
class Air:
    """Light, sky and haze. Colours are display values 0..255."""

    sun: Range  # strength of the direct light
    ambient: Range  # strength of the sky light
    sun_height: Range  # tangent of its elevation
    sun_color: Palette
    zenith: Palette
    horizon: Palette
    clouds: Range  # cover, 0 clear .. 1 closed
    haze_m: Range  # distance at which 63 % of the light is scattered
    shadow: Range  # darkness of contact and cast shadows
    shadow_softness_m: float


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """Lens, sensor and file."""

    exposure: Range
    white_balance: tuple[Range, Range]  # gains of red and blue; green is one
    saturation: Range
    contrast: Range  # exponent about mid grey
    black: Range  # veiling glare added to everything
    blur: Range  # standard deviation as a fraction of the image height
    vignette: Range
    noise: Range  # standard deviation at mid grey, of 1
    jpeg_quality: tuple[int, int]  # 100 = no compression


@dataclass(frozen=True, kw_only=True)
class Domain:
    """An appearance and a world. `number` enters the random seed beside (seed, index)."""

    name: str
    number: int
    view: View
    town: Town
    traffic: Traffic
    colors: Colors
    air: Air
    sensor: Sensor
