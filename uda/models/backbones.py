"""Backbones: image classifiers cut open at five taps, by name in `BACKBONES`.

A backbone is a module that maps normalised images (B, 3, H, W) to an ordered dict of feature maps:
`stem` (stride 2), `layer1` (4), `layer2` (8), `layer3` (16) and `layer4` (32), where strides beyond
the chosen output stride are traded for dilation. Its state dict has the key names of the library it
comes from, so that published weight files fit. To add one, write a function and one line below.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm
import torchvision
from jaxtyping import Float
from torch import Tensor, nn

from uda.models.depthwise import speed_up_depthwise
from uda.types import UserError

TAPS = ("stem", "layer1", "layer2", "layer3", "layer4")
OUTPUT_STRIDES = (8, 16, 32)

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """What is known of a backbone without building it.

    `channels` are those of the five taps. Images are normalised as (image / 255 - mean) / std.
    `classifier_prefixes` start the keys that a weight file holds beyond the backbone's own.
    """

    make: Callable[[int], nn.Module]
    channels: tuple[int, int, int, int, int]
    mean: tuple[float, float, float] = _IMAGENET_MEAN
    std: tuple[float, float, float] = _IMAGENET_STD
    classifier_prefixes: tuple[str, ...] = ("fc.", "classifier.")

    def build(self, output_stride: int) -> nn.Module:
        """The network with fresh weights from torch's global generator; its head is cut off."""
        check_output_stride(output_stride)
        return self.make(output_stride)

    @property
    def tap_channels(self) -> dict[str, int]:
        return dict(zip(TAPS, self.channels, strict=True))


def check_output_stride(output_stride: int) -> None:
    """Raises UserError for an output stride that no backbone has."""
    if output_stride not in OUTPUT_STRIDES:
        raise UserError(
            f"output_stride: got {output_stride}, want a supported one; have {list(OUTPUT_STRIDES)}"
        )


def find_backbone(name: str) -> Backbone:
    """Entry of `BACKBONES`, or a UserError that lists them."""
    if name not in BACKBONES:
        raise UserError(f"backbone: got {name!r}, want a known name; have {sorted(BACKBONES)}")
    return BACKBONES[name]


def tap_strides(output_stride: int) -> dict[str, int]:
    """Stride in image pixels of every tap."""
    return {tap: min(2 ** (i + 1), output_stride) for i, tap in enumerate(TAPS)}


