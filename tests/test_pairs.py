"""The two objectives: what they pull together and push apart, and how hard."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.test_contrastive import (
    NONE,
    PLAIN,
    ROAD,
    SKY,
    TREE,
    cosines,
    images,
    value_of,
    wanting_gradients,
)
from uda.losses.contrastive import Contrastive
from uda.losses.pairs import Comparison, mean_where, regression, supcon


def descend(
    loss: Contrastive, inputs: dict[str, Tensor], rate: float, steps: int
) -> dict[str, Tensor]:
    for _ in range(steps):
        inputs = wanting_gradients(inputs)
        value_of(loss, inputs).backward()
        inputs = {n: t.detach() - rate * t.grad if "emb" in n else t for n, t in inputs.items()}
    return inputs


def test_a_small_step_pulls_similar_images_together_and_pushes_different_ones_apart():
    inputs = images(ROAD, SKY, ROAD, SKY, seed=3)
    after = descend(Contrastive(**PLAIN, temperature=1.0), inputs, 0.1, 1)
    change = (cosines(after) - cosines(inputs)).tolist()
    assert change[0][2] > 0
    assert change[1][3] > 0
    assert sum(change[i][j] for i in (0, 2) for j in (1, 3)) < 0


def test_descent_ends_with_alike_images_equal_and_different_ones_opposite():
    inputs = images(ROAD, SKY, ROAD, SKY, seed=3)
    end = cosines(descend(Contrastive(**PLAIN, temperature=0.5), inputs, 3.0, 100))
    assert min(end[0, 2], end[1, 3]) > 0.98
    assert end[[0, 0, 2, 2], [1, 3, 1, 3]].max() < -0.9


@pytest.mark.parametrize("temperature", [0.05, 0.5, 2.0])
def test_one_positive_and_one_negative_is_a_softplus_of_their_difference(temperature):
    inputs = images(ROAD, ROAD, SKY, NONE, seed=1)
    cosine = cosines(inputs).double().numpy()
    softplus = [np.log1p(np.exp((cosine[i, 2] - cosine[0, 1]) / temperature)) for i in (0, 1)]
    value = value_of(Contrastive(**PLAIN, temperature=temperature), inputs)
    assert value.item() == pytest.approx(sum(softplus) / 4, rel=1e-4)


def test_a_lower_temperature_dwells_on_the_nearest_negative():
    inputs = images(ROAD, ROAD, SKY, TREE, seed=1)
    cosine = cosines(inputs)[0, 2:]
    near, far = (0, 1) if cosine[0] > cosine[1] else (1, 0)

    def ratio(temperature: float) -> float:
        ours = wanting_gradients(inputs)
        value_of(Contrastive(**PLAIN, temperature=temperature), ours).backward()
        grad = ours["target_embeddings"].grad
        return (grad[near].norm() / grad[far].norm()).item()

    assert ratio(0.1) > 2 * ratio(10.0)


def comparison(cosine: Tensor, similarity: Tensor, positive: float, negative: float) -> Comparison:
    pair = ~torch.eye(*cosine.shape, dtype=torch.bool)
    return Comparison(
        taking_part=pair.any(1),
        similarity=similarity,
        cosine=cosine,
        pair=pair,
        positive=(similarity >= positive) & pair,
        negative=(similarity <= negative) & pair,
        across=pair,
    )


def test_scores_far_below_zero_are_not_drowned_by_what_is_left_out():
    """All cosines -0.5 at temperature 1e-6: scores of -5e5, and still log 2."""
    alike = torch.tensor([[1.0, 1, 0], [1, 1, 0], [0, 0, 1]])
    pairs = comparison(torch.full((3, 3), -0.5), alike, 0.7, 0.2)
    assert supcon(pairs, 1e-6).item() == pytest.approx(2 * np.log(2) / 3)


def test_regression_is_zero_where_cosines_follow_the_similarities_and_above_it_elsewhere():
    similarity = torch.rand(4, 9, generator=torch.Generator().manual_seed(0))
    cosine = 2 * similarity - torch.linspace(0.5, 1, 4)[:, None]  # a shift changes no softmax
    perfect = regression(comparison(cosine, similarity, 0.7, 0.2), 0.2, 0.1)
    assert perfect.item() == pytest.approx(0, abs=1e-6)
    assert regression(comparison(cosine.flip(1), similarity, 0.7, 0.2), 0.2, 0.1) > 0.1
    assert regression(comparison(cosine, similarity, 0.7, 0.2), 0.2, 0.2) > 0.01


def test_mean_where_there_is_something_and_where_there_is_nothing():
    values = torch.tensor([[1.0, 2.0, 6.0]])
    assert mean_where(values, torch.tensor([[True, False, True]])).item() == 3.5
    assert mean_where(values, torch.zeros(1, 3, dtype=torch.bool)).item() == 0.0
