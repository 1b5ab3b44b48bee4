"""Source images of which some take over something of the target image beside them."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def exchange_some(
    probability: float,
    change: Callable[[Tensor, Tensor], Tensor],
    source: Float[Tensor, "B 3 H W"],
    target: Float[Tensor, "B 3 H W"],
    generators: Sequence[np.random.Generator],
) -> Float[Tensor, "B 3 H W"]:
    """`change(source, target)` for each image with `probability`, else the source as it is.

    Image i is chosen by a number from `generators[i]`, whatever its neighbours are.
    """
    chosen = [generator.random() < probability for generator in generators]
    if not any(chosen):  # known without asking the device
        return source
    mask = torch.tensor(chosen).to(source.device, non_blocking=True)
    return torch.where(mask[:, None, None, None], change(source, target), source)


def check_probability(probability: float) -> None:
    """Raises ValueError unless it is one."""
    if not 0 <= probability <= 1:
        raise ValueError(f"probability: got {probability}, want 0 to 1")
