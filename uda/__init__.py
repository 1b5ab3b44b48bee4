"""Unsupervised domain adaptation for street-scene segmentation: the science, without a cluster."""

__version__ = "0.1.0"
