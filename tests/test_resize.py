"""Resizing, against means and picks made with plain NumPy."""

import numpy as np
import pytest

from uda.data.resize import resize_image, resize_label

ROAD, POLE = 0, 5


def noise(height, width):
    return np.random.default_rng([height, width]).integers(0, 256, (height, width, 3), np.uint8)


def block_means(image, down, across):
    height, width = image.shape[:2]
    blocks = image.reshape(height // down, down, width // across, across, 3)
    return blocks.astype(float).mean(axis=(1, 3))


@pytest.mark.parametrize(("down", "across"), [(2, 2), (3, 1), (1, 4), (5, 2)])
def test_shrinking_is_the_mean_over_each_new_pixel(down, across):
    image = noise(60, 80)
    resized = resize_image(image, (80 // across, 60 // down))
    assert np.abs(resized - block_means(image, down, across)).max() <= 0.75


def test_one_axis_shrinks_while_the_other_grows():
    """A third as wide: means of three. Twice as high: each new row is a quarter of the way from
    an old row to its neighbour."""
    image = noise(40, 60)
    resized = resize_image(image, (20, 80))
    assert resized.shape == (80, 20, 3)
    means = block_means(image, 1, 3)
    assert np.abs(resized[1:-1:2] - (0.75 * means[:-1] + 0.25 * means[1:])).max() < 2
    assert np.abs(resized[2:-1:2] - (0.25 * means[:-1] + 0.75 * means[1:])).max() < 2


def test_growing_is_linear():
    ramp = np.tile(np.arange(0, 200, 10, dtype=np.uint8)[None, :, None], (8, 1, 3))
    grown = resize_image(ramp, (40, 8))[0, 1:-1, 0].astype(int)
    assert set(np.diff(grown)) <= {4, 5, 6}


@pytest.mark.parametrize("size", [(28, 20), (112, 90), (30, 90), (57, 39), (1, 1)])
def test_labels_are_picked_at_the_centres(size):
    """Of a label that holds its rows' or columns' numbers, so that the result says what it took."""
    rows, columns = np.mgrid[:40, :56].astype(np.uint8)
    for numbers, old, new, axis in ((rows, 40, size[1], 0), (columns, 56, size[0], 1)):
        taken = resize_label(numbers, size)
        assert taken.shape == (size[1], size[0])
        assert (taken == taken.take([0], 1 - axis)).all()  # the same all along the other axis
        centres = (np.arange(new) + 0.5) * old / new
        assert np.abs(taken.take(0, 1 - axis) + 0.5 - centres).max() <= 0.5


def test_thin_poles_keep_their_share_with_nearest_and_vanish_with_a_vote():
    """Why labels are picked, and not voted on by the pixels that become one: 2000 poles of one
    pixel in width, shrunk to a quarter."""
    label = np.full((4, 40_000), ROAD, np.uint8)
    places = np.random.default_rng(1).choice(10_000, 2000, replace=False) * 4
    label[:, places + np.random.default_rng(2).integers(0, 4, 2000)] = POLE
    share = (label == POLE).mean()
    assert share == 0.05
    picked = resize_label(label, (10_000, 1))
    assert (picked == POLE).mean() == pytest.approx(share, rel=0.1)
    columns = label.reshape(4, 10_000, 4).transpose(1, 0, 2).reshape(10_000, 16)
    voted = np.array([np.bincount(column).argmax() for column in columns])
    assert (voted == POLE).sum() == 0
