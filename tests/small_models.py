"""Networks that are quick on a CPU, shared by the tests of the models."""

import dataclasses
from typing import Any

import torch
from torch import nn

from uda.models import DeepLabV3Plus, ModelConfig, build_model

LITE0 = "tf_efficientnet_lite0"


def small_config(backbone: str = "tiny", **changes: Any) -> ModelConfig:
    """A head that is quick on a CPU."""
    base = ModelConfig(
        backbone=backbone, aspp_channels=16, low_level_channels=8, decoder_channels=16
    )
    return dataclasses.replace(base, **changes)


def small_model(backbone: str = "tiny", **changes: Any) -> DeepLabV3Plus:
    torch.manual_seed(0)
    return build_model(small_config(backbone, **changes))


def randomise_norms(module: nn.Module) -> None:
    """Gives every BatchNorm statistics and weights that are not those of a fresh network."""
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.normal_(norm.running_mean, std=0.1)
        nn.init.uniform_(norm.running_var, 0.8, 1.2)
        nn.init.uniform_(norm.weight, 0.8, 1.2)
        nn.init.normal_(norm.bias, std=0.1)
