"""Settings that are none of their choices, or no finite number, are refused in one line."""

import math
from typing import Any

import pytest

from uda.config import TeacherConfig
from uda.losses.adversarial import Level
from uda.losses.affinity import Affinity
from uda.losses.contrastive import Contrastive
from uda.losses.pixel_contrast import PixelContrast
from uda.losses.prototype_contrast import PrototypeContrast


def message_of(part: Any, name: str, value: Any) -> str:
    """What its own check says: while testing the type checker would look first."""
    object.__setattr__(part, name, value)
    with pytest.raises(ValueError, match=f"^{name}: got ") as caught:
        part.__post_init__()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("part", "name", "value", "choices"),
    [
        (PrototypeContrast(), "kind", "gauss", "mean, gaussian"),
        (Contrastive(), "pooling", "max", "class, mean"),
        (Contrastive(), "objective", "infonce", "supcon, regression"),
        (Contrastive(), "similarity", "cosine", "overlap, jaccard"),
        (Level(name="a"), "objective", "mse", "bce, least_squares"),
        (Level(name="a"), "sees", "histogram", "plain, statistics, softmax, self_information"),
        (Level(name="a", reads="aspp", sees="plain"), "sees", "maps", "plain, statistics, softmax"),
        (TeacherConfig(), "batch_norm", "bogus", "batch, running, target"),
        (TeacherConfig(), "weighting", "typo", "image, pixel, class"),
    ],
    ids=lambda x: x if isinstance(x, str) else type(x).__name__,
)
def test_an_unknown_choice_is_told_the_known_ones(part, name, value, choices):
    message = message_of(part, name, value)
    assert f"got {value!r}, want one of {choices}" in message


@pytest.mark.parametrize("value", [math.inf, math.nan, -math.inf, -1.0, 0.0, 1e-30])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Affinity, "sigma_colour"),
        (Contrastive, "temperature"),
        (Contrastive, "target_temperature"),
        (PixelContrast, "temperature"),
        (PrototypeContrast, "temperature"),
    ],
)
def test_a_divisor_is_a_finite_number_that_is_not_too_small(kind, name, value):
    assert "want a finite number of 0.001 or more" in message_of(kind(), name, value)
    assert getattr(kind(**{name: 1e-3}), name) == 1e-3
