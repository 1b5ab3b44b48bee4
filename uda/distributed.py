"""What the science needs of other workers: their number, rows and means; no-ops when alone."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor


def world() -> tuple[int, int]:
    """(rank, world_size) of this process; (0, 1) when training is not distributed."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        parts = [torch.empty_like(tensor) for _ in range(world()[1])]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        rank, size = world()
        # Every rank computes the same loss on the gathered rows, and data-parallel training then
        # *averages* gradients over ranks; the sum over ranks is wanted, so each part counts `size`
        # times. No collective is needed.
        return grad.chunk(size)[rank] * size


def gather(tensor: Float[Tensor, "B *rest"]) -> Float[Tensor, "G *rest"]:
    """Rows of all workers in rank order, differentiable for this worker's own rows.

    For a loss that compares images across the global batch. All workers must hold the same number
    of rows, and the loss must be the same function of the gathered rows on every worker.
    """
    return tensor if world()[1] == 1 else _Gather.apply(tensor)


@torch.no_grad()
def average(tensors: Sequence[Tensor]) -> None:
    """Replaces tensors by their means over all workers, in place and by one exchange.

    All workers must give the same number of tensors, of the same shapes and one dtype.
    """
    size = world()[1]
    if size == 1 or not tensors:
        return
    means = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(means)
    means /= size
    parts = means.split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))
