"""Looking at images: one by one, leaving no trace, and without a label of the target."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests import reference_quality as reference
from tests.painted import K, Reader, scene
from tests.small_models import randomise_norms, small_model
from tests.test_quality_statistics import plain
from uda.models import DeepLabV3Plus
from uda.observe import observe_image, observe_labelled
from uda.quality import VIEWS
from uda.quality.sample import PER_IMAGE
from uda.quality.statistics import FIXED
from uda.randomness import generator


def small_network() -> DeepLabV3Plus:
    """Of another answer in every place, though of random weights."""
    model = small_model()
    randomise_norms(model)
    nn.init.normal_(model.classifier.weight, std=3.0)
    return model.eval()


def answers(
    model: DeepLabV3Plus, image: np.ndarray
) -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
    """Labels (H, W), logits (K, H, W) and the decoder's map (D, h, w), from the network itself."""
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    with torch.no_grad():
        output = model(model.normalise(pixels))
    return output.logits[0].argmax(0).numpy(), output.logits[0], output.features["decoder"][0]


def middles(count: int, size: int) -> list[int]:
    """The pixels that lie in the middle of `count` equal parts of `size` pixels."""
    return [math.floor((2 * i + 1) * size / (2 * count)) for i in range(count)]


class TestNumbers:
    @pytest.mark.parametrize("size", [(48, 64), (97, 131), (33, 40)])
    def test_counts_and_sums_are_those_of_the_network(self, size):
        model, (image, _) = small_network(), scene(0, *size)
        labels, logits, decoder = answers(model, image)
        seen = observe_image(model, image, 3, impressions=True)
        assert (seen.images, seen.broken) == (1, 0)
        assert seen.predicted.tolist() == [(labels == k).sum() for k in range(K)]
        ys, xs = (middles(*pair) for pair in zip(decoder.shape[1:], size, strict=True))
        grid = logits.double()[:, ys][:, :, xs].softmax(0).numpy()
        assert seen.positions == len(ys) * len(xs)
        assert seen.mass / FIXED == pytest.approx(grid.sum((1, 2)), abs=1e-3)
        entropy = sum(reference.entropy(grid[:, y, x]) for y, x in np.ndindex(*grid.shape[1:]))
        assert seen.entropy / FIXED == pytest.approx(entropy, rel=1e-4)
        (shown,) = seen.impressions.values()
        assert list(seen.impressions) == [3]
        assert shown.shape == (K, min(32, len(ys)), min(64, len(xs)))
        if shown.shape == grid.shape:
            assert np.abs(shown - 255 * grid).max() <= 0.51

    def test_an_impression_is_the_mean_of_its_part_of_the_image(self):
        model, (image, _) = Reader(), scene(0, 256, 64)
        _, logits, decoder = answers(model, image)
        ys, xs = (middles(*pair) for pair in zip(decoder.shape[1:], (256, 64), strict=True))
        grid = logits.double()[:, ys][:, :, xs].softmax(0).numpy()
        shown = observe_image(model, image, 0, impressions=True).impressions[0]
        assert (grid.shape, shown.shape) == ((K, 64, 16), (K, 32, 16)), "32x64 are the most"
        assert np.abs(shown - 255 * (grid[:, ::2] + grid[:, 1::2]) / 2).max() <= 0.51

    def test_an_impression_is_made_where_it_is_asked_for_and_changes_nothing_else(self):
        model, (image, label) = Reader(), scene(0)
        seen, without = (observe_image(model, image, 0, impressions=i) for i in (True, False))
        assert list(seen.impressions) == [0]
        assert plain(replace(seen, impressions={})) == plain(without)
        assert plain(observe_image(model, image, 0)) == plain(without)
        assert not observe_labelled(model, image, label, 0).seen.impressions

    def test_the_views_count_what_is_said_of_the_perturbed_image(self):
        model, (image, _) = small_network(), scene(1, 64, 96)
        labels, _, _ = answers(model, image)
        images = model.normalise(torch.from_numpy(image).permute(2, 0, 1)[None])
        with torch.no_grad():
            output = model(images)
            flipped = model(images.flip(3)).logits.flip(3)
            small = F.interpolate(images, (48, 72), mode="bilinear", antialias=True)
            small = F.interpolate(model(small).logits, (64, 96), mode="bilinear")
            large = F.interpolate(images, (80, 120), mode="bilinear")
            large = F.interpolate(model(large).logits, (64, 96), mode="bilinear")
            kept = generator(0, "quality dropout", 5).random(16) >= 0.1
            mask = torch.from_numpy(kept / 0.9).float()[:, None, None]
            dropped = {**output.features, "aspp": output.features["aspp"] * mask}
            dropped = model.decode(dropped, images).logits
        assert not kept.all()
        seen = observe_image(model, image, 5)
        assert set(seen.views) == set(VIEWS)
        for name, logits in (("flip", flipped), ("small", small), ("large", large),
                             ("dropout", dropped)):  # fmt: skip
            said = logits[0].argmax(0).numpy()
            pairs = Counter(zip(labels.ravel().tolist(), said.ravel().tolist(), strict=True))
            expected = [[pairs[row, column] for column in range(K)] for row in range(K)]
            assert seen.views[name].tolist() == expected, name
        assert seen.views["photometric"].sum() == labels.size
        assert seen.views["photometric"].trace() < labels.size

    @pytest.mark.parametrize("size", [(48, 64), (36, 44)])
    def test_a_mirror_symmetric_network_agrees_with_its_mirror_image(self, size):
        view = observe_image(Reader(), scene(2, *size)[0], 0).views["flip"]
        assert view.trace() == view.sum() == size[0] * size[1]

    def test_source_counts_are_against_the_labels(self):
        model, (image, label) = Reader(), scene(4)
        label[:5] = 255
        labels, _, _ = answers(model, image)
        seen = observe_labelled(model, image, label, 4)
        pairs = Counter(zip(label.ravel().tolist(), labels.ravel().tolist(), strict=True))
        expected = [[pairs[row, column] for column in range(K)] for row in range(K)]
        assert seen.confusion.matrix.tolist() == expected
        same = observe_image(model, image, 4)
        assert seen.seen.predicted.tolist() == same.predicted.tolist()
        assert (seen.seen.mass.tolist(), seen.seen.entropy) == (same.mass.tolist(), same.entropy)


