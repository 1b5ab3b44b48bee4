"""Looking at images is computed as evaluation is, and asks the same questions on every device."""

import numpy as np
import pytest
import torch

from tests.painted import scene
from tests.test_observe import small_network
from uda import observe
from uda.data.augment import Photometric
from uda.inference import PLAIN, ready
from uda.observe import observe_image, observe_labelled
from uda.types import WorkError

PASSES = 6  # the image itself, four that are perturbed, and the decoder alone


def test_no_pass_rounds_to_tf32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    model, seen = small_network(), []
    for part in (model.encoder, model.decoder):
        part.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    observe_image(model, scene(0)[0], 0)
    assert seen == [False] * (PASSES - 1 + PASSES)
    observe_labelled(model, *scene(0), 0)
    assert not any(seen)
    assert torch.backends.cudnn.allow_tf32, "the switch is the process's"


@pytest.mark.parametrize("number", range(PASSES))
def test_too_little_memory_in_any_pass_is_one_line(number):
    model, calls = small_network(), []

    def fail(*_: object) -> None:
        calls.append(1)
        if len(calls) == number + 1:
            raise torch.OutOfMemoryError("CUDA out of memory.\nOf the allocated memory ...")

    model.decoder.register_forward_pre_hook(fail)
    with pytest.raises(WorkError) as caught:
        observe_image(model, scene(0)[0], 0)
    said = str(caught.value)
    assert said.startswith("out of memory: cpu cannot look at 1 x ")
    assert said.endswith("; score on GPUs that do nothing else, or on CPUs")
    assert "\n" not in said
    assert "--" not in said, "scoring has no such options"


def test_images_are_laid_out_as_evaluation_has_them():
    model, seen = ready(small_network(), PLAIN, "cpu"), []
    model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    observe_image(model, scene(0)[0], 0)
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in seen)
    assert len(seen) == PASSES - 1


def test_the_layout_is_seen_in_the_last_digits_alone():
    image, _ = scene(3, 97, 131)
    one = observe_image(small_network(), image, 3)
    other = observe_image(ready(small_network(), PLAIN, "cpu"), image, 3)
    assert one.predicted.tolist() == other.predicted.tolist()
    assert one.sample.lottery.tolist() == other.sample.lottery.tolist()
    assert one.mean_entropy == pytest.approx(other.mean_entropy, rel=1e-6)
    assert one.mean_probabilities == pytest.approx(other.mean_probabilities, abs=1e-7)


def test_another_camera_is_made_on_the_cpu_whatever_the_network_is_on(monkeypatch):
    """Another device's random numbers are others: it would be asked another question."""
    devices = []

    class Camera(Photometric):
        def __call__(self, images, generators):
            devices.append(images.device.type)
            return super().__call__(images, generators)

    monkeypatch.setattr(observe, "_CAMERA", Camera(noise_probability=1.0))
    model, pixels = small_network(), observe._pixels(scene(0)[0])
    look = observe._Look(model, pixels)
    model.to("meta")
    look.images = look.images.to("meta")
    # Autocast does not know the device that stands for a GPU here.
    monkeypatch.setattr(observe, "_ask", lambda network, images: network(images))
    name, scores = next(observe._views(model, pixels, look, 0))
    assert (name, scores.device.type, devices) == ("photometric", "meta", ["cpu"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_sees_what_a_cpu_does():
    image, _ = scene(3, 97, 131)
    on_cpu, on_gpu = (
        observe_image(ready(small_network(), PLAIN, device), image, 3) for device in ("cpu", "cuda")
    )
    assert on_cpu.mean_entropy == pytest.approx(on_gpu.mean_entropy, rel=1e-4)
    for name, counts in on_cpu.views.items():
        moved = np.abs(counts - on_gpu.views[name]).sum() / 2
        assert moved <= 0.01 * image.size / 3, name
