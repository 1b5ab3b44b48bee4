"""The settings: which data, which network, how long. What adapts is a method's business."""

import dataclasses
from collections.abc import Callable

from uda.config import AugmentConfig, Config, DataConfig, OptimConfig, RuntimeConfig, TeacherConfig
from uda.data.augment import Photometric
from uda.data.crop import CropConfig
from uda.data.fourier import Fourier
from uda.data.masking import BlockMask
from uda.data.sampling import SamplingConfig
from uda.losses.supervised import Supervised
from uda.models.deeplabv3plus import ModelConfig


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
        augment=AugmentConfig(mask=_SMALL_BLOCKS),
        model=_SMALL,
        teacher=_QUICK_TEACHER,
        losses=(Supervised(),),
        # Far above the 6e-5 of long trainings: in 300 steps 2e-3 reached 39 mIoU, 5e-4 only 29.
        optim=OptimConfig(lr=2e-3, head_factor=2.0, warmup=20),
        # The loader's batches already have the channels last; a few per cent faster on CPUs.
        runtime=RuntimeConfig(channels_last=True, log_every=10, checkpoint_every=200),
    )


def streets() -> Config:
    """Rendered streets, as the demo and longer: for studies, on two cores as on a GPU."""
    return dataclasses.replace(
        demo(),
        name="streets",
        # A start: studies go on from the network that these steps give. From one of 500 steps
        # self-training lost rare classes: its teacher did not know them yet.
        steps=2000,
        runtime=RuntimeConfig(
            channels_last=True, log_every=10, checkpoint_every=500, fused_optimiser=True
        ),
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
        augment=AugmentConfig(source=_STRONG, mixed=_STRONG, masked=_STRONG, mask=_SMALL_BLOCKS),
        model=_SMALL,
        teacher=_QUICK_TEACHER,
        losses=(Supervised(),),
        optim=OptimConfig(lr=2e-3, head_factor=2.0, warmup=50),
        runtime=RuntimeConfig(log_every=10, checkpoint_every=250),
    )


def gta5_to_cityscapes() -> Config:
    """GTA5 (1280x720) to Cityscapes (1024x512), DeepLabV3+ R-101, at the scale of publications.

    Prepare both at these sizes, as ADVENT and DAFormer resize them. For the comparison with one
    GPU's publications set batch_size=2 and optim.lr=6e-5, for output stride 8
    model.output_stride=8. ImageNet weights: model.pretrained=FILE.
    """
    return Config(
        name="gta5_to_cityscapes",
        steps=40_000,  # DAFormer, HRDA, MIC and SePiCo
        batch_size=8,  # two images a GPU on four GPUs; publications: two on one
        data=DataConfig(
            crop=CropConfig(height=512, width=512),  # DAFormer and DACS
            # DAFormer's temperature: of the 19 classes about 12 are drawn noticeably often.
            source_sampling=SamplingConfig(kind="rare_class", temperature=0.01),
        ),
        augment=AugmentConfig(
            # MIC's blocks for images of 512 rows, and 70 % hidden.
            mask=BlockMask(ratio=0.7, block_px=32),
            # FDA's smallest square: larger ones draw rings around the objects.
            fourier=Fourier(beta=0.01),
        ),
        # Stride 16 needs a third of the memory of stride 8 and is SegmenTron's reference network.
        model=ModelConfig(backbone="resnet101", output_stride=16),
        teacher=TeacherConfig(decay=0.999, threshold=0.968),  # DAFormer's and MIC's
        losses=(Supervised(),),
        optim=OptimConfig(
            # DAFormer's 6e-5 for a batch of 2, times the root of 4 for a batch of 8: with Adam the
            # noise, not the step, grows with the batch (Malladi et al., NeurIPS 2022).
            lr=1.2e-4,
            head_factor=10.0,  # DAFormer
            weight_decay=0.01,  # DAFormer
            warmup=1500,  # DAFormer
            discriminator_lr=1e-4,  # AdaptSegNet, ADVENT and FADA
        ),
        runtime=RuntimeConfig(
            precision="bfloat16",  # a GPU's tensor cores; float32 where it matters
            channels_last=True,
            fused_optimiser=True,
            log_every=50,
            checkpoint_every=1000,  # minutes of work at most are lost
        ),
    )


def synthia_to_cityscapes() -> Config:
    """SYNTHIA (1280x760) to Cityscapes (1024x512): as GTA5, scored with --classes synthia16."""
    return dataclasses.replace(gta5_to_cityscapes(), name="synthia_to_cityscapes")


# A mean over the last hundred steps: 0.999 would still be the first network when training ends.
# DACS's threshold of 0.968 is for a network that had time to become so sure.
# Of classes that it is never so sure of it teaches the surer half: at dusk a little better than one
# weight for an image, which teaches what is large.
_QUICK_TEACHER = TeacherConfig(decay=0.99, threshold=0.9, weighting="class")

# A cell of the last feature map. MIC's are a sixteenth of a crop's rows; of 128 that would be 8.
_SMALL_BLOCKS = BlockMask(ratio=0.7, block_px=16)

_STRONG = Photometric(brightness=0.4, contrast=0.4, saturation=0.5, hue=0.08)

# ImageNet weights that a package ships, and a head sized for images of 128 rows.
_SMALL = ModelConfig(
    backbone="tf_efficientnet_lite0",
    pretrained="package",
    # Two workers see two images each: over so few BatchNorm is noise, in a head that begins with
    # random weights. The backbone keeps the BatchNorm that it was pretrained with.
    norm="group",
    aspp_channels=96,
    aspp_dilations=(1, 2, 4),
    low_level_channels=32,
    decoder_channels=96,
)


@dataclasses.dataclass(frozen=True)
class Setting:
    """`is_long`: trains for as many steps as publications do, so that their strengths hold."""

    config: Callable[[], Config]
    is_long: bool


SETTINGS: dict[str, Setting] = {
    "demo": Setting(demo, is_long=False),
    "streets": Setting(streets, is_long=False),
    "street_to_camvid": Setting(street_to_camvid, is_long=False),
    "gta5_to_cityscapes": Setting(gta5_to_cityscapes, is_long=True),
    "synthia_to_cityscapes": Setting(synthia_to_cityscapes, is_long=True),
}
