"""SegmenTron's DeepLabV3+ with ResNet-101, from its weight files, to the last bit.

SegmenTron (github.com/LikeLy-Journey/SegmenTron) saves 712 tensors, of which two, the ImageNet
classifier `encoder.fc`, are never run. The others are ours under other names.
"""

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from uda.models.deeplabv3plus import DeepLabV3Plus, ModelConfig, build_model
from uda.models.pretrained import check_finite, check_fits, fill, read_state_dict
from uda.types import UserError

# Spelt out, so that another default of ours changes nothing here.
SEGMENTRON = ModelConfig(
    backbone="resnet101",
    pretrained="",
    output_stride=16,
    aspp_channels=256,
    aspp_dilations=(6, 12, 18),
    low_level_channels=48,
    decoder_channels=256,
    norm="batch",
    dropout=0.1,
    num_classes=19,
    align_corners=True,
)
OUTPUT_STRIDES = (16, 8)  # at 32 it keeps the dilations of 16, which ours halves

_NEVER_RUN = "encoder.fc."
_CLASSIFIER = "head.block.2.weight"

# Layers within a separable convolution, theirs and ours.
_SEPARABLE = {
    "depthwise.": "depthwise.conv.",
    "bn_depth.": "depthwise.norm.",
    "pointwise.": "pointwise.conv.",
    "bn_point.": "pointwise.norm.",
}
_SEPARABLES = {
    **{f"head.aspp.aspp{i}.block.": f"aspp.branches.{i + 1}." for i in (1, 2, 3)},
    **{f"head.block.{i}.block.": f"decoder.fuse.{i}." for i in (0, 1)},
}
# How a key begins, theirs and ours: of every key exactly one.
_PREFIXES = {
    "encoder.": "encoder.",
    "head.aspp.image_pooling.conv.": "aspp.branches.0.conv.",
    "head.aspp.image_pooling.bn.": "aspp.branches.0.norm.",
    "head.aspp.aspp0.conv.": "aspp.branches.1.conv.",
    "head.aspp.aspp0.bn.": "aspp.branches.1.norm.",
    "head.aspp.conv.": "aspp.project.conv.",
    "head.aspp.bn.": "aspp.project.norm.",
    "head.c1_block.conv.": "decoder.low_level.conv.",
    "head.c1_block.bn.": "decoder.low_level.norm.",
    "head.block.2.": "classifier.",
    **{
        theirs + layer: ours + name
        for theirs, ours in _SEPARABLES.items()
        for layer, name in _SEPARABLE.items()
    },
}


def load_segmentron(path: Path, *, output_stride: int = 16) -> DeepLabV3Plus:
    """The network of a file that SegmenTron saved, `best_model.pth` or `<epoch>.pth`, on the CPU.

    The weights do not tell the output stride that they were trained for: it is a parameter.

    Raises:
        UserError: the file is none, or any key or shape differs.
    """
    return network_of(read_segmentron(path), str(path), segmentron_config(output_stride))


def segmentron_config(output_stride: int) -> ModelConfig:
    """`SEGMENTRON` at an output stride; UserError for one where the two programs differ."""
    if output_stride not in OUTPUT_STRIDES:
        raise UserError(f"output_stride: got {output_stride}, want one of {list(OUTPUT_STRIDES)}")
    return dataclasses.replace(SEGMENTRON, output_stride=output_stride)


def read_segmentron(path: Path) -> dict[str, Tensor]:
    """The state dict of a file that looks like SegmenTron's; UserError for any other file."""
    state = read_state_dict(path)
    if not is_segmentron(state):
        raise UserError(
            f"weights {path}: not SegmenTron's (keys such as {min(state)!r}); "
            "want a state dict of its DeepLabV3+ with ResNet-101"
        )
    return state


def network_of(state: dict[str, Tensor], origin: str, config: ModelConfig) -> DeepLabV3Plus:
    """The network of a SegmenTron state dict; UserError naming `origin` if anything differs."""
    _check_classes(state, origin)
    with torch.device("meta"):  # nothing of a fresh network stays, so none is made
        model = build_model(config)
    unused = never_run(state)
    used = {key: value for key, value in state.items() if key not in unused}
    of_file = f"{origin} for SegmenTron's DeepLabV3+ with ResNet-101"
    check_fits(used, to_segmentron(model.state_dict()), of_file)  # in the names of the file
    check_finite(used, of_file)
    model.to_empty(device="cpu")
    fill(model, from_segmentron(used), of_file)
    return model


def is_segmentron(state: dict[str, Tensor]) -> bool:
    """Whether the keys look like one of SegmenTron's networks; which one is not said."""
    return all(any(key.startswith(part) for key in state) for part in ("encoder.", "head."))


def never_run(state: dict[str, Tensor]) -> list[str]:
    """The keys of a SegmenTron state dict that neither its network nor ours has a use for."""
    return sorted(key for key in state if key.startswith(_NEVER_RUN))


def from_segmentron(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under our names; a key that SegmenTron's network lacks keeps its own."""
    return _renamed(state, _PREFIXES)


def to_segmentron(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under SegmenTron's names, as its program loads them."""
    return _renamed(state, {ours: theirs for theirs, ours in _PREFIXES.items()})


def _renamed(state: dict[str, Tensor], prefixes: dict[str, str]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in state.items():
        old = next((prefix for prefix in prefixes if key.startswith(prefix)), "")
        renamed[prefixes.get(old, "") + key.removeprefix(old)] = value
    return renamed


def _check_classes(state: dict[str, Tensor], origin: str) -> None:
    shape = tuple(state[_CLASSIFIER].shape) if _CLASSIFIER in state else ()
    # Another number of dimensions is another mistake, which the comparison of all shapes tells.
    if len(shape) == 4 and shape[0] != SEGMENTRON.num_classes:
        raise UserError(
            f"weights {origin}: got {shape[0]} classes ({_CLASSIFIER}), "
            f"want Cityscapes' {SEGMENTRON.num_classes}"
        )
