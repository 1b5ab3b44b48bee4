"""Block masks for masked image consistency."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class BlockMask:
    """Hides square blocks of an image, each on its own (Hoyer et al., MIC, CVPR 2023, eq. 4-5).

    - `ratio`: probability that a block is hidden.
    - `block_px`: side of a block in pixels. MIC: 64 at 2048x1024 and 32 at 1024x512, so about
      a sixteenth of the rows of a crop.
    """

    ratio: float = 0.7
    block_px: int = 32

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise ValueError(f"ratio: got {self.ratio}, want 0 to 1")
        if self.block_px < 1:
            raise ValueError(f"block_px: got {self.block_px}, want 1 or more")

    def hidden(
        self, images: Float[Tensor, "B 3 H W"], generators: Sequence[np.random.Generator]
    ) -> Bool[Tensor, "B 1 H W"]:
        """Pixels to hide, image i by numbers from `generators[i]`."""
        height, width = images.shape[2:]
        blocks = (-(-height // self.block_px), -(-width // self.block_px))
        lottery = np.stack([generator.random(blocks) for generator in generators])
        hidden = torch.as_tensor(lottery < self.ratio).to(images.device, non_blocking=True)
        # Not F.interpolate by a scale factor: blocks of 41, 47, 55 .. pixels would come out uneven.
        pixels = hidden.repeat_interleave(self.block_px, 1).repeat_interleave(self.block_px, 2)
        return pixels[:, None, :height, :width]

    def hide(
        self, images: Float[Tensor, "B 3 H W"], generators: Sequence[np.random.Generator]
    ) -> Float[Tensor, "B 3 H W"]:
        """`images` with the hidden pixels at 0; normalised images so get their mean colour."""
        return images.masked_fill(self.hidden(images, generators), 0.0)
