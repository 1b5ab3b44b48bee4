"""How sure a network is and how varied its answers: the field's simple measures.

All have a known failure and serve as baselines: a collapsed network is sure, a noisy one varied.
"""

import numpy as np

from uda.classes import NUM_CLASSES
from uda.quality.statistics import Evidence

_LOG_CLASSES = float(np.log(NUM_CLASSES))


def certainty(evidence: Evidence) -> float:
    """1 minus the mean entropy of a pixel, in units of ln K; best for a network that collapsed."""
    return 1.0 - evidence.target.mean_entropy / _LOG_CLASSES


def information(evidence: Evidence) -> float:
    """Mutual information of pixel and class, H(mean p) - mean H(p), in units of ln K.

    Rewards classes that are not there: real streets are far from having all classes alike.
    """
    mean = evidence.target.mean_probabilities
    return (entropy(mean) - evidence.target.mean_entropy) / _LOG_CLASSES


def nuclear_norm(evidence: Evidence) -> float:
    """||P||_* / sqrt(N K) of a sample of N pixels' probabilities (BNM, Cui et al., CVPR 2020).

    Of at most 32 pixels per predicted class; of all pixels, road and building would fill it.
    """
    sample = evidence.target.sample.balanced(32)
    if not len(sample):
        return float("nan")
    norm = np.linalg.norm(sample.probabilities.astype(np.float64), "nuc")
    return float(norm / np.sqrt(len(sample) * NUM_CLASSES))


def entropy(probabilities: np.ndarray) -> float:
    """In nats; 0 log 0 = 0."""
    present = probabilities[probabilities > 0]
    return float(-(present * np.log(present)).sum())
