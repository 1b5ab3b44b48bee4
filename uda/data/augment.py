"""Photometric augmentation of a batch on its device: colour jitter, grey, blur and noise."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, kw_only=True)
class Photometric:
    """Colour jitter, loss of colour, Gaussian blur and noise, drawn for each image on its own.

    A probability is the share of images that are changed. Brightness, contrast and saturation are
    factors drawn from [1 - x, 1 + x]; `hue` is the largest rotation of the colour wheel, as a
    share of a full turn; `blur_sigma_px` is the range of the blur's standard deviation and
    `noise_sigma`, with white as 1, that of the noise's, which like a sensor's comes last (Carlson
    et al., ECCV Workshops 2018, 1803.07721: effects of cameras on synthetic images).
    """

    jitter_probability: float = 0.8
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.05
    grey_probability: float = 0.0
    blur_probability: float = 0.5
    blur_sigma_px: tuple[float, float] = (0.15, 1.15)
    noise_probability: float = 0.0
    noise_sigma: tuple[float, float] = (0.01, 0.05)

    def __post_init__(self) -> None:
        for field in _PROBABILITIES:
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"{field}: got {getattr(self, field)}, want 0 to 1")
        for field in ("brightness", "contrast", "saturation", "hue"):
            if not 0 <= getattr(self, field) < 1:
                raise ValueError(f"{field}: got {getattr(self, field)}, want 0 <= {field} < 1")
        for field in ("blur_sigma_px", "noise_sigma"):
            low, high = getattr(self, field)
            if not 0 < low <= high:
                raise ValueError(f"{field}: got {(low, high)}, want 0 < low <= high")

    def __call__(
        self, images: Float[Tensor, "B 3 H W"], generators: Sequence[np.random.Generator]
    ) -> Float[Tensor, "B 3 H W"]:
        """Changed copies of `images` (values 0 to 1), image i by numbers from `generators[i]`."""
        draws = [self._draw(generator) for generator in generators]
        if self.jitter_probability or self.grey_probability:
            images = _jitter(images, *_small([d.colours for d in draws], images).T)
        if self.blur_probability:
            sigma = _small([d.blur_sigma for d in draws], images)
            images = _blur(images, sigma, self.blur_sigma_px[1])
        if self.noise_probability:
            images = _add_noise(images, draws)
        return images

    def _draw(self, generator: np.random.Generator) -> "_Draw":
        jitter, blur = generator.random(2) < (self.jitter_probability, self.blur_probability)
        spread = np.array([self.brightness, self.contrast, self.saturation, self.hue])
        drawn = generator.uniform(-1, 1, 4) * spread * jitter
        colours = [*(1 + drawn[:3]), drawn[3]]
        blur_sigma = generator.uniform(*self.blur_sigma_px) if blur else 0.0
        grey, noise = generator.random(2) < (self.grey_probability, self.noise_probability)
        if grey:
            colours[2] = 0.0
        noise_sigma = generator.uniform(*self.noise_sigma) if noise else 0.0
        return _Draw(colours, blur_sigma, noise_sigma, int(generator.integers(2**63)))


_PROBABILITIES = (
    "jitter_probability",
    "grey_probability",
    "blur_probability",
    "noise_probability",
)


class _Draw(NamedTuple):
    """Of one image; `colours` are factors of brightness, contrast and saturation, and turns."""

    colours: list[float]
    blur_sigma: float
    noise_sigma: float
    noise_seed: int


def _add_noise(images: Tensor, draws: Sequence[_Draw]) -> Tensor:
    """Gaussian noise, independent at every pixel and colour; made where the images are."""
    changed = []
    for image, draw in zip(images, draws, strict=True):
        if draw.noise_sigma:
            image = (image + draw.noise_sigma * _noise(image, draw.noise_seed)).clamp(0, 1)
        changed.append(image)
    return torch.stack(changed)


def _noise(like: Tensor, seed: int) -> Tensor:
    if like.is_meta:
        return torch.empty_like(like)
    generator = torch.Generator(like.device).manual_seed(seed)
    return torch.randn(like.shape, dtype=like.dtype, generator=generator, device=like.device)


def _jitter(
    images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor
) -> Tensor:
    """Brightness, contrast about the mean grey, saturation, then hue (a rotation of chroma)."""
    luma = _small(_LUMA, images).view(1, 3, 1, 1)
    column = (-1, 1, 1, 1)
    images = (images * brightness.view(column)).clamp(0, 1)
    grey_mean = (images * luma).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    images = (grey_mean + (images - grey_mean) * contrast.view(column)).clamp(0, 1)
    grey = (images * luma).sum(1, keepdim=True)
    chroma = (images - grey) * saturation.view(column)
    return (grey + torch.einsum("bij,bjhw->bihw", _hue_rotation(hue), chroma)).clamp(0, 1)


def _hue_rotation(turns: Tensor) -> Tensor:
    """Rotations of RGB about the grey axis (B, 3, 3), by Rodrigues' formula."""
    angle = (2 * torch.pi * turns).view(-1, 1, 1)
    cross = _small([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], turns) / 3**0.5
    identity = torch.eye(3, dtype=turns.dtype, device=turns.device)
    third = torch.full((3, 3), 1 / 3, dtype=turns.dtype, device=turns.device)
    return angle.cos() * identity + angle.sin() * cross + (1 - angle.cos()) * third


def _small(values: Sequence[Any], like: Tensor) -> Tensor:
    """A few numbers with the type and device of `like`, without waiting for that device."""
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)


def _blur(images: Tensor, sigma: Tensor, largest_sigma: float) -> Tensor:
    """Separable Gaussian blur with one standard deviation per image; 0 leaves it as it is."""
    radius = max(1, round(3 * largest_sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    # Below a hundredth of a pixel the kernel is a delta; this avoids dividing by zero.
    kernel = torch.exp(-0.5 * (offsets / sigma.clamp_min(0.01).view(-1, 1)) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)
    batch, _, height, width = images.shape
    flat = images.reshape(1, batch * 3, height, width)
    flat = F.pad(flat, (radius, radius, 0, 0), mode="replicate")
    flat = F.conv2d(flat, kernel.view(-1, 1, 1, 2 * radius + 1), groups=batch * 3)
    flat = F.pad(flat, (0, 0, radius, radius), mode="replicate")
    flat = F.conv2d(flat, kernel.view(-1, 1, 2 * radius + 1, 1), groups=batch * 3)
    return flat.view(batch, 3, height, width)
