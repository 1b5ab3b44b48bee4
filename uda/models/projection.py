"""Projection head of the contrastive losses."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class ProjectionHead(nn.Module):
    """Feature map to an embedding of unit length at every position (SimCLR's form, 2002.05709).

    Two 1x1 convolutions with a ReLU between, as wide inside as the input. Positions stay apart:
    the caller pools regions or picks pixels. Lengths are taken in float32, also under autocast.
    """

    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, in_channels, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(in_channels, dim, 1),
        )

    def forward(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D h w"]:
        return F.normalize(self.layers(features).float(), dim=1)
