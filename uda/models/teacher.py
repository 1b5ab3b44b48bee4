"""The teacher of self-training: an exponential moving average of the student."""

import copy
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from uda.distributed import average
from uda.types import UserError

BatchNormMode = Literal["batch", "running", "target"]


class Teacher(nn.Module):
    """A frozen copy of the student that follows it slowly (Mean Teacher, 1703.01780 eq. 2).

    No gradient reaches it: its parameters want none and its forward records none. Dropout is always
    off, whatever `train()` its parent calls. The copy itself is `network`.

    BatchNorm needs a decision, and papers leave it to the accident of a mode flag:
    - Its running statistics are averaged like the parameters (`update`), as they belong to those
      parameters. But for "target" its own forward never changes them, so they are the student's,
      smoothed, and evaluation and checkpoints do not depend on how often the teacher was asked.
    - `batch_norm="batch"`: in training it normalises by the batch at hand, as DACS and DAFormer do.
      Target images are then normalised as target images, while the running statistics mix the
      domains as the student's batches did.
    - `batch_norm="running"`: it normalises by the running statistics also in training; an image's
      pseudo-label does then not depend on its neighbours.
    - `batch_norm="target"`: as "batch", and it keeps running statistics of its own, of the target
      batches it sees (AdaBN, Li et al., 1603.04779). Evaluated, it then normalises real images by
      real images' statistics and not by a mixture of both domains'. Every worker sees other images
      (`share_statistics`), so all of them count, but the variance is the mean of the workers' own:
      it leaves out how far their means are apart.
    In evaluation mode the running statistics are always used.
    """

    def __init__(self, student: nn.Module, batch_norm: str = "batch") -> None:
        super().__init__()
        if batch_norm not in get_args(BatchNormMode):
            have = list(get_args(BatchNormMode))
            raise UserError(f"batch_norm: got {batch_norm!r}, want a known one; have {have}")
        self.batch_norm = batch_norm
        self.network = copy.deepcopy(student).requires_grad_(False)
        self.network.zero_grad(set_to_none=True)  # a copy of a used student carries its gradients
        self._statistics = _batch_norm_buffers(self.network)
        self.train(student.training)

    @property
    def keeps_statistics(self) -> bool:
        """Whether its forward changes it: it then wants every batch, and all workers' share."""
        return self.batch_norm == "target" and bool(self._statistics)

    @torch.no_grad()
    def forward(self, *inputs: Any) -> Any:
        return self.network(*inputs)

    def train(self, mode: bool = True) -> "Teacher":
        """Only BatchNorm knows of training, and not if `batch_norm` says "running"."""
        self.training = mode
        self.network.eval()
        records = self.batch_norm == "target"
        for module in self.network.modules():
            if isinstance(module, _BatchNorm):
                module.training = mode and self.batch_norm != "running"
                # In training without this flag: use the batch, record nothing.
                module.track_running_stats = records or not module.training
        return self

    @torch.no_grad()
    def update(self, student: nn.Module, step: int, decay: float) -> None:
        """teacher = alpha * teacher + (1 - alpha) * student with alpha = `ema_decay(step, decay)`.

        Parameters and floating-point buffers are averaged, integer buffers (counters) copied. Call
        it after the optimiser's step, with the bare student, not its DDP wrapper.
        """
        mine, theirs = _tensors(self.network), _tensors(student)
        assert mine.keys() == theirs.keys(), "the teacher is a copy of another network"
        if self.batch_norm == "target" and step > 0:  # step 0 copies the student whole
            mine = {name: mine[name] for name in mine if name not in self._statistics}
        averaged = [name for name in mine if mine[name].is_floating_point()]
        torch._foreach_lerp_(
            [mine[name] for name in averaged],
            [theirs[name] for name in averaged],
            1.0 - ema_decay(step, decay),
        )
        if copied := [name for name in mine if not mine[name].is_floating_point()]:
            torch._foreach_copy_([mine[n] for n in copied], [theirs[n] for n in copied])

    def share_statistics(self) -> None:
        """Averages running statistics of its own over the workers; call it after each `update`.

        Data-parallel training copies rank 0's buffers to the others before a forward, which here
        would be the statistics of rank 0's images alone.
        """
        if self.keeps_statistics:
            named = self.network.named_buffers()
            average([b for n, b in named if n in self._statistics and b.is_floating_point()])


def ema_decay(step: int, decay: float) -> float:
    """min(1 - 1 / (step + 1), decay): a plain mean of the students so far until `decay` is reached.

    0 at step 0: the first update copies the student.
    """
    if step < 0 or not 0.0 <= decay <= 1.0:
        raise UserError(f"teacher: got step {step}, decay {decay}; want step >= 0, decay in [0, 1]")
    return min(1.0 - 1.0 / (step + 1), decay)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _batch_norm_buffers(module: nn.Module) -> frozenset[str]:
    """Full names of the running statistics and counters."""
    return frozenset(
        f"{prefix}.{name}"
        for prefix, part in module.named_modules()
        if isinstance(part, _BatchNorm)
        for name, _ in part.named_buffers()
    )
