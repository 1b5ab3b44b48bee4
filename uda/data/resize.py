"""Other sizes for images and labels, before they are written to shards."""

import cv2
import numpy as np
from jaxtyping import UInt8


def resize_image(
    image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]
) -> UInt8[np.ndarray, "H2 W2 3"]:
    """To `size` (width, height): along an axis that shrinks the mean over each new pixel's area,
    so that nothing aliases, and linear along one that grows."""
    height, width = image.shape[:2]
    smaller = min(width, size[0]), min(height, size[1])
    # OpenCV's area method is for shrinking: where one axis grows, it would be linear on both.
    image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)


def resize_label(
    label: UInt8[np.ndarray, "H W"], size: tuple[int, int]
) -> UInt8[np.ndarray, "H2 W2"]:
    """To `size` (width, height): each new pixel is the one that was at its centre.

    Not the class that fills most of its area: that vote erases what is thinner than half a new
    pixel, such as distant poles, everywhere. The centre hits a thin thing as often as it covers
    area, so every class keeps its share on the average, if with gaps.
    """
    return cv2.resize(label, size, interpolation=cv2.INTER_NEAREST_EXACT)
