"""`uda`: unsupervised domain adaptation for street-scene segmentation (the science; knows no cluster)."""

__version__ = "0.1.0"
