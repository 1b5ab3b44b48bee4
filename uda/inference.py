"""From normalised images to class scores or label maps, at the images' own size.

`Inference` says how a network looks at an image: whole or through a sliding window, at which sizes,
mirrored too, and by whose rules the results are put together.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from uda.segmentron import segmentron_scores
from uda.types import UserError, WorkError

PROTOCOLS = ("cityscapes", "segmentron")
PRECISIONS = ("float32", "tf32", "bfloat16")

_MAX_SCALE = 16  # beyond, a slip of the pen would ask for terabytes

Forward = Callable[[Tensor], Tensor]  # normalised images (B, 3, H, W) to logits (B, K, H, W)
Answer = TypeVar("Answer")


@runtime_checkable
class SegmentationModel(Protocol):
    """What evaluation needs of a network."""

    training: bool

    def __call__(self, images: Tensor) -> Any:
        """Normalised images (B, 3, H, W) to an object whose `.logits` are (B, K, H, W)."""

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 images to float32 ones as the network was trained on."""

    def parameters(self) -> Iterator[Tensor]: ...


Model = TypeVar("Model", bound=SegmentationModel)


@dataclass(frozen=True, kw_only=True)
class Inference:
    """How a network looks at images.

    - `protocol`: by the rules of "cityscapes", the mean of the class probabilities of all views,
      or of "segmentron", see `uda.segmentron`.
    - `scales`, `flip`: sizes to look at as factors of the image's own, and mirrored too.
    - `window`: height and width in pixels of a window that slides over the image; empty looks at
      it whole. Where windows overlap, by at least a third, their logits are averaged.
    - `crop_size`: of "segmentron" alone: the height and width that images are padded to; empty
      pads by one pixel each way.
    - `precision`: what the network computes in: "float32" to the last bit, also on GPUs; there
      also "tf32", whose products keep 10 bits, as PyTorch does by default; or "bfloat16". Logits
      are added up in float32.
    - `batch_size`: as many images of one size, or windows, are looked at together.
    """

    protocol: str = "cityscapes"
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    window: tuple[int, ...] = ()
    crop_size: tuple[int, ...] = ()
    precision: str = "float32"
    batch_size: int = 1

    def __post_init__(self) -> None:
        if not self.scales or not all(0 < scale <= _MAX_SCALE for scale in self.scales):
            raise UserError(
                f"scales: got {self.scales}, want one or more factors above 0, up to {_MAX_SCALE}"
            )
        if self.protocol not in PROTOCOLS:
            raise UserError(f"protocol: got {self.protocol!r}, have {', '.join(PROTOCOLS)}")
        if self.precision not in PRECISIONS:
            raise UserError(f"precision: got {self.precision!r}, have {', '.join(PRECISIONS)}")
        for name in ("window", "crop_size"):
            size = getattr(self, name)
            if size and (len(size) != 2 or min(size) < 1):
                raise UserError(f"{name}: got {size}, want a height and a width")
        if self.window and self.protocol == "segmentron":
            raise UserError("window: got one with protocol segmentron, which sees whole images")
        if self.crop_size and self.protocol != "segmentron":
            raise UserError("crop_size: only protocol segmentron pads images")
        if self.batch_size < 1:
            raise UserError(f"batch_size: got {self.batch_size}, want 1 or more")

    @property
    def is_one_plain_pass(self) -> bool:
        """Whether the logits of one view of the whole image already tell the winner."""
        return self.scales == (1.0,) and not self.flip and not self.window


PLAIN = Inference()


def ready(model: Model, inference: Inference, device: str) -> Model:
    """The same network on `device`, laid out for it; UserError if `precision` is not to be had."""
    if not has_precision(inference.precision, device):
        raise UserError(f"precision: got {inference.precision}, which this {device} lacks")
    if isinstance(model, nn.Module):
        layout = _layout(inference, torch.device(device))
        model.to(device, memory_format=layout)
    return model


def has_precision(precision: str, device: str) -> bool:
    """Whether the device computes so itself; without, it would only be slower, or as exact."""
    if precision == "float32":
        return True
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)  # came together with tf32
    return precision == "bfloat16" and torch.cpu._is_avx512_bf16_supported()


def decode_threads(device: str) -> int:
    """How many threads are to decode images beside the network.

    A GPU is quicker with an image than one thread is with decoding it; a CPU is busy already.
    """
    return 4 if device.startswith("cuda") else 0


def _layout(inference: Inference, device: torch.device) -> torch.memory_format:
    """On CPUs all is faster with the channels last, on GPUs nothing is (`make bench-eval`).

    Where SegmenTron's last digits are wanted, images lie as its own do.
    """
    as_segmentron = inference.protocol == "segmentron" and inference.precision == "float32"
    last = device.type == "cpu" and not as_segmentron
    return torch.channels_last if last else torch.contiguous_format


