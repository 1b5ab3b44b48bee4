"""The types that flow through `uda`, from a file on disk to the result of a training step.

Axis legend used in every annotation: B images in a batch, C channels, K classes, H rows, W columns,
D embedding width, h and w rows and columns of a feature map.

The target domain of training is `Unlabelled`, which has no field for labels: code that tries to
read a target label in a training step fails with an AttributeError.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Float, Int32, UInt8
from torch import Tensor


class Domain(StrEnum):
    """The two domains of adaptation. Discriminators are taught SOURCE = 0, TARGET = 1."""

    SOURCE = "source"
    TARGET = "target"


class UserError(ValueError):
    """A mistake of the user: the command line prints its one line and exits with status 2."""


class WorkError(RuntimeError):
    """Work that cannot go on: the command line prints its one line and exits with status 1."""


def check_choices(part: Any, **choices: Any) -> None:
    """Refuses fields of `part` that are none of the values of their `Literal`.

    Raises:
        ValueError: naming the field, what it is and what it may be.
    """
    for name, kind in choices.items():
        if (value := getattr(part, name)) not in get_args(kind):
            raise ValueError(f"{name}: got {value!r}, want one of {', '.join(get_args(kind))}")


def check_least(part: Any, least: float, *names: str) -> None:
    """Refuses fields of `part` that are below `least` or are no finite number.

    Raises:
        ValueError: naming the field, what it is and what it may be.
    """
    for name in names:
        if not least <= (value := getattr(part, name)) < math.inf:
            raise ValueError(f"{name}: got {value}, want a finite number of {least:g} or more")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image of a raw data set, decoded, on its way into a shard.

    `label` holds trainIds (0..18, 255 = ignore) and is None where nobody labelled the image.
    """

    key: str
    image: UInt8[np.ndarray, "H W 3"]
    label: UInt8[np.ndarray, "H W"] | None
    source_path: str = ""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What people say is in an image. For evaluation alone: nothing that trains or selects has it.

    `label` holds trainIds (0..18, 255 = ignore). Of data sets that have them, `label_ids` are the
    ids of the Cityscapes table (0..33) and `instance_ids` its instances: 1000 * id + number, or
    just the id where objects are not told apart.
    """

    label: UInt8[np.ndarray, "H W"]
    label_ids: UInt8[np.ndarray, "H W"] | None = None
    instance_ids: Int32[np.ndarray, "H W"] | None = None


@dataclass(frozen=True)
class Labelled:
    """Images with their labels: the source domain.

    `images` are uint8 RGB as decoded; `labels` are uint8 trainIds, 255 = ignore.
    """

    images: UInt8[Tensor, "B 3 H W"]
    labels: UInt8[Tensor, "B H W"]


@dataclass(frozen=True)
class Unlabelled:
    """Images alone: the target domain. There is no field for labels, on purpose."""

    images: UInt8[Tensor, "B 3 H W"]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one worker trains on in one step.

    `step` is the training step. `first_sample` is the position of this worker's first image in the
    global batch. Together with the run's seed they determine every random number of the step, so
    that nothing random needs to be saved; but for dropout, any number of workers draws the same.
    """

    source: Labelled
    target: Unlabelled
    step: int
    first_sample: int

    def to(self, device: torch.device) -> "Batch":
        """The same batch on `device`; copies from pinned memory overlap with computation."""
        return type(self)(
            source=Labelled(
                self.source.images.to(device, non_blocking=True),
                self.source.labels.to(device, non_blocking=True),
            ),
            target=Unlabelled(self.target.images.to(device, non_blocking=True)),
            step=self.step,
            first_sample=self.first_sample,
        )


HEALTH = "health/"  # begins the names of figures that are no losses, such as accuracies


@dataclass(frozen=True)
class StepOutput:
    """Result of one forward of the task.

    `loss` is the weighted sum to call `backward` on. `terms` are the unweighted losses by name,
    and under names that begin with HEALTH the figures that tell whether they work: detached
    scalars on the device, so that nobody waits for the device to log.
    """

    loss: Float[Tensor, ""]
    terms: dict[str, Float[Tensor, ""]]
