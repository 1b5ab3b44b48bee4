"""Pairs of label maps for counting: rendered labels, and what a network might say of them.

A network is wrong along boundaries and in patches, and hardly ever in a single pixel. Its errors
are made up from the label: every boundary moves by some pixels along a smooth random field, patches
get another class, and a few single pixels too, which real predictions lack: they are the worst case
for counting by runs. What nobody labelled, a network gives a class nevertheless: here road.
"""

import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Int32, UInt8
from numpy.random import Generator
from PIL import Image

from uda.classes import LABEL_ID_OF_TRAIN_ID, LABEL_IDS
from uda.data.streets import DOMAINS, render
from uda.instances import INSTANCE_CLASSES

LabelMap = UInt8[np.ndarray, "H W"]

_ROAD = LABEL_IDS[0]
_CITY = "street"


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """How a prediction differs from its label; lengths in pixels of an image of 1024 rows."""

    shift_px: float = 3.0  # standard deviation of how far a boundary moves, in each direction
    waves_px: int = 64  # over which the shift changes
    patches: int = 25
    patch_radius_px: tuple[int, int] = (5, 45)
    single_share: float = 0.0005  # of all pixels


def disturbed(label_ids: LabelMap, how: Disturbance, random: Generator) -> LabelMap:
    """A prediction of Cityscapes ids for `label_ids`; a function of its arguments alone."""
    height, width = label_ids.shape
    scale = height / 1024
    waves = max(1, round(how.waves_px * scale))
    shifts = random.normal(0, how.shift_px * scale, (2, height // waves + 2, width // waves + 2))
    rows, columns = (
        cv2.resize(s.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        for s in shifts
    )
    rows += np.arange(height, dtype=np.float32)[:, None]
    columns += np.arange(width, dtype=np.float32)
    moved = np.where(label_ids == 0, np.uint8(_ROAD), label_ids)
    moved = cv2.remap(moved, columns, rows, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    for _ in range(how.patches):
        centre = int(random.integers(width)), int(random.integers(height))
        radii = random.uniform(*how.patch_radius_px, 2) * scale
        axes = max(1, round(radii[0])), max(1, round(radii[1]))
        color = int(random.choice(LABEL_IDS))
        cv2.ellipse(moved, centre, axes, random.uniform(0, 180), 0, 360, color, cv2.FILLED)
    places = random.integers(moved.size, size=round(how.single_share * moved.size))
    moved.ravel()[places] = random.choice(np.array(LABEL_IDS, np.uint8), places.size)
    return moved


def instances_of(label_ids: LabelMap) -> Int32[np.ndarray, "H W"]:
    """Cityscapes instance ids: every connected region of a class of objects is an object."""
    instances = label_ids.astype(np.int32)
    for c in INSTANCE_CLASSES:
        _, parts = cv2.connectedComponents((label_ids == c.id).astype(np.uint8))
        np.copyto(instances, 1000 * c.id + parts - 1, where=parts > 0)
    return instances


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Two data sets in the layout of Cityscapes with the same labels, and one set of predictions.

    `plain` has no instance files, `with_instances` has them.
    """

    root: str
    count: int
    height: int
    width: int
    share_differing: float
    objects: float  # per image

    @property
    def plain(self) -> Path:
        return Path(self.root, "plain")

    @property
    def with_instances(self) -> Path:
        return Path(self.root, "with-instances")

    @property
    def predictions(self) -> Path:
        return Path(self.root, "predictions")

    def files(self, dataset: Path) -> list[tuple[Path, Path]]:
        """Prediction and label of each pair, in order."""
        labels = sorted((dataset / "gtFine" / "val" / _CITY).glob("*_labelIds.png"))
        assert len(labels) == self.count
        return [(self.predictions / _prediction_name(label), label) for label in labels]


def write_pairs(root: Path, count: int, height: int, width: int, how: Disturbance) -> Pairs:
    """Renders the pairs into `root`, by all cores; what is there from an earlier call is kept."""
    kind = json.dumps([count, height, width, asdict(how)])
    mark = root / "pairs.json"
    if mark.exists() and (kept := json.loads(mark.read_text()))["kind"] == kind:
        return Pairs(**kept["pairs"])
    shutil.rmtree(root, ignore_errors=True)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        write = partial(_write_pair, root, height, width, how)
        found = list(pool.map(write, range(count)))
    pairs = Pairs(
        root=str(root),
        count=count,
        height=height,
        width=width,
        share_differing=round(float(np.mean([share for share, _ in found])), 4),
        objects=round(float(np.mean([objects for _, objects in found])), 1),
    )
    mark.write_text(json.dumps({"kind": kind, "pairs": asdict(pairs)}))
    return pairs


def _write_pair(
    root: Path, height: int, width: int, how: Disturbance, index: int
) -> tuple[float, int]:
    """The share of labelled pixels that differ, and the number of objects."""
    _, label = render(DOMAINS["camera"], 0, index, height, width)
    label_ids = cv2.LUT(label, LABEL_ID_OF_TRAIN_ID)
    predicted = disturbed(label_ids, how, np.random.default_rng([0, index]))
    instances = instances_of(label_ids)
    name = f"{_CITY}_{index:06d}_000019"
    for dataset in ("plain", "with-instances"):
        folder = root / dataset / "gtFine" / "val" / _CITY
        _save(folder / f"{name}_gtFine_labelIds.png", label_ids)
    _save(folder / f"{name}_gtFine_instanceIds.png", instances.astype(np.uint16))
    _save(root / "predictions" / f"{name}_pred.png", predicted)
    labelled = label_ids != 0
    share = float(np.mean(predicted[labelled] != label_ids[labelled]))
    return share, int(np.unique(instances[instances >= 1000]).size)


def _prediction_name(label_file: Path) -> str:
    return label_file.name.replace("_gtFine_labelIds", "_pred")


def _save(file: Path, values: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(file)
