"""ClassMix image by image against sets of pixels, pasting, and trust."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests import reference
from uda.classes import IGNORE, NUM_CLASSES
from uda.data.mixing import class_mix_mask, class_trust, image_trust, paste


def generators(count: int, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, i]) for i in range(count)]


def random_labels(count: int, seed: int = 0, height: int = 6, width: int = 5) -> Tensor:
    """Each image with its own number of classes, and some ignored pixels."""
    draws = np.random.default_rng(seed)
    labels = np.empty((count, height, width), np.int64)
    for i in range(count):
        classes = draws.choice(NUM_CLASSES, draws.integers(1, NUM_CLASSES), replace=False)
        labels[i] = draws.choice([*classes, IGNORE], (height, width))
    return torch.from_numpy(labels)


def present(label: Tensor) -> set[int]:
    return set(label.unique().tolist()) - {IGNORE}


def chosen(label: Tensor, mask: Tensor) -> set[int]:
    return set(label[mask].unique().tolist())


@given(st.integers(0, 2**32), st.integers(1, 5))
def test_exactly_half_of_the_classes_of_that_image_rounded_up(seed, count):
    labels = random_labels(count, seed)
    masks = class_mix_mask(labels, generators(count, seed))
    assert masks.shape == labels.shape
    for label, mask in zip(labels, masks, strict=True):
        classes = chosen(label, mask)
        assert IGNORE not in classes
        assert len(classes) == -(-len(present(label)) // 2)
        whole = torch.isin(label, torch.tensor(sorted(classes), dtype=label.dtype))
        assert torch.equal(mask, whole), "classes are pasted whole"


@given(st.integers(0, 2**32))
def test_mask_equals_the_reference(seed):
    labels = random_labels(3, seed)
    tickets = np.stack([g.random(NUM_CLASSES) for g in generators(3, seed)])
    expected = reference.class_mix_masks(labels.numpy(), tickets)
    np.testing.assert_array_equal(class_mix_mask(labels, generators(3, seed)).numpy(), expected)


@pytest.mark.parametrize(("num_present", "num_chosen"), [(1, 1), (2, 1), (3, 2), (18, 9), (19, 10)])
def test_numbers_of_chosen_classes(num_present, num_chosen):
    labels = torch.arange(num_present).expand(1, 4, -1)
    (mask,) = class_mix_mask(labels, generators(1))
    assert len(chosen(labels[0], mask)) == num_chosen


def test_an_image_of_ignored_pixels_alone_gives_nothing():
    labels = random_labels(3)
    labels[1] = IGNORE
    masks = class_mix_mask(labels, generators(3))
    assert not masks[1].any()
    assert masks[0].any()
    assert masks[2].any()


def test_every_class_of_an_image_is_chosen_equally_often():
    label = torch.tensor([[0, 3, 7, 18, IGNORE]]).expand(3000, 1, 5)
    masks = class_mix_mask(label, generators(3000))
    rates = masks.float().mean((0, 1))
    assert rates[4] == 0.0
    np.testing.assert_allclose(rates[:4], 0.5, atol=0.03)


def test_pairs_of_classes_are_chosen_equally_often():
    label = torch.tensor([[2, 5, 11]]).expand(3000, 1, 3)
    masks = class_mix_mask(label, generators(3000))[:, 0]
    pairs, counts = torch.unique(masks, dim=0, return_counts=True)
    assert len(pairs) == 3
    np.testing.assert_allclose(counts / 3000, 1 / 3, atol=0.03)


def test_a_choice_does_not_depend_on_the_other_images_of_the_batch():
    """The published code chose among all classes of the batch, also those absent from the image."""
    labels = random_labels(4)
    together = class_mix_mask(labels, generators(4))
    for i in range(4):
        (alone,) = class_mix_mask(labels[i : i + 1], generators(4)[i : i + 1])
        assert torch.equal(alone, together[i])


def test_same_generators_same_mask_others_another():
    labels = random_labels(4)
    masks = class_mix_mask(labels, generators(4))
    assert torch.equal(masks, class_mix_mask(labels, generators(4)))
    assert not torch.equal(masks, class_mix_mask(labels, generators(4, seed=1)))


def test_works_on_the_meta_device():
    labels = torch.zeros(2, 3, 5, dtype=torch.int64, device="meta")
    assert class_mix_mask(labels, generators(2)).shape == (2, 3, 5)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_paste_takes_each_pixel_from_the_one_or_the_other(channels):
    draws = np.random.default_rng(0)
    source, target = (torch.from_numpy(draws.random((2, *channels, 4, 5))) for _ in range(2))
    mask = torch.from_numpy(draws.random((2, 4, 5)) < 0.5)
    out = paste(mask, source, target)
    for b, y, x in np.ndindex(2, 4, 5):
        wanted = source if mask[b, y, x] else target
        assert torch.equal(out[b, ..., y, x], wanted[b, ..., y, x])


def test_paste_of_three_images_with_three_channels_is_not_mistaken():
    """B = C = H = W: only the number of dimensions tells images from maps."""
    source, target = torch.ones(3, 3, 3, 3), torch.zeros(3, 3, 3, 3)
    mask = torch.zeros(3, 3, 3, dtype=torch.bool)
    mask[1] = True
    assert paste(mask, source, target).mean((1, 2, 3)).tolist() == [0, 1, 0]


def test_trust_is_the_share_of_confident_pixels_of_each_image():
    confidence = torch.tensor(np.random.default_rng(0).random((3, 4, 5)), dtype=torch.float32)
    expected = [(c >= 0.7).sum() / c.size for c in confidence.numpy()]
    np.testing.assert_allclose(image_trust(confidence, 0.7), expected, rtol=1e-6)


def test_trust_includes_the_threshold_itself():
    confidence = torch.tensor([[[0.5, 0.25]]])
    assert image_trust(confidence, 0.5).tolist() == [0.5]
    assert image_trust(confidence, 0.25).tolist() == [1.0]
    assert image_trust(confidence, 0.0).tolist() == [1.0]
    assert image_trust(confidence, 0.75).tolist() == [0.0]


def test_class_trust_pixel_by_pixel():
    """Plain loops: above the threshold, or no less sure than half of its class in its image."""
    draws = np.random.default_rng(1)
    confidence = draws.random((3, 6, 7)).astype(np.float32)
    labels = draws.integers(0, 4, (3, 6, 7))
    labels[0, 0, 0] = 18  # the only one of its class: its own median
    got = class_trust(torch.tensor(confidence), torch.tensor(labels), 0.6).numpy()
    for image, y, x in np.ndindex(*labels.shape):
        own = np.sort(confidence[image][labels[image] == labels[image, y, x]])
        median = own[(len(own) - 1) // 2]
        value = confidence[image, y, x]
        assert got[image, y, x] == (value >= 0.6 or value >= median)
    assert got[0, 0, 0]
    assert 0 < got.mean() < 1


def test_class_trust_keeps_at_least_what_a_threshold_keeps():
    confidence = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 19, (2, 8, 8), generator=torch.Generator().manual_seed(1))
    assert class_trust(confidence, labels, 0.0).all()
    trusted = class_trust(confidence, labels, 0.9)
    assert trusted[confidence >= 0.9].all()
    for image in range(2):
        assert all(trusted[image][labels[image] == c].any() for c in labels[image].unique())
