"""What a loss may have beside value and health: a memory, and work that its parts share."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from torch import nn


@runtime_checkable
class Remembers(Protocol):
    """A loss with a memory, from step to step: a queue, prototypes, a running prior.

    The task builds the memory, keeps it in the checkpoint, and passes it wherever the loss names a
    parameter `memory`. Its tensors are buffers. `__call__` only reads it; after each step in which
    the loss was active the task calls `remember` with the inputs that it names. What it writes
    must be the same on all workers, so it follows from gathered rows alone.
    """

    def new_memory(self, embedding_width: int) -> nn.Module: ...

    # Each loss names its own inputs, which a protocol cannot say.
    @property
    def remember(self) -> Callable[..., None]: ...


@runtime_checkable
class Prepares(Protocol):
    """A loss whose value, health and memory follow from the same work, done once a step.

    The task calls `prepare` with the inputs that it names, with gradients, and passes what it gives
    wherever the loss names a parameter `prepared`. Nothing in it may be a view of the memory, which
    `remember` changes before the backward pass.
    """

    @property
    def prepare(self) -> Callable[..., Any]: ...
