"""Slow, obvious versions of the contrasts between cells, written from the papers' formulas."""

from fractions import Fraction

import numpy as np


def cell_labels(labels: np.ndarray, size: tuple[int, int], purity: float = 0.75) -> np.ndarray:
    """The class of at least `purity` of the pixels of each cell, else 255; cell by cell."""
    num_images, height, width = labels.shape
    h, w = size
    out = np.full((num_images, h, w), 255)
    for b, i, j in np.ndindex(*out.shape):
        inside = [
            int(labels[b, y, x])
            for y in range(height)
            for x in range(width)
            if y * h // height == i and x * w // width == j
        ]
        for c in range(19):
            if inside and Fraction(inside.count(c), len(inside)) >= Fraction(str(purity)):
                out[b, i, j] = c
    return out


def labelled_cells(
    embeddings: np.ndarray, labels: np.ndarray, purity: float = 0.75
) -> list[tuple[np.ndarray, int]]:
    """(embedding, class) of every cell, image by image and row by row; 255 is no class."""
    cells = cell_labels(labels, embeddings.shape[2:], purity)
    return [(embeddings[b, :, i, j], int(cells[b, i, j])) for b, i, j in np.ndindex(*cells.shape)]


def statistics(steps: list[list[tuple[np.ndarray, int]]], momentum: float, width: int):
    """(count, mean, variance) by class over all cells ever seen, one list of cells a step.

    A cell of `a` steps ago has weight momentum ** a.
    """
    count, mean, variance = np.zeros(19), np.zeros((19, width)), np.zeros((19, width))
    for c in range(19):
        weighted = [
            (momentum ** (len(steps) - 1 - k), q)
            for k, step in enumerate(steps)
            for q, y in step
            if y == c
        ]
        if weighted:
            count[c] = sum(w for w, _ in weighted)
            mean[c] = sum(w * q for w, q in weighted) / count[c]
            variance[c] = sum(w * (q - mean[c]) ** 2 for w, q in weighted) / count[c]
    return count, mean, variance


def after_one_step(embeddings: np.ndarray, labels: np.ndarray):
    """The statistics once the cells of one batch are remembered."""
    return statistics([labelled_cells(embeddings, labels)], 1.0, embeddings.shape[1])


def prototype_contrast(
    parts: list[tuple[np.ndarray, np.ndarray]],
    memory: tuple[np.ndarray, np.ndarray, np.ndarray],
    kind: str = "gaussian",
    temperature: float = 0.1,
    purity: float = 0.75,
) -> float:
    """The formula of `PrototypeContrast` over (embeddings, labels) of each domain, cell by cell."""
    count, mean, variance = memory
    known = [c for c in range(19) if count[c] > 0]
    cells = [cell for part in parts for cell in labelled_cells(*part, purity)]
    total = 0.0
    for q, y in cells:
        if y not in known or len(known) < 2:
            continue
        spread = {c: 0.0 for c in known}
        if kind == "gaussian":
            spread = {c: q @ np.diag(variance[c]) @ q / (2 * temperature**2) for c in known}
        e = {c: np.exp(q @ mean[c] / temperature + spread[c]) for c in known}
        total += -np.log(e[y] / sum(e.values())) + spread[y]
    return total / len(cells)


def draw_balanced(classes: list[int], tickets: list[float], samples: int) -> list[int]:
    """Dealing in rounds: in each, every class gives its lowest ticket that is left."""
    heaps = {
        c: sorted((t, i) for i, (t, k) in enumerate(zip(tickets, classes, strict=True)) if k == c)
        for c in set(classes) - {255}
    }
    chosen: list[int] = []
    while any(heaps.values()):
        chosen += [i for _, i in sorted(heap.pop(0) for heap in heaps.values() if heap)]
    rest = sorted((t, i) for i, t in enumerate(tickets) if classes[i] == 255)
    return (chosen + [i for _, i in rest])[:samples]


def pixel_contrast(
    parts: list[tuple[np.ndarray, np.ndarray]],
    lottery: np.ndarray,
    temperature: float = 0.1,
    samples: int = 128,
    purity: float = 0.75,
) -> float:
    """SupCon over the cells drawn from each image of each domain, cell by cell."""
    drawn: list[tuple[np.ndarray, int]] = []
    for embeddings, labels in parts:
        for b in range(len(embeddings)):
            cells = labelled_cells(embeddings[b : b + 1], labels[b : b + 1], purity)
            tickets = [float(lottery[b, y, x]) for y, x in np.ndindex(*lottery.shape[1:])]
            drawn += [cells[i] for i in draw_balanced([y for _, y in cells], tickets, samples)]
    total = 0.0
    for i, (z, y) in enumerate(drawn):
        others = [drawn[j] for j in range(len(drawn)) if j != i and drawn[j][1] != 255]
        positives = [other for other, k in others if k == y]
        if y == 255 or not positives or len(positives) == len(others):
            continue
        mass = sum(np.exp(z @ other / temperature) for other, _ in others)
        for other in positives:
            total -= np.log(np.exp(z @ other / temperature) / mass) / len(positives)
    return total / len(drawn)