@contextmanager
def _computing_in(precision: str, device: torch.device) -> Iterator[None]:
    """PyTorch has a switch for TF32 that is one for the whole process, and on by default."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def answer(
    network: Callable[[Tensor], Answer],
    images: Float[Tensor, "B C H W"],
    inference: Inference = PLAIN,
    *,
    advice: str = "try a smaller --batch, or --window",
) -> Answer:
    """What a network, or a part of it, makes of images; every pass but those of training.

    They are laid out and computed as `inference` wants. Too little memory is a WorkError, one line
    that ends with the `advice`.
    """
    images = images.contiguous(memory_format=_layout(inference, images.device))
    try:
        with _computing_in(inference.precision, images.device):
            return network(images)
    except torch.OutOfMemoryError:
        raise WorkError(f"out of memory: {images.device} cannot look at {len(images)} x "
                        f"{images.shape[-1]}x{images.shape[-2]} pixels together; "
                        f"{advice}") from None  # fmt: skip


@torch.inference_mode()
def class_scores(
    model: SegmentationModel, images: Float[Tensor, "B C H W"], inference: Inference = PLAIN
) -> Float[Tensor, "B K H W"]:
    """What the largest of tells the class: logits, probabilities or sums of logits; float32.

    `images` are normalised, on the model's device. `model` is in eval mode.
    """
    forward = _forward_of(model, inference)
    if inference.protocol == "segmentron":
        return segmentron_scores(
            forward,
            images,
            scales=inference.scales,
            flip=inference.flip,
            crop_size=inference.crop_size,
        )
    if inference.is_one_plain_pass:  # the softmax cannot change the winner
        return forward(images)
    return _mean_probabilities(forward, images, inference)


@torch.inference_mode()
def predict(
    model: SegmentationModel, images: Float[Tensor, "B C H W"], inference: Inference = PLAIN
) -> Float[Tensor, "B K H W"]:
    """Class probabilities (sum 1 over K): the mean over all scales, and over mirror images too.

    By the rules of "cityscapes": images are resized bilinearly to each scale and never padded.
    """
    assert inference.protocol == "cityscapes", "SegmenTron's scores are no probabilities"
    return _mean_probabilities(_forward_of(model, inference), images, inference)


@torch.inference_mode()
def predict_labels(
    model: SegmentationModel, images: Float[Tensor, "B C H W"], inference: Inference = PLAIN
) -> UInt8[Tensor, "B H W"]:
    """trainIds of the classes of the largest scores, the lowest id where several are equal."""
    return labels_of(class_scores(model, images, inference))


def look_at(
    model: SegmentationModel, photos: Sequence[UInt8[np.ndarray, "H W 3"]], inference: Inference
) -> Float[Tensor, "B K H W"]:
    """`class_scores` of decoded images of one size, on the device where the model is."""
    device = next(model.parameters()).device
    pixels = torch.from_numpy(np.stack(photos)).to(device)
    return class_scores(model, model.normalise(pixels.permute(0, 3, 1, 2)), inference)


def labels_of(scores: Float[Tensor, "B K H W"]) -> UInt8[Tensor, "B H W"]:
    """The class of the largest score at every pixel, the lowest of equal ones."""
    # max, not argmax: the same result, three times faster over classes that lie far apart in memory
    return scores.max(dim=1).indices.to(torch.uint8)


def _mean_probabilities(forward: Forward, images: Tensor, inference: Inference) -> Tensor:
    height, width = images.shape[-2:]
    total: Tensor | None = None
    for scale in inference.scales:
        scaled = _resized(images, max(1, round(height * scale)), max(1, round(width * scale)))
        for mirrored in (False, True) if inference.flip else (False,):
            logits = forward(scaled.flip(-1) if mirrored else scaled)
            logits = _resized(logits.flip(-1) if mirrored else logits, height, width)
            probabilities = _softmax(logits)
            total = probabilities if total is None else total.add_(probabilities)
    assert total is not None  # there is at least one scale
    num_passes = len(inference.scales) * (2 if inference.flip else 1)
    return total if num_passes == 1 else total.div_(num_passes)


def _forward_of(model: SegmentationModel, inference: Inference) -> Forward:
    """The network as a function that gives float32 (of a float64 network float64) logits."""
    assert not model.training, "call model.eval() first: batch statistics must not enter a score"

    def forward(images: Tensor) -> Tensor:
        logits = answer(model, images, inference).logits
        return logits.float() if logits.dtype == torch.bfloat16 else logits

    if not inference.window:
        return forward
    return lambda images: _slide(forward, images, inference)


def _slide(forward: Forward, images: Tensor, inference: Inference) -> Tensor:
    """The mean of the logits of all windows that see a pixel; `batch_size` windows at a time."""
    sides = zip(images.shape[-2:], inference.window, strict=True)
    starts = [[slice(s, s + window) for s in _starts(length, window)] for length, window in sides]
    windows = [(..., rows, columns) for rows in starts[0] for columns in starts[1]]
    total: Tensor | None = None
    visits = torch.zeros(images.shape[-2:], device=images.device)
    together = max(1, inference.batch_size // len(images))
    for first in range(0, len(windows), together):
        some = windows[first : first + together]
        seen = forward(torch.cat([images[window] for window in some]))
        if total is None:
            total = seen.new_zeros(len(images), seen.shape[1], *images.shape[-2:])
        for window, logits in zip(some, seen.split(len(images)), strict=True):
            total[window] += logits
            visits[window] += 1
    assert total is not None
    return total.div_(visits)


def _starts(length: int, window: int) -> list[int]:
    """Where windows begin, evenly spread: the fewest that overlap by at least a third."""
    if length <= window:
        return [0]
    step = max(1, 2 * window // 3)
    count = -(-(length - window) // step) + 1
    return [round(i * (length - window) / (count - 1)) for i in range(count)]


def _resized(images: Tensor, height: int, width: int) -> Tensor:
    if images.shape[-2:] == (height, width):
        return images
    return F.interpolate(images, size=(height, width), mode="bilinear", align_corners=False)


def _softmax(logits: Float[Tensor, "B K H W"]) -> Float[Tensor, "B K H W"]:
    """softmax(dim=1) spelled out: on a CPU four times faster than PyTorch's for large images."""
    exponentials = (logits - logits.amax(dim=1, keepdim=True)).exp_()
    return exponentials.div_(exponentials.sum(dim=1, keepdim=True))
