"""What contrast remembers, where it runs, and which settings it refuses."""

import copy
import io

import pytest
import torch

from tests.calling import call
from tests.test_contrastive import (
    HALF,
    PLAIN,
    ROAD,
    SKY,
    TREE,
    D,
    K,
    compared,
    images,
    remembering,
    street,
    value_of,
    wanting_gradients,
)
from uda.losses.contrastive import Contrastive
from uda.types import UserError


def test_the_loss_and_its_health_only_read_the_memory():
    loss, now = Contrastive(), street(2)
    memory = remembering(loss, street(1))
    before = copy.deepcopy(memory.state_dict())
    call(loss, now, memory)
    call(loss.health, now, memory)
    assert all(torch.equal(tensor, before[name]) for name, tensor in memory.state_dict().items())


def test_remembering_between_forward_and_backward_changes_no_gradient():
    loss = Contrastive(queue=30)
    gradients = []
    for remembers in (False, True):
        memory, now = remembering(loss, street(1)), wanting_gradients(street(2))
        prepared = loss.prepare(memory, **now)
        value = loss(prepared)
        if remembers:
            with torch.no_grad():
                loss.remember(memory, prepared)
        value.backward()
        gradients.append(now["source_embeddings"].grad)
    assert gradients[0].any()
    assert torch.equal(*gradients)


@pytest.mark.parametrize("queue", [0, 20])
def test_a_memory_that_was_saved_continues_bit_by_bit(queue):
    loss, steps = Contrastive(queue=queue), [street(seed) for seed in range(4)]
    file = io.BytesIO()
    torch.save(remembering(loss, *steps[:2]).state_dict(), file)
    memory = loss.new_memory(D)
    memory.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    call(loss.remember, steps[2], memory)
    assert torch.equal(call(loss, steps[3], memory), value_of(loss, steps[3], *steps[:3]))


def test_what_is_queued_is_weighted_by_the_newest_counts():
    """The shares in the queue are raw: a class that turns out to be everywhere loses weight."""
    loss = Contrastive(**PLAIN | {"queue": 8, "idf": True})
    now = images(HALF, SKY, TREE, ROAD)
    memory = remembering(loss, images(HALF, SKY, TREE, ROAD))
    early = compared(loss, now, memory).similarity
    for _ in range(50):
        call(loss.remember, images(SKY, SKY, SKY, SKY), memory)
        memory[0].shares.copy_(remembering(loss, now)[0].shares)
    late = compared(loss, now, memory).similarity
    of_queue = (0, 4 + 1)  # half road against sky
    assert early[of_queue] > 0.3
    assert late[of_queue] < 0.1


@pytest.mark.parametrize(
    "settings", [{}, {"similarity": "jensen_shannon", "objective": "regression", "queue": 0}]
)
def test_it_runs_on_the_meta_device(settings):
    loss = Contrastive(**settings)
    with torch.device("meta"):
        memory = loss.new_memory(D)
    now = {name: tensor.to("meta") for name, tensor in street(1).items()}
    call(loss.remember, now, memory)
    assert call(loss, now, memory).shape == ()
    assert all(figure.shape == () for figure in call(loss.health, now, memory).values())


@pytest.mark.parametrize("grid", [(5, 1), (1, 7)])
def test_a_grid_finer_than_the_features_is_refused(grid):
    with pytest.raises(UserError, match=rf"contrastive\.grid: got {grid[0]} x {grid[1]}, .*4 x 6"):
        value_of(Contrastive(grid=grid), street(1))


@pytest.mark.parametrize(
    "settings",
    [
        {"grid": (0, 1)},
        {"grid": (2, -1)},
        {"min_known": -0.1},
        {"min_known": 1.1},
        {"presence": -0.01},
        {"presence": 1 / K},
        {"presence": float("nan")},
        {"power": 0.0},
        {"power": 1.5},
        {"queue": -1},
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"temperature": 1e-30},
        {"target_temperature": float("inf")},
        {"target_temperature": -1.0},
        {"positive": 0.5, "negative": 0.5},
        {"positive": 1.1},
        {"negative": -0.1},
    ],
)
def test_bad_settings_are_refused_in_one_line(settings):
    with pytest.raises(ValueError, match=next(iter(settings))) as caught:
        Contrastive(**settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [{"grid": (1, 2, 3)}, {"pooling": "max"}, {"similarity": "cosine"}, {"objective": "infonce"}],
)
def test_a_value_of_the_wrong_kind_is_refused(settings):
    """By its own words, or while testing by those of the type checker, which looks first."""
    with pytest.raises((ValueError, TypeError), match=next(iter(settings))):
        Contrastive(**settings)
