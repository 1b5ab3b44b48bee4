"""Photometric augmentation: its rates and ranges, its arithmetic, and that images stay apart."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import reference
from uda.data.augment import Photometric, _blur, _hue_rotation, _jitter

OFF = Photometric(
    jitter_probability=0.0,
    brightness=0.0,
    contrast=0.0,
    saturation=0.0,
    hue=0.0,
    blur_probability=0.0,
    blur_sigma_px=(0.8, 0.8),
)
STRONG = Photometric(
    jitter_probability=1.0,
    brightness=0.9,
    contrast=0.9,
    saturation=0.9,
    hue=0.5,
    blur_probability=1.0,
    blur_sigma_px=(0.15, 3.0),
    grey_probability=0.3,
    noise_probability=1.0,
    noise_sigma=(0.1, 0.5),
)


KINDS = ("jitter", "grey", "blur", "noise")


def with_(**changes: object) -> Photometric:
    return dataclasses.replace(OFF, **changes)


def noise(*shape: int, seed: int = 0) -> Tensor:
    draws = np.random.default_rng(seed)
    return torch.tensor(draws.random(shape), dtype=torch.float32)


def generators(count: int, first: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([17, first + i]) for i in range(count)]


def is_changed(augment: Photometric, images: Tensor) -> np.ndarray:
    out = augment(images, generators(len(images)))
    return ((out - images).abs().amax((1, 2, 3)) > 1e-4).numpy()


# --- rates -----------------------------------------------------------------------------------


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("kind", KINDS)
def test_the_share_of_changed_images_is_the_probability(kind, probability):
    settings = {f"{kind}_probability": probability}
    if kind == "jitter":
        settings |= {"brightness": 0.5, "contrast": 0.5, "saturation": 0.5}
    changed = is_changed(with_(**settings), noise(2000, 3, 4, 4))
    assert changed.mean() == pytest.approx(probability, abs=0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_zero_and_one_are_never_and_always(kind):
    images = noise(200, 3, 4, 4)
    spread = {"brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.3}
    assert is_changed(with_(**{f"{kind}_probability": 1.0}, **spread), images).all()
    assert not is_changed(with_(**{f"{kind}_probability": 0.0}, **spread), images).any()


def test_jitter_and_blur_are_drawn_independently():
    flat = torch.full((2000, 3, 4, 4), 0.3)  # no blur shows on it
    flat[:, :, 1, 1] = 0.32
    settings = {"jitter_probability": 0.5, "blur_probability": 0.5, "brightness": 0.9}
    out = with_(**settings)(flat, generators(2000))
    jittered = (out[:, 0, 3, 3] - 0.3).abs() > 1e-3
    blurred = (out[:, 0, 1, 1] / out[:, 0, 3, 3] - 0.32 / 0.3).abs() > 1e-2
    both = (jittered & blurred).float().mean().item()
    assert both == pytest.approx(0.25, abs=0.03)


def test_an_image_without_colours_is_grey_also_where_nothing_else_changes():
    images = noise(200, 3, 4, 4)
    out = with_(grey_probability=0.4, noise_probability=0.0)(images, generators(200))
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    grey = (images * luma).sum(1, keepdim=True).expand_as(images)
    is_grey = (out - grey).abs().amax((1, 2, 3)) < 1e-6
    torch.testing.assert_close(out[~is_grey], images[~is_grey], atol=1e-6, rtol=0)
    assert is_grey.float().mean().item() == pytest.approx(0.4, abs=0.1)


def test_grey_and_noise_change_nothing_in_what_else_is_drawn():
    """So that a training without them is the one it was before they were there."""
    images = noise(64, 3, 6, 6)
    settings = {"jitter_probability": 0.5, "brightness": 0.5, "blur_probability": 0.5}
    plain = with_(**settings)(images, generators(64))
    noisy = with_(**settings, noise_probability=0.5)(images, generators(64))
    same = (noisy == plain).all((1, 2, 3))
    assert 16 < same.sum() < 48


# --- off -------------------------------------------------------------------------------------


def test_off_returns_the_very_values():
    images = noise(3, 3, 5, 7)
    assert torch.equal(OFF(images, generators(3)), images)


def test_images_that_are_not_drawn_come_back_as_they_were():
    """They pass through the same arithmetic as the others, so up to rounding."""
    images = noise(64, 3, 5, 7)
    augment = Photometric(jitter_probability=0.5, blur_probability=0.5, hue=0.3)
    out = augment(images, generators(64))
    off_by = (out - images).abs().amax((1, 2, 3))
    assert ((off_by < 1e-6) | (off_by > 1e-4)).all()
    assert (off_by < 1e-6).sum() > 5


def test_without_spread_jitter_changes_nothing():
    images = noise(4, 3, 5, 7)
    out = with_(jitter_probability=1.0)(images, generators(4))
    torch.testing.assert_close(out, images, atol=1e-6, rtol=0)


def test_input_is_left_alone():
    images = noise(2, 3, 5, 7)
    before = images.clone()
    STRONG(images, generators(2))
    assert torch.equal(images, before)


# --- randomness ------------------------------------------------------------------------------


def test_same_generators_same_images():
    images = noise(3, 3, 9, 6)
    assert torch.equal(STRONG(images, generators(3)), STRONG(images, generators(3)))
    assert not torch.equal(STRONG(images, generators(3)), STRONG(images, generators(3, first=3)))


def test_an_image_depends_on_its_own_generator_and_not_on_its_neighbours():
    images = noise(4, 3, 9, 6)
    together = STRONG(images, generators(4))
    for i in range(4):
        alone = STRONG(images[i : i + 1], generators(1, first=i))
        torch.testing.assert_close(alone[0], together[i], atol=1e-6, rtol=0)


def test_equal_images_are_augmented_differently():
    images = noise(1, 3, 9, 6).expand(8, -1, -1, -1)
    out = STRONG(images, generators(8)).flatten(1)
    assert len(torch.unique(out, dim=0)) == 8


# --- ranges ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 8), (5, 7), (2, 3), (16, 9)])
def test_values_stay_in_range_at_any_size(size):
    images = noise(32, 3, *size).round()  # the corners of the colour cube
    out = STRONG(images, generators(32))
    assert out.shape == images.shape
    assert out.dtype == images.dtype
    assert torch.isfinite(out).all()
    assert out.min() >= 0.0
    assert out.max() <= 1.0 + 1e-6


def test_brightness_factors_fill_their_range():
    grey = torch.full((2000, 3, 1, 1), 0.5)
    out = with_(jitter_probability=1.0, brightness=0.4)(grey, generators(2000))
    factors = (out[:, 0, 0, 0] / 0.5).numpy()
    assert factors.min() == pytest.approx(0.6, abs=0.01)
    assert factors.max() == pytest.approx(1.4, abs=0.01)
    assert factors.mean() == pytest.approx(1.0, abs=0.02)
    assert factors.std() == pytest.approx(0.8 / 12**0.5, rel=0.05), "uniform"


def test_hue_turns_fill_their_range():
    red = torch.tensor([0.6, 0.4, 0.4]).view(1, 3, 1, 1).expand(1000, -1, -1, -1)
    out = with_(jitter_probability=1.0, hue=0.1)(red, generators(1000))[:, :, 0, 0].numpy()
    turned = np.arctan2(3**0.5 * (out[:, 1] - out[:, 2]), 2 * out[:, 0] - out[:, 1] - out[:, 2])
    turns = turned / (2 * np.pi)
    assert turns.min() == pytest.approx(-0.1, abs=0.003)
    assert turns.max() == pytest.approx(0.1, abs=0.003)
    assert abs(turns.mean()) < 0.01


def test_standard_deviations_of_the_blur_fill_their_range():
    point = torch.zeros(1000, 3, 13, 13)
    point[:, :, 6, 6] = 1.0
    out = with_(blur_probability=1.0, blur_sigma_px=(0.5, 1.5))(point, generators(1000))
    offsets = torch.arange(-6, 7.0)
    sigma = (out[:, 0].sum(2) * offsets**2).sum(1).sqrt().numpy()
    assert 0.45 < sigma.min() < 0.55
    assert 1.35 < sigma.max() < 1.51
    assert 0.9 < np.median(sigma) < 1.1


def test_standard_deviations_of_the_noise_fill_their_range_and_its_mean_is_zero():
    flat = torch.full((500, 3, 16, 16), 0.5)
    out = with_(noise_probability=1.0, noise_sigma=(0.02, 0.1))(flat, generators(500)) - 0.5
    sigma = out.flatten(1).std(1).numpy()
    assert 0.018 < sigma.min() < 0.024
    assert 0.094 < sigma.max() < 0.106
    assert np.median(sigma) == pytest.approx(0.06, abs=0.005)
    assert out.mean().item() == pytest.approx(0.0, abs=5e-4)
    neighbours = (out[:, :, :, 1:] * out[:, :, :, :-1]).mean() / (out**2).mean()
    channels = (out[:, 0] * out[:, 1]).mean() / (out**2).mean()
    assert abs(neighbours) < 0.02, "white"
    assert abs(channels) < 0.02, "of its own in every colour"


# --- arithmetic --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "factors",
    [
        (1.3, 1.0, 1.0, 0.0),
        (1.0, 0.6, 1.0, 0.0),
        (1.0, 1.0, 1.4, 0.0),
        (1.0, 1.0, 1.0, 0.2),
        (0.7, 1.5, 0.5, -0.1),
    ],
)
def test_jitter_equals_the_reference_pixel_by_pixel(factors):
    images = noise(2, 3, 4, 5)
    neutral = (1.0, 1.0, 1.0, 0.0)  # for the second image
    out = _jitter(images, *torch.tensor([factors, neutral]).T)
    expected = reference.colour_jitter(images[0].double().numpy(), *factors)
    np.testing.assert_allclose(out[0].numpy(), expected, atol=1e-6)
    torch.testing.assert_close(out[1], images[1], atol=1e-6, rtol=0)


def test_hue_rotation_is_a_rotation_that_keeps_grey():
    turns = torch.tensor([0.0, 0.05, -0.3, 0.5], dtype=torch.float64)
    rotations = _hue_rotation(turns)
    ones = torch.ones(3, dtype=torch.float64)
    torch.testing.assert_close(rotations @ ones, ones.expand(4, 3))
    identity = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(rotations @ rotations.mT, identity.expand(4, 3, 3))
    torch.testing.assert_close(torch.linalg.det(rotations), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(rotations[0], identity)


def test_a_third_of_a_turn_makes_red_green_and_green_blue():
    (rotation,) = _hue_rotation(torch.tensor([1 / 3], dtype=torch.float64))
    expected = torch.eye(3, dtype=torch.float64).roll(1, 0)
    torch.testing.assert_close(rotation, expected, atol=1e-7, rtol=0)


def test_grey_images_stay_grey():
    grey = noise(8, 1, 5, 7).expand(-1, 3, -1, -1)
    out = with_(jitter_probability=1.0, hue=0.5, saturation=0.9)(grey, generators(8))
    torch.testing.assert_close(out, grey, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(8, 9), (2, 11), (1, 1)])
@pytest.mark.parametrize("sigma", [0.3, 1.15])
def test_blur_equals_a_two_dimensional_convolution(size, sigma):
    images = noise(2, 3, *size)
    out = _blur(images, torch.tensor([sigma, 0.0]), 1.15)
    expected = reference.gaussian_blur(images[0].double().numpy(), sigma, radius=3)
    np.testing.assert_allclose(out[0].numpy(), expected, atol=1e-6)
    assert torch.equal(out[1], images[1])


def test_blur_keeps_a_flat_image_and_the_channels_apart():
    colours = torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1).expand(4, 3, 6, 6)
    out = with_(blur_probability=1.0)(colours, generators(4))
    torch.testing.assert_close(out, colours.contiguous(), atol=1e-6, rtol=0)


def test_works_without_memory_on_the_meta_device():
    with torch.device("meta"):
        images = torch.zeros(2, 3, 7, 5)
        out = STRONG(images, generators(2))
    assert out.is_meta
    assert out.shape == images.shape


@pytest.mark.parametrize(
    "settings",
    [
        {"jitter_probability": 1.1},
        {"blur_probability": -0.1},
        {"brightness": 1.0},
        {"contrast": -0.1},
        {"saturation": 2.0},
        {"hue": 1.0},
        {"blur_sigma_px": (0.0, 1.0)},
        {"blur_sigma_px": (2.0, 1.0)},
        {"grey_probability": 2.0},
        {"noise_probability": -1.0},
        {"noise_sigma": (0.0, 0.1)},
        {"noise_sigma": (0.2, 0.1)},
    ],
)
def test_bad_settings_are_refused(settings):
    with pytest.raises(ValueError, match=f"^{next(iter(settings))}: got"):
        Photometric(**settings)
