"""The small networks on top of the taps: discriminators and projection head."""

import pytest
import torch
from torch import nn

from tests import reference_adversarial
from tests.small_models import small_config
from uda.adversaries import build_discriminator
from uda.losses.adversarial import Level
from uda.models import PatchDiscriminator, ProjectionHead, build_model, num_strided_for
from uda.models.discriminator import PixelDiscriminator, StatisticsDiscriminator
from uda.types import UserError


class TestDiscriminator:
    def test_is_adaptsegnets(self):
        layers = list(PatchDiscriminator(19).layers)
        convs = [m for m in layers if isinstance(m, nn.Conv2d)]
        assert [m.out_channels for m in convs] == [64, 128, 256, 512, 1]
        assert all(m.kernel_size == (4, 4) and m.stride == (2, 2) for m in convs)
        assert all(m.padding == (1, 1) for m in convs)
        assert [m.negative_slope for m in layers if isinstance(m, nn.LeakyReLU)] == [0.2] * 4
        assert len(layers) == 9  # nothing behind the last convolution

    @pytest.mark.parametrize("num_strided", range(6))
    @pytest.mark.parametrize("size", [(32, 64), (64, 128), (37, 51)])
    def test_patch_map_size_and_gradients(self, size, num_strided):
        discriminator = PatchDiscriminator(5, width=4, num_strided=num_strided)
        maps = torch.randn(2, 5, *size)
        kept = maps.clone()
        logits = discriminator(maps)
        assert logits.shape == (2, 1, size[0] >> num_strided, size[1] >> num_strided)
        assert torch.equal(maps, kept)
        logits.mean().backward()
        assert all(p.grad is not None for p in discriminator.parameters())

    @pytest.mark.parametrize("backbone", ["tiny", "resnet18"])
    def test_every_tap_judges_the_same_patches(self, backbone):
        with torch.device("meta"):
            model = build_model(small_config(backbone))
            output = model(torch.empty(1, 3, 64, 128))
            maps = {**output.features, "output": output.logits}
            for tap, value in maps.items():
                num_strided = num_strided_for(model.tap_strides[tap])
                discriminator = PatchDiscriminator(model.tap_channels[tap], 4, num_strided)
                assert discriminator(value).shape[-2:] == (2, 4), tap

    def test_user_mistakes(self):
        with pytest.raises(UserError, match=r"map of \(16, 64\), want at least 32"):
            PatchDiscriminator(3, 4)(torch.zeros(1, 3, 16, 64))
        with pytest.raises(UserError, match="num_strided: got 6, want 0 to 5"):
            PatchDiscriminator(3, 4, num_strided=6)


class TestPixelDiscriminator:
    def test_is_fadas(self):
        layers = list(PixelDiscriminator(2048, 38).layers)
        convs = [m for m in layers if isinstance(m, nn.Conv2d)]
        assert [m.out_channels for m in convs] == [512, 256, 38]
        assert all(m.kernel_size == (3, 3) and m.stride == (1, 1) for m in convs)
        assert [m.negative_slope for m in layers if isinstance(m, nn.LeakyReLU)] == [0.2] * 2
        assert len(layers) == 5

    @pytest.mark.parametrize("size", [(1, 1), (2, 3), (9, 4)])
    def test_judges_every_position_and_leaves_the_map_alone(self, size):
        discriminator = PixelDiscriminator(5, 6, width=1)
        maps = torch.randn(2, 5, *size)
        kept = maps.clone()
        logits = discriminator(maps)
        assert logits.shape == (2, 6, *size)
        assert torch.equal(maps, kept)
        logits.mean().backward()
        assert all(p.grad is not None for p in discriminator.parameters())


class TestStatisticsDiscriminator:
    def test_is_a_perceptron_for_each_image(self):
        torch.manual_seed(0)
        discriminator = StatisticsDiscriminator(6, width=2)
        rows = torch.randn(3, 6)
        layers = [
            (m.weight.detach().double().numpy()[:, :, 0, 0], m.bias.detach().double().numpy())
            for m in discriminator.layers
            if isinstance(m, nn.Conv2d)
        ]
        assert [weight.shape for weight, _ in layers] == [(8, 6), (8, 8), (1, 8)]
        expected = reference_adversarial.perceptron(rows.double().numpy(), layers)
        logits = discriminator(rows[..., None, None])
        assert logits.shape == (3, 1, 1, 1)
        torch.testing.assert_close(logits.flatten().double(), torch.tensor(expected).flatten())


@pytest.mark.parametrize(
    ("level", "kind", "in_channels", "outputs"),
    [
        (Level(name="a"), PatchDiscriminator, 10, 1),
        (Level(name="a", reads="layer1", sees="plain"), PatchDiscriminator, 10, 1),
        (Level(name="a", reads="stem", sees="statistics"), StatisticsDiscriminator, 20, 1),
        (Level(name="a", reads="aspp", sees="plain", conditional=True), PixelDiscriminator, 10, 38),
    ],
)
def test_each_kind_of_level_has_its_discriminator(level, kind, in_channels, outputs):
    discriminator = build_discriminator(level, 10, 4, 19)
    assert isinstance(discriminator, kind)
    assert discriminator.layers[0].in_channels == in_channels
    assert discriminator.layers[-1].out_channels == outputs


class TestProjectionHead:
    def test_unit_length_at_every_position(self):
        torch.manual_seed(0)
        head = ProjectionHead(12, 5)
        features = torch.randn(2, 12, 4, 6)
        embedding = head(features)
        assert embedding.shape == (2, 5, 4, 6)
        torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2, 4, 6))
        first, _, second = head.layers
        vector = first.weight[:, :, 0, 0] @ features[1, :, 2, 3] + first.bias
        vector = second.weight[:, :, 0, 0] @ vector.clamp(min=0) + second.bias
        torch.testing.assert_close(embedding[1, :, 2, 3], vector / vector.norm())

    def test_float32_under_autocast(self):
        with torch.autocast("cpu", torch.bfloat16):
            embedding = ProjectionHead(4, 3)(torch.randn(1, 4, 2, 2))
        assert embedding.dtype == torch.float32
