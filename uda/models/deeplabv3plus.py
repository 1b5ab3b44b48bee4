"""DeepLabV3+ (Chen et al., ECCV 2018, 1802.02611) on any backbone.

Backbone, atrous spatial pyramid pooling on its last map, and a decoder that sharpens the result
with the map of stride 4. Details the paper leaves open (order of the branches, ReLU between
depthwise and pointwise, one dropout behind the pyramid) follow SegmenTron's DeepLabV3+, so that
`align_corners=True` with `resnet101` is exactly its network at output strides 16 and 8.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from uda.models.backbones import check_output_stride, find_backbone, tap_strides
from uda.models.layers import (
    NORMS,
    ConvNorm,
    ImagePooling,
    SeparableConv,
    init_convolutions,
    upsample,
)
from uda.types import UserError


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The segmentation network.

    `pretrained`: "" for none, "package" for ImageNet weights from a Python package, the path of a
    state dict of the backbone (.pth or .safetensors), or a checkpoint folder: training then goes on
    from its whole network. `aspp_dilations` are those at output stride 16; they scale with the
    resolution of the map (doubled at 8, halved at 32).
    `norm` is that of pyramid and decoder; the backbone keeps its own. "batch", "group", or "none":
    convolutions with a bias and no normalisation, which has no statistics of the source domain to
    carry over to the target.
    """

    backbone: str = "resnet101"
    pretrained: str = ""
    output_stride: int = 16
    aspp_channels: int = 256
    aspp_dilations: tuple[int, ...] = (6, 12, 18)
    low_level_channels: int = 48
    decoder_channels: int = 256
    norm: str = "batch"
    dropout: float = 0.1
    num_classes: int = 19
    align_corners: bool = False

    def __post_init__(self) -> None:
        find_backbone(self.backbone)
        check_output_stride(self.output_stride)
        if self.norm not in NORMS:
            raise UserError(f"norm: got {self.norm!r}, want a known one; have {list(NORMS)}")
        if not 0.0 <= self.dropout < 1.0:
            raise UserError(f"dropout: got {self.dropout}, want a probability in [0, 1)")
        if not self.aspp_dilations or min(self.aspp_dilations) < 1:
            raise UserError(f"aspp_dilations: got {self.aspp_dilations}, want positive numbers")
        for name in ("aspp_channels", "low_level_channels", "decoder_channels", "num_classes"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: got {getattr(self, name)}, want at least 1")


@dataclass(frozen=True)
class SegmentationOutput:
    """`logits` at the size of the images; `features` by tap name, at their own sizes."""

    logits: Float[Tensor, "B K H W"]
    features: dict[str, Tensor]


def build_model(config: ModelConfig) -> "DeepLabV3Plus":
    """The network with fresh weights; `pretrained.load_pretrained` fills the backbone.

    Works under `torch.device("meta")`, where it takes no memory and the forward computes shapes.
    """
    return DeepLabV3Plus(config)


class DeepLabV3Plus(nn.Module):
    """Segmentation network; taps are the backbone's and `aspp`, `decoder`.

    Images of any size from 32x32 on. A batch of one image can be trained on while the last map of
    the backbone has more than one pixel (its BatchNorm needs two values): at output stride 32 that
    means more than 32x32.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        backbone = find_backbone(config.backbone)
        self.mean, self.std = backbone.mean, backbone.std
        self.align_corners = config.align_corners
        channels = backbone.tap_channels
        self.encoder = backbone.build(config.output_stride)
        self.aspp = ASPP(channels["layer4"], config)
        self.decoder = Decoder(channels["layer1"], config)
        self.classifier = nn.Conv2d(config.decoder_channels, config.num_classes, 1)
        for part in (self.aspp, self.decoder, self.classifier):
            init_convolutions(part)
        nn.init.normal_(self.classifier.weight, std=0.01)  # starts close to equal probabilities
        self.tap_channels: dict[str, int] = {
            **channels,
            "aspp": config.aspp_channels,
            "decoder": config.decoder_channels,
            "output": config.num_classes,
        }
        strides = tap_strides(config.output_stride)
        self.tap_strides: dict[str, int] = {
            **strides,
            "aspp": strides["layer4"],
            "decoder": strides["layer1"],
            "output": 1,
        }

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> SegmentationOutput:
        features = self.encoder(images)
        features["aspp"] = self.aspp(features["layer4"])
        return self.decode(features, images)

    def decode(self, features: dict[str, Tensor], images: Tensor) -> SegmentationOutput:
        """What follows the pyramid: from the taps `aspp` and `layer1` to logits as `images`."""
        features["decoder"] = self.decoder(features["aspp"], features["layer1"])
        logits = self.classifier(features["decoder"])
        if logits.dtype == torch.bfloat16:  # between two values of 8 bits there is no third
            logits = logits.float()
        return SegmentationOutput(upsample(logits, images, self.align_corners), features)

    def normalise(self, images: UInt8[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        """(image / 255 - mean) / std in float32.

        Plane by plane with plain numbers: a tensor of constants would have to be copied to the
        device at each call, or be a buffer that every cast and meta build of the model breaks.
        """
        constants = zip(self.mean, self.std, strict=True)
        planes = [(images[:, i].float() / 255 - m) / s for i, (m, s) in enumerate(constants)]
        return torch.stack(planes, dim=1)

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """What pretraining fills."""
        return self.encoder.parameters()

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """Everything else: usually trained with ten times the learning rate."""
        for part in (self.aspp, self.decoder, self.classifier):
            yield from part.parameters()


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: five views of one map at growing scales, projected.

    Branches in the order of the concatenation: image pooling, 1x1, one separable 3x3 per dilation.
    """

    def __init__(self, in_channels: int, config: ModelConfig) -> None:
        super().__init__()
        width, norm = config.aspp_channels, config.norm
        dilations = [max(1, d * 16 // config.output_stride) for d in config.aspp_dilations]
        self.branches = nn.ModuleList(
            [
                ImagePooling(in_channels, width, norm, config.align_corners),
                ConvNorm(in_channels, width, norm),
                *(SeparableConv(in_channels, width, norm, dilation) for dilation in dilations),
            ]
        )
        self.project = ConvNorm(len(self.branches) * width, width, norm)
        self.dropout = nn.Dropout2d(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.project(torch.cat([branch(x) for branch in self.branches], dim=1)))


class Decoder(nn.Module):
    """Joins the pyramid's output with the map of stride 4."""

    def __init__(self, low_level_in_channels: int, config: ModelConfig) -> None:
        super().__init__()
        width, norm = config.decoder_channels, config.norm
        self.align_corners = config.align_corners
        self.low_level = ConvNorm(low_level_in_channels, config.low_level_channels, norm)
        self.fuse = nn.Sequential(
            SeparableConv(config.aspp_channels + config.low_level_channels, width, norm),
            SeparableConv(width, width, norm),
        )

    def forward(self, x: Tensor, low_level: Tensor) -> Tensor:
        low_level = self.low_level(low_level)
        return self.fuse(torch.cat([upsample(x, low_level, self.align_corners), low_level], dim=1))
