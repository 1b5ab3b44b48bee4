"""The domain discriminators: of patches, of positions with their classes, of whole images."""

import math

from jaxtyping import Float
from torch import Tensor, nn

from uda.types import UserError

_NUM_LAYERS = 5


class PatchDiscriminator(nn.Module):
    """AdaptSegNet's fully convolutional discriminator (Tsai et al., 1802.10349 sec. 4.2).

    Five convolutions, `width` 64-128-256-512-1 channels, LeakyReLU 0.2, no normalisation. The first
    `num_strided` are 4x4 with stride 2 (the paper's: all five), the rest 3x3 with stride 1, which
    keep small maps whole. Output: patch logits (B, 1, h // 2**n, w // 2**n); negative says source
    (0), positive target (1).
    """

    def __init__(self, in_channels: int, width: int = 64, num_strided: int = _NUM_LAYERS) -> None:
        super().__init__()
        if not 0 <= num_strided <= _NUM_LAYERS:
            raise UserError(f"num_strided: got {num_strided}, want 0 to {_NUM_LAYERS}")
        self.min_size_px = 2**num_strided
        channels = [in_channels, width, 2 * width, 4 * width, 8 * width, 1]
        layers: list[nn.Module] = []
        for i in range(_NUM_LAYERS):
            kernel_size, stride = (4, 2) if i < num_strided else (3, 1)
            layers.append(nn.Conv2d(channels[i], channels[i + 1], kernel_size, stride, padding=1))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, maps: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 1 _ _"]:
        if min(maps.shape[-2:]) < self.min_size_px:
            raise UserError(
                f"discriminator: got a map of {tuple(maps.shape[-2:])}, want at least "
                f"{self.min_size_px} each way; use a larger crop or a smaller num_strided"
            )
        return self.layers(maps)


class PixelDiscriminator(nn.Module):
    """FADA's fine-grained discriminator (Wang et al., ECCV 2020, sec. 3.2), at every position.

    Three 3x3 convolutions, 8 and 4 times `width` and `num_outputs` channels, LeakyReLU 0.2, no
    normalisation; the default width gives the published 512 and 256. The last one is the two
    K-way classifiers of the paper side by side: K logits of the source, then K of the target.
    """

    def __init__(self, in_channels: int, num_outputs: int, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, 8 * width, 3, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(8 * width, 4 * width, 3, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(4 * width, num_outputs, 3, padding=1),
        )

    def forward(self, maps: Float[Tensor, "B C h w"]) -> Float[Tensor, "B N h w"]:
        return self.layers(maps)


class StatisticsDiscriminator(nn.Module):
    """One logit per image from numbers that describe the whole of it: two hidden layers.

    1x1 convolutions, 4 times `width` channels each, LeakyReLU 0.2; negative says source.
    """

    def __init__(self, in_channels: int, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, 4 * width, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(4 * width, 4 * width, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(4 * width, 1, 1),
        )

    def forward(self, statistics: Float[Tensor, "B C 1 1"]) -> Float[Tensor, "B 1 1 1"]:
        return self.layers(statistics)


def num_strided_for(stride: int) -> int:
    """How many layers to stride for a map of this stride, so that patches stay 32 pixels apart.

    5 for the output (stride 1), 3 for `layer1`, 1 for a map of stride 16, 0 for one of 32: every
    level judges the same grid of image patches, and the smallest map is that of a ResNet's last
    layer, whatever the level. With `stride` from `DeepLabV3Plus.tap_strides`.
    """
    return max(0, _NUM_LAYERS - round(math.log2(stride)))
