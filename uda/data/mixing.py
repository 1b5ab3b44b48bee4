"""ClassMix: paste half of the source's classes, with their pixels, onto a target image."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from uda.classes import NUM_CLASSES


def class_mix_mask(
    labels: Int64[Tensor, "B H W"], generators: Sequence[np.random.Generator]
) -> Bool[Tensor, "B H W"]:
    """Pixels to paste: those of ceil(k / 2) of the k classes present in *that* image.

    ClassMix (Olsson et al., WACV 2021) as used by DACS. The classes are chosen image by image and
    never include "ignore"; the published code chose among all classes of the batch, so that some
    chosen ones were absent. Works without waiting for the device.
    """
    lottery = np.stack([generator.random(NUM_CLASSES) for generator in generators])
    tickets = torch.as_tensor(lottery, dtype=torch.float32)
    tickets = tickets.to(labels.device, non_blocking=True)
    # "Ignore" lands in an extra class that is never present.
    index = labels.clamp_max(NUM_CLASSES).flatten(1)
    present = torch.zeros(len(labels), NUM_CLASSES + 1, device=labels.device)
    present = present.scatter(1, index, 1.0)[:, :NUM_CLASSES] > 0
    place = (tickets * present).argsort(dim=1, descending=True).argsort(dim=1)
    chosen = present & (place < (present.sum(1, keepdim=True) + 1) // 2)
    return torch.gather(F.pad(chosen, (0, 1)), 1, index).view_as(labels)


def paste(mask: Bool[Tensor, "B H W"], source: Tensor, target: Tensor) -> Tensor:
    """`source` where the mask is set, else `target`; images (B C H W) or maps (B H W)."""
    return torch.where(mask if source.dim() == 3 else mask[:, None], source, target)


def class_trust(
    confidence: Float[Tensor, "B H W"], labels: Int64[Tensor, "B H W"], threshold: float
) -> Bool[Tensor, "B H W"]:
    """Pixels at least as confident as the median of their image's pixels of the same class.

    And all above the threshold, however many of their class are (Li et al., BDL, CVPR 2019,
    sec. 3.3 has one median per class over the data set). So a class of which a network is never
    sure, such as the rare ones, still has the labels that it is surest of.
    """
    bars = torch.full_like(confidence, threshold)
    for label in range(NUM_CLASSES):
        own = labels == label
        values = torch.where(own, confidence, torch.nan).flatten(1)
        median = values.nanmedian(1).values[:, None, None]
        bars = torch.where(own, torch.minimum(bars, median), bars)
    return confidence >= bars


def image_trust(confidence: Float[Tensor, "B H W"], threshold: float) -> Float[Tensor, "B"]:
    """Share of an image's pixels whose teacher probability is at least `threshold`."""
    return (confidence >= threshold).float().mean((1, 2))
