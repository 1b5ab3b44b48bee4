"""Contrast of class distributions: who takes part, what attracts and repels, what is remembered."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests import calling, reference_contrast
from tests.calling import call
from uda.losses.contrastive import Contrastive
from uda.losses.pairs import Comparison

K, D = 19, 5
NAMES = ("source_embeddings", "source_labels", "target_embeddings", "trusted_labels")
# Images of four pixels in a row, compared as a whole and with nothing but each other.
PLAIN: dict[str, Any] = {"grid": (1, 1), "queue": 0, "idf": False, "positive": 0.75,
                         "negative": 0.6}  # fmt: skip
ROAD, SKY, TREE, NONE, HALF = [0] * 4, [10] * 4, [8] * 4, [255] * 4, [0, 0, 10, 10]


def images(*rows: list[int], seed: int = 0) -> dict[str, Tensor]:
    """Rows of labels, the first half of the source, with an embedding for each label."""
    labels = torch.tensor(rows)[:, None]
    draws = torch.randn(
        len(rows), D, 1, labels.shape[2], generator=torch.Generator().manual_seed(seed)
    )
    embeddings = F.normalize(draws, dim=1)
    half = len(rows) // 2
    tensors = (embeddings[:half], labels[:half], embeddings[half:], labels[half:])
    return dict(zip(NAMES, tensors, strict=True))


def street(seed: int, size: int = 3) -> dict[str, Tensor]:
    """Blocks of a few classes with ignored pixels, and embeddings at half the resolution."""
    draws = np.random.default_rng(seed)
    blocks = draws.choice(4, (2, size, 4, 4), p=[0.5, 0.25, 0.2, 0.05])
    blocks[draws.random(blocks.shape) < 0.15] = 255
    labels = blocks.repeat(2, axis=2).repeat(3, axis=3)
    labels[draws.random(labels.shape) < 0.1] = 255
    embeddings = draws.normal(size=(2, size, D, 4, 6))
    embeddings /= np.linalg.norm(embeddings, axis=2, keepdims=True)
    return {
        name: torch.tensor(part).float() if "embeddings" in name else torch.tensor(part)
        for name, part in zip(
            NAMES, (embeddings[0], labels[0], embeddings[1], labels[1]), strict=True
        )
    }


def reference_of(steps: list[dict[str, Tensor]], **settings: Any) -> float:
    arrays = [[step[name].detach().double().numpy() for name in NAMES] for step in steps]
    return reference_contrast.contrastive(
        [((a, b.astype(int)), (c, d.astype(int))) for a, b, c, d in arrays], **settings
    )


def remembering(loss: Contrastive, *steps: dict[str, Tensor]) -> Any:
    return calling.remembering(loss, D, *steps)


def wanting_gradients(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: tensor.detach().clone().requires_grad_(tensor.is_floating_point())
        for name, tensor in inputs.items()
    }


def value_of(loss: Contrastive, inputs: dict[str, Tensor], *before: dict[str, Tensor]) -> Tensor:
    return call(loss, inputs, remembering(loss, *before))


def compared(loss: Contrastive, inputs: dict[str, Tensor], memory: Any) -> Comparison:
    """Regions of the first kind."""
    return loss.prepare(memory, **inputs)[0][1]


def pairs_of(inputs: dict[str, Tensor], **settings: Any) -> Comparison:
    loss = Contrastive(**{**PLAIN, **settings})
    return compared(loss, inputs, loss.new_memory(D))


def cosines(inputs: dict[str, Tensor]) -> Tensor:
    return pairs_of(inputs).cosine.detach()


# --- against the reference ---------------------------------------------------------------------

VARIANTS: list[dict[str, Any]] = [
    {},
    {"similarity": "jaccard", "positive": 0.4, "negative": 0.1},
    {"similarity": "bhattacharyya", "positive": 0.8, "negative": 0.3, "idf": False},
    {"similarity": "jensen_shannon", "positive": 0.8, "negative": 0.3},
    {"objective": "regression"},
    {"objective": "regression", "temperature": 0.5, "target_temperature": 0.3, "queue": 0},
    {"pooling": "mean", "idf": False},
    {"grid": (1, 1), "positive": 0.75, "negative": 0.74},
    {"grid": (2, 2), "whole_image": False, "queue": 7},
    {"presence": 0.05, "power": 1.0},
    {"presence": 0.0, "power": 0.25, "temperature": 1.0},
    {"min_known": 0.9},
    {"min_known": 0.0, "queue": 1},
]


@pytest.mark.parametrize("settings", VARIANTS, ids=lambda s: "-".join(map(str, s)) or "defaults")
def test_third_step_equals_the_reference(settings):
    steps = [street(seed) for seed in (1, 2, 3)]
    expected = reference_of(steps, **settings)
    assert expected > 0.01
    value = value_of(Contrastive(**settings), steps[2], *steps[:2])
    assert value.item() == pytest.approx(expected, rel=1e-4)


def test_every_variant_is_another_loss():
    steps = [street(seed) for seed in (1, 2, 3)]
    values = [value_of(Contrastive(**each), steps[2], *steps[:2]).item() for each in VARIANTS]
    assert len({round(value, 5) for value in values}) == len(VARIANTS)


@pytest.mark.parametrize("settings", [{}, {"objective": "regression"}, {"pooling": "mean"}])
def test_gradient_with_a_queue_is_that_of_the_reference(settings):
    before, now = street(1), wanting_gradients(street(2))
    value_of(Contrastive(**settings), now, before).backward()
    for name in ("source_embeddings", "target_embeddings"):
        direction = torch.randn(
            now[name].shape, generator=torch.Generator().manual_seed(0)
        ).double()
        ahead, behind = (
            reference_of(
                [before, now | {name: now[name].detach().double() + step * direction}], **settings
            )
            for step in (1e-5, -1e-5)
        )
        slope = (now[name].grad * direction).sum().item()
        assert abs(slope) > 1e-3
        assert slope == pytest.approx((ahead - behind) / 2e-5, rel=1e-3)


# --- who takes part ----------------------------------------------------------------------------


def test_a_region_is_no_pair_with_itself_nor_with_its_image():
    now = street(1)
    loss = Contrastive(whole_image=False, min_known=0.8)
    memory = remembering(loss, now)
    pairs = compared(loss, now, memory)
    image = torch.arange(6).repeat_interleave(8)
    of_batch, of_queue = pairs.pair.split([48, 512], 1)
    taking_part = of_queue.any(1)
    assert 8 < taking_part.sum() < 48
    both = taking_part[:, None] & taking_part
    assert torch.equal(of_batch, both & (image[:, None] != image))
    queued = memory[0].shares.flatten(0, 1).sum(1) > 0
    assert queued.sum() == taking_part.sum()
    assert torch.equal(of_queue, taking_part[:, None] & queued)
    target = torch.arange(48) >= 24
    assert torch.equal(pairs.across[:, :48], target[:, None] != target)
    assert torch.equal(pairs.across[:, 48:], target[:, None] != (torch.arange(512) >= 256))


def test_pairs_of_a_batch_are_mutual_and_not_both():
    pairs = pairs_of(images(ROAD, ROAD, SKY, [0, 0, 0, 10], NONE, HALF))
    for relation in (pairs.positive, pairs.negative):
        assert torch.equal(relation, relation.T)
    assert not (pairs.positive & pairs.negative).any()
    assert pairs.positive.nonzero().tolist() == [[0, 1], [1, 0], [3, 5], [5, 3]]


def test_between_the_thresholds_counts_nowhere():
    inputs = images(ROAD, HALF, HALF, NONE)  # overlap 1/2 of the first with the next two
    loose = pairs_of(inputs, negative=0.4)
    assert not loose.negative.any()
    assert loose.positive.nonzero().tolist() == [[1, 2], [2, 1]]
    strict = pairs_of(inputs, negative=0.5)
    assert strict.negative.nonzero().tolist() == [[0, 1], [0, 2], [1, 0], [2, 0]]


def test_an_image_between_the_thresholds_of_all_others_gets_no_gradient():
    inputs = wanting_gradients(images(ROAD, ROAD, SKY, HALF))
    value_of(Contrastive(**PLAIN | {"negative": 0.4}), inputs).backward()
    source, target = inputs["source_embeddings"].grad, inputs["target_embeddings"].grad
    assert not target[1].any()
    assert source.flatten(1).any(1).all()
    assert target[0].any()


def test_with_too_few_labels_a_region_takes_no_part():
    known = [0, 0, 255, 255]
    for min_known, part in ((0.5, True), (0.51, False)):
        pairs = pairs_of(images(known, ROAD, NONE, SKY), min_known=min_known)
        assert pairs.taking_part.tolist() == [part, True, False, True]


def test_a_class_that_no_position_of_the_features_shows_is_no_embedding():
    """Three of 32 pixels are labelled, none of them at a centre."""
    inputs = images(*[[255] * 32] * 2, ROAD * 8, SKY * 8)
    inputs["source_labels"][0, 0, :3] = 0
    inputs = {n: t[..., 3::8] if "embeddings" in n else t for n, t in inputs.items()}
    assert pairs_of(inputs, min_known=0.05).taking_part.tolist() == [False, False, True, True]


@pytest.mark.parametrize("objective", ["supcon", "regression"])
@pytest.mark.parametrize(
    "rows",
    [(ROAD, ROAD), (ROAD, SKY), (NONE, NONE), (ROAD, NONE), (NONE, ROAD, NONE, NONE)],
    ids=["one pair alike", "one pair different", "no labels", "one labelled", "one of four"],
)
def test_with_nothing_to_learn_loss_and_gradient_are_zero(rows, objective):
    inputs = wanting_gradients(images(*rows))
    value = value_of(Contrastive(**PLAIN | {"objective": objective}), inputs)
    value.backward()
    assert value.item() == 0.0
    assert not inputs["source_embeddings"].grad.any()
    assert not inputs["target_embeddings"].grad.any()


def test_embeddings_of_ignored_and_of_absent_classes_do_not_matter():
    inputs = images([0, 0, 0, 255], ROAD, SKY, [8, 8, 255, 255])
    other = {name: tensor.clone() for name, tensor in inputs.items()}
    other["source_embeddings"][0, :, 0, 3] = 100.0
    other["target_embeddings"][1, :, 0, 2:] = -100.0
    loss = Contrastive(**PLAIN)
    assert value_of(loss, inputs) > 0.1
    torch.testing.assert_close(value_of(loss, inputs), value_of(loss, other))


def test_order_of_the_images_does_not_matter():
    now, before = street(2, size=4), street(1, size=4)
    order = torch.tensor([2, 0, 3, 1])
    other = {name: tensor[order] for name, tensor in now.items()}
    loss = Contrastive()
    torch.testing.assert_close(value_of(loss, now, before), value_of(loss, other, before))


def test_health_of_two_pairs():
    inputs = images(ROAD, SKY, ROAD, NONE, seed=1)
    cosine = cosines(inputs)
    loss = Contrastive(**PLAIN)
    health = call(loss.health, inputs, loss.new_memory(D))
    expected = {
        "anchors": 0.5,
        "trusted": 0.5,
        "across": 1.0,
        "positive_similarity": (1 + cosine[0, 2]) / 2,
        "negative_similarity": (2 + cosine[0, 1] + cosine[1, 2]) / 4,
    }
    assert {n: f.item() for n, f in health.items()} == pytest.approx(
        {n: float(f) for n, f in expected.items()}
    )
    assert not any(figure.requires_grad for figure in health.values())


def test_zero_embeddings_have_a_finite_gradient():
    inputs = images(ROAD, ROAD, SKY, SKY)
    inputs = wanting_gradients({n: t * 0 if "emb" in n else t for n, t in inputs.items()})
    value_of(Contrastive(**PLAIN), inputs).backward()
    assert torch.isfinite(inputs["source_embeddings"].grad).all()
