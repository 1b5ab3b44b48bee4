"""Adversarial constraints: a discriminator per level tells domains apart, the network fools it."""

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from uda.schedule import Schedule, constant
from uda.types import Domain, check_choices

Objective = Literal["bce", "least_squares"]
Representation = Literal["plain", "statistics", "softmax", "self_information"]

_DOMAIN_LABEL = {Domain.SOURCE: 0.0, Domain.TARGET: 1.0}
_OF_FEATURES = ("plain", "statistics")
_VARIANCE_FLOOR = 1e-5  # AdaIN's epsilon: the root of a variance of zero still has a slope
_CLASS_TEMPERATURE = 1.8  # FADA's, for GTA5 and SYNTHIA to Cityscapes alike
_CLASS_CEILING = 0.9  # FADA's: a target that is never certain


@dataclass(frozen=True, kw_only=True)
class Level:
    """One adversarial constraint.

    - `reads`: the feature tap the discriminator sees ("stem", "layer1" .. "layer4", "aspp",
      "decoder") or "output" for the class predictions.
    - `sees`: how. Features: "plain", or "statistics", each image's mean and standard deviation of
      every channel: its style, without what is where (Huang and Belongie, AdaIN, ICCV 2017).
      Output: "softmax" (AdaptSegNet, Tsai et al., CVPR 2018) or "self_information" (ADVENT, Vu et
      al., CVPR 2019).
    - `conditional`: the discriminator of plain features names the class as well, so that features
      of one class are drawn to that class in the source (FADA, Wang et al., ECCV 2020).
    - `weight`: strength of fooling the discriminator. The discriminator's own loss has weight 1.
      At steps where the weight is zero nothing of the level is computed and nothing learns.
    - `lr_factor`: the discriminator's learning rate, as a multiple of `optim.discriminator_lr`.
    - `learn_every`, `fool_every`: the discriminator learns, the network fools it, at the steps that
      are divisible by these alone.
    """

    name: str
    reads: str = "output"
    sees: Representation = "softmax"
    conditional: bool = False
    weight: Schedule = field(default_factory=lambda: constant(1e-3))
    objective: Objective = "bce"
    width: int = 64
    lr_factor: float = 1.0
    learn_every: int = 1
    fool_every: int = 1

    def __post_init__(self) -> None:
        # It becomes a key of the ModuleDict of discriminators, and a part of dotted paths.
        if not self.name.isidentifier() or hasattr(nn.ModuleDict(), self.name):
            raise ValueError(f"name: got {self.name!r}, want a plain word such as 'output'")
        for count in ("width", "learn_every", "fool_every"):
            if getattr(self, count) < 1:
                raise ValueError(f"{count}: got {getattr(self, count)}, want 1 or more")
        if not 0 < self.lr_factor < math.inf:
            raise ValueError(f"lr_factor: got {self.lr_factor}, want a number more than 0")
        if self.weight.value < 0:
            raise ValueError(f"weight: got {self.weight.value}, want 0 or more")
        check_choices(self, sees=Representation, objective=Objective)
        if (self.reads == "output") == (self.sees in _OF_FEATURES):
            raise ValueError(
                f"sees: got {self.sees!r} for reads = {self.reads!r}, want 'plain' or 'statistics' "
                "for features, 'softmax' or 'self_information' for output"
            )
        if self.conditional and (self.sees != "plain" or self.objective != "bce"):
            raise ValueError(
                f"conditional: got true for reads = {self.reads!r}, sees = {self.sees!r}, "
                f"objective = {self.objective!r}, want plain features and 'bce'"
            )

    def learns_at(self, step: int) -> bool:
        """Whether the discriminator learns at `step`."""
        return step % self.learn_every == 0 and self.weight.at(step) != 0.0

    def fools_at(self, step: int) -> bool:
        """Whether the network learns to fool it at `step`."""
        return step % self.fool_every == 0 and self.weight.at(step) != 0.0

    @property
    def first_turns(self) -> set[int]:
        """The first step at which each of the two has its turn, if the weight lasts until then."""
        return {-(-self.weight.start // n) * n for n in (self.learn_every, self.fool_every)}

    def pauses_before(self, steps: int) -> bool:
        """True if not all of the level is active at each of the first `steps` steps."""
        takes_turns = self.learn_every > 1 or self.fool_every > 1
        return not self.weight.is_off and (takes_turns or self.weight.pauses_before(steps))


def represent(tensor: Float[Tensor, "B C h w"], sees: Representation) -> Float[Tensor, "B _ _ _"]:
    """What the discriminator is shown: features, their statistics, or a map of the logits.

    "statistics" are (B, 2C, 1, 1): the means, then the standard deviations sqrt(variance + 1e-5)
    of the channels of each image (Huang and Belongie, ICCV 2017, eq. 5-6). "self_information" is
    -p log2 p / log2 K (ADVENT, eq. 6).
    """
    if sees == "plain":
        return tensor
    if sees == "statistics":
        variance, mean = torch.var_mean(tensor.float(), (2, 3), correction=0, keepdim=True)
        return torch.cat([mean, (variance + _VARIANCE_FLOOR).sqrt()], 1)
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


def soft_classes(
    logits: Float[Tensor, "B K H W"], size: tuple[int, int]
) -> Float[Tensor, "B K h w"]:
    """What a class-conditional discriminator is taught about the class at each of its positions.

    softmax(logits / 1.8), averaged over the pixels of a position and clipped at 0.9, without
    gradient (FADA, Wang et al., ECCV 2020, sec. 3.3; clipped, they sum to less than 1, as in the
    authors' code, which compares at the size of the image).
    """
    probabilities = (logits.detach().float() / _CLASS_TEMPERATURE).softmax(1)
    return F.adaptive_avg_pool2d(probabilities, size).clamp_max(_CLASS_CEILING)


def class_domain_loss(
    half_logits: Float[Tensor, "B N h w"], classes: Float[Tensor, "B K h w"], domain: Domain
) -> Float[Tensor, ""]:
    """How far the positions are from being taken for their classes in `domain`.

    -sum_k a_k log P(domain, k), the mean over positions, with P the softmax over all N = 2K logits
    (the first K are source) and a the soft classes (FADA, Wang et al., ECCV 2020, sec. 3.2).
    """
    source, target = half_logits.float().log_softmax(1).chunk(2, 1)
    half = source if domain is Domain.SOURCE else target
    return -(classes * half).sum(1).mean()


def domain_logits(half_logits: Float[Tensor, "B N h w"]) -> Float[Tensor, "B 1 h w"]:
    """log P(target) / P(source) of each position, the classes of each half taken together."""
    source, target = half_logits.float().chunk(2, 1)
    return target.logsumexp(1, keepdim=True) - source.logsumexp(1, keepdim=True)
