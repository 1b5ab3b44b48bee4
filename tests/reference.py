"""Slow, obvious versions of what `uda` computes fast, written from the definitions."""

from fractions import Fraction

import numpy as np


def confusion(prediction: np.ndarray, label: np.ndarray) -> np.ndarray:
    """(19, 20) pixel counts, rows ground truth, last column "none of the 19"; pixel by pixel."""
    counts = np.zeros((19, 20), np.int64)
    for predicted, true in zip(prediction.ravel().tolist(), label.ravel().tolist(), strict=True):
        if true != 255:
            counts[true, 19 if predicted == 255 else predicted] += 1
    return counts


def iou_by_class(prediction: np.ndarray, label: np.ndarray, class_list) -> dict[int, float]:
    """IoU by trainId as sets of pixels: merge both maps, then intersection over union per class."""
    merge = {**{k: k for k in range(19)}, 255: 255, **class_list.merge}
    valid = [
        (merge[p], merge[t])
        for p, t in zip(prediction.ravel().tolist(), label.ravel().tolist(), strict=True)
        if t != 255
    ]
    scores = {}
    for k in class_list.scored:
        predicted = {i for i, (p, _) in enumerate(valid) if p == k}
        true = {i for i, (_, t) in enumerate(valid) if t == k}
        union = predicted | true
        scores[k] = len(predicted & true) / len(union) if union else float("nan")
    return scores


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of one vector of logits."""
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def pixel_cross_entropy(
    logits: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Sum of -weight * log p(label) over valid pixels, divided by the number of all pixels."""
    total = 0.0
    for b, y, x in np.ndindex(*labels.shape):
        if labels[b, y, x] != 255:
            weight = 1.0 if weights is None else float(weights[b, y, x])
            total -= weight * np.log(softmax(logits[b, :, y, x])[labels[b, y, x]])
    return total / labels.size


def self_information(logits: np.ndarray) -> np.ndarray:
    """ADVENT's weighted self-information of a (B, K, H, W) map, -p log2 p / log2 K."""
    out = np.zeros(logits.shape)
    for b, y, x in np.ndindex(logits.shape[0], *logits.shape[2:]):
        p = softmax(logits[b, :, y, x])
        out[b, :, y, x] = [-v * np.log2(v) / np.log2(len(p)) if v > 0 else 0.0 for v in p]
    return out


def gaussian_blur(image: np.ndarray, sigma: float, radius: int) -> np.ndarray:
    """A (C, H, W) image under a two-dimensional Gaussian of (2 radius + 1)^2 weights.

    Beyond the border the nearest pixel of the image counts.
    """
    _, height, width = image.shape
    out = np.zeros(image.shape)
    for y, x in np.ndindex(height, width):
        mass = 0.0
        for dy in range(-radius, radius + 1):
            for dx in range(-radius, radius + 1):
                weight = np.exp(-(dy * dy + dx * dx) / (2 * sigma * sigma))
                row, column = min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1)
                out[:, y, x] += weight * image[:, row, column]
                mass += weight
        out[:, y, x] /= mass
    return out


def colour_jitter(
    image: np.ndarray, brightness: float, contrast: float, saturation: float, turns: float
) -> np.ndarray:
    """A (3, H, W) image, pixel by pixel: brightness, contrast, saturation, rotation of hue."""
    luma = np.array([0.299, 0.587, 0.114])
    k = np.ones(3) / np.sqrt(3)
    angle = 2 * np.pi * turns
    image = np.clip(image * brightness, 0, 1)
    pixels = [image[:, y, x] for y, x in np.ndindex(*image.shape[1:])]
    mean = sum(luma @ p for p in pixels) / len(pixels)
    out = np.zeros(image.shape)
    for y, x in np.ndindex(*image.shape[1:]):
        pixel = np.clip(mean + (image[:, y, x] - mean) * contrast, 0, 1)
        grey = luma @ pixel
        v = (pixel - grey) * saturation
        # Rodrigues: v rotated about the unit vector k.
        turned = (
            v * np.cos(angle) + np.cross(k, v) * np.sin(angle) + k * (k @ v) * (1 - np.cos(angle))
        )
        out[:, y, x] = np.clip(grey + turned, 0, 1)
    return out


def class_mix_masks(labels: np.ndarray, tickets: np.ndarray) -> np.ndarray:
    """Pixels of the ceil(k / 2) present classes with the highest tickets (B, K), by image."""
    masks = np.zeros(labels.shape, bool)
    for b, label in enumerate(labels):
        present = sorted(set(label.ravel().tolist()) - {255}, key=lambda c: -tickets[b, c])
        chosen = present[: -(-len(present) // 2)]
        for y, x in np.ndindex(*label.shape):
            masks[b, y, x] = label[y, x] in chosen
    return masks


CITYSCAPES_CATEGORIES = {
    "void": [0, 1, 2, 3, 4, 5, 6],
    "flat": [7, 8, 9, 10],
    "construction": [11, 12, 13, 14, 15, 16],
    "object": [17, 18, 19, 20],
    "nature": [21, 22],
    "sky": [23],
    "human": [24, 25],
    "vehicle": [26, 27, 28, 29, 30, 31, 32, 33],
}
CITYSCAPES_SCORED = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
CITYSCAPES_MEAN_SIZES = {
    24: 3462.4756337644,
    25: 3930.4788056518,
    26: 12794.0202738185,
    27: 27855.1264367816,
    28: 35732.1511111111,
    31: 67583.7075812274,
    32: 6298.7200839748,
    33: 4672.3249222261,
}


def official_iou(images: list[tuple[np.ndarray, np.ndarray]], members: list[int]) -> float | None:
    """IoU of a set of scored Cityscapes ids over (prediction, label) maps; pixel by pixel."""
    members = [k for k in members if k in CITYSCAPES_SCORED]
    hits = union = 0
    for prediction, label in images:
        for p, t in zip(prediction.ravel().tolist(), label.ravel().tolist(), strict=True):
            if t in CITYSCAPES_SCORED and (p in members or t in members):
                union += 1
                hits += p in members and t in members
    return hits / union if union else None


def official_instance_iou(
    images: list[tuple[np.ndarray, np.ndarray, np.ndarray]], truths: list[int], members: list[int]
) -> float | None:
    """iIoU over (prediction, label, instances) maps, in fractions; instance by instance.

    `truths` are the scored ids whose instances count, `members` the ids that are right on them.
    """
    hits = misses = Fraction(0)
    false_positives = 0
    for prediction, label, instances in images:
        for instance in sorted(set(instances.ravel().tolist())):
            if instance > 1000 and instance // 1000 in truths:
                predicted = prediction[instances == instance].tolist()
                share = Fraction(sum(p in members for p in predicted), len(predicted))
                weight = Fraction(CITYSCAPES_MEAN_SIZES[instance // 1000])
                hits += weight * share
                misses += weight * (1 - share)
        for p, t in zip(prediction.ravel().tolist(), label.ravel().tolist(), strict=True):
            false_positives += p in members and t in CITYSCAPES_SCORED and t not in members
    whole = hits + misses + false_positives
    return float(hits / whole) if whole else None
