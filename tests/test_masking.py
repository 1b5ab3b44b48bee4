"""Hidden blocks, against MIC's definition pixel by pixel."""

import numpy as np
import pytest
import torch

from uda.data.masking import BlockMask
from uda.randomness import sample_generators


def generators(count: int, first: int = 0) -> list[np.random.Generator]:
    return sample_generators(3, "mask", 5, first, count)


def reference(mask: BlockMask, count: int, height: int, width: int) -> np.ndarray:
    """Pixel (y, x) is hidden if the lot of block (y // side, x // side) is below the ratio."""
    side = mask.block_px
    out = np.zeros((count, 1, height, width), bool)
    for i, generator in enumerate(generators(count)):
        lots = generator.random(((height + side - 1) // side, (width + side - 1) // side))
        for y, x in np.ndindex(height, width):
            out[i, 0, y, x] = lots[y // side, x // side] < mask.ratio
    return out


@pytest.mark.parametrize("size", [(1, 1), (8, 12), (13, 7), (50, 101)])
@pytest.mark.parametrize("block_px", [1, 3, 4, 8, 41, 47, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_reference(size, block_px, dtype):
    """Also for blocks of 41 and 47 pixels, where interpolation by a factor loses a pixel."""
    mask = BlockMask(ratio=0.6, block_px=block_px)
    hidden = mask.hidden(torch.zeros(2, 3, *size, dtype=dtype), generators(2))
    assert hidden.dtype == torch.bool
    np.testing.assert_array_equal(hidden.numpy(), reference(mask, 2, *size))


def test_the_ratio_is_the_probability_of_a_block():
    for ratio in (0.0, 0.3, 0.7, 1.0):
        hidden = BlockMask(ratio=ratio, block_px=1).hidden(torch.zeros(4, 3, 60, 60), generators(4))
        assert hidden.float().mean().item() == pytest.approx(
            ratio, abs=0.0 if ratio in (0, 1) else 0.02
        )


def test_images_and_blocks_are_independent_of_each_other():
    hidden = BlockMask(ratio=0.5, block_px=1).hidden(torch.zeros(2, 3, 60, 60), generators(2))
    first, second = hidden[:, 0].float()
    for one, other in ((first, second), (first[:, 1:], first[:, :-1]), (first[1:], first[:-1])):
        assert (one == other).float().mean() == pytest.approx(0.5, abs=0.04)


def test_hidden_pixels_are_zero_in_all_channels_and_the_others_untouched():
    images = torch.randn(2, 3, 9, 11) + 5
    kept = images.clone()
    mask = BlockMask(ratio=0.5, block_px=2)
    result = mask.hide(images, generators(2))
    hidden = torch.tensor(reference(mask, 2, 9, 11)).expand_as(images)
    assert 0 < hidden.sum() < hidden.numel()
    assert torch.equal(result, torch.where(hidden, 0.0, images))
    assert torch.equal(images, kept)


def test_a_hidden_pixel_takes_no_gradient_and_hides_what_is_not_a_number():
    images = torch.full((1, 3, 6, 6), float("nan"), requires_grad=True)
    result = BlockMask(ratio=1.0, block_px=4).hide(images, generators(1))
    assert not result.any()
    result.sum().backward()
    assert not images.grad.any()


def test_nothing_hidden_leaves_the_image_as_it_is():
    images = torch.randn(2, 3, 5, 5)
    assert torch.equal(BlockMask(ratio=0.0).hide(images, generators(2)), images)


def test_workers_draw_together_what_one_draws_alone():
    mask, images = BlockMask(block_px=2), torch.ones(6, 3, 8, 9)
    whole = mask.hidden(images, generators(6))
    for first, count in ((0, 2), (2, 1), (3, 3)):  # one of them is a batch of one
        share = mask.hidden(images[:count], generators(count, first))
        assert torch.equal(share, whole[first : first + count])


def test_runs_on_the_meta_device():
    images = torch.zeros(2, 3, 33, 40, device="meta")
    assert BlockMask().hide(images, generators(2)).shape == images.shape


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_a_ratio_outside_0_to_1_is_refused(ratio):
    with pytest.raises(ValueError, match=r"ratio: got .*, want 0 to 1"):
        BlockMask(ratio=ratio)


def test_a_block_without_a_pixel_is_refused():
    with pytest.raises(ValueError, match="block_px: got 0, want 1 or more"):
        BlockMask(block_px=0)
