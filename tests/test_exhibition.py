"""Pictures of images, truths and predictions."""

import numpy as np
import pytest
import torch

from tests.test_evaluate import Memory, PaletteReader, random_pair
from uda.classes import CLASS_LISTS, IGNORE, PALETTE
from uda.exhibition import _RIGHT, Exhibit, exhibit, exhibition
from uda.inference import Inference
from uda.judge import ImageScore

CITYSCAPES = CLASS_LISTS["cityscapes19"]


def test_exhibit_is_what_the_network_sees():
    memory = Memory([random_pair(0)])
    shown = exhibit(PaletteReader().eval(), memory, 0, Inference())
    image, label = memory.pairs[0]
    assert np.array_equal(shown.image, image)
    assert np.array_equal(shown.truth, label)
    known = label != IGNORE
    assert np.array_equal(shown.prediction[known], label[known])
    assert torch.is_grad_enabled()


def test_large_images_are_made_small():
    image = np.zeros((1024, 2048, 3), np.uint8)
    label = np.zeros((1024, 2048), np.uint8)
    label[:, 1024:] = 13
    shown = Exhibit.of(image, label, label)
    assert shown.image.shape == (240, 480, 3)
    assert shown.truth.shape == shown.prediction.shape == (240, 480)
    assert set(np.unique(shown.truth)) == {0, 13}, "no class between two others"


@pytest.mark.slow
def test_sheet_shows_what_is_wrong():
    truth = np.zeros((32, 48), np.uint8)
    truth[:8] = IGNORE
    prediction = np.zeros_like(truth)
    prediction[:, 24:] = 13
    shown = Exhibit.of(PALETTE[truth], truth, prediction)
    other = Exhibit.of(*(np.repeat(m, 2, axis=0) for m in (PALETTE[truth], truth, prediction)))
    memory = Memory([random_pair(0), random_pair(1)])
    scores = [ImageScore(miou=0.5, index=i, pixel_accuracy=0.5) for i in (0, 1)]
    sheet = np.array(exhibition([shown, other], scores, memory, CITYSCAPES))
    wrong = sheet[:, 3 * sheet.shape[1] // 4 :]  # the last of four columns, roughly
    car = tuple(PALETTE[13])
    assert (wrong == car).all(axis=-1).sum() > 1000
    right = (wrong == _RIGHT).all(axis=-1).sum()
    assert right > 1000, "what is right is told from what is ignored"
    colors = {tuple(color) for color in sheet.reshape(-1, 3)}
    assert {car, tuple(PALETTE[0]), (0, 0, 0)} <= colors
