"""The head's layers against their formulas, written out in plain loops and sums in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.small_models import randomise_norms, small_config, small_model
from uda.models.deeplabv3plus import ASPP
from uda.models.layers import ConvNorm, PooledBatchNorm, SeparableConv, make_norm


class TestLayers:
    def test_separable_conv_against_loops(self):
        """The definition, position by position, in float64."""
        torch.manual_seed(0)
        layer = SeparableConv(3, 5, "batch", dilation=2).double().eval()
        randomise_norms(layer)
        x = torch.randn(2, 3, 6, 7, dtype=torch.float64)
        with torch.no_grad():
            got = layer(x)
            expected = _separable_conv_by_loops(layer, x, dilation=2)
        torch.testing.assert_close(got, expected)

    @pytest.mark.parametrize(("output_stride", "rates"), [(16, (2, 3)), (8, (4, 6)), (32, (1, 1))])
    def test_aspp_against_its_formula(self, output_stride, rates):
        torch.manual_seed(0)
        config = small_config(output_stride=output_stride, aspp_dilations=(2, 3))
        aspp = ASPP(6, config).double().eval()
        randomise_norms(aspp)
        x = torch.randn(2, 6, 9, 11, dtype=torch.float64)
        pooling, pointwise, *separable = aspp.branches
        mean = x.mean((2, 3), keepdim=True)
        views = [
            _plain_conv_norm(pooling.conv, pooling.norm, mean).expand(-1, -1, 9, 11),
            _plain_conv_norm(pointwise.conv, pointwise.norm, x),
        ]
        for branch, rate in zip(separable, rates, strict=True):
            views.append(_separable_conv_by_loops(branch, x, rate))
        expected = _plain_conv_norm(aspp.project.conv, aspp.project.norm, torch.cat(views, 1))
        torch.testing.assert_close(aspp(x), expected)

    def test_evaluation_folds_into_one_convolution(self):
        torch.manual_seed(0)
        layer = ConvNorm(4, 6, "batch", kernel_size=3).eval()
        randomise_norms(layer)
        scale = layer.norm.weight / (layer.norm.running_var + layer.norm.eps).sqrt()
        weight = layer.conv.weight * scale[:, None, None, None]
        bias = layer.norm.bias - layer.norm.running_mean * scale
        x = torch.randn(2, 4, 8, 8)
        expected = F.conv2d(x, weight, bias, padding=1).relu()
        torch.testing.assert_close(layer(x), expected)

    def test_pooled_batch_norm(self):
        """As BatchNorm where that is defined; an affine map that stays put for a single value."""
        torch.manual_seed(0)
        ours, plain = PooledBatchNorm(4), nn.BatchNorm2d(4)
        randomise_norms(ours)
        plain.load_state_dict(ours.state_dict())
        pair = torch.randn(2, 4, 1, 1)
        torch.testing.assert_close(ours(pair), plain(pair))
        before = {key: value.clone() for key, value in ours.state_dict().items()}
        single = torch.randn(1, 4, 1, 1)
        torch.testing.assert_close(ours(single), plain.eval()(single))
        assert all(torch.equal(before[key], value) for key, value in ours.state_dict().items())

    @pytest.mark.parametrize(
        ("channels", "groups"), [(256, 32), (48, 8), (304, 16), (16, 4), (7, 1), (2, 1)]
    )
    def test_groups_hold_at_least_four_channels(self, channels, groups):
        assert make_norm("group", channels).num_groups == groups

    def test_group_norm_head_has_no_batch_norm(self):
        model = small_model(norm="group")
        assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())

    def test_head_without_norm_is_convolutions_with_bias(self):
        with torch.device("meta"):
            model = small_model("resnet18", norm="none")
        for part in (model.aspp, model.decoder):
            assert not any(isinstance(m, nn.BatchNorm2d | nn.GroupNorm) for m in part.modules())
            convolutions = [m for m in part.modules() if isinstance(m, nn.Conv2d)]
            assert convolutions
            assert all(conv.bias is not None for conv in convolutions)

    @pytest.mark.parametrize("norm", ["batch", "group"])
    def test_only_where_nothing_else_shifts_has_a_convolution_a_bias(self, norm):
        model = small_model(norm=norm)
        biased = {
            name
            for name, module in model.named_modules()
            if isinstance(module, nn.Conv2d) and module.bias is not None
        }
        pooling = {"aspp.branches.0.conv"} if norm == "group" else set()
        assert biased == {"classifier"} | pooling


def _plain_norm(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    mean, variance, weight, bias = (
        t[:, None, None] for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (x - mean) / (variance + norm.eps).sqrt() * weight + bias


def _plain_conv_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """1x1 convolution as a matrix product, BatchNorm in evaluation, ReLU."""
    return _plain_norm(norm, torch.einsum("oi,bihw->bohw", conv.weight[:, :, 0, 0], x)).relu()


def _separable_conv_by_loops(layer: SeparableConv, x: Tensor, dilation: int) -> Tensor:
    kernel = layer.depthwise.conv.weight
    height, width = x.shape[-2:]
    depthwise = torch.zeros_like(x)
    for row in range(height):
        for column in range(width):
            for i in range(3):
                for j in range(3):
                    r, c = row + (i - 1) * dilation, column + (j - 1) * dilation
                    if 0 <= r < height and 0 <= c < width:
                        depthwise[..., row, column] += kernel[:, 0, i, j] * x[..., r, c]
    depthwise = _plain_norm(layer.depthwise.norm, depthwise).relu()
    return _plain_conv_norm(layer.pointwise.conv, layer.pointwise.norm, depthwise)
