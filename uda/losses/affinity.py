"""Affinity of neighbours: target pixels that look alike should be predicted alike."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from uda.schedule import Schedule, constant
from uda.types import check_least


@dataclass(frozen=True, kw_only=True)
class Affinity:
    """Mean over pairs of neighbours i, j of w_ij (1 - sum_c p_ic p_jc) on target images.

    w_ij = exp(-|I_i - I_j|^2 / (2 sigma_colour^2)) of the colours, in 0..1: the pairwise term of
    Kraehenbuehl and Koltun, DenseCRF, NeurIPS 2011, eq. 3, as a loss over a window as in Obukhov
    et al., Gated CRF, 2019 (1906.04651), without gates and with a few neighbours for a
    kernel over positions. A pair is a pixel and its neighbour to the right, below, or on a diagonal
    below, at each of `dilations`, counted in pixels of maps that are `stride` times smaller.

    Two equal predictions disagree, too, while they are unsure, so the loss also sharpens, more in
    flat regions; and one class everywhere is its lowest value: it refines, it does not teach.
    """

    name: ClassVar[str] = "affinity"
    weight: Schedule = field(default_factory=lambda: constant(0.1))
    sigma_colour: float = 0.1
    dilations: tuple[int, ...] = (1, 2)
    stride: int = 4

    def __post_init__(self) -> None:
        # A quarter of a step of 8 bits: far below, the square is 0 in float32 and 0 / 0 no number.
        check_least(self, 1e-3, "sigma_colour")
        if not self.dilations or min(self.dilations) < 1:
            raise ValueError(f"dilations: got {self.dilations}, want positive numbers")
        if self.stride < 1:
            raise ValueError(f"stride: got {self.stride}, want 1 or more")

    def __call__(
        self,
        target_colours: Float[Tensor, "B 3 H W"],
        target_logits: Float[Tensor, "B K H W"],
    ) -> Float[Tensor, ""]:
        # The logits are smooth, so their mean before the softmax is as good and far cheaper.
        p = self._shrink(target_logits).softmax(1)
        alike = self.alike(target_colours)
        disagree = [1 - (one * other).sum(1).flatten() for one, other in self._pairs(p)]
        if not disagree:  # of one pixel there are no pairs
            return 0.0 * p.sum()
        return (alike * torch.cat(disagree)).mean()

    def alike(self, target_colours: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "P"]:
        """w_ij of all pairs."""
        colours = self._shrink(target_colours)
        squares = [
            (one - other).square().sum(1).flatten() for one, other in self._pairs(colours)
        ] or [colours.new_zeros(0)]
        return torch.exp(-torch.cat(squares) / (2 * self.sigma_colour**2))

    def _shrink(self, maps: Tensor) -> Tensor:
        """Mean over blocks, those at the edges cut off."""
        return F.avg_pool2d(maps.float(), self.stride, ceil_mode=True)

    def _pairs(self, maps: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each offset that the maps are large enough for: all pixels, all their neighbours."""
        height, width = maps.shape[2:]
        pairs = []
        for d in self.dilations:
            for dy, dx in ((0, d), (d, 0), (d, d), (d, -d)):
                if dy >= height or abs(dx) >= width:
                    continue
                right, left = max(dx, 0), max(-dx, 0)
                one = maps[:, :, : height - dy, left : width - right]
                other = maps[:, :, dy:, right : width - left]
                pairs.append((one, other))
        return pairs

    def health(self, target_colours: Float[Tensor, "B 3 H W"]) -> dict[str, Float[Tensor, ""]]:
        """Share of pairs that look alike, w_ij > 1/2: near 0 or 1 the colours decide nothing."""
        alike = self.alike(target_colours) > 0.5
        return {"alike": alike.float().sum() / max(1, alike.numel())}
