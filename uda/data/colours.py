"""Colour transfer: the source's content in the target's colours."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from uda.data.exchange import check_probability, exchange_some

# The smallest eigenvalue more than doubles in each: enough for a ratio of a million, and five more.
_ITERATIONS = 22
_FLOOR = 1e-4  # of a variance, values 0 to 1: a grey or a constant image has a colour axis of zero


@dataclass(frozen=True, kw_only=True)
class ColourTransfer:
    """Gives source images the mean and covariance of a target image's colours.

    The linear map of colours that carries one Gaussian into the other at the smallest cost (Pitie
    and Kokaram, CVMP 2007, eq. 13); the idea of Reinhard et al., Color Transfer between Images,
    2001. It moves exposure, white balance, contrast and saturation, and no edge.

    - `probability`: share of the source images that take over a target image's colours.
    """

    probability: float = 0.0

    def __post_init__(self) -> None:
        check_probability(self.probability)

    def __call__(
        self,
        source: Float[Tensor, "B 3 H W"],
        target: Float[Tensor, "B 3 H W"],
        generators: Sequence[np.random.Generator],
    ) -> Float[Tensor, "B 3 H W"]:
        """Source images (values 0 to 1) of which some have the colours of the image beside them."""
        return exchange_some(self.probability, transfer_colours, source, target, generators)


def transfer_colours(
    source: Float[Tensor, "B 3 H W"], target: Float[Tensor, "B 3 H W"]
) -> Float[Tensor, "B 3 H W"]:
    """T (x - mean_s) + mean_t with T = S^-1/2 (S^1/2 C S^1/2)^1/2 S^-1/2, S and C covariances."""
    own_mean, own = _moments(source)
    other_mean, other = _moments(target)
    root, inverse_root = _roots(own)
    middle, _ = _roots(root @ other @ root)
    matrix = inverse_root @ middle @ inverse_root
    centred = source.flatten(2) - own_mean
    return (matrix @ centred + other_mean).clamp(0, 1).view_as(source)


def _moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Means (B, 3, 1) and covariances (B, 3, 3) of the colours of each image."""
    pixels = images.flatten(2)
    mean = pixels.mean(2, keepdim=True)
    centred = pixels - mean
    covariance = centred @ centred.mT / pixels.shape[2]
    return mean, covariance + _FLOOR * torch.eye(3, dtype=images.dtype, device=images.device)


def _roots(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Square roots of symmetric positive matrices (B, 3, 3), and the roots' inverses.

    By the coupled Newton-Schulz iteration (Higham, Functions of Matrices, 2008, eq. 6.35): unlike
    an eigenvalue solver it neither waits for the device nor fails on what is not a number.
    """
    identity = torch.eye(3, dtype=matrices.dtype, device=matrices.device)
    size = matrices.norm(dim=(1, 2), keepdim=True)  # the eigenvalues then lie in (0, 1]
    root, inverse = matrices / size, identity.expand_as(matrices)
    for _ in range(_ITERATIONS):
        step = (3 * identity - inverse @ root) / 2
        root, inverse = root @ step, step @ inverse
    return root * size.sqrt(), inverse / size.sqrt()
