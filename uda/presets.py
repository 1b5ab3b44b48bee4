"""Presets: functions that return a whole Config. Every number says why it is what it is.

A preset is a *setting* (data, network, length) and a *method* (which losses). The name of a
setting alone means its full method; `NAME_METHOD` names another one, such as `demo_source_only`.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

from uda.config import AugmentConfig, Config, DataConfig, OptimConfig, RuntimeConfig, TeacherConfig
from uda.data.augment import Photometric
from uda.data.crop import CropConfig
from uda.data.sampling import SamplingConfig
from uda.losses.adversarial import Level
from uda.losses.contrastive import Contrastive
from uda.losses.self_training import SelfTraining
from uda.losses.supervised import Supervised
from uda.models.deeplabv3plus import ModelConfig
from uda.schedule import Schedule
from uda.types import UserError


def preset(name: str, steps: int | None = None) -> Config:
    """The preset called `name`, of another length where `steps` is given.

    Schedules that follow the length of training, such as a start after a quarter of it, follow
    `steps` too; changing the finished config's `steps` would leave them where they were.

    Raises:
        UserError: there is none; lists all.
    """
    if name not in PRESETS:
        raise UserError(
            f"preset {name!r}: no such preset or config file; have {', '.join(PRESETS)}"
        )
    return PRESETS[name](steps)


def demo() -> Config:
    """Rendered streets at 128x256 on a laptop: minutes, not hours, on two cores."""
    return Config(
        name="demo",
        steps=600,  # what two cores do in ten minutes, both trainings together
        batch_size=4,  # twice the steps of 8 in the same time: 45 instead of 37 mIoU on the source
        data=DataConfig(
            # The whole height, so that a crop looks like a street; sizes vary with the distance.
            crop=CropConfig(height=128, width=128, scale=(0.75, 1.5)),
            # Nearly every class alike: in so few steps a rare one would not be seen otherwise.
            source_sampling=SamplingConfig(kind="rare_class", temperature=0.1),
        ),
        # Two workers see two images each: BatchNorm over so few is noise, and would make the result
        # depend on the number of workers.
        model=dataclasses.replace(_SMALL, norm="group"),
        teacher=_QUICK_TEACHER,
        losses=(Supervised(),),
        # Far above the 6e-5 of long trainings: in 300 steps 2e-3 reached 39 mIoU, 5e-4 only 29.
        optim=OptimConfig(lr=2e-3, head_factor=2.0, warmup=20),
        # The loader's batches already have the channels last; a few per cent faster on CPUs.
        runtime=RuntimeConfig(channels_last=True, log_every=10, checkpoint_every=200),
    )


def street_to_camvid() -> Config:
    """Rendered streets to CamVid's photographs, both at 240x180, on a CPU in half an hour."""
    return Config(
        name="street_to_camvid",
        steps=1000,
        batch_size=4,
        data=DataConfig(
            # Objects of real streets come in more sizes than the renderer's.
            crop=CropConfig(height=160, width=208, scale=(0.75, 1.75)),
            source_sampling=SamplingConfig(kind="rare_class", temperature=0.1),
        ),
        # A renderer's colours are wrong in more ways than a game's: jitter strongly, for everyone.
        augment=AugmentConfig(source=_STRONG, mixed=_STRONG),
        model=_SMALL,
        teacher=_QUICK_TEACHER,
        losses=(Supervised(),),
        optim=OptimConfig(lr=2e-3, head_factor=2.0, warmup=50),
        runtime=RuntimeConfig(log_every=10, checkpoint_every=250),
    )


# A mean over the last hundred steps: 0.999 would still be the first network when training ends.
# DACS's threshold of 0.968 is for a network that had time to become so sure.
_QUICK_TEACHER = TeacherConfig(decay=0.99, threshold=0.9)

_STRONG = Photometric(brightness=0.4, contrast=0.4, saturation=0.5, hue=0.08)

# ImageNet weights that a package ships, and a head sized for images of 128 rows.
_SMALL = ModelConfig(
    backbone="tf_efficientnet_lite0",
    pretrained="package",
    aspp_channels=96,
    aspp_dilations=(1, 2, 4),
    low_level_channels=32,
    decoder_channels=96,
)


def source_only(config: Config) -> Config:
    """The baseline: labels of the source alone, with everybody's augmentation."""
    return dataclasses.replace(config, losses=(Supervised(),), levels=())


def self_training(config: Config) -> Config:
    """Class-mixed self-training with an EMA teacher."""
    return dataclasses.replace(config, losses=(Supervised(), SelfTraining()), levels=())


def adversarial(config: Config) -> Config:
    """A discriminator on the output that the network learns to fool, decaying to nothing."""
    weight = Schedule(value=5e-3, decay="linear", stop=config.steps)
    return dataclasses.replace(
        config, losses=(Supervised(),), levels=(Level(name="output", weight=weight),)
    )


def full(config: Config) -> Config:
    """Self-training, the contrast of class distributions and an output-level discriminator."""
    # Contrast waits until the teacher's labels mean something.
    late = Schedule(value=0.1, start=config.steps // 4)
    return dataclasses.replace(
        config,
        losses=(Supervised(), SelfTraining(), Contrastive(weight=late)),
        levels=adversarial(config).levels,
    )


SETTINGS: dict[str, Callable[[], Config]] = {"demo": demo, "street_to_camvid": street_to_camvid}
METHODS: dict[str, Callable[[Config], Config]] = {
    "source_only": source_only,
    "self_training": self_training,
    "adversarial": adversarial,
    "full": full,
}

# What the name of a setting alone stands for. `full` takes half as long again and scores the same.
RECOMMENDED = "self_training"


def _build(setting: str, method: str | None, steps: int | None = None) -> Config:
    config = SETTINGS[setting]()
    config = dataclasses.replace(config, steps=steps or config.steps)
    config = METHODS[method or RECOMMENDED](config)
    return dataclasses.replace(config, name=f"{setting}_{method}" if method else setting)


PRESETS: dict[str, Callable[..., Config]] = {
    setting if method is None else f"{setting}_{method}": partial(_build, setting, method)
    for setting in SETTINGS
    for method in (None, *METHODS)
}
