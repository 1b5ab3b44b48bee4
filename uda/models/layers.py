"""The small layers that DeepLabV3+'s head is made of."""

import torch.nn.functional as F
from torch import Tensor, nn

from uda.models.depthwise import DepthwiseConv

NORMS = ("batch", "group", "none")


class ConvNorm(nn.Module):
    """Convolution that keeps the size, normalisation, ReLU; a bias where `norm` is "none"."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        norm: str,
        *,
        kernel_size: int = 1,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel_size // 2)
        make_conv = DepthwiseConv if groups == in_channels > 1 else nn.Conv2d
        self.conv = make_conv(
            in_channels,
            out_channels,
            kernel_size,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=norm == "none",
        )
        self.norm = make_norm(norm, out_channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.norm(self.conv(x)))


class SeparableConv(nn.Module):
    """Depthwise 3x3 then pointwise 1x1, each with normalisation and ReLU (1802.02611 sec. 3.1)."""

    def __init__(self, in_channels: int, out_channels: int, norm: str, dilation: int = 1) -> None:
        super().__init__()
        self.depthwise = ConvNorm(
            in_channels, in_channels, norm, kernel_size=3, dilation=dilation, groups=in_channels
        )
        self.pointwise = ConvNorm(in_channels, out_channels, norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class ImagePooling(nn.Module):
    """Mean over the image, 1x1 convolution, normalisation, ReLU, spread over the map again.

    The pooled map has one value per channel and image, which neither normalisation handles:
    - "batch" uses `PooledBatchNorm`, so that a batch of one image can be trained on;
    - "group" has no normalisation but a bias, as "none" has everywhere. GroupNorm of a few values
      with no extent in space would only keep their ranking within the group.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: str, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=norm != "batch")
        self.norm = PooledBatchNorm(out_channels) if norm == "batch" else nn.Identity()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.relu(self.norm(self.conv(F.adaptive_avg_pool2d(x, 1))))
        return upsample(pooled, x, self.align_corners)


class PooledBatchNorm(nn.BatchNorm2d):
    """BatchNorm that falls back on its running statistics when a channel has a single value.

    The variance of one value is zero: torch raises, and normalising would erase the branch. With
    the running statistics the layer is then an affine map, the same in training and evaluation.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.numel() > input.shape[1]:
            return super().forward(input)
        return F.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


def make_norm(norm: str, channels: int) -> nn.Module:
    """BatchNorm, GroupNorm of as many groups as leave 4 channels to each (32 at most), or none."""
    assert norm in NORMS, norm
    if norm == "none":
        return nn.Identity()
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    fitting = (g for g in (32, 16, 8, 4, 2) if channels % g == 0 and channels // g >= 4)
    return nn.GroupNorm(next(fitting, 1), channels)


def upsample(x: Tensor, like: Tensor, align_corners: bool) -> Tensor:
    """`x` resized bilinearly to the height and width of `like`."""
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=align_corners)


def init_convolutions(module: nn.Module) -> None:
    """Kaiming-normal weights and zero biases for all convolutions, from torch's global generator.

    By fan-in, because torch's fan-out takes no notice of groups: it would make the depthwise
    convolutions' weights too small by the square root of their number of channels.
    """
    for conv in (m for m in module.modules() if isinstance(m, nn.Conv2d)):
        nn.init.kaiming_normal_(conv.weight, mode="fan_in", nonlinearity="relu")
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
