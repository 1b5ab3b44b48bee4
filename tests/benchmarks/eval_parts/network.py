"""The reference network with random weights, and how it may be run; shared by CPU and GPU.

Imports nothing of `uda` but the networks and how they look at images.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uda.inference import Inference, ready
from uda.models import DeepLabV3Plus, ModelConfig, build_model

REFERENCE = ModelConfig(backbone="resnet101", align_corners=True)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to compute the same: a precision of `uda.inference`, a layout of PyTorch."""

    precision: str = "float32"
    layout: str = "contiguous"
    compiled: bool = False

    @property
    def name(self) -> str:
        return f"{self.precision}, {self.layout}{', compiled' if self.compiled else ''}"

    @property
    def inference(self) -> Inference:
        return Inference(precision=self.precision)

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """`uda.inference` chooses a layout by the precision; here ours is chosen."""
        formats = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
        with patch("uda.inference._layout", lambda *_: formats[self.layout]):
            yield

    def prepared(self, network: nn.Module, device: str) -> nn.Module:
        """The network laid out, and compiled, on `device`; call it within `in_force`."""
        network = ready(network, self.inference, device)
        if self.compiled:
            # Else a second batch size would compile for any, which is slower.
            network.forward = torch.compile(network.forward, dynamic=False)
        return network


LAYOUTS = ("contiguous", "channels_last")


def reference_network(image: np.ndarray) -> DeepLabV3Plus:
    """Random weights whose BatchNorms know the statistics of `image` at half its size.

    Without them the activations of 101 layers grow, and one class wins everywhere. Each residual
    adds a little to what goes past it, as in trained networks: if both weighed the same, the last
    digits of the first layer would decide over the class.
    """
    torch.manual_seed(0)
    network = build_model(REFERENCE).train()
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    for name, parameter in network.named_parameters():
        if name.endswith("bn3.weight"):  # the last one of a residual
            nn.init.constant_(parameter, 0.2)
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    small = F.interpolate(network.normalise(pixels), scale_factor=0.5, mode="bilinear")
    with torch.no_grad():
        network(small)
    return network.eval()


def share_differing(labels: Tensor, others: Tensor) -> float:
    return float((labels != others).float().mean())


def say_result(values: dict[str, Any]) -> None:
    print(json.dumps(values), flush=True)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The last result that a process said, None where there is none, and why there is no other."""

    result: dict[str, Any] | None
    failed: str


def ask_module(
    name: str, *arguments: str | Path, limit_s: float, environment: dict[str, str] | None = None
) -> Answer:
    """Runs a module of ours in a process of its own, and ends all that it started after `limit_s`.

    A compiler that went on would disturb whatever is measured next.
    """
    with subprocess.Popen(
        [sys.executable, "-m", name, *map(str, arguments)],
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=limit_s)
            lines = errors.strip().splitlines() or [f"ended with {process.returncode}"]
            failed = lines[-1][:200] if process.returncode else ""
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            failed = f"no answer in {limit_s:.0f} s"
    results = [line for line in output.splitlines() if line.startswith("{")]
    return Answer(result=json.loads(results[-1]) if results else None, failed=failed)
