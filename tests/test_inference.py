"""Prediction: scales, mirror images, probabilities and label maps."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from uda.inference import Inference, answer, class_scores, predict, predict_labels, ready
from uda.models import DeepLabV3Plus, ModelConfig, build_model
from uda.types import UserError, WorkError

FLIP = Inference(flip=True)


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
    got = predict(model, images, Inference(scales=(0.5, 1.0, 1.5), flip=True))
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-6)


def test_native_size_and_no_padding(images):
    model = Filter(3).eval()
    assert predict(model, images, Inference(scales=(1.0, 0.75))).shape == (2, 5, 33, 47)
    assert model.shapes == [(2, 3, 33, 47), (2, 3, 25, 35)]


def test_flip_changes_nothing_where_mirror_images_are_alike(images):
    model = Filter(1).eval()
    torch.testing.assert_close(predict(model, images, FLIP), predict(model, images))


def test_mirrored_input_gives_mirrored_result(images):
    model = Filter(3).eval()
    mirrored = predict(model, images.flip(-1), FLIP).flip(-1)
    torch.testing.assert_close(mirrored, predict(model, images, FLIP))
    assert not torch.allclose(predict(model, images.flip(-1)).flip(-1), predict(model, images))


@pytest.mark.parametrize("options", [{}, {"flip": True}, {"scales": (0.5, 1.0)}])
def test_network_gives_probabilities_and_their_best(network, options):
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    probabilities = predict(network, images, Inference(**options))
    assert probabilities.shape == (2, 19, 64, 96)
    assert probabilities.dtype == torch.float32
    assert probabilities.min() >= 0
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2, 64, 96))
    labels = predict_labels(network, images, Inference(**options))
    assert labels.dtype == torch.uint8
    best = probabilities.gather(1, labels.long()[:, None])
    torch.testing.assert_close(best, probabilities.amax(1, keepdim=True))


def test_images_of_a_batch_do_not_mix(network):
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(3))
    one_by_one = torch.cat([predict(network, image[None], FLIP) for image in images])
    torch.testing.assert_close(predict(network, images, FLIP), one_by_one)


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
    assert predict_labels(model, images, FLIP).unique().tolist() == [1]


def test_inputs_and_gradients_are_untouched(images):
    model, before = Filter(3).eval(), images.clone()
    probabilities = predict(model, images, Inference(scales=(1.0, 2.0), flip=True))
    assert torch.equal(images, before)
    assert not probabilities.requires_grad
    assert model.convolution.weight.grad is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": ()}, "scales: got"),
        ({"scales": (1.0, -0.5)}, "scales: got"),
        ({"protocol": "pascal"}, "protocol: got 'pascal', have cityscapes, segmentron"),
        ({"precision": "float16"}, "precision: got 'float16', have float32, tf32, bfloat16"),
        ({"window": (3,)}, r"window: got \(3,\), want a height and a width"),
        ({"window": (0, 4)}, "window: got"),
        ({"window": (8, 8), "protocol": "segmentron"}, "which sees whole images"),
        ({"crop_size": (9, 9)}, "only protocol segmentron pads"),
        ({"batch_size": 0}, "batch_size: got 0, want 1 or more"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        Inference(**options)


@pytest.mark.parametrize("function", [predict, predict_labels])
def test_training_mode_is_refused(images, function):
    with pytest.raises(AssertionError, match="eval"):
        function(Filter(1).train(), images)


class Counter(Filter):
    """Logits that are the pixels themselves."""

    def __init__(self) -> None:
        super().__init__(1)

    def forward(self, images: torch.Tensor) -> SimpleNamespace:
        self.shapes.append(tuple(images.shape[-2:]))
        return SimpleNamespace(logits=images[:, :1].repeat(1, 2, 1, 1))


@pytest.mark.parametrize(
    ("window", "shapes"),
    [
        ((33, 47), 1),  # the whole
        ((40, 50), 1),  # more than the whole
        ((33, 24), 3),  # overlapping by a third at least
        ((16, 47), 3),
        ((16, 24), 9),
        ((1, 47), 33),
    ],
)
def test_sliding_window_sees_every_pixel_as_it_is(images, window, shapes):
    model = Counter().eval()
    scores = class_scores(model, images, Inference(window=window))
    # What a window says of a pixel is the pixel itself, so the mean over windows is, too.
    expected = numpy_softmax(images[:, :1].repeat(1, 2, 1, 1))
    np.testing.assert_allclose(scores.numpy(), expected, atol=1e-6)
    assert len(model.shapes) == shapes
    assert set(model.shapes) == {(min(window[0], 33), min(window[1], 47))}


def test_windows_are_averaged(images):
    """Against a plain reference: every window by hand, sums over counts."""
    model = Filter(3).eval()
    total, visits = np.zeros((2, 5, 33, 47)), np.zeros((33, 47))
    for top in (0, 8, 17):  # 33 - 16 = 17 in two steps of at most 10
        for left in (0, 12, 23):  # 47 - 24 = 23 in two steps of at most 16
            with torch.no_grad():
                logits = model(images[..., top : top + 16, left : left + 24]).logits
            total[..., top : top + 16, left : left + 24] += logits.numpy()
            visits[top : top + 16, left : left + 24] += 1
    expected = numpy_softmax(torch.from_numpy(total / visits))
    got = class_scores(model, images, Inference(window=(16, 24)))
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 4, 7, 100])
def test_windows_are_looked_at_together(images, batch_size):
    model = Filter(3).eval()
    alone = class_scores(model, images, Inference(window=(16, 24)))
    model.shapes.clear()
    inference = Inference(window=(16, 24), batch_size=batch_size)
    torch.testing.assert_close(class_scores(model, images, inference), alone)
    sizes = [shape[0] for shape in model.shapes]
    assert sum(sizes) == 2 * 9, "nine windows of two images"
    assert max(sizes) <= max(2, batch_size), "both images of a window at least"
    assert len(sizes) == -(-9 // max(1, batch_size // 2))


def test_bfloat16_is_close_and_its_logits_are_added_up_in_float32(network, images):
    try:
        ready(network, Inference(precision="bfloat16"), "cpu")
    except UserError as error:
        pytest.skip(str(error))
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(5))
    exact = class_scores(network, images)
    lowered = class_scores(network, images, Inference(precision="bfloat16"))
    assert lowered.dtype == torch.float32
    assert not torch.equal(lowered, exact), "it must have been computed in another precision"
    torch.testing.assert_close(lowered, exact, rtol=0.05, atol=0.02)
    # Upsampled in bfloat16, whole patches of neighbours would have one value.
    assert len(lowered[0, 0].unique()) > 0.5 * lowered[0, 0].numel()


def test_missing_bfloat16_is_one_line(network, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    for precision in ("bfloat16", "tf32"):
        with pytest.raises(UserError, match=f"got {precision}, which this cpu lacks"):
            ready(network, Inference(precision=precision), "cpu")


def test_too_little_memory_is_one_line_with_advice(images):
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nOf the allocated memory ...")

    model = Filter(1).eval()
    model.register_forward_pre_hook(fail)
    with pytest.raises(WorkError, match=r"cpu cannot look at 2 x 47x33 pixels .* smaller --batch"):
        class_scores(model, images)


@pytest.mark.parametrize(("precision", "tf32"), [("float32", False), ("tf32", True)])
@pytest.mark.parametrize("before", [False, True])
def test_tf32_is_on_only_where_it_was_asked_for(images, monkeypatch, precision, tf32, before):
    """The switch is the process's: it is as it was afterwards, also after an error."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", before)
    seen, model = [], Filter(1).eval()
    model.register_forward_pre_hook(lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    class_scores(model, images, Inference(precision=precision))
    assert seen == [tf32]
    model.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        class_scores(model, images, Inference(precision=precision))
    assert torch.backends.cudnn.allow_tf32 is before


def test_ready_changes_the_layout_alone(network):
    images = torch.randn(1, 3, 40, 56, generator=torch.Generator().manual_seed(6))
    with torch.inference_mode():
        before = network(images).logits
    assert ready(network, Inference(), "cpu") is network
    torch.testing.assert_close(class_scores(network, images), before, rtol=1e-4, atol=1e-5)


def test_a_part_of_a_network_is_asked_as_the_whole_is(images, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    seen: list[tuple[bool, bool]] = []

    def part(given: torch.Tensor) -> str:
        is_last = given.is_contiguous(memory_format=torch.channels_last)
        seen.append((torch.backends.cudnn.allow_tf32, is_last))
        return "anything"

    assert answer(part, images) == "anything"
    assert answer(part, images, Inference(protocol="segmentron")) == "anything"
    assert seen == [(False, True), (False, False)]
    assert torch.backends.cudnn.allow_tf32


def test_the_advice_on_too_little_memory_is_the_callers(images):
    def fail(_: torch.Tensor) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nOf the allocated memory ...")

    with pytest.raises(WorkError, match=r"^out of memory: cpu cannot .* together; wait$"):
        answer(fail, images, advice="wait")
