"""Contrast with class prototypes: what is remembered, what is drawn where, and the bound."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests import reference_prototypes as reference
from tests.calling import call
from tests.test_losses import D, K
from tests.test_resume import stop_after, unequal_tensors
from tests.tiny import loaded_tensors, random_batch, run_training, tiny_config
from uda.checkpoint import find_checkpoint
from uda.losses import prototype_contrast
from uda.losses.cells import cell_labels
from uda.losses.memory import Remembers
from uda.losses.prototype_contrast import PrototypeContrast, Prototypes
from uda.task import AdaptationTask

# --- what is remembered --------------------------------------------------------------------------


def batch(seed: int, classes: list[int] | None = None) -> dict[str, Tensor]:
    """Two images of 3x4 cells of 2x2 pixels in each domain."""
    draws = np.random.default_rng(seed)
    made = {}
    for domain, labels in (("source", "source_labels"), ("target", "trusted_labels")):
        embeddings = torch.tensor(draws.normal(size=(2, D, 3, 4)))
        made[f"{domain}_embeddings"] = F.normalize(embeddings, dim=1).float()
        chosen = draws.choice(classes or [0, 1, 2, 255], (2, 3, 4))
        made[labels] = torch.tensor(chosen.repeat(2, 1).repeat(2, 2))
    return made


def cells_of(made: dict[str, Tensor]) -> list[tuple[np.ndarray, int]]:
    embeddings, labels = made["source_embeddings"], made["source_labels"]
    return reference.labelled_cells(embeddings.double().numpy(), labels.numpy())


@pytest.mark.parametrize("momentum", [0.5, 0.9, 1.0])
def test_the_memory_is_mean_and_variance_of_all_cells_each_with_its_age(momentum):
    loss, memory, steps = PrototypeContrast(momentum=momentum), Prototypes(D), []
    # Class 2 comes late, class 1 stays away from then on.
    for seed, classes in enumerate([[0, 1, 255], [0, 1], [0, 2, 255], [0], [2, 255], [0, 2]]):
        made = batch(seed, classes)
        call(loss.remember, made, memory)
        steps.append(cells_of(made))
        count, mean, variance = reference.statistics(steps, momentum, D)
        np.testing.assert_allclose(memory.count, count, rtol=1e-5, atol=2e-6)
        seen = count > 0
        np.testing.assert_allclose(memory.mean[seen], mean[seen], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(memory.variance[seen], variance[seen], rtol=1e-4, atol=1e-5)
    assert memory.known.tolist() == [True] * 3 + [False] * (K - 3)


def test_a_class_that_stays_away_for_ever_is_not_forgotten_and_comes_back_fresh():
    loss, memory = PrototypeContrast(momentum=0.1), Prototypes(D)
    call(loss.remember, batch(0, [0, 1]), memory)
    before = memory.mean[1].clone()
    for seed in range(1, 101):
        call(loss.remember, batch(seed, [0]), memory)
    assert memory.known[1]
    assert torch.equal(memory.mean[1], before)
    made = batch(200, [1])
    call(loss.remember, made, memory)
    fresh = np.mean([q for q, _ in cells_of(made)], 0)
    np.testing.assert_allclose(memory.mean[1], fresh, atol=1e-5)


def test_equal_cells_have_no_variance():
    loss, memory = PrototypeContrast(), Prototypes(D)
    made = batch(0, [0])
    made["source_embeddings"] = made["source_embeddings"][:1, :, :1, :1].expand(2, D, 3, 4)
    for _ in range(3):
        call(loss.remember, made, memory)
    assert 0 <= memory.variance.min() <= memory.variance.max() < 1e-6


def test_an_unlabelled_batch_leaves_mean_and_variance_as_they_are():
    loss, memory = PrototypeContrast(), Prototypes(D)
    for seed, classes in ((0, [0, 1]), (1, [255])):
        kept = memory.mean.clone(), memory.variance.clone()
        call(loss.remember, batch(seed, classes), memory)
    assert torch.equal(memory.mean, kept[0])
    assert torch.equal(memory.variance, kept[1])


# --- the loss ------------------------------------------------------------------------------------


def remembered(*means: list[float], variance: float = 0.0) -> Prototypes:
    """A memory of the first classes, of two-dimensional embeddings."""
    memory = Prototypes(2)
    memory.count[: len(means)] = 1
    memory.mean[: len(means)] = torch.tensor(means)
    memory.variance[: len(means)] = variance
    return memory


def filled(loss: PrototypeContrast) -> Prototypes:
    memory = Prototypes(D)
    for seed in (10, 11, 12):
        call(loss.remember, batch(seed), memory)
    return memory


@pytest.mark.parametrize("kind", ["mean", "gaussian"])
def test_value_over_pure_cells_equals_the_reference(kind):
    loss = PrototypeContrast(kind=kind, temperature=0.3, purity=0.6)
    memory, made = filled(loss), batch(0, [0, 1, 2, 3, 255])
    made["source_labels"][:, ::2, ::2] = 1  # one pixel in four
    arrays = {name: tensor.double().numpy() for name, tensor in made.items()}
    parts = [
        (arrays["source_embeddings"], made["source_labels"].numpy()),
        (arrays["target_embeddings"], made["trusted_labels"].numpy()),
    ]
    statistics = tuple(b.double().numpy() for b in (memory.count, memory.mean, memory.variance))
    expected = reference.prototype_contrast(parts, statistics, kind, 0.3, 0.6)
    assert expected > 0.1
    assert call(loss, made, memory).item() == pytest.approx(expected, rel=1e-4)


def alike(q: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The same cells in both domains."""
    source = {"source_embeddings": q, "source_labels": labels}
    return source | {"target_embeddings": q, "trusted_labels": labels}


