"""Soft neighbourhood density: whether target pixels have neighbours of their own kind."""

import numpy as np

from uda.quality.statistics import Evidence

_TEMPERATURE = 0.05


def density(evidence: Evidence) -> float:
    """SND (Saito et al., ICCV 2021, eq. 1-3) of as many pixels of each predicted class, 0 to 1.

    Mean entropy of the softmax of similarities to all other pixels, over ln(N - 1). Of plain
    samples, the paper's way, it would be the density of road and building. A constant prediction
    still has the highest score of all, so it is no score by itself.
    """
    sample = evidence.target.sample.balanced(64)
    if len(sample) < 3:
        return float("nan")
    unit = normalised(sample.probabilities.astype(np.float32))
    similarity = unit @ unit.T / _TEMPERATURE
    np.fill_diagonal(similarity, -np.inf)
    similarity -= similarity.max(1, keepdims=True)
    weights = np.exp(similarity)
    total = weights.sum(1, keepdims=True)
    np.fill_diagonal(similarity, 0.0)  # its weight is 0
    entropies = np.log(total[:, 0]) - (weights * similarity).sum(1) / total[:, 0]
    return float(entropies.mean() / np.log(len(sample) - 1))


def separation(evidence: Evidence) -> float:
    """Silhouette of the features by predicted class, simplified to centroids, 0 to 1.

    Cosine distance to the own class's centre against that to the nearest other one (Rousseeuw,
    1987; ClassSS of Musgrave et al., 2208.07360), mean over expected classes, absent ones 0.
    """
    sample, classes = evidence.target.sample, evidence.expected.tolist()
    present = [c for c in classes if (sample.classes == c).any()]
    if len(present) < 2:
        return 0.0
    features = [normalised(sample.of(c)) for c in present]
    centres = normalised(np.stack([f.mean(0) for f in features]))
    values = []
    for own, points in enumerate(features):
        if len(points) == 1:  # on its own centre; 0 by Rousseeuw's definition
            values.append(0.0)
            continue
        distance = 1.0 - points @ centres.T
        mine = distance[:, own].copy()
        distance[:, own] = np.inf
        nearest = distance.min(1)
        values.append(((nearest - mine) / np.maximum(nearest, mine).clip(1e-6)).mean())
    return float((np.sum(values) / len(classes)).clip(0, 1))


def normalised(rows: np.ndarray) -> np.ndarray:
    """Rows of unit length; a row of zeros stays."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
