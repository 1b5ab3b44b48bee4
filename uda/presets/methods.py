"""The methods: which losses, levels and augmentation adapt a setting's network."""

import dataclasses
from collections.abc import Callable
from functools import partial

from uda.config import Config
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
from uda.schedule import Schedule, constant

OFF = constant(0.0)


def source_only(config: Config) -> Config:
    """The baseline: labels of the source alone, with everybody's augmentation."""
    return dataclasses.replace(config, losses=(Supervised(),), levels=())


def adversarial(config: Config) -> Config:
    """Appearance, features and semantics at once: looks exchanged, three discriminators."""
    return dataclasses.replace(_take_looks(config), losses=(Supervised(),), levels=_levels(config))


def contrastive(config: Config) -> Config:
    """The contrast of class distributions alone."""
    losses = (Supervised(), Contrastive(weight=_late(config, 0.1)))
    return dataclasses.replace(config, losses=losses, levels=())


def self_training(config: Config) -> Config:
    """Class-mixed self-training with an EMA teacher, and masked image consistency."""
    losses = (Supervised(), SelfTraining(), Masked())
    return dataclasses.replace(_score_teacher(config), losses=losses, levels=())


def full(config: Config) -> Config:
    """The three methods above together, and every other part at strength 0, to be switched on."""
    config = _score_teacher(_take_looks(config))
    return dataclasses.replace(
        config,
        losses=(
            Supervised(),
            SelfTraining(),
            Masked(),
            Contrastive(weight=_late(config, 0.1)),
            PrototypeContrast(weight=OFF),
            PixelContrast(weight=OFF),
            FeatureDistance(weight=OFF),
            Prior(weight=OFF),
            Entropy(weight=OFF),
            MaxSquare(weight=OFF),
            Boundary(weight=OFF),
            Affinity(weight=OFF),
        ),
        levels=_levels(config),
    )


METHODS: dict[str, Callable[[Config], Config]] = {
    "source_only": source_only,
    "adversarial": adversarial,
    "contrastive": contrastive,
    "self_training": self_training,
    "full": full,
}

# What the name of a setting alone stands for.
RECOMMENDED = "self_training"


def _levels(config: Config) -> tuple[Level, ...]:
    """All of them fade: what they align blindly at first would later pull classes together."""
    fading = Schedule(value=1e-3, ramp=config.steps // 10, decay="linear", stop=config.steps)
    # The published 64 for decoders of 256 channels; small networks are told by small ones.
    level = partial(Level, weight=fading, width=config.model.decoder_channels // 4)
    return (
        level(name="appearance", reads="layer1", sees="statistics"),
        level(name="features", reads="aspp", sees="plain", conditional=True),
        level(name="semantics", reads="output", sees="softmax"),
    )


def _late(config: Config, value: float) -> Schedule:
    """From a quarter of the training on: before, the teacher's labels mean little."""
    return Schedule(value=value, start=config.steps // 4)


def _take_looks(config: Config) -> Config:
    """Half of the source images take a target image's colours, half its lowest frequencies.

    Independently of each other: a quarter of the images stays as it is.
    """
    augment = dataclasses.replace(
        config.augment,
        colours=dataclasses.replace(config.augment.colours, probability=0.5),
        fourier=dataclasses.replace(config.augment.fourier, probability=0.5),
    )
    return dataclasses.replace(config, augment=augment)


def _score_teacher(config: Config) -> Config:
    """The teacher is the result, and its BatchNorm knows the target alone."""
    teacher = dataclasses.replace(config.teacher, batch_norm="target")
    return dataclasses.replace(config, teacher=teacher, evaluated="teacher")
