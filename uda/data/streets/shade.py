"""From visible faces to light: textures, sun, shadows, haze and sky. Colours are linear."""

from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator

from uda.data.streets import texture
from uda.data.streets.camera import Camera
from uda.data.streets.domain import Color, Domain
from uda.data.streets.materials import Material
from uda.data.streets.noise import fractal, look_up
from uda.data.streets.patch import Patch
from uda.data.streets.raster import SKY, Visible
from uda.data.streets.scene import FACES, FIRST_CUT, TOP, Box, Paint, Scene
from uda.data.streets.shadow import shadow_map

NUM_PARAMS = 8


class Light(NamedTuple):
    """One scene's light. sun: unit vector towards it; colours (3,) linear."""

    sun: np.ndarray
    direct: np.ndarray
    ambient: np.ndarray
    zenith: np.ndarray
    horizon: np.ndarray
    clouds: float
    haze_m: float
    shadow: float
    sky_offset: float


class _Tables(NamedTuple):
    """One row per code (primitive * FACES + face)."""

    label: np.ndarray
    material: np.ndarray
    rgb: np.ndarray
    accent: np.ndarray
    params: np.ndarray
    normal: np.ndarray
    frame: np.ndarray  # x, base, z, cos, sin of the primitive
    axes: np.ndarray  # 0: u = right, v = up; 1: u = forward, v = up; 2: right, forward


def linear(color: Color | list[Color]) -> np.ndarray:
    """Display values 0..255 -> linear 0..1 (gamma two), float32."""
    return (np.asarray(color, np.float32) / 255) ** 2


def draw_light(domain: Domain, rng: Generator) -> Light:
    """Draw a scene's light from the domain's ranges."""
    air = domain.air
    turn, tangent = rng.uniform(0, 2 * np.pi), rng.uniform(*air.sun_height)
    sun = np.array([np.cos(turn), tangent, np.sin(turn)])
    pick = [
        palette[rng.integers(len(palette))] for palette in (air.sun_color, air.zenith, air.horizon)
    ]
    direct, zenith, horizon = (linear(color) for color in pick)
    ambient = 0.5 * zenith / zenith.mean() + 0.5 * horizon / horizon.mean()
    return Light(
        sun=sun / np.linalg.norm(sun),
        direct=direct * rng.uniform(*air.sun),
        ambient=(rng.uniform(*air.ambient) * (0.5 + 0.5 * ambient)).astype(np.float32),
        zenith=zenith,
        horizon=horizon,
        clouds=rng.uniform(*air.clouds),
        haze_m=rng.uniform(*air.haze_m),
        shadow=rng.uniform(*air.shadow),
        sky_offset=rng.uniform(0, 256),
    )


def labels(scene: Scene, code: np.ndarray, sky: int) -> np.ndarray:
    """The class of every sample: code int32 (H, W) -> uint8 (H, W)."""
    table = np.full((len(scene.primitives) + 1) * FACES + 1, sky, np.uint8)
    table[TOP] = scene.ground.label
    for number, paints in enumerate(scene.paints, start=1):
        for face, paint in paints.items():
            table[number * FACES + face] = paint.label
    return table[code]  # SKY is -1, the last row


def shade(
    scene: Scene, visible: Visible, camera: Camera, domain: Domain, light: Light
) -> np.ndarray:
    """The radiance of every sample, float32 (H, W, 3)."""
    height, width = visible.code.shape
    columns = [part.astype(np.float32) for part in camera.column_directions(width)]
    rows = camera.row_directions(height).astype(np.float32)
    image = np.empty((height * width, 3), np.float32)
    flat = visible.code.ravel()
    for_sky, solid = np.flatnonzero(flat == SKY), np.flatnonzero(flat != SKY)
    row, column = for_sky // width, for_sky % width
    image[for_sky] = sky(columns[0][column], rows[row], columns[1][column], light)
    depth = visible.depth.ravel()[solid]
    row, column = solid // width, solid % width
    x = camera.x_m + depth * columns[0][column]
    y = camera.height_m + depth * rows[row]
    z = depth * columns[1][column]
    code = flat[solid]
    tables = _tables(scene)
    albedo = _albedo(tables, code, (x, y, z), depth / camera.focal_px, domain.colors.texture)
    shaded = shadow_map(scene.shadows, light.sun, domain.air.shadow_softness_m).sample(x, y, z)
    lit = _lit(tables, code, light, shaded, y)
    haze = 1.0 - np.exp(-depth / np.float32(light.haze_m))
    color = albedo * lit
    color += (light.horizon - color) * haze[:, None]
    image[solid] = color
    return image.reshape(height, width, 3)


def _albedo(
    tables: _Tables,
    code: np.ndarray,
    place: tuple[np.ndarray, np.ndarray, np.ndarray],
    footprint: np.ndarray,
    grain: float,
) -> np.ndarray:
    x, y, z = place
    place_x, base, place_z, cos, sin = (part.take(code >> 4) for part in tables.frame)
    dx, dz = x - place_x, z - place_z
    forward = sin * dx + cos * dz
    axes = tables.axes.take(code)
    u = np.where(axes == 1, forward, cos * dx - sin * dz)
    v = np.where(axes == 2, forward, y - base)
    color = np.empty((len(code), 3), np.float32)
    material = tables.material.take(code)
    for kind in np.flatnonzero(np.bincount(material, minlength=len(Material))):
        part = np.flatnonzero(material == kind)
        rows = code[part]
        patch = Patch(
            u[part],
            v[part],
            footprint[part],
            tables.rgb.take(rows, 0),
            grain,
            rows,
            tables.accent,
            tables.params,
        )
        color[part] = texture.colour(Material(kind), patch)
    return np.clip(color, 0.004, 1.0, out=color)


