"""The methods: which losses, levels and augmentation adapt a setting's network.

`is_long` says that a training is as long as those of publications, so that their strengths hold.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

from uda.config import Config
from uda.data.augment import Photometric
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

CAMERAS = Photometric(
    brightness=0.4,
    contrast=0.4,
    saturation=0.6,
    hue=0.1,
    grey_probability=0.2,
    noise_probability=0.5,
    noise_sigma=(0.01, 0.08),
)


def source_only(config: Config, is_long: bool) -> Config:
    """The baseline: labels of the source alone, with everybody's augmentation."""
    return dataclasses.replace(config, losses=(Supervised(),), levels=())


def adversarial(config: Config, is_long: bool) -> Config:
    """Appearance, features and semantics at once: looks taken over, three discriminators."""
    config = _take_looks(config, is_long)
    return dataclasses.replace(config, losses=(Supervised(),), levels=_levels(config, is_long))


def contrastive(config: Config, is_long: bool) -> Config:
    """The contrast of class distributions alone."""
    losses = (Supervised(), Contrastive(weight=_late(config, 1.0)))
    return dataclasses.replace(config, losses=losses, levels=())


def self_training(config: Config, is_long: bool) -> Config:
    """Looks taken over, and class-mixed self-training with an EMA teacher, which is the result."""
    config = _score_teacher(_take_looks(config, is_long))
    return dataclasses.replace(
        config, losses=(Supervised(), SelfTraining(), _masked(is_long)), levels=()
    )


def full(config: Config, is_long: bool) -> Config:
    """All of the above together, and every other part at strength 0, to be switched on.

    In trainings of minutes the looks are all that is on: beside them self-training, contrast and
    discriminators took half of the time and gave nothing (`make study-ablation` has the figures).
    """
    config = _score_teacher(_take_looks(config, is_long))
    levels = _levels(config, is_long)
    return dataclasses.replace(
        config,
        losses=(
            Supervised(),
            SelfTraining() if is_long else SelfTraining(weight=OFF),
            _masked(is_long),
            Contrastive(weight=_late(config, 1.0 if is_long else 0.0)),
            PrototypeContrast(weight=OFF),
            PixelContrast(weight=OFF),
            FeatureDistance(weight=OFF),
            Prior(weight=OFF),
            Entropy(weight=OFF),
            MaxSquare(weight=OFF),
            Boundary(weight=OFF),
            Affinity(weight=OFF),
        ),
        levels=levels if is_long else tuple(_switched_off(level) for level in levels),
    )


METHODS: dict[str, Callable[[Config, bool], Config]] = {
    "source_only": source_only,
    "adversarial": adversarial,
    "contrastive": contrastive,
    "self_training": self_training,
    "full": full,
}


def recommended(is_long: bool) -> str:
    """The method that the name of a setting alone stands for."""
    return "self_training" if is_long else "full"


def _levels(config: Config, is_long: bool) -> tuple[Level, ...]:
    """All of them fade: what they align blindly at first would later pull classes together."""
    # In trainings of minutes a discriminator at the published rate told little more than chance.
    weight, lr_factor = (1e-3, 1.0) if is_long else (0.02, 10.0)
    fading = Schedule(value=weight, ramp=config.steps // 10, decay="linear", stop=config.steps)
    # The published 64 for decoders of 256 channels; small networks are told by small ones.
    width = config.model.decoder_channels // 4
    level = partial(Level, weight=fading, width=width, lr_factor=lr_factor)
    return (
        level(name="appearance", reads="layer1", sees="statistics"),
        level(name="features", reads="aspp", sees="plain", conditional=True),
        level(name="semantics", reads="output", sees="softmax"),
    )


def _late(config: Config, value: float) -> Schedule:
    """From a quarter of the training on: before, the teacher's labels mean little."""
    return Schedule(value=value, start=config.steps // 4)


def _masked(is_long: bool) -> Masked:
    """MIC's weight in trainings as long as its own; in those of minutes it cost points and time."""
    return Masked() if is_long else Masked(weight=OFF)


def _take_looks(config: Config, is_long: bool) -> Config:
    """Every source image takes a target image's colours, and a camera that varies.

    Their strengths are compared at dusk (`make study-strengths`), where noise did the most. The
    long settings keep the published augmentation of images.
    """
    augment = config.augment
    colours = dataclasses.replace(augment.colours, probability=1.0)
    augment = dataclasses.replace(augment, colours=colours)
    if not is_long:
        augment = dataclasses.replace(augment, source=CAMERAS, mixed=CAMERAS)
    return dataclasses.replace(config, augment=augment)


def _switched_off(level: Level) -> Level:
    """Its schedule stays, for `levels.NAME.weight.value` to bring back."""
    return dataclasses.replace(level, weight=dataclasses.replace(level.weight, value=0.0))


def _score_teacher(config: Config) -> Config:
    """The teacher is the result, and its BatchNorm knows the target alone."""
    teacher = dataclasses.replace(config.teacher, batch_norm="target")
    return dataclasses.replace(config, teacher=teacher, evaluated="teacher")
