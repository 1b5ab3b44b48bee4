"""How SegmenTron looks at images (https://github.com/LikeLy-Journey/SegmenTron, commit 4bc605e).

Whoever has a number of that program can get it here: how images are padded, resized and added up,
and what its pixAcc counts. Its quirks are kept, and named.
"""

import math
from collections.abc import Callable, Sequence

import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from uda.classes import IGNORE
from uda.types import UserError


def segmentron_scores(
    forward: Callable[[Tensor], Tensor],
    images: Float[Tensor, "B C H W"],
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    crop_size: Sequence[int] = (),
) -> Float[Tensor, "B K H W"]:
    """Sums of logits over scales and mirror images, by the rules of its `SegBaseModel.evaluate`.

    `images` are normalised. The longer side of a scaled image is rounded up, the other one to the
    nearest. Then zeros are added at the bottom and at the right, up to `crop_size` times the scale;
    empty means one more pixel each way. All resizing is bilinear with aligned corners. A mirrored
    view is one of the padded image, which has its zeros at the left. Its program adds the missing
    rows as columns and the missing columns as rows, which makes no difference where both are as
    many; so does this.
    """
    height, width = images.shape[-2:]
    crop = tuple(crop_size) or (height + 1, width + 1)
    if crop[0] < height or crop[1] < width:
        raise UserError(
            f"crop_size: got {crop[0]}x{crop[1]}, want at least the image's {height}x{width}"
        )
    total: Tensor | None = None
    for scale in scales:
        rows, columns = _scaled_size(height, width, scale)
        padded = _padded(
            _resized(images, rows, columns), [math.ceil(side * scale) for side in crop]
        )
        logits = forward(padded)[..., :rows, :columns]
        if flip:
            logits = logits + forward(padded.flip(3)).flip(3)[..., :rows, :columns]
        scores = _resized(logits, height, width)
        total = scores if total is None else total + scores
    assert total is not None
    return total


def truncated_hits(
    scores: Float[Tensor, "B K H W"], labels: UInt8[Tensor, "B H W"]
) -> Bool[Tensor, "B H W"]:
    """Where its pixAcc sees a hit: the scores lose their fractions before the largest is sought.

    Many classes are equal then, of which the lowest counts: it is no pixel accuracy, and smaller.
    """
    return (scores.trunc().max(dim=1).indices == labels) & (labels != IGNORE)


def _scaled_size(height: int, width: int, scale: float) -> tuple[int, int]:
    longer = math.ceil(max(height, width) * scale)
    if height > width:
        return longer, int(1.0 * width * longer / height + 0.5)
    return int(1.0 * height * longer / width + 0.5), longer


def _padded(images: Tensor, size: Sequence[int]) -> Tensor:
    missing_rows, missing_columns = (
        max(0, want - have) for want, have in zip(size, images.shape[-2:], strict=True)
    )
    return F.pad(images, (0, missing_rows, 0, missing_columns))


def _resized(images: Tensor, height: int, width: int) -> Tensor:
    if images.shape[-2:] == (height, width):  # at its own size it changes nothing
        return images
    return F.interpolate(images, size=(height, width), mode="bilinear", align_corners=True)
