"""Slow, obvious versions of the terms of self-training and of structure, from their papers."""

import math

import numpy as np

from tests.reference import softmax

THING_CLASSES = {6, 7, 11, 12, 13, 14, 15, 16, 17, 18}


def feature_distance(
    student: np.ndarray, pretrained: np.ndarray, labels: np.ndarray, purity: float = 0.75
) -> float:
    """Mean distance over the cells that one thing class fills; labels in whole blocks per cell."""
    num_rows, num_columns = labels.shape[1] // student.shape[2], labels.shape[2] // student.shape[3]
    distances = []
    for b, y, x in np.ndindex(len(student), *student.shape[2:]):
        block = labels[
            b, y * num_rows : (y + 1) * num_rows, x * num_columns : (x + 1) * num_columns
        ]
        if any((block == thing).sum() >= purity * block.size for thing in THING_CLASSES):
            gaps = student[b, :, y, x] - pretrained[b, :, y, x]
            distances.append(math.sqrt(sum(gap**2 for gap in gaps)))
    return sum(distances) / len(distances) if distances else 0.0


def class_prior(labels: np.ndarray) -> np.ndarray:
    """Mean over the labelled images of each class's share of the labelled pixels."""
    shares = []
    for label in labels:
        counts = [int((label == c).sum()) for c in range(19)]
        if sum(counts):
            shares.append([count / sum(counts) for count in counts])
    return np.mean(shares, axis=0) if shares else np.zeros(19)


def prior(labels: np.ndarray, logits: np.ndarray, dead_zone: float = 0.2) -> float:
    """What KL(prior of `labels` || mean prediction) has beyond the dead zone."""
    mean = np.mean([softmax(logits[b, :, y, x]) for b, y, x in pixels(logits)], axis=0)
    pairs = zip(class_prior(labels), mean, strict=True)
    divergence = sum(p * math.log(p / q) for p, q in pairs if p > 0)
    return max(0.0, divergence - dead_zone)


def entropy(logits: np.ndarray, robust: float = 0.0) -> float:
    total = 0.0
    for b, y, x in pixels(logits):
        p = softmax(logits[b, :, y, x])
        value = sum(-c * math.log(c) for c in p if c > 0) / math.log(len(p))
        total += (value**2 + 0.001**2) ** robust if robust else value
    return total / len(pixels(logits))


def max_square(logits: np.ndarray, balance: float = 0.2) -> float:
    """Image by image: -1/2 sum_n sum_c p_nc^2 / (N_c^balance N^(1 - balance))."""
    total = 0.0
    for image in logits:
        predicted = image.argmax(0)
        for y, x in np.ndindex(*predicted.shape):
            num_alike = (predicted == predicted[y, x]).sum()
            weight = 1 / (num_alike**balance * predicted.size ** (1 - balance))
            total -= weight * (softmax(image[:, y, x]) ** 2).sum() / 2
    return total / len(logits)


def near_boundary(labels: np.ndarray, radius_px: int = 3) -> np.ndarray:
    """Pixels within `radius_px` - 1 rows and columns of one that touches another label."""
    near = np.zeros(labels.shape, bool)
    for b, y, x in np.ndindex(*labels.shape):
        for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            if 0 <= y + dy < labels.shape[1] and 0 <= x + dx < labels.shape[2]:
                pair = {int(labels[b, y, x]), int(labels[b, y + dy, x + dx])}
                if len(pair) == 2 and 255 not in pair:
                    reach = radius_px - 1
                    rows = slice(max(0, y - reach), y + reach + 1)
                    near[b, rows, max(0, x - reach) : x + reach + 1] = True
    return near


def affinity(
    colours: np.ndarray,
    logits: np.ndarray,
    sigma_colour: float = 0.1,
    dilations: tuple[int, ...] = (1, 2),
    stride: int = 4,
) -> float:
    """Over all pairs whose rows and columns are 0 or one dilation apart, each pair once."""
    colours, logits = block_means(colours, stride), block_means(logits, stride)
    pairs = []
    for b, y, x in pixels(logits):
        for _, v, u in pixels(logits[:1]):
            dy, dx = v - y, u - x
            if (dy, dx) > (0, 0) and any({abs(dy), abs(dx)} <= {0, d} for d in dilations):
                gap = ((colours[b, :, y, x] - colours[b, :, v, u]) ** 2).sum()
                alike = math.exp(-gap / (2 * sigma_colour**2))
                agree = (softmax(logits[b, :, y, x]) * softmax(logits[b, :, v, u])).sum()
                pairs.append(alike * (1 - agree))
    return sum(pairs) / len(pairs) if pairs else 0.0


def block_means(maps: np.ndarray, stride: int) -> np.ndarray:
    """Means over squares of `stride` pixels, cut off at the far edges."""
    rows, columns = (-(-size // stride) for size in maps.shape[2:])
    means = np.empty((*maps.shape[:2], rows, columns))
    for y, x in np.ndindex(rows, columns):
        block = maps[:, :, y * stride : (y + 1) * stride, x * stride : (x + 1) * stride]
        means[:, :, y, x] = block.mean((2, 3))
    return means


def pixels(maps: np.ndarray) -> list[tuple[int, ...]]:
    """(image, row, column) of every pixel."""
    return list(np.ndindex(len(maps), *maps.shape[2:]))
