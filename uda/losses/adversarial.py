"""Adversarial constraints: a discriminator per level tells domains apart, the network fools it."""

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from uda.schedule import Schedule, constant
from uda.types import Domain

Objective = Literal["bce", "least_squares"]
Representation = Literal["plain", "softmax", "self_information"]

_DOMAIN_LABEL = {Domain.SOURCE: 0.0, Domain.TARGET: 1.0}


@dataclass(frozen=True, kw_only=True)
class Level:
    """One adversarial constraint.

    - `reads`: the feature tap the discriminator sees ("stem", "layer1" .. "layer4", "aspp",
      "decoder") or "output" for the class predictions.
    - `sees`: how: "plain" features, "softmax" (AdaptSegNet, Tsai et al., CVPR 2018) or
      "self_information" (ADVENT, Vu et al., CVPR 2019) of the output.
    - `weight`: strength of fooling the discriminator. The discriminator's own loss has weight 1.
    """

    name: str
    reads: str = "output"
    sees: Representation = "softmax"
    weight: Schedule = field(default_factory=lambda: constant(1e-3))
    objective: Objective = "bce"
    width: int = 64

    def __post_init__(self) -> None:
        # It becomes a key of the ModuleDict of discriminators, and a part of dotted paths.
        if not self.name.isidentifier() or hasattr(nn.ModuleDict(), self.name):
            raise ValueError(f"name: got {self.name!r}, want a plain word such as 'output'")
        if self.width < 1:
            raise ValueError(f"width: got {self.width}, want 1 or more")
        if (self.reads == "output") == (self.sees == "plain"):
            raise ValueError(
                f"sees: got {self.sees!r} for reads = {self.reads!r}, want 'plain' for features, "
                "'softmax' or 'self_information' for output"
            )


def represent(tensor: Float[Tensor, "B C h w"], sees: Representation) -> Float[Tensor, "B C h w"]:
    """What the discriminator is shown: features as they are, or a map of the logits.

    "self_information" is -p log2 p / log2 K (ADVENT, eq. 6).
    """
    if sees == "plain":
        return tensor
    log_p = tensor.float().log_softmax(1)
    if sees == "softmax":
        return log_p.exp()
    return -log_p.exp() * log_p / math.log(tensor.shape[1])


def domain_loss(
    patch_logits: Float[Tensor, "B 1 h w"], domain: Domain, objective: Objective
) -> Float[Tensor, ""]:
    """How far the patches are from being taken for `domain` (mean over patches).

    BCE with logits, or (logit - label)^2 (Mao et al., LSGAN, ICCV 2017).
    """
    label = torch.full_like(patch_logits, _DOMAIN_LABEL[domain])
    if objective == "bce":
        return F.binary_cross_entropy_with_logits(patch_logits, label)
    return F.mse_loss(patch_logits, label)


def accuracy(
    source_patches: Float[Tensor, "B 1 h w"],
    target_patches: Float[Tensor, "B 1 h w"],
    objective: Objective,
) -> Float[Tensor, ""]:
    """Share of patches the discriminator assigns to the right domain (0.5 = fooled)."""
    boundary = 0.0 if objective == "bce" else 0.5
    right_source = (source_patches < boundary).float().mean()
    right_target = (target_patches >= boundary).float().mean()
    return (right_source + right_target) / 2
