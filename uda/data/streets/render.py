"""One picture with its label map, as a pure function of (domain, seed, index, size)."""

import numpy as np
from numpy.random import Generator

from uda.data.streets import classes19 as ids
from uda.data.streets.camera import Camera
from uda.data.streets.domain import Domain
from uda.data.streets.furniture import furnish
from uda.data.streets.photo import photograph
from uda.data.streets.plan import draw_plan, lay_ground, road_paint
from uda.data.streets.raster import rasterize
from uda.data.streets.scene import Scene
from uda.data.streets.shade import draw_light, labels, shade
from uda.data.streets.sides import build_sides
from uda.data.streets.traffic import fill_traffic

SAMPLES = 2  # rays per pixel and axis; `vote` and the average below are written for two


def render(
    domain: Domain, seed: int, index: int, height: int = 128, width: int = 256
) -> tuple[np.ndarray, np.ndarray]:
    """Scene `index` of the endless set `seed`.

    Returns the image, uint8 (H, W, 3) RGB, and the label, uint8 (H, W) trainIds 0..18 or 255.
    Every pixel is SAMPLES x SAMPLES rays; its label is the one that most of them see, and the
    nearest of these where they tie.
    """
    scene, camera = compose(domain, seed, index, SAMPLES * height, SAMPLES * width)
    visible = rasterize(scene, camera, SAMPLES * height, SAMPLES * width)
    rng = np.random.default_rng([seed, index, domain.number, 1])
    light = draw_light(domain, rng)
    radiance = shade(scene, visible, camera, domain, light)
    radiance = (radiance[::2] + radiance[1::2]) / 4
    radiance = radiance[:, ::2] + radiance[:, 1::2]
    label = vote(labels(scene, visible.code, ids.SKY), visible.depth)
    if rng.random() < domain.view.bonnet_chance:
        _bonnet(radiance, label, rng)
    return photograph(radiance, domain.sensor, rng), label


def compose(domain: Domain, seed: int, index: int, height: int, width: int) -> tuple[Scene, Camera]:
    """The geometry of a scene, and a camera for an image of height x width samples."""
    rng = np.random.default_rng([seed, index, domain.number])
    view = domain.view
    plan = draw_plan(domain, rng)
    own_lane = int(rng.integers(plan.num_lanes))
    camera = Camera(
        x_m=plan.lane_x(own_lane) + rng.uniform(*view.lateral_m),
        height_m=rng.uniform(*view.height_m),
        yaw_rad=float(np.deg2rad(rng.uniform(*view.yaw_degrees))),
        focal_px=rng.uniform(*view.focal) * max(width, 2 * height),
        centre_column_px=width / 2,
        horizon_row_px=rng.uniform(*view.horizon) * height,
    )
    scene = Scene(road_paint(plan, domain, rng))
    lay_ground(scene, plan, domain, rng)
    build_sides(scene, plan, domain, rng)
    furnish(scene, plan, domain, rng)
    fill_traffic(scene, plan, own_lane, domain, rng)
    return scene, camera


def vote(label: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Samples (2 H, 2 W) -> (H, W): the majority, and the nearest sample among equals."""
    corners = [(row, column) for row in (0, 1) for column in (0, 1)]
    votes = [label[row::2, column::2] for row, column in corners]
    distances = [depth[row::2, column::2] for row, column in corners]
    score = np.full(votes[0].shape, -1.0, np.float32)
    winner = np.zeros(votes[0].shape, np.uint8)
    for vote_label, distance in zip(votes, distances, strict=True):
        count = sum((vote_label == other).astype(np.float32) for other in votes)
        count += 0.5 / (1.0 + distance)  # below one vote, larger where nearer
        better = count > score
        np.copyto(score, count, where=better)
        np.copyto(winner, vote_label, where=better)
    return winner


def _bonnet(radiance: np.ndarray, label: np.ndarray, rng: Generator) -> None:
    """Cover the lower rim with our own bonnet, which has no class."""
    height, width = label.shape
    across = (np.arange(width) + 0.5) / width * 2 - 1 + rng.uniform(-0.15, 0.15)
    edge = 1.0 - rng.uniform(0.04, 0.1) + 0.07 * across**2
    down = ((np.arange(height) + 0.5) / height)[:, None]
    cover = down > edge[None, :]
    tone = np.float32(rng.uniform(0.01, 0.2))
    gleam = np.clip(1.0 - (down - edge[None, :]) * 9, 0.2, 1)[..., None].astype(np.float32)
    paint = tone * gleam * radiance[: max(height // 3, 1)].mean((0, 1)) * 1.4
    radiance[cover] = np.broadcast_to(paint, radiance.shape)[cover]
    label[cover] = ids.IGNORE
