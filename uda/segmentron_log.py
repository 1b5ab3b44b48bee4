"""What SegmenTron prints about an evaluation, byte for byte: lines of progress and a grid table."""

from dataclasses import dataclass

import torch
from jaxtyping import Float32
from tabulate import tabulate
from torch import Tensor

from uda.classes import CLASS_NAMES
from uda.tally import Tally

BATCH_SIZE = 4  # images per line of progress, as its configuration has it

_EPSILON = 2.220446049250313e-16  # its shield against division by zero


@dataclass
class SegmenTronLog:
    """The lines for `num_images` images, whose tallies are added in order.

    Without the date and time of its logging. Its own sums are in float32, in whatever order the
    file system lists the images; here they are exact and rounded to float32 once. So a last digit
    of six may differ on large data sets, where it would differ from one machine to the next.
    """

    num_images: int
    _total: Tally | None = None

    def start(self) -> str:
        return f"Start validation, Total sample: {-(-self.num_images // BATCH_SIZE)}"

    def add(self, tally: Tally) -> str | None:
        """The line of progress, where this image completes a batch."""
        self._total = tally if self._total is None else self._total + tally
        done = self._total.images
        if done % BATCH_SIZE and done < self.num_images:
            return None
        number = -(-done // BATCH_SIZE)
        return f"Sample: {number}, validation {self._scores()}"

    def end(self, seconds: float) -> str:
        assert self._total is not None, "no image was added"
        return "\n".join(
            [
                f"Eval use time: {seconds:.3f} second",
                f"End validation {self._scores()}",
                f"Category iou: \n {iou_table(self._total)}",
            ]
        )

    def _scores(self) -> str:
        assert self._total is not None
        accuracy = self._total.truncated_hits / (_EPSILON + self._total.confusion.num_pixels)
        mean = float(_iou(self._total).mean())
        return f"pixAcc: {accuracy * 100:.3f}, mIoU: {mean * 100:.3f}"


def iou_table(tally: Tally) -> str:
    """IoU of the 19 classes as shares, 0 where a class is absent, in a grid of characters."""
    rows = zip(CLASS_NAMES, _iou(tally).numpy(), strict=True)
    return tabulate(
        list(rows),
        ["class id", "class name", "iou"],
        tablefmt="grid",
        showindex="always",
        numalign="center",
        stralign="center",
    )


def _iou(tally: Tally) -> Float32[Tensor, "K"]:
    matrix, outside = tally.confusion.matrix, tally.confusion.outside
    hits = matrix.diagonal()
    union = matrix.sum(axis=1) + outside + matrix.sum(axis=0) - hits
    return torch.tensor(hits.tolist()).float() / (_EPSILON + torch.tensor(union.tolist()).float())