def test_of_two_classes_it_is_a_softplus():
    """q = (1, 0), prototypes (1, 0) and (0, 1): log(1 + exp(-1 / t))."""
    memory = remembered([1.0, 0.0], [0.0, 1.0])
    q = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    labels = torch.zeros(1, 2, 2, dtype=torch.int64)
    for kind in ("mean", "gaussian"):
        value = call(PrototypeContrast(kind=kind, temperature=0.5), alike(q, labels), memory)
        assert value.item() == pytest.approx(np.log1p(np.exp(-2.0)), rel=1e-5)
    # A variance of 0.2 in each direction adds 0.2 / (2 * 0.5^2) to both exponents, and to the loss.
    memory = remembered([1.0, 0.0], [0.0, 1.0], variance=0.2)
    value = call(PrototypeContrast(temperature=0.5), alike(q, labels), memory)
    assert value.item() == pytest.approx(np.log1p(np.exp(-2.0)) + 0.4, rel=1e-5)


def test_gaussian_bounds_the_loss_against_drawn_members_from_above_and_closely():
    draws = np.random.default_rng(0)
    t, width, members = 0.7, 4, 200_000
    mean, deviation = draws.normal(0, 0.5, (3, width)), draws.uniform(0.1, 0.4, (3, width))
    q = draws.normal(size=width)
    q /= np.linalg.norm(q)
    e = np.exp((mean + deviation * draws.normal(size=(members, 3, width))) @ q / t)
    expected = -np.log(e[:, 0] / (e[:, 0] + e[:, 1:].mean(0).sum())).mean()
    memory = Prototypes(width)
    memory.count[:3] = 1
    memory.mean[:3], memory.variance[:3] = torch.tensor(mean), torch.tensor(deviation**2)
    cell, label = torch.tensor(q).float().view(1, width, 1, 1), torch.zeros(1, 1, 1).long()
    bound = call(PrototypeContrast(temperature=t), alike(cell, label), memory).item()
    flat = call(PrototypeContrast(temperature=t, kind="mean"), alike(cell, label), memory).item()
    assert expected < bound < expected + 0.2
    assert flat < expected, "against the means alone the members' spread is not paid for"


def test_classes_not_seen_yet_take_no_part():
    loss, q = PrototypeContrast(), torch.tensor([0.6, 0.8]).view(1, 2, 1, 1).requires_grad_()
    memory = remembered([1.0, 0.0], [0.0, 1.0])
    known, unknown = torch.zeros(1, 1, 1).long(), torch.full((1, 1, 1), 5)
    value = call(loss, alike(q, unknown), memory)
    value.backward()
    assert value.item() == 0.0
    assert not q.grad.any()
    with_two = call(loss, alike(q, known), memory)
    memory.mean[5] = 100.0  # its count is still 0
    assert torch.equal(call(loss, alike(q, known), memory), with_two)
    memory.count[5] = 1
    assert call(loss, alike(q, known), memory) > with_two + 1


@pytest.mark.parametrize("kind", ["mean", "gaussian"])
def test_of_one_class_alone_or_of_none_there_is_nothing_to_learn(kind):
    loss, labels = PrototypeContrast(kind=kind), torch.zeros(1, 1, 1).long()
    for memory in (remembered([1.0, 0.0], variance=0.3), Prototypes(2)):
        q = torch.tensor([0.6, 0.8]).view(1, 2, 1, 1).requires_grad_()
        value = call(loss, alike(q, labels), memory)
        value.backward()
        assert value.item() == 0.0
        assert not q.grad.any()
        assert call(loss.health, alike(q, labels), memory)["cells"].item() == 0.0


def test_a_small_step_draws_each_cell_to_its_prototype_and_off_the_others():
    memory, made = Prototypes(D), batch(0, [0, 1, 2])
    memory.count[:3], memory.mean[:3] = 1, torch.eye(3, D)
    q = made["source_embeddings"].requires_grad_()
    call(PrototypeContrast(kind="mean"), made, memory).backward()
    nearer = (-q.grad)[:, :3] > 0  # the prototypes are the axes
    own = F.one_hot(cell_labels(made["source_labels"], q.shape[2:], 0.75), 3).bool()
    assert torch.equal(nearer, own.movedim(-1, 1))


