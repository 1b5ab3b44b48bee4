"""Maximum squares: as minimum entropy, with a gradient that sure pixels do not dominate."""

from dataclasses import dataclass, field
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from uda.losses.entropy import diversity
from uda.losses.regions import class_counts
from uda.schedule import Schedule, constant


@dataclass(frozen=True, kw_only=True)
class MaxSquare:
    """-1/2 mean over images of sum_n w_n sum_c p_nc^2 (Chen, Xue and Cai, ICCV 2019, 1909.13589).

    w_n = 1 / (N_c^balance N^(1 - balance)) for a pixel of predicted class c, N_c of the image's N
    pixels, without gradient: image-wise class balance, so that road and sky do not decide alone.
    `balance` 0 is the plain mean over pixels.

    Their code also divides by the number of classes, and with balance has no 1/2: their weight of
    0.1 is 0.1 / 19 here, and theirs with balance twice that. Never positive.
    """

    name: ClassVar[str] = "max_square"
    weight: Schedule = field(default_factory=lambda: constant(0.01))
    balance: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.balance <= 1:
            raise ValueError(f"balance: got {self.balance}, want 0 to 1")

    def __call__(self, target_logits: Float[Tensor, "B K H W"]) -> Float[Tensor, ""]:
        squares = target_logits.float().softmax(1).square().sum(1)
        if self.balance:
            squares = squares * self.weights(target_logits)
        return -squares.mean() / 2

    def weights(self, target_logits: Float[Tensor, "B K H W"]) -> Float[Tensor, "B H W"]:
        """(N / N_c)^balance of every pixel: w_n times N, as the mean already divides by N."""
        predicted = target_logits.detach().argmax(1)
        counts = class_counts(predicted, (1, 1))[:, 0]
        num_alike = counts.gather(1, predicted.flatten(1)).view(predicted.shape)
        return (predicted[0].numel() / num_alike) ** self.balance

    def health(self, target_logits: Float[Tensor, "B K H W"]) -> dict[str, Float[Tensor, ""]]:
        """Diversity of the predictions: one class everywhere has the largest squares, too."""
        return {"diversity": diversity(target_logits)}
