"""Everything a training step may need, each thing computed at most once and only when asked for.

A loss names what it needs; this class is the list of what there is to name. What nobody asks for
costs nothing: without a self-training loss there is no teacher forward and no mixed image.
"""

from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from uda.classes import IGNORE
from uda.config import Config
from uda.data.augment import Photometric
from uda.data.mixing import class_mix_mask, class_trust, image_trust, paste
from uda.models import DeepLabV3Plus, SegmentationOutput, Teacher
from uda.randomness import sample_generators
from uda.types import Batch


class Scene:
    """One batch on its way through the networks. Attribute names are what losses ask for."""

    def __init__(
        self,
        batch: Batch,
        config: Config,
        student: DeepLabV3Plus,
        teacher: Teacher | None,
        projection: nn.Module | None,
        pretrained: nn.Module | None = None,
    ) -> None:
        self._batch = batch
        self._config = config
        self._student = student
        self._teacher = teacher
        self._projection = projection
        self._pretrained = pretrained

    # --- images and labels -----------------------------------------------------------------

    @cached_property
    def source_labels(self) -> Int64[Tensor, "B H W"]:
        return self._batch.source.labels.long()

    @cached_property
    def source_colours(self) -> Float[Tensor, "B 3 H W"]:
        """Source images, values 0 to 1, some with the look of a target image."""
        images = _unit(self._batch.source.images)
        augment = self._config.augment
        if augment.colours.probability:
            images = augment.colours(images, self.target_colours, self._generators("colours"))
        if augment.fourier.probability:
            images = augment.fourier(images, self.target_colours, self._generators("fourier"))
        return images

    @cached_property
    def target_colours(self) -> Float[Tensor, "B 3 H W"]:
        """Target images as they are, values 0 to 1."""
        return _unit(self._batch.target.images)

    @cached_property
    def source_images(self) -> Float[Tensor, "B 3 H W"]:
        """Augmented source images, normalised."""
        augment = self._config.augment.source
        return self._normalise(self._photometric(augment, "source", self.source_colours))

    @cached_property
    def target_images(self) -> Float[Tensor, "B 3 H W"]:
        """Target images as they are, normalised."""
        return self._normalise(self.target_colours)

    # --- the student's view ----------------------------------------------------------------

    @cached_property
    def source(self) -> SegmentationOutput:
        return self._forward(self.source_images)

    @cached_property
    def target(self) -> SegmentationOutput:
        return self._forward(self.target_images)

    @cached_property
    def source_logits(self) -> Float[Tensor, "B K H W"]:
        return self.source.logits

    @cached_property
    def target_logits(self) -> Float[Tensor, "B K H W"]:
        return self.target.logits

    @cached_property
    def mixed_logits(self) -> Float[Tensor, "B K H W"]:
        return self._forward(self._mixed[0]).logits

    @cached_property
    def masked_logits(self) -> Float[Tensor, "B K H W"]:
        """Of target images with changed colours and hidden blocks."""
        augment = self._config.augment
        images = self._photometric(augment.masked, "masked", self.target_colours)
        hidden = augment.mask.hide(self._normalise(images), self._generators("mask"))
        return self._forward(hidden).logits

    @cached_property
    def source_backbone(self) -> Float[Tensor, "B C h w"]:
        """The last map of the student's backbone."""
        return self.source.features["layer4"].float()

    @cached_property
    def pretrained_backbone(self) -> Float[Tensor, "B C h w"]:
        """The same of the backbone as training found it: frozen, without gradient."""
        assert self._pretrained is not None, "a loss asked for it but no copy was kept"
        with torch.no_grad(), self._autocast():
            return self._pretrained(self.source_images)["layer4"].float()

    @cached_property
    def source_embeddings(self) -> Float[Tensor, "B D h w"]:
        """Projected features of the source, of unit length at every position."""
        return self._embed(self.source)

    @cached_property
    def target_embeddings(self) -> Float[Tensor, "B D h w"]:
        return self._embed(self.target)

    @cached_property
    def lottery(self) -> Float[Tensor, "B h w"]:
        """A uniform random number for each position of the embeddings, for losses that sample."""
        shape = self.source_embeddings.shape[2:]
        draws = np.stack([g.random(shape, np.float32) for g in self._generators("lottery")])
        return torch.as_tensor(draws).to(self.source_embeddings.device, non_blocking=True)

    # --- the teacher's view, and class-mixed images ----------------------------------------

    @cached_property
    def _teacher_view(self) -> tuple[Tensor, Tensor]:
        """(confidence, pseudo-label) of every target pixel."""
        assert self._teacher is not None, "a loss asked for pseudo-labels but no teacher was built"
        with torch.no_grad(), self._autocast():
            logits = self._teacher(self.target_images).logits
        best, label = logits.float().max(1)
        # The largest softmax probability, without the other eighteen.
        return (best - logits.float().logsumexp(1)).exp(), label

    @cached_property
    def pseudo_labels(self) -> Int64[Tensor, "B H W"]:
        """The teacher's most probable class of every target pixel."""
        return self._teacher_view[1]

    @cached_property
    def trusted_labels(self) -> Int64[Tensor, "B H W"]:
        """Pseudo-labels where the teacher is confident, 255 elsewhere."""
        confident = self._teacher_view[0] >= self._config.teacher.threshold
        return torch.where(confident, self.pseudo_labels, IGNORE)

    @cached_property
    def trust(self) -> Float[Tensor, "B"]:
        """Share of each target image's pixels of which the teacher is confident."""
        return image_trust(self._teacher_view[0], self._config.teacher.threshold)

    @cached_property
    def target_weights(self) -> Float[Tensor, "B H W"]:
        """How much each pseudo-label counts, by `teacher.weighting`."""
        confidence, labels = self._teacher_view
        threshold = self._config.teacher.threshold
        if self._config.teacher.weighting == "image":
            return self.trust[:, None, None].expand(labels.shape)
        if self._config.teacher.weighting == "class":
            return class_trust(confidence, labels, threshold).float()
        return (confidence >= threshold).float()

    @cached_property
    def _mixed(self) -> tuple[Tensor, Tensor, Tensor]:
        """Images, labels and pixel weights of source classes pasted onto the target."""
        mask = class_mix_mask(self.source_labels, self._generators("class_mix"))
        images = paste(mask, self.source_colours, self.target_colours)
        images = self._photometric(self._config.augment.mixed, "mixed", images)
        labels = paste(mask, self.source_labels, self.pseudo_labels)
        weights = torch.where(mask, 1.0, self.target_weights)
        return self._normalise(images), labels, weights

    @cached_property
    def mixed_labels(self) -> Int64[Tensor, "B H W"]:
        return self._mixed[1]

    @cached_property
    def mixed_weights(self) -> Float[Tensor, "B H W"]:
        return self._mixed[2]

    # --- helpers ---------------------------------------------------------------------------

    def _embed(self, output: SegmentationOutput) -> Tensor:
        assert self._projection is not None, "a loss asked for embeddings without a projection"
        return self._projection(output.features[self._config.projection.reads].float())

    def _forward(self, images: Tensor) -> SegmentationOutput:
        with self._autocast():
            return self._student(images)

    def _autocast(self) -> torch.autocast:
        bfloat16 = self._config.runtime.precision == "bfloat16"
        device = self._batch.source.images.device.type
        kind = device if device != "meta" else "cpu"
        return torch.autocast(kind, torch.bfloat16, enabled=bfloat16)

    def _normalise(self, images: Tensor) -> Tensor:
        # As the network's own `normalise`, for images that augmentation has already made floats.
        constants = zip(self._student.mean, self._student.std, strict=True)
        images = torch.stack([(images[:, i] - m) / s for i, (m, s) in enumerate(constants)], 1)
        if self._config.runtime.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return images

    def _photometric(self, augment: Photometric, purpose: str, images: Tensor) -> Tensor:
        return augment(images, self._generators(purpose))

    def _generators(self, purpose: str) -> list:
        batch = self._batch
        count = len(batch.source.images)
        return sample_generators(self._config.seed, purpose, batch.step, batch.first_sample, count)


def _unit(images: Tensor) -> Tensor:
    """uint8 0..255 as float32 0..1."""
    return images.float() / 255
