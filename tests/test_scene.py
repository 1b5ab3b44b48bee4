"""What a scene shows to the losses: weights of pseudo-labels, hidden pixels, first features."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny import random_batch, tiny_config
from uda.config import Config
from uda.scene import Scene
from uda.task import AdaptationTask
from uda.tree import override
from uda.types import UserError

UNCHANGED = {"augment.masked.jitter_probability": 0.0, "augment.masked.blur_probability": 0.0}


def scene_of(config: Config) -> Scene:
    task = AdaptationTask(config)
    task.start_copies()
    task.train()
    with torch.no_grad():  # a fresh classifier is as unsure everywhere
        for network in (task.student, task.teacher.network):
            network.classifier.weight.mul_(100)
    return Scene(
        random_batch(config), config, task.student, task.teacher, task.projection, task.pretrained
    )


def confidence(scene: Scene) -> Tensor:
    return scene._teacher(scene.target_images).logits.softmax(1).amax(1)


def shown(scene: Scene, name: str) -> Tensor:
    """The images that the student sees for the sake of one attribute."""
    seen: list[Any] = []
    hook = scene._student.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs))
    getattr(scene, name)
    hook.remove()
    (images,) = seen
    return images


# --- how much a pseudo-label counts --------------------------------------------------------------


def with_middle_threshold(weighting: str) -> Scene:
    """Some pixels of every image above, some below."""
    middle = confidence(scene_of(tiny_config("all_terms"))).median().item()
    changes = {"teacher.weighting": weighting, "teacher.threshold": middle}
    return scene_of(tiny_config("all_terms", changes))


def test_pixel_weights_are_one_where_the_teacher_is_confident_and_zero_elsewhere():
    scene = with_middle_threshold("pixel")
    expected = confidence(scene) >= scene._config.teacher.threshold
    share = expected.float().mean((1, 2))
    assert ((share > 0) & (share < 1)).any()
    # Rounding may differ for the very pixel at the threshold.
    assert (scene.target_weights != expected.float()).sum() <= 2
    assert set(scene.target_weights.unique().tolist()) == {0.0, 1.0}
    trusted = scene.trusted_labels != 255
    assert torch.equal(scene.target_weights > 0, trusted)


def test_class_weights_keep_pixels_of_every_class_that_the_teacher_sees():
    scene, by_pixel = with_middle_threshold("class"), with_middle_threshold("pixel")
    assert (scene.target_weights >= by_pixel.target_weights).all()
    assert (scene.target_weights > by_pixel.target_weights).any()
    for weights, labels in zip(scene.target_weights, scene.pseudo_labels, strict=True):
        assert all(weights[labels == label].max() == 1 for label in labels.unique())


def test_image_weights_are_the_share_of_confident_pixels_of_each_image():
    scene = with_middle_threshold("image")
    confident = scene.trusted_labels != 255
    expected = confident.float().mean((1, 2))[:, None, None].expand(confident.shape)
    torch.testing.assert_close(scene.target_weights, expected)
    assert len(scene.target_weights.flatten(1)[:, 0].unique()) > 1


@pytest.mark.parametrize("weighting", ["image", "pixel", "class"])
def test_mixed_pixels_weigh_one_where_pasted_and_as_the_target_elsewhere(weighting):
    scene = with_middle_threshold(weighting)
    weights, target = scene.mixed_weights, scene.target_weights
    is_target = scene.mixed_labels == scene.pseudo_labels
    pasted = ~is_target
    assert pasted.any()
    assert (weights[pasted] == 1).all()
    assert ((weights == target) | (weights == 1)).all()
    assert (weights < 1).any()
    assert (scene.mixed_labels != 255).all(), "an ignored pixel is never pasted"


def test_an_unknown_weighting_lists_what_there_is():
    with pytest.raises(UserError, match=r"teacher\.weighting.*'both'.*image.*pixel"):
        override(tiny_config(), {"teacher.weighting": "both"})


# --- masked images -------------------------------------------------------------------------------


def test_hidden_pixels_have_the_mean_colour_and_the_others_their_own():
    scene = scene_of(tiny_config("all_terms", {**UNCHANGED, "augment.mask.block_px": 8}))
    images = shown(scene, "masked_logits")
    hidden = (images == 0).all(1)
    # Normalised, 0 is the mean colour; whole blocks are hidden, in all channels at once.
    assert torch.equal(images == 0, hidden[:, None].expand(images.shape))
    torch.testing.assert_close(
        images, torch.where(hidden[:, None], 0.0, scene.target_images), atol=0, rtol=0
    )
    blocks = hidden.float().unfold(1, 8, 8).unfold(2, 8, 8).mean((-1, -2))
    assert set(blocks.unique().tolist()) == {0.0, 1.0}
    assert 0.5 < blocks.mean() < 0.9, "the ratio is 0.7"


def test_every_image_has_a_mask_of_its_own_and_every_step_another():
    config = tiny_config("all_terms", {**UNCHANGED, "augment.mask.block_px": 4})
    task = AdaptationTask(config)
    masks = []
    for step in (0, 0, 1):
        scene = Scene(random_batch(config, step), config, task.student, task.teacher, None)
        masks.append((shown(scene, "masked_logits") == 0).all(1))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert len(masks[0].flatten(1).unique(dim=0)) == config.batch_size


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_colours_of_masked_images_change_with_their_probability(probability):
    changes = {
        "batch_size": 64,
        "augment.masked.jitter_probability": probability,
        "augment.masked.brightness": 0.5,
        "augment.masked.blur_probability": 0.0,
        "augment.mask.ratio": 0.0,
    }
    scene = scene_of(tiny_config("all_terms", changes))
    change = (shown(scene, "masked_logits") - scene.target_images).abs().amax((1, 2, 3))
    share = (change > 1e-3).float().mean().item()
    assert share == pytest.approx(probability, abs=0.2 if 0 < probability < 1 else 0)


def test_other_images_are_not_masked():
    scene = scene_of(tiny_config("all_terms", {"augment.mask.ratio": 1.0}))
    for name in ("target", "source", "mixed_logits"):
        assert not (shown(scene, name) == 0).all(1).any(), name
    assert (shown(scene, "masked_logits") == 0).all()


# --- features as pretraining left them -----------------------------------------------------------


def test_first_features_are_those_of_the_same_images_and_without_gradient():
    scene = scene_of(tiny_config("all_terms"))
    torch.testing.assert_close(scene.source_backbone.detach(), scene.pretrained_backbone)
    assert scene.source_backbone.requires_grad
    assert not scene.pretrained_backbone.requires_grad


# --- lots ----------------------------------------------------------------------------------------


def test_every_position_of_the_embeddings_has_a_lot_of_its_own():
    scene = scene_of(tiny_config("pixels", {"projection.reads": "layer2"}))
    size, _, height, width = scene.source_embeddings.shape
    assert (height, width) == (4, 6)
    assert scene.lottery.shape == (size, height, width)
    assert scene.lottery.unique().numel() == size * height * width
    assert 0 <= scene.lottery.min() < 0.1 < 0.9 < scene.lottery.max() < 1
