"""Depthwise convolutions: torch's values to the bit, its gradients up to rounding, its layout."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uda.models.backbones import BACKBONES
from uda.models.depthwise import DepthwiseConv, _Dilated, speed_up_depthwise
from uda.models.layers import SeparableConv


def pair(kernel: int, dilation: int, bias: bool = False) -> tuple[nn.Conv2d, DepthwiseConv]:
    """The same convolution of 6 channels twice, torch's and ours."""
    padding = dilation * (kernel // 2)
    torch.manual_seed(kernel + dilation)
    theirs = nn.Conv2d(6, 6, kernel, 1, padding, dilation, groups=6, bias=bias).double()
    ours = DepthwiseConv(6, 6, kernel, 1, padding, dilation, groups=6, bias=bias).double()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def gradients(conv: nn.Conv2d, x: Tensor, of_output: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(conv(x), [x, *conv.parameters()], of_output)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (3, 2), (5, 2), (3, 5), (7, 3)])
@pytest.mark.parametrize("bias", [False, True])
def test_values_and_gradients_are_torchs(kernel, dilation, bias, layout):
    theirs, ours = pair(kernel, dilation, bias)
    x = torch.randn(3, 6, 8, 9, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    of_output = torch.randn(3, 6, 8, 9, dtype=torch.float64).to(memory_format=layout)
    assert torch.equal(ours(x), theirs(x))
    for got, expected in zip(
        gradients(ours, x, of_output), gradients(theirs, x, of_output), strict=True
    ):
        torch.testing.assert_close(got, expected)


def test_gradients_against_finite_differences():
    x = torch.randn(2, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *xs: _Dilated.apply(*xs, 2), (x, weight, bias))


def test_a_gradient_that_nobody_wants_is_not_computed(monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("not wanted")

    monkeypatch.setattr("uda.models.depthwise._weight_gradient", refuse)
    _, conv = pair(3, 2)
    conv.weight.requires_grad_(False)
    x = torch.randn(1, 6, 8, 8, dtype=torch.float64, requires_grad=True)
    conv(x).sum().backward()
    assert x.grad is not None


def test_the_slow_ones_and_no_others_take_the_quick_way(monkeypatch):
    taken = []
    monkeypatch.setattr(_Dilated, "apply", lambda x, w, b, d: taken.append(d) or x)
    _, dilated = pair(3, 2)
    _, plain = pair(3, 1)
    x = torch.randn(1, 6, 8, 8, dtype=torch.float64)
    dilated(x)
    assert taken == [2]
    plain(x)
    with torch.no_grad():
        dilated(x)
    with torch.autocast("cpu", torch.bfloat16):
        dilated.float()(x.float())
    assert taken == [2]


@pytest.mark.parametrize(
    "others",
    [{"stride": 2}, {"padding": 1}, {"dilation": (2, 1), "padding": (2, 1)}],
)
def test_other_shapes_are_left_to_torch(others):
    arguments = {"padding": 2, "dilation": 2, **others}
    conv = DepthwiseConv(4, 4, 3, groups=4, **arguments)
    x = torch.randn(1, 4, 9, 9)
    expected = F.conv2d(
        x, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, groups=4
    )
    assert torch.equal(conv(x), expected)


def test_a_network_keeps_its_weights_and_their_names():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4),
        nn.Conv2d(4, 8, 1),
        nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)),
    )
    x = torch.randn(1, 4, 8, 8)
    expected, names = network(x), list(network.state_dict())
    state, drawn = list(network.parameters()), torch.get_rng_state()
    speed_up_depthwise(network)
    kinds = [type(m) for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert kinds == [DepthwiseConv, nn.Conv2d, DepthwiseConv]
    assert torch.equal(network(x), expected)
    assert list(network.state_dict()) == names
    assert all(a is b for a, b in zip(network.parameters(), state, strict=True))
    assert torch.equal(torch.get_rng_state(), drawn)


def test_the_networks_that_have_dilated_depthwise_convolutions_use_it():
    encoder = BACKBONES["tf_efficientnet_lite0"].build(16)
    for module in (encoder, SeparableConv(8, 8, "group", dilation=2)):
        dilated = [
            m
            for m in module.modules()
            if isinstance(m, nn.Conv2d) and m.groups > 1 and m.dilation != (1, 1)
        ]
        assert dilated
        assert all(isinstance(m, DepthwiseConv) and m._is_slow for m in dilated)
