"""Contrast between drawn cells: who is drawn, who is an anchor, and what it does."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests import reference_prototypes as reference
from tests.calling import call
from tests.test_losses import D
from tests.test_resume import stop_after, unequal_tensors
from tests.tiny import random_batch, run_training, tiny_config
from uda.checkpoint import find_checkpoint
from uda.losses.pixel_contrast import PixelContrast, draw_balanced
from uda.task import AdaptationTask

# --- who is drawn --------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 4, 17, 60, 99])
def test_classes_give_their_lowest_tickets_in_turn(samples):
    draws = np.random.default_rng(samples)
    shares = [0.5, 0.3, 0.04, 0.01, 0.15]
    classes = draws.choice([0, 1, 5, 18, 255], (4, 60), p=shares)
    tickets = draws.random((4, 60), np.float32)
    places = draw_balanced(torch.tensor(classes), torch.tensor(tickets), samples)
    assert places.shape == (4, min(samples, 60))
    for drawn, row, ticket in zip(places.tolist(), classes, tickets, strict=True):
        # Within a round the order is that of the tickets, and nobody asks for more.
        assert drawn == reference.draw_balanced(row.tolist(), ticket.tolist(), samples)


def test_a_rare_class_is_drawn_whole_and_common_ones_alike():
    classes = torch.tensor([[0] * 80 + [1] * 15 + [2] * 3 + [255] * 2])
    tickets = torch.rand(1, 100, generator=torch.Generator().manual_seed(0))
    drawn = classes[0, draw_balanced(classes, tickets, 23)[0]]
    assert drawn.bincount().tolist() == [10, 10, 3]


def test_ignored_cells_only_fill_up():
    classes = torch.tensor([[255, 3, 255, 255]])
    places = draw_balanced(classes, torch.tensor([[0.0, 0.9, 0.1, 0.2]]), 3)
    assert places.tolist() == [[1, 0, 2]]


def test_every_cell_of_a_class_has_the_same_chance():
    classes = torch.tensor([[0] * 10 + [1] * 2]).expand(4000, 12)
    tickets = torch.rand(4000, 12, generator=torch.Generator().manual_seed(0))
    places = draw_balanced(classes, tickets, 4)
    shares = places.flatten().bincount(minlength=12) / 4000
    np.testing.assert_allclose(shares[:10], 0.2, atol=0.03)
    np.testing.assert_allclose(shares[10:], 1.0)


def test_equal_tickets_are_settled_by_place():
    classes = torch.tensor([[0, 0, 1, 0, 1]])
    assert draw_balanced(classes, torch.zeros(1, 5), 4).tolist() == [[0, 2, 1, 4]]


# --- the loss ------------------------------------------------------------------------------------


def batch(seed: int = 0, classes: tuple[int, ...] = (0, 1, 2, 255)) -> dict[str, Tensor]:
    """Three images of 3x4 cells of 2x2 pixels in each domain."""
    draws = np.random.default_rng(seed)
    made = {"lottery": torch.tensor(draws.random((3, 3, 4), np.float32))}
    for domain, labels in (("source", "source_labels"), ("target", "trusted_labels")):
        embeddings = torch.tensor(draws.normal(size=(3, D, 3, 4)))
        made[f"{domain}_embeddings"] = F.normalize(embeddings, dim=1).float()
        made[labels] = torch.tensor(draws.choice(classes, (3, 3, 4)).repeat(2, 1).repeat(2, 2))
    return made


def cells(*classes: int, width: int = 6, seed: int = 0) -> dict[str, Tensor]:
    """One image with a row of cells of a pixel each, and one of the target without labels."""
    z = torch.randn(1, width, 1, len(classes), generator=torch.Generator().manual_seed(seed))
    labels = torch.tensor([[classes]])
    embeddings = F.normalize(z, dim=1)
    return {
        "source_embeddings": embeddings.clone().requires_grad_(),
        "target_embeddings": embeddings,
        "source_labels": labels,
        "trusted_labels": torch.full_like(labels, 255),
        "lottery": torch.zeros(1, 1, len(classes)),
    }


@pytest.mark.parametrize("samples", [3, 8, 12, 500])
def test_value_over_drawn_cells_equals_the_reference(samples):
    loss = PixelContrast(temperature=0.3, samples=samples, purity=0.6)
    made = batch()
    made["source_labels"][:, ::2, ::2] = 1  # one pixel in four
    arrays = {name: tensor.double().numpy() for name, tensor in made.items()}
    parts = [
        (arrays["source_embeddings"], made["source_labels"].numpy()),
        (arrays["target_embeddings"], made["trusted_labels"].numpy()),
    ]
    expected = reference.pixel_contrast(parts, made["lottery"].numpy(), 0.3, samples, 0.6)
    assert expected > 0.5
    assert call(loss, made).item() == pytest.approx(expected, rel=1e-4)


def test_one_positive_and_one_negative_is_a_softplus_of_their_difference():
    made = cells(0, 0, 4)
    z = made["source_embeddings"].detach()[0, :, 0]
    cosine = (z.T @ z).double().numpy()
    softplus = [np.log1p(np.exp((cosine[i, 2] - cosine[0, 1]) / 0.2)) for i in (0, 1)]
    value = call(PixelContrast(temperature=0.2), made).item()
    assert value == pytest.approx(sum(softplus) / 6, rel=1e-4)  # three places in each domain


@pytest.mark.parametrize(
    "classes",
    [(3, 3, 3, 3), (0, 1, 2, 3), (3,), (255, 255), (3, 255, 255), (3, 3, 255)],
    ids=["all alike", "all different", "one cell", "no labels", "one labelled", "alike or nothing"],
)
def test_without_anchors_loss_gradient_and_health_are_zero(classes):
    made = cells(*classes)
    value = call(PixelContrast(), made)
    value.backward()
    assert value.item() == 0.0
    assert not made["source_embeddings"].grad.any()
    assert [figure.item() for figure in call(PixelContrast().health, made).values()] == [0.0, 0.0]


def test_ignored_and_undrawn_cells_do_not_matter():
    made = batch()
    loss = PixelContrast(samples=4)
    made["source_embeddings"].requires_grad_()
    call(loss, made).backward()
    gradient = made["source_embeddings"].grad
    used = gradient.any(1)
    assert 0 < used.sum() <= 12
    assert not used[made["source_labels"][:, ::2, ::2] == 255].any()


def test_images_of_a_batch_are_compared_with_each_other():
    """Each image has one class alone: on its own it would teach nothing."""
    made = batch()
    made["source_labels"] = torch.tensor([0, 0, 1])[:, None, None].expand(3, 6, 8)
    made["trusted_labels"] = made["source_labels"]
    assert call(PixelContrast(), made) > 0.5
    each = [{k: v[i : i + 1] for k, v in made.items()} for i in range(3)]
    alone = [call(PixelContrast(), one) for one in each]
    assert [value.item() for value in alone] == [0.0, 0.0, 0.0]


def test_trusted_cells_of_the_target_always_take_part():
    made = batch()
    other = made | {k: v for k, v in batch(1).items() if k.startswith(("target", "trusted"))}
    assert not torch.equal(call(PixelContrast(), made), call(PixelContrast(), other))
    made["target_embeddings"].requires_grad_()
    call(PixelContrast(), made).backward()
    used = made["target_embeddings"].grad.any(1)
    assert torch.equal(used, made["trusted_labels"][:, ::2, ::2] != 255)


def test_descent_ends_with_classes_close_inside_and_far_from_each_other():
    made = cells(0, 0, 0, 4, 4, 9, 9)
    z = made["source_embeddings"].detach()
    loss = PixelContrast(temperature=0.5)
    for _ in range(200):
        z = z.requires_grad_()
        (grad,) = torch.autograd.grad(call(loss, {**made, "source_embeddings": z}), z)
        z = F.normalize(z - grad, dim=1).detach()
    cosine = z[0, :, 0].T @ z[0, :, 0]
    classes = made["source_labels"][0, 0]
    same = classes[:, None] == classes
    assert cosine[same].min() > 0.95
    assert cosine[~same].max() < 0.2
    assert call(PixelContrast().health, {**made, "source_embeddings": z})["accuracy"].item() == 1.0


def test_health_counts_anchors_and_those_whose_nearest_cell_is_of_their_class():
    made = cells(0, 0, 4, 4, 7, 255, width=2)
    turns = torch.tensor([0.0, 10.0, 12.0, 90.0, 200.0, 1.0]).deg2rad()
    made["source_embeddings"] = torch.stack([turns.cos(), turns.sin()]).view(1, 2, 1, 6)
    figures = call(PixelContrast().health, made)
    assert figures["anchors"].item() == pytest.approx(4 / 12)
    # Those at 0 and 90 degrees have one of their class next to them, those at 10 and 12 a stranger.
    assert figures["accuracy"].item() == pytest.approx(2 / 4)


def test_zero_embeddings_have_a_finite_gradient():
    made = batch()
    zeros = torch.zeros_like(made["source_embeddings"], requires_grad=True)
    call(PixelContrast(), {**made, "source_embeddings": zeros}).backward()
    assert torch.isfinite(zeros.grad).all()


def test_bfloat16_embeddings_are_compared_in_float32():
    made = batch()
    short = {k: v.bfloat16() if k.endswith("embeddings") else v for k, v in made.items()}
    long = {k: v.float() if k.endswith("embeddings") else v for k, v in short.items()}
    assert torch.equal(call(PixelContrast(), short), call(PixelContrast(), long))


def test_a_step_trains_the_projection():
    # At stride 8 the cells are the blocks of labels of a random batch.
    config = tiny_config("pixels", {"projection.reads": "layer2"})
    task = AdaptationTask(config)
    output = task(random_batch(config))
    output.loss.backward()
    assert output.terms["pixel_contrast"].item() > 0.0
    assert all(p.grad.any() for p in task.projection.parameters())


@pytest.mark.slow
def test_a_run_that_stops_and_resumes_draws_the_same(tmp_path):
    config = tiny_config("pixels")
    run_training(config, tmp_path / "whole")
    stop_after(config, tmp_path / "parts", config.steps // 2)
    run_training(config, tmp_path / "parts", resume=True)
    whole, parts = (find_checkpoint(tmp_path / name) for name in ("whole", "parts"))
    assert unequal_tensors(config, whole, parts) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"temperature": 1e-30},
        {"samples": 0},
        {"purity": 0.5},
        {"purity": 1.1},
    ],
)
def test_bad_settings_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        PixelContrast(**settings)
