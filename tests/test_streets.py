"""The street renderer: pure in (domain, seed, index), exact in geometry, complete in classes."""

import subprocess
import sys
import zlib
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from uda.data.streets import DOMAINS, render
from uda.data.streets import classes19 as ids
from uda.data.streets.camera import NEAR_M, Camera
from uda.data.streets.materials import Material
from uda.data.streets.raster import rasterize
from uda.data.streets.render import compose, vote
from uda.data.streets.scene import FACES, FIRST_CUT, Box, Paint, Pose, Scene
from uda.data.streets.shade import labels

NAMES = sorted(DOMAINS)


@cache
def street(name: str, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Scenes that several tests look at."""
    return render(DOMAINS[name], 0, index, 64, 128)


def checksum(name: str, seed: int, index: int) -> tuple[int, int]:
    image, label = render(DOMAINS[name], seed, index, 32, 64)
    return zlib.crc32(image.tobytes()), zlib.crc32(label.tobytes())


def test_same_seed_and_index_give_the_same_bytes_in_another_process() -> None:
    """In a bare process: `uda.data` without its data sets, whose imports take seconds."""
    program = (
        "import sys, types, zlib, uda\n"
        "package = sys.modules['uda.data'] = types.ModuleType('uda.data')\n"
        "package.__path__ = [uda.__path__[0] + '/data']\n"
        "from uda.data.streets import DOMAINS, render\n"
        "for name in sorted(DOMAINS):\n"
        "    for array in render(DOMAINS[name], 3, 5, 32, 64): print(zlib.crc32(array.tobytes()))"
    )
    environment = {"PYTHONHASHSEED": "123", "PYTHONPATH": ":".join(sys.path)}
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    ).stdout
    here = [value for name in NAMES for value in checksum(name, 3, 5)]
    assert [int(line) for line in out.split()] == here
    assert here == [value for name in NAMES for value in checksum(name, 3, 5)]


@pytest.mark.parametrize("name", NAMES)
def test_seed_index_and_domain_all_matter(name: str) -> None:
    sums = [checksum(name, seed, index) for seed, index in ((0, 0), (0, 1), (1, 0), (1, 1))]
    assert len(set(sums)) == 4
    other = replace(DOMAINS[name], number=77)
    labels_of = [render(domain, 0, 0, 32, 64)[1] for domain in (other, DOMAINS[name])]
    assert not np.array_equal(*labels_of)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (97, 131), (1, 1), (40, 200)])
@pytest.mark.parametrize("name", NAMES)
def test_any_size(name: str, height: int, width: int) -> None:
    image, label = render(DOMAINS[name], 0, 2, height, width)
    assert image.shape == (height, width, 3)
    assert image.dtype == np.uint8
    assert label.shape == (height, width)
    assert label.dtype == np.uint8
    assert set(np.unique(label)) <= {*range(19), ids.IGNORE}


@pytest.mark.parametrize("name", NAMES)
def test_every_class_occurs(name: str) -> None:
    total = np.zeros(256, np.int64)
    for index in range(20):
        total += np.bincount(street(name, index)[1].ravel(), minlength=256)
    assert (total[:19] > 0).all(), np.flatnonzero(total[:19] == 0)
    assert total[19:255].sum() == 0


def test_the_label_ignores_looks() -> None:
    """Colours, air and sensor change the picture, never the geometry or its classes."""
    game, camera = DOMAINS["game"], DOMAINS["camera"]
    changed = replace(game, sensor=camera.sensor, air=camera.air)
    first, second = render(game, 0, 4, 48, 96), render(changed, 0, 4, 48, 96)
    assert np.array_equal(first[1], second[1])
    assert not np.array_equal(first[0], second[0])


def test_a_replaced_domain_renders() -> None:
    traffic = replace(DOMAINS["game"].traffic, train_chance=1.0)
    tram_town = replace(DOMAINS["game"], name="trams", number=3, traffic=traffic)
    found = [np.isin(ids.TRAIN, render(tram_town, 0, index, 48, 96)[1]) for index in range(6)]
    assert sum(found) >= 5


def test_the_domains_differ_in_looks_but_not_in_kind() -> None:
    """The gap is one of statistics: colour shifts clearly, the layout stays a street."""
    stacks = {name: [street(name, index) for index in range(12)] for name in NAMES}
    vivid = {
        name: np.mean([np.ptp(image.astype(int), axis=2).mean() for image, _ in pairs])
        for name, pairs in stacks.items()
    }
    assert vivid["game"] > 1.5 * vivid["camera"]
    for pairs in stacks.values():
        lower = np.concatenate([label[40:58].ravel() for _, label in pairs])
        assert (lower == ids.ROAD).mean() > 0.35


def level_camera(height: int = 120, width: int = 160) -> Camera:
    return Camera(
        x_m=0.0,
        height_m=1.5,
        yaw_rad=0.0,
        focal_px=100.0,
        centre_column_px=width / 2,
        horizon_row_px=height / 2,
    )


def test_a_box_covers_its_projected_rectangle() -> None:
    """2 m wide, 1 m high, 10 m away, f = 100 px: 20 x 10 px, its base 15 px below."""
    scene = Scene(Paint(ids.ROAD, Material.FLAT, (90, 90, 90)))
    scene.box(Pose(1.0, 12.0), (2.0, 1.0, 4.0), Paint(ids.CAR, Material.FLAT, (200, 0, 0)))
    visible = rasterize(scene, level_camera(), 120, 160)
    label = labels(scene, visible.code, ids.SKY)
    rows, columns = np.nonzero(label == ids.CAR)
    front = visible.depth[label == ids.CAR] < 10.001
    assert (columns.min(), columns.max()) == (80, 99)
    assert (rows[front].min(), rows[front].max()) == (65, 74)
    assert front.sum() == 200
    assert rows.min() == 64  # the lid's far edge, 0.5 m below the eye at 14 m, is row 63.6


def test_ground_meets_sky_at_the_horizon() -> None:
    scene = Scene(Paint(ids.ROAD, Material.FLAT, (90, 90, 90)))
    visible = rasterize(scene, level_camera(), 120, 160)
    label = labels(scene, visible.code, ids.SKY)
    assert (label[:60] == ids.SKY).all()
    assert (label[60:] == ids.ROAD).all()
    assert np.allclose(visible.depth[89], 1.5 / 0.295)
    assert all(
        (visible.depth[high] > visible.depth[low]).all() for high, low in pairwise(range(60, 120))
    )


def cast(scene: Scene, camera: Camera, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The slow reference: every ray against every primitive, in world space, one by one."""
    x, z = camera.column_directions(width)
    y = camera.row_directions(height)
    ray = np.stack(np.broadcast_arrays(x[None, :], y[:, None], z[None, :]), axis=-1)
    eye = np.array([camera.x_m, camera.height_m, 0.0])
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = np.where(ray[..., 1] < 0, -eye[1] / ray[..., 1], np.inf)
        label = np.where(ray[..., 1] < 0, scene.ground.label, ids.SKY)
        for primitive, paints in zip(scene.primitives, scene.paints, strict=True):
            distance, face = (cast_box if isinstance(primitive, Box) else cast_card)(
                primitive, eye, ray
            )
            nearer = (distance > NEAR_M) & (distance < depth)
            depth = np.where(nearer, distance, depth)
            table = np.array([paints[k].label if k in paints else 0 for k in range(FACES)])
            label = np.where(nearer, table[face], label)
    return label.astype(np.uint8), depth


def axes_of(pose: Pose) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    cos, sin = np.cos(pose.yaw), np.sin(pose.yaw)
    return np.array([cos, 0, -sin]), np.array([0, 1.0, 0]), np.array([sin, 0, cos])


def cast_box(box: Box, eye: np.ndarray, ray: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Clip each ray against the half spaces of a box; faces numbered as in `scene`."""
    right, up, forward = axes_of(box.pose)
    origin = np.array([box.pose.x, box.base, box.pose.z])
    planes = [
        (-right, box.width / 2),
        (right, box.width / 2),
        (-forward, box.length / 2),
        (forward, box.length / 2),
        (up, box.height),
        (-up, 0.0),
    ]
    planes += [
        (c.normal[0] * right + c.normal[1] * up + c.normal[2] * forward, c.offset) for c in box.cuts
    ]
    assert len(planes) == FIRST_CUT + len(box.cuts)
    entry, leave = np.full(ray.shape[:2], -np.inf), np.full(ray.shape[:2], np.inf)
    face = np.zeros(ray.shape[:2], int)
    for number, (normal, offset) in enumerate(planes):
        slope, room = ray @ normal, offset - normal @ (eye - origin)
        distance = room / slope
        inward = (slope < 0) & (distance > entry)
        entry, face = np.where(inward, distance, entry), np.where(inward, number, face)
        leave = np.where(slope > 0, np.minimum(leave, distance), leave)
        leave = np.where((slope == 0) & (room < 0), -np.inf, leave)
    return np.where(entry < leave, entry, np.inf), face


def cast_card(card, eye: np.ndarray, ray: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    right, _, forward = axes_of(card.pose)
    middle = np.array([card.pose.x, card.base, card.pose.z])
    distance = ((middle - eye) @ forward) / (ray @ forward)
    hit = eye + distance[..., None] * ray - middle
    column = np.floor(((hit @ right) / card.width + 0.5) * card.mask.shape[1])
    row = np.floor((1 - hit[..., 1] / card.height) * card.mask.shape[0])
    inside = (column >= 0) & (column < card.mask.shape[1]) & (row >= 0)
    inside &= row < card.mask.shape[0]
    face = card.mask[np.where(inside, row, 0).astype(int), np.where(inside, column, 0).astype(int)]
    return np.where(inside & (face > 0), distance, np.inf), face


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("index", range(2))
def test_occlusion_equals_brute_force(name: str, index: int) -> None:
    """The rasterizer sees what the slow reference sees, but for rounding along edges."""
    scene, camera = compose(DOMAINS[name], 5, index, 48, 96)
    visible = rasterize(scene, camera, 48, 96)
    expected, depth = cast(scene, camera, 48, 96)
    wrong = labels(scene, visible.code, ids.SKY) != expected
    assert wrong.mean() < 0.002
    near = np.isfinite(depth) & np.isfinite(visible.depth)
    assert (np.abs(visible.depth[near] / depth[near] - 1) > 1e-3).mean() < 0.004


def test_vote_takes_the_majority_and_the_nearest_of_equals() -> None:
    label = np.array([[1, 1, 2, 2, 5, 6], [3, 1, 4, 4, 7, 8]], np.uint8)
    depth = np.array([[9, 9, 8, 8, 4, 3], [1, 9, 5, 5, 2, 9]], np.float32)
    assert vote(label, depth).tolist() == [[1, 4, 7]]
