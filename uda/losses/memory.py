"""What a loss remembers from step to step: a queue, prototypes, a running prior."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import nn


@runtime_checkable
class Remembers(Protocol):
    """A loss with a memory.

    The task builds the memory, keeps it in the checkpoint, and passes it wherever the loss names a
    parameter `memory`. Its tensors are buffers. `__call__` only reads it; after each step in which
    the loss was active the task calls `remember` with the inputs that it names. What it writes
    must be the same on all workers, so it follows from gathered rows alone.
    """

    def new_memory(self, embedding_width: int) -> nn.Module: ...

    # Each loss names its own inputs, which a protocol cannot say.
    @property
    def remember(self) -> Callable[..., None]: ...
