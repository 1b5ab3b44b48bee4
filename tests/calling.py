"""Losses and their methods, called by the names of their parameters as the task calls them."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from uda.losses.memory import Prepares, Remembers


def names_of(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def inputs_of(loss: Any) -> list[str]:
    """What of a scene its value follows from."""
    names = names_of(loss) + (names_of(loss.prepare) if isinstance(loss, Prepares) else [])
    return [name for name in names if name not in ("memory", "prepared")]


def call(function: Any, inputs: Mapping[str, Tensor], memory: nn.Module | None = None) -> Any:
    """A loss, or one of its methods but for `__call__`, which take part in no gradient."""
    loss = getattr(function, "__self__", function)  # of a method, its object
    given: dict[str, Any] = {**inputs, "memory": memory}
    if function is not loss and function.__name__ == "prepare":
        return function(**{name: given[name] for name in names_of(function)})
    if "prepared" in names_of(function):
        given["prepared"] = call(loss.prepare, inputs, memory)
    with torch.set_grad_enabled(function is loss):
        return function(**{name: given[name] for name in names_of(function)})


def remembering(loss: Any, width: int, *steps: Mapping[str, Tensor]) -> nn.Module | None:
    """The memory of a loss, if it has one, after some steps."""
    if not isinstance(loss, Remembers):
        return None
    memory = loss.new_memory(width)
    for step in steps:
        call(loss.remember, step, memory)
    return memory