class ResNetEncoder(nn.Module):
    """A torchvision ResNet without its classifier (He et al., CVPR 2016; stride in the 3x3)."""

    def __init__(self, resnet: torchvision.models.ResNet, output_stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu = resnet.conv1, resnet.bn1, resnet.relu
        self.maxpool = resnet.maxpool
        self.layer1, self.layer2 = resnet.layer1, resnet.layer2
        self.layer3, self.layer4 = resnet.layer3, resnet.layer4
        _trade_stride_for_dilation((self.layer2, self.layer3, self.layer4), output_stride)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> dict[str, Tensor]:
        taps = {"stem": self.relu(self.bn1(self.conv1(images)))}
        taps["layer1"] = self.layer1(self.maxpool(taps["stem"]))
        taps["layer2"] = self.layer2(taps["layer1"])
        taps["layer3"] = self.layer3(taps["layer2"])
        taps["layer4"] = self.layer4(taps["layer3"])
        return taps


def _trade_stride_for_dilation(layers: tuple[nn.Module, ...], output_stride: int) -> None:
    """Makes `layers` (strides 8, 16, 32) dense beyond `output_stride`, in place.

    Exact atrous form (Chen et al., DeepLab, 1606.00915 sec. 3.1): the dense maps hold the strided
    maps' values on their grid. Hence the convolution that loses its stride keeps the dilation so
    far and only those behind it are dilated. For bottlenecks this equals torchvision's
    `replace_stride_with_dilation`; torchvision has no such form for the basic blocks of ResNet-18.
    """
    dilation = 1
    for layer, stride in zip(layers, (8, 16, 32), strict=True):
        for conv in (m for m in layer.modules() if isinstance(m, nn.Conv2d)):
            is_spatial = conv.kernel_size == (3, 3)
            if is_spatial:
                conv.dilation = conv.padding = (dilation, dilation)
            if stride > output_stride and conv.stride == (2, 2):
                conv.stride = (1, 1)
                dilation *= 2 if is_spatial else 1  # the 1x1 of the shortcut only loses its stride


# Each tap is the last stage of its stride; stages 3 and 5 share theirs with the stage behind.
_TAP_OF_EFFICIENTNET_STAGE = {0: "stem", 1: "layer1", 2: "layer2", 4: "layer3", 6: "layer4"}


class EfficientNetEncoder(nn.Module):
    """A timm EfficientNet's stem and stages (Tan and Le, ICML 2019); key names are timm's."""

    def __init__(self, name: str, output_stride: int) -> None:
        super().__init__()
        features: Any = timm.create_model(name, features_only=True, output_stride=output_stride)
        self.conv_stem = features.conv_stem
        self.bn1 = features.bn1
        self.blocks = features.blocks
        speed_up_depthwise(self.blocks)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> dict[str, Tensor]:
        taps = {}
        x = self.bn1(self.conv_stem(images))
        for index, stage in enumerate(self.blocks):
            x = stage(x)
            if index in _TAP_OF_EFFICIENTNET_STAGE:
                taps[_TAP_OF_EFFICIENTNET_STAGE[index]] = x
        return taps


class TinyEncoder(nn.Module):
    """A small network for tests and demonstrations (about 90 thousand parameters).

    GroupNorm instead of BatchNorm: an image's result does not depend on the others of its batch,
    and so not on how a batch is split over workers.
    """

    def __init__(self, channels: tuple[int, ...], output_stride: int) -> None:
        super().__init__()
        stride, dilation, previous = 1, 1, 3
        for tap, num_channels in zip(TAPS, channels, strict=True):
            is_dense = stride == output_stride
            step, inner = (1, 2 * dilation) if is_dense else (2, dilation)
            self.add_module(tap, _TinyStage(previous, num_channels, step, dilation, inner))
            stride, dilation, previous = stride * step, inner, num_channels

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> dict[str, Tensor]:
        taps, x = {}, images
        for tap, stage in self.named_children():
            x = taps[tap] = stage(x)
        return taps


class _TinyStage(nn.Module):
    """Convolution with stride, then a residual convolution; `dilations` are theirs in turn."""

    def __init__(
        self, in_channels: int, channels: int, stride: int, dilation: int, inner_dilation: int
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, dilation, dilation, bias=False)
        self.norm1 = nn.GroupNorm(4, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, inner_dilation, inner_dilation, bias=False)
        self.norm2 = nn.GroupNorm(4, channels)
        self.relu = nn.ReLU(inplace=True)
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm1(self.conv1(x)))
        return self.relu(x + self.norm2(self.conv2(x)))


def _resnet(make: Callable[..., torchvision.models.ResNet]) -> Callable[[int], nn.Module]:
    return lambda output_stride: ResNetEncoder(make(weights=None), output_stride)


_TINY_CHANNELS = (16, 24, 32, 40, 48)

BACKBONES: dict[str, Backbone] = {
    "tiny": Backbone(
        make=lambda output_stride: TinyEncoder(_TINY_CHANNELS, output_stride),
        channels=_TINY_CHANNELS,
    ),
    "resnet18": Backbone(
        make=_resnet(torchvision.models.resnet18), channels=(64, 64, 128, 256, 512)
    ),
    "resnet50": Backbone(
        make=_resnet(torchvision.models.resnet50), channels=(64, 256, 512, 1024, 2048)
    ),
    "resnet101": Backbone(
        make=_resnet(torchvision.models.resnet101), channels=(64, 256, 512, 1024, 2048)
    ),
    "tf_efficientnet_lite0": Backbone(
        make=lambda output_stride: EfficientNetEncoder("tf_efficientnet_lite0", output_stride),
        channels=(16, 24, 40, 112, 320),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        classifier_prefixes=("classifier.", "conv_head.", "bn2."),  # timm's bn2 follows conv_head
    ),
}
