"""Slow, obvious versions of the measures in `uda.quality`, from their definitions and papers.

Plain numbers, lists and NumPy arrays in: nothing here knows of `Evidence`. All in float64.
"""

import math

import numpy as np

K = 19


def balanced_iou(counts: np.ndarray, classes: list[int]) -> float:
    """Mean over `classes` of shared pixels by pixels that either prediction gives to the class."""
    values = []
    for k in classes:
        shared = either = 0
        for first in range(K):
            for second in range(K):
                shared += int(counts[first, second]) if first == k == second else 0
                either += int(counts[first, second]) if k in (first, second) else 0
        values.append(shared / either if either else 0.0)
    return sum(values) / len(values) if values else math.nan


def consistency(views: list[np.ndarray], classes: list[int]) -> float:
    """The mean of the views' balanced IoUs."""
    values = [balanced_iou(counts, classes) for counts in views]
    return sum(values) / len(values) if values else math.nan


def agreement(
    mine: dict[int, np.ndarray], theirs: dict[int, np.ndarray], classes: list[int]
) -> float:
    """EnsV on a grid: sets of the places that either gives to a class, of images both have seen."""
    places: dict[tuple[str, int], set[tuple[int, int, int]]] = {}
    for image in mine:
        if image in theirs:
            for y, x in np.ndindex(*mine[image].shape[1:]):
                for who, said in (("mine", mine), ("theirs", theirs)):
                    scores = said[image][:, y, x].tolist()
                    places.setdefault((who, scores.index(max(scores))), set()).add((image, y, x))
    if not places:
        return math.nan
    values = []
    for k in classes:
        first, second = places.get(("mine", k), set()), places.get(("theirs", k), set())
        values.append(len(first & second) / len(first | second) if first | second else 0.0)
    return sum(values) / len(values)


def balanced(classes: np.ndarray, lottery: np.ndarray, most: int) -> list[int]:
    """Places of the `most` lowest lottery numbers of each class, by class and number."""
    chosen = []
    for k in sorted({int(c) for c in classes}):
        of_class = [i for i in range(len(classes)) if classes[i] == k]
        chosen += sorted(of_class, key=lambda i: int(lottery[i]))[:most]
    return chosen


def unit(row: np.ndarray) -> np.ndarray:
    length = math.sqrt(sum(float(v) ** 2 for v in row))
    return np.asarray(row, np.float64) / max(length, 1e-6)


def density(rows: np.ndarray, temperature: float = 0.05) -> float:
    """SND (Saito et al., 2021, eq. 1-3): entropy of each row's similarities to all others."""
    units = np.array([unit(row) for row in rows])
    entropies = []
    for i, own in enumerate(units):
        powers = np.exp((np.delete(units, i, axis=0) @ own - 1) / temperature)
        entropies.append(entropy(powers / powers.sum()))
    return sum(entropies) / len(entropies) / math.log(len(rows) - 1)


def separation(features: np.ndarray, classes: np.ndarray, expected: list[int]) -> float:
    """Simplified silhouette (b - a) / max(a, b) by cosine distance to the classes' centres."""
    members = {k: [unit(f) for f, c in zip(features, classes, strict=True) if c == k]
               for k in expected}  # fmt: skip
    members = {k: rows for k, rows in members.items() if rows}
    if len(members) < 2:
        return 0.0
    centres = {k: unit(sum(rows) / len(rows)) for k, rows in members.items()}
    total = 0.0
    for k, rows in members.items():
        silhouettes = []
        for row in rows:
            own = 1 - row @ centres[k]
            nearest = min(1 - row @ centre for j, centre in centres.items() if j != k)
            silhouettes.append((nearest - own) / max(nearest, own, 1e-6))
        total += sum(silhouettes) / len(silhouettes)
    return min(1.0, max(0.0, total / len(expected)))


