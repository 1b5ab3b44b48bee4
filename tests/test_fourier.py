"""Exchange of Fourier amplitudes, against FDA's recipe in NumPy: centred spectra, bin by bin."""

import numpy as np
import pytest
import torch
from torch import Tensor

from uda.data.fourier import Fourier, exchange_amplitudes
from uda.randomness import sample_generators

Generators = list[np.random.Generator]


def generators(count: int, first: int = 0) -> Generators:
    return sample_generators(3, "fourier", 5, first, count)


def images(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Smooth enough not to leave 0 to 1 often, and far enough from grey."""
    draws = np.random.default_rng([seed, height, width])
    return torch.tensor(draws.uniform(0.3, 0.7, (count, 3, height, width)), dtype=torch.float32)


def reference(source: np.ndarray, target: np.ndarray, beta: float) -> np.ndarray:
    """The amplitudes of the square |frequency| <= floor(beta * shorter side) are the target's."""
    height, width = source.shape[2:]
    reach = int(np.floor(beta * min(height, width)))
    out = np.zeros(source.shape)
    for b, c in np.ndindex(*source.shape[:2]):
        ours = np.fft.fftshift(np.fft.fft2(source[b, c]))
        theirs = np.fft.fftshift(np.fft.fft2(target[b, c]))
        for y, x in np.ndindex(height, width):
            if abs(y - height // 2) <= reach and abs(x - width // 2) <= reach:
                ours[y, x] = abs(theirs[y, x]) * np.exp(1j * np.angle(ours[y, x]))
        out[b, c] = np.fft.ifft2(np.fft.ifftshift(ours)).real
    return np.clip(out, 0, 1)


@pytest.mark.parametrize("beta", [0.0, 0.05, 0.13, 0.3])
@pytest.mark.parametrize("size", [(16, 24), (24, 16), (15, 21), (16, 9), (1, 1), (1, 8), (49, 49)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_reference(size, beta, dtype):
    source, target = images(2, *size).to(dtype), images(2, *size, seed=1).to(dtype)
    changed = exchange_amplitudes(source, target, beta)
    assert changed.dtype == dtype
    assert changed.shape == source.shape
    expected = reference(source.double().numpy(), target.double().numpy(), beta)
    assert changed.double().numpy() == pytest.approx(expected, abs=1e-5)


@pytest.fixture
def _double():
    """As in the tests of two processes: every new tensor is double."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("side", [49, 98, 103, 107])
def test_the_reach_is_exact_where_everything_is_double(side):
    """1 / (1 / 49) is more than 49: frequency 1, computed so, would lie beyond a reach of 1."""
    source, target = (images(1, side, side, seed).double() for seed in (0, 1))
    changed = exchange_amplitudes(source, target, 1.5 / side)
    seen, wanted = (torch.fft.rfft2(x).abs()[0, 0] for x in (changed, target))
    for place in ((1, 0), (0, 1), (1, 1), (side - 1, 1)):
        torch.testing.assert_close(seen[place], wanted[place])


def test_a_share_that_is_whole_cycles_reaches_the_last_of_them():
    """0.29 * 100 is 28.999999999999996 in floating point."""
    source, target = images(1, 100, 120), images(1, 100, 120, seed=1)
    exact, above, below = (exchange_amplitudes(source, target, b) for b in (0.29, 0.2901, 0.2899))
    assert torch.equal(exact, above)
    assert not torch.equal(exact, below)


@pytest.mark.parametrize(("beta", "reach"), [(0.01, 1), (0.05, 6), (0.09, 11), (0.007, 0)])
def test_the_published_betas_on_small_images_reach_few_cycles(beta, reach):
    """FDA's 0.01 is 10 cycles at 1024 rows and a single one at 128."""
    source, target = images(1, 128, 256), images(1, 128, 256, seed=1)
    spectra = [
        torch.fft.rfft2(x)[0, 0] for x in (source, exchange_amplitudes(source, target, beta))
    ]
    moved = (spectra[0] - spectra[1]).abs() > 0.05
    assert moved[0].nonzero().max() == reach
    assert moved[:, 0].nonzero()[:, 0].clamp_max(64).unique().numel() > reach
    assert moved[reach + 1 : 128 - reach].sum() == 0


def test_images_take_the_mean_colour_and_keep_their_content():
    source, target = images(2, 16, 24), images(2, 16, 24, seed=1) * 0.5
    changed = exchange_amplitudes(source, target, 0.0)
    torch.testing.assert_close(changed.mean((2, 3)), target.mean((2, 3)))
    shift = (target.mean((2, 3)) - source.mean((2, 3)))[..., None, None]
    torch.testing.assert_close(changed, source + shift, atol=1e-5, rtol=0)


def test_an_image_that_meets_itself_stays_as_it_is():
    source = images(2, 15, 21)
    torch.testing.assert_close(exchange_amplitudes(source, source, 0.3), source)


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_a_constant_image_is_no_trouble(value, beta):
    constant, other = torch.full((1, 3, 15, 20), value), images(1, 15, 20)
    both = exchange_amplitudes(constant, torch.full_like(constant, 0.4), beta)
    torch.testing.assert_close(both, torch.full_like(constant, 0.4))
    as_source = exchange_amplitudes(constant, other, beta)
    as_target = exchange_amplitudes(other, constant, beta)
    for changed in (as_source, as_target):
        assert torch.isfinite(changed).all()
        assert changed.min() >= 0
        assert changed.max() <= 1
    torch.testing.assert_close(as_source.mean((2, 3)), other.mean((2, 3)), atol=1e-3, rtol=0)


def test_the_result_is_clipped_to_colours():
    source = torch.zeros(1, 3, 8, 8)
    source[..., ::2] = 1.0
    bright = exchange_amplitudes(source, torch.ones(1, 3, 8, 8), 0.0)
    assert bright.max() == 1
    assert bright.min() == pytest.approx(0.5)


class TestProbability:
    def changed(self, probability: float, count: int = 400) -> Tensor:
        source, target = images(1, 4, 5).expand(count, -1, -1, -1), torch.zeros(count, 3, 4, 5)
        result = Fourier(probability=probability)(source, target, generators(count))
        return (result != source).flatten(1).any(1)

    def test_is_the_share_of_images(self):
        assert not self.changed(0.0).any()
        assert self.changed(1.0).all()
        assert self.changed(0.3).float().mean() == pytest.approx(0.3, abs=0.06)

    def test_the_others_are_the_very_same_bits(self):
        source, target = images(20, 6, 7), images(20, 6, 7, seed=1)
        result = Fourier(probability=0.5, beta=0.2)(source, target, generators(20))
        everyone = exchange_amplitudes(source, target, 0.2)
        unchanged = [torch.equal(r, s) for r, s in zip(result, source, strict=True)]
        assert 0 < sum(unchanged) < 20
        for i, same in enumerate(unchanged):
            assert torch.equal(result[i], source[i] if same else everyone[i])

    def test_where_nobody_is_chosen_nothing_is_computed(self):
        source = images(2, 4, 4)
        assert Fourier(probability=0.0)(source, source, generators(2)) is source


def test_workers_draw_together_what_one_draws_alone():
    source, target = images(6, 8, 9), images(6, 8, 9, seed=1)
    fourier = Fourier(probability=0.5, beta=0.2)
    whole = fourier(source, target, generators(6))
    assert not torch.equal(whole, source)
    for first, count in ((0, 2), (2, 1), (3, 3)):  # one of them is a batch of one
        part = slice(first, first + count)
        share = fourier(source[part], target[part], generators(count, first))
        torch.testing.assert_close(share, whole[part], atol=1e-6, rtol=0)


def test_no_number_is_drawn_twice_or_skipped():
    """The decision is the first number of the image's own generator."""
    source, target = images(8, 4, 4), images(8, 4, 4, seed=1)
    result = Fourier(probability=0.5)(source, target, generators(8))
    for i, generator in enumerate(generators(8)):
        assert torch.equal(result[i], source[i]) == (generator.random() >= 0.5)


def test_runs_on_the_meta_device():
    source = torch.zeros(2, 3, 8, 9, device="meta")
    assert Fourier(probability=1.0)(source, source, generators(2)).shape == (2, 3, 8, 9)


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_a_probability_outside_0_to_1_is_refused(probability):
    with pytest.raises(ValueError, match=r"probability: got .*, want 0 to 1"):
        Fourier(probability=probability)


@pytest.mark.parametrize("beta", [-0.1, 0.6, float("nan")])
def test_a_beta_outside_0_to_a_half_is_refused(beta):
    with pytest.raises(ValueError, match=r"beta: got .*, want 0 to 0\.5"):
        Fourier(beta=beta)
