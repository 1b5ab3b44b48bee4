"""The adaptation task: a batch in, one loss out.

`AdaptationTask.forward` computes every active loss, and it is the only module that data-parallel
training wraps. Call the wrapped task, never its parts: a forward on the unwrapped module loses
the synchronisation of gradients without any error.
"""

import copy
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from uda.adversaries import FADE, adversarial_terms, build_discriminator
from uda.config import Config
from uda.losses import Loss
from uda.losses.adversarial import Level
from uda.losses.memory import Prepares, Remembers
from uda.models import ProjectionHead, Teacher, build_model
from uda.randomness import seed_torch
from uda.scene import Scene
from uda.types import HEALTH, Batch, Labelled, StepOutput, Unlabelled, UserError

_NEEDS_TEACHER = {"pseudo_labels", "trusted_labels", "trust", "mixed_logits", "mixed_labels",
                  "mixed_weights", "target_weights"}  # fmt: skip
_NEEDS_PROJECTION = {"source_embeddings", "target_embeddings", "lottery"}
_NEEDS_PRETRAINED = {"pretrained_backbone"}


class AdaptationTask(nn.Module):
    """The student and whatever its active losses need: teacher, projection, discriminators."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.faded_at: tuple[int, ...] = ()  # numbers of finished steps; part of what is saved
        # The weights a run starts from depend on its seed, not on what was computed before.
        seed_torch(config.seed, "weights")
        self.student = build_model(config.model)
        self._losses = tuple(loss for loss in config.losses if not loss.weight.is_off)
        self._levels = tuple(level for level in config.levels if not level.weight.is_off)
        needs = {name for loss in self._losses for name in _inputs(loss)}
        self.teacher: Teacher | None = None
        if needs & _NEEDS_TEACHER or config.evaluated == "teacher":
            self.teacher = Teacher(self.student, batch_norm=config.teacher.batch_norm)
        self.projection: nn.Module | None = None
        if needs & _NEEDS_PROJECTION:
            channels = self._tap_channels(config.projection.reads, "projection.reads")
            self.projection = ProjectionHead(channels, config.projection.width)
        self.pretrained: nn.Module | None = None
        if needs & _NEEDS_PRETRAINED:
            self.pretrained = _frozen_copy(self.student.encoder)
        self.memories = nn.ModuleDict(
            {
                loss.name: loss.new_memory(config.projection.width)
                for loss in self._losses
                if isinstance(loss, Remembers)
            }
        )
        self.discriminators = nn.ModuleDict(
            {level.name: self._discriminator(level) for level in self._levels}
        )

    def forward(self, batch: Batch) -> StepOutput:
        """All losses of one step: sum_i weight_i(step) * loss_i, plus the discriminators' own."""
        seed_torch(self.config.seed, "forward", batch.step, batch.first_sample)
        scene = Scene(
            batch, self.config, self.student, self.teacher, self.projection, self.pretrained
        )
        total: Tensor | None = None
        terms: dict[str, Tensor] = {}
        for loss in self._losses:
            weight = loss.weight.at(batch.step)
            if weight == 0.0:
                continue
            memory = self.memories[loss.name] if isinstance(loss, Remembers) else None
            value, figures = _loss_terms(loss, scene, memory)
            terms |= figures
            total = weight * value if total is None else total + weight * value
        for level in self._levels:
            network = self.discriminators[level.name]
            summands, figures = adversarial_terms(
                level, network, scene, batch.step, self.levels_factor
            )
            terms |= figures
            for summand in summands:
                total = summand if total is None else total + summand
        if self.teacher is not None and self.teacher.keeps_statistics:
            _ = scene.pseudo_labels  # its statistics want every batch, also one nobody learns from
        if total is None:  # every part pauses at this step
            total = 0.0 * scene.source_logits.sum()
        return StepOutput(total, terms)

    def start_copies(self) -> None:
        """Makes the teacher and the frozen backbone copies of the student's first weights."""
        if self.teacher is not None:
            self.teacher.update(self.student, 0, self.config.teacher.decay)
        if self.pretrained is not None:
            self.pretrained.load_state_dict(self.student.encoder.state_dict())

    def train(self, mode: bool = True) -> "AdaptationTask":
        """All but the frozen backbone, which always normalises by its own statistics."""
        super().train(mode)
        if self.pretrained is not None:
            self.pretrained.eval()
        return self

    def after_step(self, step: int) -> None:
        """What follows an optimiser step: the teacher moves towards the student."""
        if self.teacher is not None:
            self.teacher.update(self.student, step, self.config.teacher.decay)
            self.teacher.share_statistics()

    def fade(self, step: int) -> None:
        """From here on, after `step` steps, adversarial weights count less by another `FADE`."""
        self.faded_at = (*self.faded_at, step)

    @property
    def levels_factor(self) -> float:
        """What the weights of all levels are multiplied by."""
        return FADE ** len(self.faded_at)

    @property
    def evaluated(self) -> nn.Module:
        """The network that is exported and scored."""
        if self.config.evaluated == "teacher":
            assert self.teacher is not None
            return self.teacher.network
        return self.student

    @property
    def has_pauses(self) -> bool:
        """True if some trained part gets no gradient at some steps.

        By its schedule or its turn, or the classifier because no trained part looks at its logits.
        """
        inputs = [name for loss in self._losses for name in _inputs(loss)]
        inputs += [f"{level.reads}_logits" for level in self._levels if level.reads == "output"]
        uses_logits = any(name.endswith("_logits") for name in inputs)
        steps = self.config.steps
        pauses = [loss.weight.pauses_before(steps) for loss in self._losses]
        pauses += [level.pauses_before(steps) for level in self._levels]
        return not uses_logits or any(pauses)

    def projection_parameters(self) -> Iterable[nn.Parameter]:
        return () if self.projection is None else self.projection.parameters()

    def _discriminator(self, level: Level) -> nn.Module:
        channels = self._tap_channels(level.reads, f"levels.{level.name}.reads")
        stride = self.student.tap_strides[level.reads]
        return build_discriminator(level, channels, stride, self.config.model.num_classes)

    def _tap_channels(self, tap: str, path: str) -> int:
        channels = self.student.tap_channels
        if tap not in channels:
            raise UserError(
                f"{path}: got {tap!r}; {self.config.model.backbone} has {', '.join(channels)}"
            )
        return channels[tap]


