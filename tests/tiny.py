"""A training run that takes a second: the settings, the data and the run itself, for the tests.

Everything on at once: supervision, self-training, contrast and one discriminator on the output. The
other terms of self-training and those of structure are a method of their own, "all_terms". No
BatchNorm and no dropout, so that the result does not depend on how a batch is split over workers.
"""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from uda.checkpoint import TrainState
from uda.config import (
    Config,
    DataConfig,
    OptimConfig,
    ProjectionConfig,
    RuntimeConfig,
    TeacherConfig,
)
from uda.data.crop import CropConfig
from uda.data.loader import PairLoader
from uda.data.prepare import prepare
from uda.data.shards import open_shards
from uda.feed import open_local_feed
from uda.loop import train
from uda.losses import Loss
from uda.losses.adversarial import Level
from uda.losses.affinity import Affinity
from uda.losses.boundary import Boundary
from uda.losses.contrastive import Contrastive
from uda.losses.entropy import Entropy
from uda.losses.feature_distance import FeatureDistance
from uda.losses.masked import Masked
from uda.losses.max_square import MaxSquare
from uda.losses.pixel_contrast import PixelContrast
from uda.losses.prior import Prior
from uda.losses.prototype_contrast import PrototypeContrast
from uda.losses.self_training import SelfTraining
from uda.losses.supervised import Supervised
from uda.models import ModelConfig, build_model
from uda.presets.methods import METHODS as PRESET_METHODS
from uda.run import open_run
from uda.schedule import constant
from uda.solo import SoloWorker
from uda.tree import override
from uda.types import Batch, Domain, Labelled, Unlabelled

# Cells and whole images, with a queue that is full after a few of a step's 24 cells and 4 images.
CONTRAST = Contrastive(grid=(2, 3), queue=20)
OUTPUT = Level(name="output", weight=constant(0.01), width=4)
APPEARANCE = Level(name="look", reads="stem", sees="statistics", weight=constant(0.02), width=4)
FEATURES = Level(
    name="classes", reads="layer4", sees="plain", conditional=True, weight=constant(0.03), width=2
)
# Weights that would show a mistake; at this size no cell is of one thing alone.
TERMS: tuple[Loss, ...] = (
    Supervised(),
    Masked(),
    FeatureDistance(weight=constant(0.3), purity=0.51),
    Prior(dead_zone=0.0),
    Entropy(weight=constant(0.1)),
    MaxSquare(weight=constant(0.1)),
    Boundary(),
    Affinity(),
)
METHODS: dict[str, tuple[tuple[Loss, ...], tuple[Level, ...]]] = {
    "source_only": ((Supervised(),), ()),
    "self_training": ((Supervised(), SelfTraining()), ()),
    "contrastive": ((Supervised(), CONTRAST), ()),
    "prototypes": ((Supervised(), PrototypeContrast()), ()),
    "pixels": ((Supervised(), PixelContrast(samples=4)), ()),
    "adversarial": ((Supervised(),), (OUTPUT,)),
    "levels": ((Supervised(),), (APPEARANCE, FEATURES, OUTPUT)),
    "everything": ((Supervised(), SelfTraining(), CONTRAST), (OUTPUT,)),
    "all_terms": (TERMS, ()),
}


def tiny_config(method: str = "everything", changes: dict[str, Any] | None = None) -> Config:
    """Twenty steps of four 32x48 crops; `changes` by dotted path, as `override` takes them."""
    losses, levels = METHODS[method]
    config = Config(
        name="tiny",
        seed=3,
        steps=20,
        batch_size=4,
        data=DataConfig(crop=CropConfig(height=32, width=48)),
        model=ModelConfig(
            backbone="tiny",
            # The feature distance wants weights to stay close to.
            pretrained=str(backbone_weights()) if method == "all_terms" else "",
            norm="group",
            dropout=0.0,
            aspp_channels=16,
            aspp_dilations=(1, 2),
            low_level_channels=8,
            decoder_channels=16,
        ),
        # A fresh network is sure of nothing; the threshold lies below 1/19 so that labels count.
        teacher=TeacherConfig(decay=0.9, threshold=0.05),
        projection=ProjectionConfig(width=8),
        losses=losses,
        levels=levels,
        optim=OptimConfig(lr=1e-3, head_factor=2.0, warmup=3, discriminator_lr=1e-3),
        runtime=RuntimeConfig(decode_threads=0, log_every=5, checkpoint_every=10),
    )
    return override(config, changes or {})


