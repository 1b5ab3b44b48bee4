"""Slow, obvious versions of what discriminators see and are told, written from the papers."""

import math

import numpy as np

from tests.reference import softmax


def statistics(maps: np.ndarray) -> np.ndarray:
    """(B, 2C, 1, 1) of a (B, C, h, w) map: means, then sqrt(variance + 1e-5), value by value."""
    size, channels, height, width = maps.shape
    out = np.zeros((size, 2 * channels, 1, 1))
    for b, c in np.ndindex(size, channels):
        values = [float(maps[b, c, y, x]) for y, x in np.ndindex(height, width)]
        mean = sum(values) / len(values)
        out[b, c] = mean
        out[b, channels + c] = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values) + 1e-5)
    return out


def soft_classes(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """FADA's soft labels of (B, K, H, W) logits: mean over the pixels that a position touches."""
    batch, num_classes, rows, columns = logits.shape
    height, width = size
    out = np.zeros((batch, num_classes, height, width))
    for b, i, j in np.ndindex(batch, height, width):
        touched = [
            softmax(logits[b, :, y, x] / 1.8)
            for y in range(rows)
            for x in range(columns)
            if y < (i + 1) * rows / height
            and y + 1 > i * rows / height
            and x < (j + 1) * columns / width
            and x + 1 > j * columns / width
        ]
        for k in range(num_classes):
            out[b, k, i, j] = min(0.9, sum(p[k] for p in touched) / len(touched))
    return out


def class_domain_loss(half_logits: np.ndarray, classes: np.ndarray, is_target: bool) -> float:
    """FADA's cross-entropy with [a, 0] for the source and [0, a] for the target."""
    batch, num_classes, height, width = classes.shape
    total = 0.0
    for b, y, x in np.ndindex(batch, height, width):
        p = softmax(half_logits[b, :, y, x])
        zeros = [0.0] * num_classes
        told = [*zeros, *classes[b, :, y, x]] if is_target else [*classes[b, :, y, x], *zeros]
        total -= sum(a * np.log(q) for a, q in zip(told, p, strict=True) if a)
    return total / (batch * height * width)


def half_accuracy(source: np.ndarray, target: np.ndarray) -> float:
    """Share of positions whose domain has the larger sum of probabilities, mean of both domains."""
    shares = []
    for half_logits, is_target in ((source, False), (target, True)):
        batch, both, height, width = half_logits.shape
        right = 0
        for b, y, x in np.ndindex(batch, height, width):
            p = softmax(half_logits[b, :, y, x])
            right += (p[both // 2 :].sum() > p[: both // 2].sum()) == is_target
        shares.append(right / (batch * height * width))
    return sum(shares) / 2


def perceptron(inputs: np.ndarray, layers: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Rows through (weight, bias) layers with LeakyReLU 0.2 between them."""
    for number, (weight, bias) in enumerate(layers):
        inputs = inputs @ weight.T + bias
        if number + 1 < len(layers):
            inputs = np.where(inputs > 0, inputs, 0.2 * inputs)
    return inputs
