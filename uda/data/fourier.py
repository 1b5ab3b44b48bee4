"""Fourier domain adaptation: the source's content with the target's low frequencies."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from uda.data.exchange import check_probability, exchange_some


@dataclass(frozen=True, kw_only=True)
class Fourier:
    """Exchange of low-frequency amplitudes (Yang and Soatto, FDA, CVPR 2020, eq. 3-4).

    - `probability`: share of the source images that take over a target image's appearance.
    - `beta`: half the side of the exchanged square around frequency zero, as a share of the
      image's shorter side, rounded down to whole cycles; FDA: 0.01, 0.05 and 0.09. 0.01 reaches
      10 cycles at 2048x1024, but 1 at 256x128 and none below 100 rows. Where it reaches none, only
      the mean colour is exchanged.
    """

    probability: float = 0.0
    beta: float = 0.01

    def __post_init__(self) -> None:
        check_probability(self.probability)
        if not 0 <= self.beta <= 0.5:
            raise ValueError(f"beta: got {self.beta}, want 0 to 0.5")

    def __call__(
        self,
        source: Float[Tensor, "B 3 H W"],
        target: Float[Tensor, "B 3 H W"],
        generators: Sequence[np.random.Generator],
    ) -> Float[Tensor, "B 3 H W"]:
        """Source images (values 0 to 1) of which some look like the target image beside them."""
        change = partial(exchange_amplitudes, beta=self.beta)
        return exchange_some(self.probability, change, source, target, generators)


def exchange_amplitudes(
    source: Float[Tensor, "B 3 H W"], target: Float[Tensor, "B 3 H W"], beta: float
) -> Float[Tensor, "B 3 H W"]:
    """IFFT of the source's phase with the target's amplitude where |frequency| <= beta * side."""
    height, width = source.shape[2:]
    # 0.29 * 100 is 28.999999999999996 in floating point, and yet 29 cycles.
    reach = int(round(beta * min(height, width), 9))
    ours, theirs = torch.fft.rfft2(source), torch.fft.rfft2(target)
    # In whole cycles per image: those of fftfreq are rounded, and 1.0000000000000002 is beyond 1.
    cycles = torch.arange(height, device=source.device)
    rows = torch.minimum(cycles, height - cycles) <= reach
    columns = torch.arange(width // 2 + 1, device=source.device) <= reach
    low = rows[:, None] & columns[None]
    amplitude = torch.where(low, theirs.abs(), ours.abs())
    return torch.fft.irfft2(torch.polar(amplitude, ours.angle()), s=(height, width)).clamp(0, 1)
