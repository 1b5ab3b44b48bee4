"""Lens, sensor and file: from radiance to the bytes of a picture."""

import io

import numpy as np
from numpy.random import Generator
from PIL import Image

from uda.data.streets.domain import Sensor

GREY = np.array([0.299, 0.587, 0.114], np.float32)


def photograph(radiance: np.ndarray, sensor: Sensor, rng: Generator) -> np.ndarray:
    """Linear radiance float32 (H, W, 3) -> uint8 (H, W, 3)."""
    height, width, _ = radiance.shape
    image = blur(radiance, rng.uniform(*sensor.blur) * height)
    red, blue = (rng.uniform(*gain) for gain in sensor.white_balance)
    image = image * (np.array([red, 1.0, blue], np.float32) * rng.uniform(*sensor.exposure))
    image *= _vignette(height, width, rng.uniform(*sensor.vignette))[..., None]
    image += np.float32(rng.uniform(*sensor.black))
    image = _shoulder(image)
    noise = np.float32(rng.uniform(*sensor.noise))
    shot = np.sqrt(np.maximum(image, 0.02) * 0.5) + 0.35
    image += noise * shot * rng.standard_normal(image.shape, dtype=np.float32)
    image = np.sqrt(np.clip(image, 0.0, 1.0))
    grey = (image @ GREY)[..., None]
    image = grey + np.float32(rng.uniform(*sensor.saturation)) * (image - grey)
    image = 0.5 + (image - 0.5) * np.float32(rng.uniform(*sensor.contrast))
    pixels = (np.clip(image, 0.0, 1.0) * 255 + 0.5).astype(np.uint8)
    return _compress(pixels, int(rng.integers(*sensor.jpeg_quality, endpoint=True)))


def blur(image: np.ndarray, deviation_px: float) -> np.ndarray:
    """Gaussian blur with edge replication, (H, W, C)."""
    radius = int(np.ceil(2.5 * deviation_px))
    if deviation_px < 0.2:
        return image
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / deviation_px) ** 2)
    taps = (taps / taps.sum()).astype(np.float32)
    for axis in (0, 1):
        margin = [(radius, radius) if a == axis else (0, 0) for a in range(3)]
        padded = np.pad(image, margin, mode="edge")
        length = image.shape[axis]
        parts = [
            padded[k : k + length] if axis == 0 else padded[:, k : k + length]
            for k in range(2 * radius + 1)
        ]
        image = sum(tap * part for tap, part in zip(taps, parts, strict=True))
    return image


def _vignette(height: int, width: int, strength: float) -> np.ndarray:
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    return 1.0 - np.float32(strength) * (0.35 * y * y + 0.65 * x * x)


def _shoulder(image: np.ndarray) -> np.ndarray:
    """Compress highlights above 0.8 smoothly, as film and cameras do."""
    over = np.maximum(image - 0.8, 0.0)
    return np.minimum(image, 0.8) + over / (1.0 + 2.5 * over)


def _compress(pixels: np.ndarray, quality: int) -> np.ndarray:
    if quality >= 100:
        return pixels
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=quality)
    file.seek(0)
    return np.array(Image.open(file))