def test_mean_of_two_halves_is_the_whole_however_much_is_ignored():
    """So the number of workers that share a batch does not matter."""
    loss, memory = PrototypeContrast(), filled(PrototypeContrast())
    made = batch(0)
    made["source_labels"][0], made["trusted_labels"][0, :4] = 255, 255
    whole = call(loss, made, memory)
    each = [{k: v[i : i + 1] for k, v in made.items()} for i in (0, 1)]
    halves = [call(loss, one, memory) for one in each]
    assert (halves[0] - halves[1]).abs() > 0.01, "the halves must differ for the test to say much"
    torch.testing.assert_close(sum(halves) / 2, whole)


def test_trusted_cells_of_the_target_always_take_part():
    loss, memory, made = PrototypeContrast(), filled(PrototypeContrast()), batch(0)
    made["target_embeddings"].requires_grad_()
    call(loss, made, memory).backward()
    used = made["target_embeddings"].grad.any(1)
    assert torch.equal(used, made["trusted_labels"][:, ::2, ::2] != 255)


def test_health_counts_the_cells_that_take_part_and_those_that_are_right():
    memory = remembered([1.0, 0.0], [0.0, 1.0])
    q = torch.tensor([[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]).view(1, 2, 1, 4)
    figures = call(PrototypeContrast().health, alike(q, torch.tensor([[[0, 1, 255, 1]]])), memory)
    assert figures["cells"].item() == 0.75
    assert figures["accuracy"].item() == pytest.approx(2 / 3)


def test_accuracy_is_that_of_all_workers_however_many_cells_each_has(monkeypatch):
    """One worker has three cells and all right, the other one and wrong."""
    loss, memory = PrototypeContrast(), remembered([1.0, 0.0], [0.0, 1.0])
    q = torch.tensor([[1.0] * 4, [0.0] * 4]).view(1, 2, 1, 4)
    parts = [alike(q, torch.tensor([[row]])) for row in ([0, 0, 0, 255], [1, 255, 255, 255])]
    rows = []
    with monkeypatch.context() as patch:
        patch.setattr(prototype_contrast, "gather", lambda own: rows.append(own) or own)
        for one in parts:
            call(loss.health, one, memory)
        patch.setattr(prototype_contrast, "gather", lambda own: torch.cat(rows))
        figures = [call(loss.health, one, memory)["accuracy"].item() for one in parts]
    assert figures == [0.75, 0.75]


def test_bfloat16_embeddings_are_compared_and_remembered_in_float32():
    loss, memory, made = PrototypeContrast(), filled(PrototypeContrast()), batch(0)
    short = {k: v.bfloat16() if v.is_floating_point() else v for k, v in made.items()}
    long = {k: v.float() if v.is_floating_point() else v for k, v in short.items()}
    assert torch.equal(call(loss, short, memory), call(loss, long, memory))
    call(loss.remember, short, memory)
    assert memory.mean.dtype == torch.float32


# --- in the task ---------------------------------------------------------------------------------

# At stride 8 the cells are the blocks of labels of a random batch.
FINE = tiny_config("prototypes", {"projection.reads": "layer2"})


def test_what_a_step_remembers_does_not_disturb_its_own_gradient():
    """The memory is written after the loss and before the backward pass."""
    task = AdaptationTask(FINE)
    assert isinstance(PrototypeContrast(), Remembers)
    memory = task.memories["prototype_contrast"]
    first = task(random_batch(FINE, step=0))
    assert first.terms["prototype_contrast"].item() == 0.0, "nothing is known yet"
    before = memory.mean.clone()
    second = task(random_batch(FINE, step=1))
    second.loss.backward()
    assert second.terms["prototype_contrast"].item() > 0.0
    assert before.any()
    assert not torch.equal(memory.mean, before)
    assert all(p.grad.any() for p in task.projection.parameters())
    assert not any(p.grad is not None for p in memory.parameters())


def test_the_memory_is_in_the_state_of_the_task():
    task, other = AdaptationTask(FINE), AdaptationTask(FINE)
    task(random_batch(FINE))
    name = "memories.prototype_contrast.count"
    assert task.state_dict()[name].any()
    other.load_state_dict(task.state_dict())
    assert torch.equal(other.memories["prototype_contrast"].count, task.state_dict()[name])


@pytest.mark.slow
def test_a_run_that_stops_and_resumes_remembers_the_same(tmp_path):
    config = tiny_config("prototypes")
    run_training(config, tmp_path / "whole")
    stop_after(config, tmp_path / "parts", config.steps // 2)
    run_training(config, tmp_path / "parts", resume=True)
    whole, parts = (find_checkpoint(tmp_path / name) for name in ("whole", "parts"))
    assert loaded_tensors(config, whole)["task.memories.prototype_contrast.variance"].any()
    assert unequal_tensors(config, whole, parts) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"temperature": 1e-30},
        {"momentum": -0.1},
        {"momentum": 1.1},
        {"purity": 0.5},
        {"purity": 1.1},
    ],
)
def test_bad_settings_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        PrototypeContrast(**settings)
