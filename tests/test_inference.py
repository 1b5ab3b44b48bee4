"""Prediction: scales, mirror images, probabilities and label maps."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from uda.inference import predict, predict_labels
from uda.models import DeepLabV3Plus, ModelConfig, build_model
from uda.types import UserError


class Filter(nn.Module):
    """One convolution: not the same for mirror images unless its kernel is a point."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(3, 5, kernel, padding=kernel // 2)
        self.shapes: list[tuple[int, ...]] = []

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        return images.float() / 255

    def forward(self, images: torch.Tensor) -> SimpleNamespace:
        self.shapes.append(tuple(images.shape))
        return SimpleNamespace(logits=4 * self.convolution(images))


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 33, 47, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def network() -> DeepLabV3Plus:
    torch.manual_seed(0)
    config = ModelConfig(backbone="tiny", aspp_channels=16, decoder_channels=16)
    return build_model(config).eval()


def numpy_softmax(logits: torch.Tensor) -> np.ndarray:
    powers = np.exp(logits.double().numpy())
    return powers / powers.sum(axis=1, keepdims=True)


@torch.no_grad()
def test_one_pass_is_the_softmax(images):
    model = Filter(3).eval()
    expected = numpy_softmax(model(images).logits)
    np.testing.assert_allclose(predict(model, images).numpy(), expected, atol=1e-6)


@torch.no_grad()
def test_scales_and_flip_are_averaged(images):
    model = Filter(3).eval()
    expected = 0
    for size in ((16, 24), (33, 47), (50, 70)):  # 0.5, 1 and 1.5 times 33 x 47
        scaled = F.interpolate(images, size=size, mode="bilinear") if size[0] != 33 else images
        for mirrored in (False, True):
            seen = torch.flip(scaled, [3]) if mirrored else scaled
            logits = model(seen).logits
            logits = torch.flip(logits, [3]) if mirrored else logits
            if size[0] != 33:
                logits = F.interpolate(logits, size=(33, 47), mode="bilinear")
            expected = expected + numpy_softmax(logits) / 6
    got = predict(model, images, scales=(0.5, 1.0, 1.5), flip=True)
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-6)


def test_native_size_and_no_padding(images):
    model = Filter(3).eval()
    assert predict(model, images, scales=(1.0, 0.75)).shape == (2, 5, 33, 47)
    assert model.shapes == [(2, 3, 33, 47), (2, 3, 25, 35)]


def test_flip_changes_nothing_where_mirror_images_are_alike(images):
    model = Filter(1).eval()
    torch.testing.assert_close(predict(model, images, flip=True), predict(model, images))


def test_mirrored_input_gives_mirrored_result(images):
    model = Filter(3).eval()
    mirrored = predict(model, images.flip(-1), flip=True).flip(-1)
    torch.testing.assert_close(mirrored, predict(model, images, flip=True))
    assert not torch.allclose(predict(model, images.flip(-1)).flip(-1), predict(model, images))


@pytest.mark.parametrize("options", [{}, {"flip": True}, {"scales": (0.5, 1.0)}])
def test_network_gives_probabilities_and_their_best(network, options):
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    probabilities = predict(network, images, **options)
    assert probabilities.shape == (2, 19, 64, 96)
    assert probabilities.dtype == torch.float32
    assert probabilities.min() >= 0
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2, 64, 96))
    labels = predict_labels(network, images, **options)
    assert labels.dtype == torch.uint8
    best = probabilities.gather(1, labels.long()[:, None])
    torch.testing.assert_close(best, probabilities.amax(1, keepdim=True))


def test_images_of_a_batch_do_not_mix(network):
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(3))
    one_by_one = torch.cat([predict(network, image[None], flip=True) for image in images])
    torch.testing.assert_close(predict(network, images, flip=True), one_by_one)


def test_huge_logits_stay_finite(images):
    model = Filter(1).eval()
    with torch.no_grad():
        model.convolution.weight.mul_(1e4)
    assert predict(model, images).isfinite().all()


def test_equal_classes_give_the_lowest_id():
    model = Filter(1).eval()
    with torch.no_grad():
        model.convolution.weight.zero_()
        model.convolution.bias.copy_(torch.tensor([0.0, 1.0, 1.0, 0.5, 1.0]))
    images = torch.zeros(1, 3, 8, 9)
    assert predict_labels(model, images).unique().tolist() == [1]
    assert predict_labels(model, images, flip=True).unique().tolist() == [1]


def test_inputs_and_gradients_are_untouched(images):
    model, before = Filter(3).eval(), images.clone()
    probabilities = predict(model, images, scales=(1.0, 2.0), flip=True)
    assert torch.equal(images, before)
    assert not probabilities.requires_grad
    assert model.convolution.weight.grad is None


@pytest.mark.parametrize("scales", [(), (0.0,), (1.0, -0.5)])
def test_impossible_scales_are_refused(images, scales):
    with pytest.raises(UserError, match="scales: got"):
        predict(Filter(1).eval(), images, scales=scales)
    with pytest.raises(UserError, match="scales: got"):
        predict_labels(Filter(1).eval(), images, scales=scales)


@pytest.mark.parametrize("function", [predict, predict_labels])
def test_training_mode_is_refused(images, function):
    with pytest.raises(AssertionError, match="eval"):
        function(Filter(1).train(), images)
