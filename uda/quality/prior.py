"""Whether the predicted classes are about as frequent as one would expect."""

import numpy as np

from uda.quality.statistics import Evidence

DEAD_ZONE = 0.2  # nats: real streets differ from synthetic ones by about so much


def prior_fit(evidence: Evidence) -> float:
    """exp(-max(0, KL(predicted shares || source's class shares) - dead zone)), 0 to 1.

    Of the classes that are said, not of their probabilities: how sure a network is of them does not
    matter. No share of the source counts as less than 1e-6.
    """
    predicted, prior = evidence.target.predicted, evidence.source.prior
    if not predicted.sum() or not prior.sum():
        return float("nan")
    present = predicted > 0
    shares = predicted[present] / predicted.sum()
    divergence = (shares * np.log(shares / prior[present].clip(1e-6))).sum()
    return float(np.exp(-max(0.0, divergence - DEAD_ZONE)))


def coverage(evidence: Evidence) -> float:
    """Share of the expected classes that are predicted at a tenth of their share or more."""
    total = evidence.target.predicted.sum()
    if not total or not len(evidence.expected):
        return 0.0
    shares, prior = evidence.target.predicted / total, evidence.source.prior
    expected = evidence.expected
    return float((shares[expected] >= 0.1 * prior[expected]).mean())
