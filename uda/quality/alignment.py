"""How far source and target features of one class lie apart, over all classes alike."""

from collections.abc import Callable

import numpy as np

from uda.quality.density import normalised
from uda.quality.statistics import Evidence

_LEAST = 8  # pixels of a class in each domain; with fewer nothing can be said


def confusability(evidence: Evidence) -> float:
    """1 - PAD / 2, mean over classes: 1 where no linear classifier tells the domains apart.

    Proxy A-distance (Ben-David et al., 2010) 2 (1 - 2 err) with the error of a ridge classifier on
    the half of the pixels that it has not seen, both halves in turn. An expected class that is not
    predicted in the target counts 0.
    """
    return _by_class(evidence, lambda s, t: min(1.0, 2.0 * _error(s, t)))


def proximity(evidence: Evidence) -> float:
    """exp(-MMD^2 / s) per class, mean: Gaussian kernel of median width (Gretton et al., 2012).

    The scale s is a half; MMD^2 is at most 2. Features have unit length, so a network that
    shrinks them gains nothing. An expected class that is not predicted counts 0.
    """
    return _by_class(evidence, lambda s, t: float(np.exp(-max(0.0, _mmd(s, t)) / 0.5)))


def _by_class(evidence: Evidence, value: Callable[[np.ndarray, np.ndarray], float]) -> float:
    values = []
    for class_id in evidence.expected.tolist():
        source, target = (
            normalised(sample.of(class_id))
            for sample in (evidence.source.seen.sample, evidence.target.sample)
        )
        if len(source) < _LEAST:
            continue
        values.append(value(source, target) if len(target) >= _LEAST else 0.0)
    return float(np.mean(values)) if values else float("nan")


def _error(source: np.ndarray, target: np.ndarray) -> float:
    """Share of held-out pixels on the wrong side, each domain counting half."""
    errors = []
    for fold in (0, 1):
        train = np.concatenate([source[fold::2], target[fold::2]])
        sign = np.repeat([-1.0, 1.0], [len(source[fold::2]), len(target[fold::2])])
        weight = np.where(sign > 0, 1 / (sign > 0).sum(), 1 / (sign < 0).sum())
        mean = (train * weight[:, None]).sum(0) / weight.sum()
        centred = (train - mean) * np.sqrt(weight)[:, None]
        covariance = centred.T @ centred
        ridge = 0.1 * np.trace(covariance) / len(covariance) + 1e-9
        gap = target[fold::2].mean(0) - source[fold::2].mean(0)
        direction = np.linalg.solve(covariance + ridge * np.eye(len(covariance)), gap)
        middle = (target[fold::2].mean(0) + source[fold::2].mean(0)) / 2
        wrong = [
            ((rest - middle) @ direction) * s <= 0
            for rest, s in ((source[1 - fold :: 2], -1), (target[1 - fold :: 2], 1))
        ]
        errors.append(np.mean([w.mean() for w in wrong]))
    return float(np.mean(errors))


def _mmd(source: np.ndarray, target: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy."""
    both = np.concatenate([source, target])
    squares = np.maximum(0.0, 2.0 - 2.0 * both @ both.T)
    width = np.median(squares[np.triu_indices(len(both), 1)]) + 1e-9
    kernel = np.exp(-squares / width)
    m, n = len(source), len(target)
    within = [
        (k.sum() - k.trace()) / (size * (size - 1))
        for k, size in ((kernel[:m, :m], m), (kernel[m:, m:], n))
    ]
    return float(sum(within) - 2.0 * kernel[:m, m:].mean())
