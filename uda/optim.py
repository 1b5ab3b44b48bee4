"""Optimisers: one for the network, one for the discriminators; rates are functions of the step."""

from typing import Any

import torch
from torch import nn

from uda.config import Config
from uda.schedule import Schedule
from uda.task import AdaptationTask


class Optimisers:
    """Steps every trained parameter of a task.

    The network and the discriminators get their gradients from one backward pass; they differ in
    optimiser and rate only, so they step together.
    """

    def __init__(self, task: AdaptationTask, config: Config) -> None:
        optim = config.optim
        self._clip_norm = optim.clip_norm
        self._network = [*task.student.parameters(), *task.projection_parameters()]
        head = [*task.student.head_parameters(), *task.projection_parameters()]
        groups = [
            *_groups(
                "backbone", list(task.student.backbone_parameters()), optim.lr, optim.weight_decay
            ),
            *_groups("head", head, optim.lr * optim.head_factor, optim.weight_decay),
        ]
        # None, not False: an explicit False also forbids PyTorch's second-best, "foreach".
        fused = config.runtime.fused_optimiser or None
        self._all: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, fused=fused)]
        tops: dict[str, float] = {}
        if adversaries := _adversaries(task, config):
            # The second moment's 0.99 is AdaptSegNet's: adversarial gradients are less steady.
            self._all.append(torch.optim.Adam(adversaries, betas=(0.9, 0.99), fused=fused))
            tops["discriminator"] = optim.discriminator_lr
        for optimiser in self._all:
            tops |= {group["name"]: group["lr"] for group in optimiser.param_groups}
        self._rates = {
            name: Schedule(
                value=top,
                ramp=optim.warmup,
                decay=optim.decay,
                stop=config.steps if optim.decay != "none" else 0,
            )
            for name, top in tops.items()
        }

    def rates(self, step: int) -> dict[str, float]:
        """Learning rate by group name ("backbone", "head", "discriminator") at `step`.

        "discriminator" is that of a level whose `lr_factor` is 1.
        """
        return {name: rate.at(step) for name, rate in self._rates.items() if "/" not in name}

    def step(self, step: int) -> None:
        """Applies and clears the gradients, at the rates of `step`."""
        if self._clip_norm:
            nn.utils.clip_grad_norm_(self._network, self._clip_norm)
        for optimiser in self._all:
            for group in optimiser.param_groups:
                group["lr"] = self._rates[group["name"]].at(step)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        return {str(i): optimiser.state_dict() for i, optimiser in enumerate(self._all)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for i, optimiser in enumerate(self._all):
            saved = state[str(i)]
            # How it is computed is this run's choice, not that of the run which saved; and so is
            # the decay, where another run's checkpoint is gone on from (the rates: see `step`).
            own = {"fused": optimiser.defaults["fused"]}
            decays = {group["name"]: group["weight_decay"] for group in optimiser.param_groups}
            groups = [
                {**group, **own, "weight_decay": decays.get(group["name"], group["weight_decay"])}
                for group in saved["param_groups"]
            ]
            optimiser.load_state_dict({**saved, "param_groups": groups})
            _lay_like_parameters(optimiser)


def _lay_like_parameters(optimiser: torch.optim.Optimizer) -> None:
    """Gives the state the memory format of its parameters, which may be another than saved.

    The fused kernels run over memory: in another order they would mix the moments up, silently.
    """
    for parameter, state in optimiser.state.items():
        for name, value in state.items():
            if value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter, requires_grad=False).copy_(value)


def _adversaries(task: AdaptationTask, config: Config) -> list[dict[str, Any]]:
    """A group for each discriminator, at its level's rate."""
    rates = {level.name: config.optim.discriminator_lr * level.lr_factor for level in config.levels}
    return [
        {"name": f"discriminator/{name}", "params": list(network.parameters()), "lr": rates[name]}
        for name, network in task.discriminators.items()
    ]


def _groups(
    name: str, parameters: list[nn.Parameter], lr: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Weights decay; biases and the scales of normalisation layers do not (one-dimensional)."""
    decayed = [p for p in parameters if p.dim() > 1]
    plain = [p for p in parameters if p.dim() <= 1]
    groups = [
        {"name": name, "params": decayed, "lr": lr, "weight_decay": weight_decay},
        {"name": f"{name}/no_decay", "params": plain, "lr": lr, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