class TestSample:
    def test_pixels_are_those_of_the_grid(self):
        model, (image, label) = Reader(), scene(4, 96, 128)
        label[:40] = 255
        label[60:64, 60:64] = 17  # seen as what it is painted as, not as what it is called
        _, logits, decoder = answers(model, image)
        ys, xs = (middles(*pair) for pair in zip(decoder.shape[1:], (96, 128), strict=True))
        grid = logits[:, ys][:, :, xs].softmax(0)
        for sample, classes in (
            (observe_image(model, image, 4).sample, grid.argmax(0).numpy()),
            (observe_labelled(model, image, label, 4).seen.sample, label[ys][:, xs]),
        ):
            known = {k: int((classes == k).sum()) for k in range(K)}
            counts = np.bincount(sample.classes, minlength=K).tolist()
            assert counts == [min(PER_IMAGE, known[k]) for k in range(K)]
            for k, feature, shares in zip(
                sample.classes, sample.features, sample.probabilities, strict=True
            ):
                places = [(y, x) for y, x in np.argwhere(classes == k)
                          if np.array_equal(grid[:, y, x].half().numpy(), shares)]  # fmt: skip
                likeness = [reference.unit(decoder[:, y, x]) @ reference.unit(feature)
                            for y, x in places]  # fmt: skip
                assert max(likeness) > 1 - 1e-5, "it is one of the pixels of its class"
            assert len(np.unique(sample.lottery)) == len(sample), "and none is there twice"

    def test_every_pixel_is_drawn_as_often_as_another(self):
        """One class on a grid of 8x8 pixels, whose features point to where it is."""
        model = Reader()

        def places(_: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
            y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
            return torch.stack([y, x, torch.full((8, 8), 4.0), *torch.zeros(K - 3, 8, 8)])[None]

        model.decoder.register_forward_hook(places)
        nn.init.zeros_(model.classifier.weight)
        image, counts = np.zeros((32, 32, 3), np.uint8), np.zeros((8, 8))
        for index in range(100):
            sample = observe_labelled(model, image, np.full((32, 32), 5, np.uint8), index).seen
            assert len(sample.sample) == PER_IMAGE
            for y, x, four in sample.sample.features[:, :3]:
                counts[round(float(4 * y / four)), round(float(4 * x / four))] += 1
        mean = 100 * PER_IMAGE / 64
        assert ((counts - mean) ** 2 / mean).sum() < 110, "63 degrees of freedom"


class TestTraces:
    def test_the_number_of_passes_is_one_and_one_per_perturbed_image(self):
        model, calls = small_network(), Counter()
        for name in ("encoder", "aspp", "decoder"):
            part = getattr(model, name)
            part.register_forward_hook(lambda *_, name=name: calls.update([name]))
        observe_image(model, scene(0)[0], 0)
        assert calls == {"encoder": 5, "aspp": 5, "decoder": 6}, "dropout repeats the decoder alone"
        calls.clear()
        observe_labelled(model, *scene(0), 0)
        assert calls == {"encoder": 1, "aspp": 1, "decoder": 1}

    def test_the_network_and_torch_are_left_as_they_were(self):
        model = small_network()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        modes = [module.training for module in model.modules()]
        random, numpy_random = torch.get_rng_state(), np.random.get_state()[1].copy()
        image, label = scene(0)
        pixels = image.copy()
        image.flags.writeable = False
        observe_image(model, np.array(image), 0)
        observe_labelled(model, np.array(image), label, 0)
        after = model.state_dict()
        assert after.keys() == before.keys()
        assert all(torch.equal(after[name], before[name]) for name in before)
        assert [module.training for module in model.modules()] == modes
        assert not any(modes)
        assert torch.equal(torch.get_rng_state(), random)
        assert np.array_equal(np.random.get_state()[1], numpy_random)
        assert np.array_equal(image, pixels)
        assert torch.is_grad_enabled()
        assert all(parameter.grad is None for parameter in model.parameters())

    def test_the_global_random_numbers_are_not_seen(self):
        model, (image, _) = small_network(), scene(0)
        results = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            np.random.seed(seed)
            results.append(plain(observe_image(model, image, 0)))
        assert results[0] == results[1]

    def test_the_number_of_an_image_seeds_its_draws(self):
        model, (image, _) = small_network(), scene(0)
        first, second = (observe_image(model, image, index) for index in (0, 1))
        assert first.predicted.tolist() == second.predicted.tolist()
        assert first.sample.lottery.tolist() != second.sample.lottery.tolist()
        assert (first.views["photometric"] != second.views["photometric"]).any()


# --- numbers that are none ---------------------------------------------------------------------


def test_a_network_in_training_mode_is_refused():
    """It would take the image's own statistics, and keep them."""
    model = small_network().train()
    for observe in (lambda: observe_image(model, scene(0)[0], 0),
                    lambda: observe_labelled(model, *scene(0), 0)):  # fmt: skip
        with pytest.raises(AssertionError, match="eval"):
            observe()


def test_an_image_without_scores_is_broken_and_counts_nowhere_else():
    model, (image, label) = Reader(), scene(0)
    with torch.no_grad():
        model.classifier.bias[4] = math.nan
    seen = observe_image(model, image, 0)
    assert (seen.images, seen.broken, seen.positions, len(seen.sample)) == (1, 1, 0, 0)
    assert not seen.predicted.any()
    source = observe_labelled(model, image, label, 0)
    assert (source.seen.images, source.seen.broken) == (1, 1)
    assert not source.confusion.matrix.any()


def test_an_image_of_which_a_view_has_no_scores_is_broken():
    """Half of a mirror image; both halves of the image are alike, so half of all agrees."""
    model, (half, _) = Reader(), scene(0, 48, 32)
    calls = []

    def spoil(_: nn.Module, inputs: tuple, output: dict) -> dict:
        calls.append(1)
        if len(calls) == 3:  # after the plain pass and the photometric one
            output["layer4"][..., :8] = math.nan
        return output

    model.encoder.register_forward_hook(spoil)
    seen = observe_image(model, np.concatenate([half, half], axis=1), 0)
    assert seen.broken == 1
    assert not seen.predicted.any()


def test_scores_of_any_size_have_an_entropy():
    """Between the largest and the smallest finite score lies more than a float can hold."""
    model, (image, _) = Reader(), scene(0)
    with torch.no_grad():
        model.classifier.bias[:] = -3e38
        model.classifier.bias[0] = 3e38
    seen = observe_image(model, image, 0)
    assert (seen.broken, seen.entropy) == (0, 0)


def test_features_of_any_size_are_kept():
    """A network computes the same with features a million times as large."""
    model, (image, _) = Reader(), scene(0)
    before = observe_image(model, image, 0)
    model.decoder.register_forward_hook(lambda *args: args[2] * 2.0**20)
    with torch.no_grad():
        model.classifier.weight /= 2**20
    after = observe_image(model, image, 0)
    assert after.predicted.tolist() == before.predicted.tolist()
    assert np.isfinite(after.sample.features).all()


def test_the_number_of_threads_is_hardly_seen():
    """Some of PyTorch's sums depend on it, in their last digits."""
    before, seen = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            seen.append(observe_image(Reader(), scene(0, 128, 256)[0], 0))
    finally:
        torch.set_num_threads(before)
    assert seen[0].predicted.tolist() == seen[1].predicted.tolist()
    assert seen[0].sample.lottery.tolist() == seen[1].sample.lottery.tolist()
    assert seen[0].mean_entropy == pytest.approx(seen[1].mean_entropy, rel=1e-6)
    assert seen[0].mean_probabilities == pytest.approx(seen[1].mean_probabilities, abs=1e-7)
