"""The adversaries of a step: what each discriminator is shown, learns, and is fooled by."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.func import functional_call

from uda.losses.adversarial import (
    Level,
    accuracy,
    class_domain_loss,
    domain_logits,
    domain_loss,
    represent,
    soft_classes,
)
from uda.models import PatchDiscriminator, SegmentationOutput, num_strided_for
from uda.models.discriminator import PixelDiscriminator, StatisticsDiscriminator
from uda.scene import Scene
from uda.types import HEALTH, Domain

FADE = 0.5  # what a fade multiplies the weights of all levels by


def build_discriminator(level: Level, channels: int, stride: int, num_classes: int) -> nn.Module:
    """The discriminator of a level that reads a map of so many channels and pixels per cell."""
    if level.sees == "statistics":
        return StatisticsDiscriminator(2 * channels, level.width)
    if level.conditional:
        return PixelDiscriminator(channels, 2 * num_classes, level.width)
    return PatchDiscriminator(channels, level.width, num_strided_for(stride))


def adversarial_terms(
    level: Level, network: nn.Module, scene: Scene, step: int, factor: float = 1.0
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """(summands of the step's loss, detached terms to log) of one level; empty where it rests.

    Gradients equal those of the classic alternating update, in one backward pass: fooling reads
    the discriminator through detached weights, its own term reads detached features. A
    discriminator that does not learn at `step` gets no gradient at all, so that Adam leaves it.
    `factor` multiplies the level's weight, and so the fooling alone.
    """
    summands: list[Tensor] = []
    terms: dict[str, Tensor] = {}
    learns, fools = level.learns_at(step), level.fools_at(step)
    if not learns and not fools:
        return summands, terms
    target = _sight(level, scene.target)
    if learns:
        own, right = _learning(level, network, _sight(level, scene.source), target)
        summands.append(own)
        terms[f"{level.name}/discriminator"] = own.detach()
        terms[f"{HEALTH}{level.name}/accuracy"] = right.detach()
    if fools:
        frozen = {name: p.detach() for name, p in network.named_parameters()}
        judged = functional_call(network, frozen, (target.maps,))
        fooling = _distance(level, judged, target, Domain.SOURCE)
        summands.append(factor * level.weight.at(step) * fooling)
        terms[f"{level.name}/fooling"] = fooling.detach()
    return summands, terms


@dataclass(frozen=True)
class _Sight:
    """What a discriminator is shown of one domain, and told of its classes where it names them."""

    maps: Tensor
    classes: Tensor | None


def _sight(level: Level, output: SegmentationOutput) -> _Sight:
    maps = output.logits if level.reads == "output" else output.features[level.reads].float()
    height, width = maps.shape[2:]  # a class-conditional discriminator keeps them
    classes = soft_classes(output.logits, (height, width)) if level.conditional else None
    return _Sight(represent(maps, level.sees), classes)


def _learning(
    level: Level, network: nn.Module, source: _Sight, target: _Sight
) -> tuple[Tensor, Tensor]:
    """The discriminator's own loss, half of it per domain, and its accuracy."""
    on_source, on_target = network(source.maps.detach()), network(target.maps.detach())
    own = _distance(level, on_source, source, Domain.SOURCE)
    own = (own + _distance(level, on_target, target, Domain.TARGET)) / 2
    if level.conditional:
        on_source, on_target = domain_logits(on_source), domain_logits(on_target)
    return own, accuracy(on_source, on_target, level.objective)


def _distance(level: Level, judged: Tensor, sight: _Sight, domain: Domain) -> Tensor:
    if sight.classes is None:
        return domain_loss(judged, domain, level.objective)
    return class_domain_loss(judged, sight.classes, domain)