def preflight(config: Config, num_workers: int = 1) -> None:
    """Builds and runs the task on the meta device, where it costs no memory and no time.

    Raises:
        UserError: a name, shape or batch size of `config` does not fit together.
    """
    _check_pretraining(config)
    _check_starts(config)
    local = config.local_batch_size(num_workers)
    crop = config.data.crop
    with torch.device("meta"):
        task = AdaptationTask(config)
        images = torch.zeros(local, 3, crop.height, crop.width, dtype=torch.uint8)
        labels = torch.zeros(local, crop.height, crop.width, dtype=torch.uint8)
        batch = Batch(
            source=Labelled(images, labels), target=Unlabelled(images), step=0, first_sample=0
        )
        # Step 0, and for every part the step at which it joins.
        starts = {0, *(loss.weight.start for loss in config.losses)}
        starts = starts.union(*(level.first_turns for level in config.levels))
        try:
            for step in sorted(starts):
                task(Batch(source=batch.source, target=batch.target, step=step, first_sample=0))
        except UserError:
            raise
        except (RuntimeError, ValueError) as error:  # ValueError is how BatchNorm refuses a batch
            reason = str(error).splitlines()[0]
            raise UserError(f"config {config.name}: a training step cannot run: {reason}") from None


def _check_pretraining(config: Config) -> None:
    """Random weights are nothing to stay close to."""
    for loss in config.losses:
        needs = not loss.weight.is_off and _NEEDS_PRETRAINED & _inputs(loss)
        if needs and not config.model.pretrained:
            raise UserError(
                f"losses.{loss.name}: got model.pretrained = '', want pretrained weights such as "
                "model.pretrained=package"
            )


def _check_starts(config: Config) -> None:
    """A part that is on and never begins is a mistake."""
    parts: list[tuple[str, Loss | Level]] = [("losses", loss) for loss in config.losses]
    parts += [("levels", level) for level in config.levels]
    for where, part in parts:
        if not part.weight.is_off and part.weight.start >= config.steps:
            raise UserError(
                f"{where}.{part.name}.weight.start: got {part.weight.start} with steps = "
                f"{config.steps}, want less; a preset follows --set steps, a file does not"
            )


def _inputs(loss: Loss) -> set[str]:
    """The attributes of a Scene that the value of a loss follows from."""
    names = set(_parameters(loss))
    if isinstance(loss, Prepares):
        names |= set(_parameters(loss.prepare))
    return names - {"memory", "prepared"}


def _loss_terms(
    loss: Loss, scene: Scene, memory: nn.Module | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """(value, detached terms to log) of one loss, which then remembers this step."""
    given: dict[str, Any] = {} if memory is None else {"memory": memory}

    def arguments(function: Callable[..., Any]) -> dict[str, Any]:
        return {n: given[n] if n in given else getattr(scene, n) for n in _parameters(function)}

    if isinstance(loss, Prepares):
        given["prepared"] = loss.prepare(**arguments(loss.prepare))
    value = loss(**arguments(loss))
    # Before gradients are off: what the scene computes here, others may want to learn from.
    for_health = arguments(loss.health)
    to_remember = arguments(loss.remember) if isinstance(loss, Remembers) else {}
    with torch.no_grad():
        figures = loss.health(**for_health)
        if isinstance(loss, Remembers):
            loss.remember(**to_remember)
    terms = {f"{HEALTH}{loss.name}/{name}": figure.detach() for name, figure in figures.items()}
    return value, {loss.name: value.detach(), **terms}


def _parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)


def _frozen_copy(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).requires_grad_(False).eval()