def _lit(
    tables: _Tables, code: np.ndarray, light: Light, shaded: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Irradiance (n, 3): sky light by how far up a face looks, plus the sun where it reaches."""
    normal = tables.normal
    open_sky = (0.72 + 0.28 * normal[:, 1]).astype(np.float32)
    facing = np.maximum(normal @ light.sun, 0.0).astype(np.float32)
    glow = tables.material == Material.GLOW
    open_sky[glow], facing[glow] = 1.6, 0.0
    low = np.clip(0.72 + 0.4 * y, 0.0, 1.0)  # less sky is seen near the ground
    upward = normal[:, 1] > 0.9
    gate = np.where(upward[code], 1.0, low)
    dark = shaded * np.float32(light.shadow)
    direct = facing[code] * (1.0 - dark)
    ambient = open_sky[code] * gate * (1.0 - 0.45 * dark)
    return ambient[:, None] * light.ambient + direct[:, None] * light.direct


def sky(x: np.ndarray, up: np.ndarray, z: np.ndarray, light: Light) -> np.ndarray:
    """Sky radiance along n rays, each (n,) -> float32 (n, 3): gradient, clouds, sun."""
    part = np.clip(up * 1.5, 0, 1) ** np.float32(0.6)
    color = light.horizon + (light.zenith - light.horizon) * part[:, None]
    near = 1.0 / (np.maximum(up, 0.0) + 0.12)
    u, v = x * near * 34 + np.float32(light.sky_offset), near * 60
    cover = look_up(fractal(30), u, v) * 0.8 + 0.35 * look_up(fractal(31), u * 3, v * 3)
    cover = np.clip((cover + 2.2 * light.clouds - 0.9) * 1.6, 0, 1) * part
    bright = (0.88 + 0.10 * look_up(fractal(32), u, v))[:, None] * np.maximum(light.horizon, 0.62)
    color += (bright - color) * (cover * 0.9)[:, None]
    sun = light.sun.astype(np.float32)
    along = (sun[0] * x + sun[1] * up + sun[2] * z) / np.sqrt(x * x + up * up + z * z)
    along = np.clip(along, 0, 1)
    glow = along**24 * 0.35 + along**600
    return (color + glow[:, None] * light.direct).astype(np.float32)


def _tables(scene: Scene) -> _Tables:
    num = len(scene.primitives) + 1
    frame, axes, normal = _orientation(scene)
    paints: list[Paint] = [scene.ground]
    codes = [TOP]
    for number, faces in enumerate(scene.paints, start=1):
        codes.extend(number * FACES + face for face in faces)
        paints.extend(faces.values())
    where = np.array(codes)

    def table(values: Any, shape: tuple[int, ...] = (), kind: type = np.float32) -> np.ndarray:
        full: np.ndarray = np.zeros((num * FACES, *shape), kind)
        full[where] = values
        return full

    params = [tuple(p.params) + (0.0,) * (NUM_PARAMS - len(p.params)) for p in paints]
    return _Tables(
        label=table([p.label for p in paints], kind=np.uint8),
        material=table([p.material for p in paints], kind=np.uint8),
        rgb=table(linear([p.color for p in paints]), (3,)),
        accent=table(linear([p.accent for p in paints]), (3,)),
        params=table(params, (NUM_PARAMS,)),
        normal=normal.reshape(-1, 3),
        frame=frame,
        axes=axes.ravel(),
    )


def _orientation(scene: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames (5, P), texture axes (P * FACES,) and unit normals (P * FACES, 3); row 0: ground."""
    rows = [(0.0, 0.0, 0.0, 0.0)]
    rows += [(p.pose.x, p.base, p.pose.z, p.pose.yaw) for p in scene.primitives]
    x, base, z, yaw = np.array(rows).T
    cos, sin, zero = np.cos(yaw), np.sin(yaw), np.zeros(len(yaw))
    right, forward = np.stack([cos, zero, -sin], axis=1), np.stack([sin, zero, cos], axis=1)
    up = np.broadcast_to([0.0, 1.0, 0.0], right.shape)
    # Cards: thin things show a lit side whichever way they stand.
    normal = np.repeat(((up * 0.8 - forward) / np.sqrt(1.64))[:, None, :], FACES, axis=1)
    axes = np.zeros((len(yaw), FACES), np.uint8)
    boxes = np.array([0] + [n for n, p in enumerate(scene.primitives, 1) if isinstance(p, Box)])
    straight = np.stack([-right, right, -forward, forward, up, -up], axis=1)
    normal[boxes, :FIRST_CUT] = straight[boxes]
    axes[boxes, :FIRST_CUT] = 1, 1, 0, 0, 2, 2
    for number in boxes[1:]:
        for face, cut in enumerate(scene.primitives[number - 1].cuts, start=FIRST_CUT):
            turn = np.stack([right[number], up[number], forward[number]])
            normal[number, face] = (np.array(cut.normal) / np.linalg.norm(cut.normal)) @ turn
            axes[number, face] = abs(cut.normal[0]) > abs(cut.normal[2])
    frame = np.stack([x, base, z, cos, sin]).astype(np.float32)
    return frame, axes.ravel(), normal.reshape(-1, 3)