def held_out_error(source: np.ndarray, target: np.ndarray) -> float:
    """Of ridge regression of -1 (source) and 1 (target) on unit features, every second held out.

    The domains weigh alike. The penalty is a tenth of the mean of the scatter's diagonal; the
    intercept has none. What lies on the boundary is wrong.
    """
    sides = [np.array([unit(row) for row in rows]) for rows in (source, target)]
    errors = []
    for train, test in ((0, 1), (1, 0)):
        rows, answers = [], []
        for side, answer in zip(sides, (-1.0, 1.0), strict=True):
            weight = math.sqrt(1 / len(side[train::2]))
            rows += [weight * np.append(row, 1.0) for row in side[train::2]]
            answers += [weight * answer for _ in side[train::2]]
        middle = sum(side[train::2].mean(0) for side in sides) / 2
        spread = sum(((side[train::2] - middle) ** 2).mean() for side in sides)
        width = len(middle)
        penalty = math.sqrt(0.1 * spread + 1e-9) * np.eye(width, width + 1)
        answers = np.concatenate([answers, np.zeros(width)])
        solved = np.linalg.lstsq(np.concatenate([rows, penalty]), answers, rcond=None)[0]
        for side, answer in zip(sides, (-1.0, 1.0), strict=True):
            values = [answer * (np.append(row, 1.0) @ solved) for row in side[test::2]]
            errors.append(sum(value <= 0 for value in values) / len(values))
    return sum(errors) / 4


def confusability(source: np.ndarray, target: np.ndarray) -> float:
    """1 - PAD / 2 of one class, where PAD = 2 (1 - 2 err), never below 0 (Ben-David, 2010)."""
    distance = max(0.0, 2 * (1 - 2 * held_out_error(source, target)))
    return 1 - distance / 2


def squared_mmd(source: np.ndarray, target: np.ndarray) -> float:
    """Unbiased (Gretton et al., 2012, eq. 3): Gaussian kernel, median of all squared distances."""
    points = np.array([unit(row) for row in [*source, *target]])
    squares = [((points - point) ** 2).sum(1).tolist() for point in points]
    pairs = [(i, j) for i in range(len(points)) for j in range(len(points)) if i != j]
    width = float(np.median([squares[i][j] for i, j in pairs if i < j])) + 1e-9
    values: dict[tuple[bool, bool], list[float]] = {}
    for i, j in pairs:
        domains = i < len(source), j < len(source)
        values.setdefault(domains, []).append(math.exp(-squares[i][j] / width))
    mean = {domains: sum(kernels) / len(kernels) for domains, kernels in values.items()}
    return mean[True, True] + mean[False, False] - 2 * mean[True, False]


def by_class(value, source: dict[int, np.ndarray], target: dict[int, np.ndarray]) -> float:
    """Mean over the classes with 8 source pixels at least; 0 for one with fewer in the target."""
    values = [value(rows, target[k]) if len(target[k]) >= 8 else 0.0
              for k, rows in source.items() if len(rows) >= 8]  # fmt: skip
    return sum(values) / len(values) if values else math.nan


def prior_fit(mean: np.ndarray, prior: np.ndarray, dead_zone: float = 0.2) -> float:
    """exp of minus what KL(mean || prior) is above the dead zone; no share of it is below 1e-6."""
    if sum(mean) == 0 or sum(prior) == 0:
        return math.nan
    divergence = sum(p * math.log(p / max(q, 1e-6)) for p, q in zip(mean, prior, strict=True) if p)
    return math.exp(-max(0.0, divergence - dead_zone))


def coverage(predicted: np.ndarray, prior: np.ndarray) -> float:
    """Share of the classes of the prior that have a tenth of it at least."""
    expected = [k for k in range(K) if prior[k] > 0]
    if not sum(predicted) or not expected:
        return 0.0
    enough = [predicted[k] / sum(predicted) >= 0.1 * prior[k] for k in expected]
    return sum(enough) / len(expected)


def entropy(probabilities: np.ndarray) -> float:
    return -sum(p * math.log(p) for p in probabilities.tolist() if p > 0)


def nuclear_norm(rows: np.ndarray) -> float:
    """Sum of singular values, the roots of the eigenvalues of P^T P, by sqrt(N K)."""
    gram = np.asarray(rows, np.float64).T @ np.asarray(rows, np.float64)
    values = np.linalg.eigvalsh(gram).clip(0)
    return sum(math.sqrt(v) for v in values) / math.sqrt(len(rows) * K)


def miou(matrix: np.ndarray, outside: np.ndarray) -> float:
    """Mean IoU of a confusion (rows are the truth) over classes in the truth or the prediction."""
    values = []
    for k in range(K):
        hits = int(matrix[k, k])
        either = sum(int(n) for n in matrix[k]) + int(outside[k])
        either += sum(int(n) for n in matrix[:, k]) - hits
        if either:
            values.append(hits / either)
    return sum(values) / len(values) if values else math.nan
