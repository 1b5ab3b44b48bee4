"""Slow, obvious versions of the contrast of class distributions, from the docstrings' formulas."""

import functools
from fractions import Fraction

import numpy as np

DEFAULTS = {
    "grid": (2, 4), "whole_image": True, "min_known": 0.2, "presence": 0.01, "power": 0.5,
    "idf": True, "pooling": "class", "similarity": "overlap", "queue": 256,
    "objective": "supcon", "temperature": 0.1, "target_temperature": 0.1, "positive": 0.6,
    "negative": 0.15,
}  # fmt: skip


def cell_of(position: int, size: int, count: int) -> int:
    """In which of `count` equal parts of an axis the centre of a position lies."""
    return int((position + Fraction(1, 2)) / size * count)


def counted(labels: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """(R, 20): positions of each class, and ignored ones, of the cells of one (H, W) map."""
    rows, columns = grid
    counts = np.zeros((rows * columns, 20), int)
    for y, x in np.ndindex(*labels.shape):
        cell = cell_of(y, labels.shape[0], rows) * columns + cell_of(x, labels.shape[1], columns)
        counts[cell, 19 if labels[y, x] == 255 else labels[y, x]] += 1
    return counts


def class_means(embeddings: np.ndarray, labels: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """(R, 19, D): mean embedding of each class in each cell of one image; 0 if it has none."""
    rows, columns = grid
    depth, height, width = embeddings.shape
    found: dict[tuple[int, int], list[np.ndarray]] = {}
    for y, x in np.ndindex(height, width):
        cell = cell_of(y, height, rows) * columns + cell_of(x, width, columns)
        found.setdefault((cell, int(labels[y, x])), []).append(embeddings[:, y, x])
    means = np.zeros((rows * columns, 19, depth))
    for (cell, c), vectors in found.items():
        if c != 255:
            means[cell, c] = np.mean(vectors, axis=0)
    return means


def shrunk(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The label of the pixel in which the centre of each position of a smaller map lies."""
    out = np.zeros(size, int)
    for y, x in np.ndindex(*size):
        centre = [
            int((i + Fraction(1, 2)) * n / m)
            for i, n, m in zip((y, x), labels.shape, size, strict=True)
        ]
        out[y, x] = labels[tuple(centre)]
    return out


def reweighted(p: np.ndarray, presence: float, power: float, rarity: np.ndarray) -> np.ndarray:
    kept = [
        r * s**power if s > 0 and s >= presence else 0.0 for s, r in zip(p, rarity, strict=True)
    ]
    return np.array(kept) / (sum(kept) or 1.0)


@functools.cache  # finite differences ask for the same ones again and again
def similarity(p: tuple[float, ...], q: tuple[float, ...], kind: str) -> float:
    pairs = list(zip(p, q, strict=True))
    if kind == "overlap":
        return sum(min(a, b) for a, b in pairs)
    if kind == "jaccard":
        return sum(min(a, b) for a, b in pairs) / sum(max(a, b) for a, b in pairs)
    if kind == "bhattacharyya":
        return sum(np.sqrt(a * b) for a, b in pairs)
    # Two Kullback-Leibler divergences to the middle.
    divergence = 0.0
    for one, other in ((0, 1), (1, 0)):
        for pair in pairs:
            if pair[one] > 0:
                divergence += pair[one] / 2 * np.log(2 * pair[one] / (pair[one] + pair[other]))
    return 1 - divergence / np.log(2)


def contrastive(steps: list, **changes) -> float:
    """The loss of the last step. A step is ((embeddings, labels) of the source, of the target)."""
    s = DEFAULTS | changes
    grids = [s["grid"]] if s["grid"] == (1, 1) or not s["whole_image"] else [s["grid"], (1, 1)]
    return float(np.mean([of_kind(steps, grid, s) for grid in grids]))


def of_kind(steps: list, grid: tuple[int, int], s: dict) -> float:
    queues: list[list] = [[], []]
    containing, total = np.zeros(19), 0
    for number, step in enumerate(steps):
        rarity = np.ones(19)
        if s["idf"]:
            rarity = np.log((total + 1) / (containing + 0.5))
        regions = [
            [
                r
                for image in range(len(of_domain[0]))
                for r in in_image(of_domain, image, grid, rarity, s)
            ]
            for of_domain in step
        ]
        if number == len(steps) - 1:
            return value(regions, queues, rarity, s)
        for domain in (0, 1):
            new = [r for r in regions[domain] if r["part"]]
            queues[domain] = (new + queues[domain])[: s["queue"]]
            for region in new:
                total += 1
                containing += (region["p"] > 0) & (region["p"] >= s["presence"])
    raise AssertionError("no step")


def in_image(of_domain, image: int, grid: tuple[int, int], rarity: np.ndarray, s: dict) -> list:
    """The regions of one image."""
    embeddings, labels = of_domain[0][image], of_domain[1][image]
    small = shrunk(labels, embeddings.shape[1:])
    pixels, positions = counted(labels, grid), counted(small, grid)
    means = class_means(embeddings, small, grid)
    regions = []
    for r in range(len(pixels)):
        labelled = pixels[r, :19].sum()
        p = pixels[r, :19] / max(labelled, 1)
        q = reweighted(p, s["presence"], s["power"], rarity)
        weights = (
            positions[r, :19] / max(positions[r, :19].sum(), 1) if s["pooling"] == "mean" else q
        )
        z = sum(weights[c] * means[r, c] for c in range(19))
        shown = any(weights[c] > 0 and positions[r, c] > 0 for c in range(19))
        known = labelled / pixels[r].sum() >= s["min_known"]
        length = np.sqrt((z**2).sum())
        z = z / length if length > 0 else z
        regions.append({"image": image, "p": p, "z": z, "part": bool(shown and known)})
    return regions


def value(regions: list, queues: list, rarity: np.ndarray, s: dict) -> float:
    here = [{**r, "id": (d, r["image"])} for d in (0, 1) for r in regions[d]]
    past = [{**r, "id": None} for d in (0, 1) for r in queues[d]]
    for region in here + past:
        region["q"] = tuple(reweighted(region["p"], s["presence"], s["power"], rarity).tolist())
    total = 0.0
    for i in here:
        others = [j for j in here + past if i["part"] and j["part"] and i["id"] != j["id"]]
        alike = [similarity(i["q"], j["q"], s["similarity"]) for j in others]
        cosine = [float(i["z"] @ j["z"]) for j in others]
        if others and s["objective"] == "supcon":
            total += supcon(alike, cosine, s)
        elif others:
            total += divergence(alike, cosine, s)
    return total / len(here)


def supcon(alike: list[float], cosine: list[float], s: dict) -> float:
    attract = [j for j, a in enumerate(alike) if a >= s["positive"]]
    repel = [j for j, a in enumerate(alike) if a <= s["negative"]]
    if not attract or not repel:
        return 0.0
    e = {j: np.exp(cosine[j] / s["temperature"]) for j in attract + repel}
    mass = sum(alike[j] for j in attract)
    return -sum(alike[j] / mass * np.log(e[j] / sum(e.values())) for j in attract)


def divergence(alike: list[float], cosine: list[float], s: dict) -> float:
    wanted = np.exp(np.array(alike) / s["target_temperature"])
    ours = np.exp(np.array(cosine) / s["temperature"])
    wanted, ours = wanted / wanted.sum(), ours / ours.sum()
    return sum(t * np.log(t / o) for t, o in zip(wanted, ours, strict=True))