def tiny_preset(method: str) -> Config:
    """What `uda.presets` calls `method` in long trainings, on the tiny network and data."""
    config = PRESET_METHODS[method](tiny_config("source_only"), True)
    changes: dict[str, Any] = {f"levels.{level.name}.width": 4 for level in config.levels}
    if any(loss.name == "contrastive" for loss in config.losses):
        changes |= {
            "losses.contrastive.grid": [2, 3],  # as many cells as there are positions
            "losses.contrastive.queue": 20,
            "losses.contrastive.weight.start": 1,  # early: tests have few steps
        }
    return override(config, changes)


def every_part() -> Config:
    """`full`, with what it keeps at strength zero switched on as well."""
    config = tiny_preset("full")
    weights = {f"losses.{x.name}.weight": 0.1 for x in config.losses if x.weight.is_off}
    return override(config, {
        **weights,
        "model.pretrained": str(backbone_weights()),
        "losses.feature_distance.purity": 0.51,
        "augment.colours.probability": 0.5,
        "augment.fourier.probability": 0.5,
        "losses.contrastive.weight.start": 0,
    })  # fmt: skip


@functools.cache
def shards(domain: str) -> Path:
    """Eight rendered streets of 64x48 pixels ("game" or "camera"), written once per process."""
    folder = _scratch() / domain
    prepare("streets", domain, folder, "train", size=(64, 48), count=8, progress=False)
    return folder


def open_pair(
    config: Config, source: Path, target: Path, *, rank: int = 0, world_size: int = 1
) -> PairLoader:
    """The batches of one worker, read from two shard folders."""
    folders = {Domain.SOURCE: open_shards(source), Domain.TARGET: open_shards(target)}
    return open_local_feed(config, folders, rank=rank, world_size=world_size)


def run_training(
    config: Config, out: Path, target: Path | None = None, *, resume: bool = False
) -> int:
    """Trains as `python -m uda train` does; returns the number of finished steps."""
    target = target or shards("camera")
    run = open_run(config, out, shards("game"), target, resume=resume)
    run.create()
    with (
        open_pair(config, shards("game"), target) as feed,
        SoloWorker(config, run.folder, torch.device("cpu"), quiet=True) as worker,
    ):
        return train(config, worker, feed, run.provenance)


def loaded_tensors(config: Config, checkpoint: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint's whole state by name."""
    state = TrainState(config, torch.device("cpu"))
    state.load(checkpoint)
    return state_tensors(state)


def state_tensors(state: TrainState) -> dict[str, Tensor]:
    """Every tensor of networks and optimisers by name."""
    tensors = {f"task.{name}": tensor for name, tensor in state.task.state_dict().items()}
    for which, optimiser in state.optimisers.state_dict().items():
        for index, values in optimiser["state"].items():
            tensors |= {f"optimiser.{which}.{index}.{k}": v for k, v in values.items()}
    return tensors


def random_batch(config: Config, step: int = 0, first_sample: int = 0) -> Batch:
    """Noise with labels in 8x8 blocks (19 = ignore), always the same for a step."""
    draws = np.random.default_rng([7, step, first_sample])
    size, crop = config.batch_size, config.data.crop
    shape = (size, 3, crop.height, crop.width)
    blocks = draws.integers(0, 20, (size, crop.height // 8, crop.width // 8), dtype=np.uint8)
    labels = blocks.repeat(8, axis=1).repeat(8, axis=2)
    labels[labels == 19] = 255
    source, target = (
        torch.from_numpy(draws.integers(0, 256, shape, dtype=np.uint8)) for _ in range(2)
    )
    return Batch(
        source=Labelled(source, torch.from_numpy(labels)),
        target=Unlabelled(target),
        step=step,
        first_sample=first_sample,
    )


@functools.cache
def backbone_weights() -> Path:
    """A file of the tiny backbone's weights, as good as any."""
    file = _scratch() / "tiny.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(build_model(ModelConfig(backbone="tiny")).encoder.state_dict(), file)
    return file


@functools.cache
def _scratch() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="uda-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
