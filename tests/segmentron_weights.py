"""The weights of the golden values from SegmenTron's own program, rebuilt from their key names.

That program (commit 4bc605e, DeepLabV3+ with ResNet-101, config
`cityscapes_deeplabv3_plus_resnet.yaml`, evaluation mode, one CPU thread) was given `golden_state`
and `golden_input`; `tests/golden/segmentron/logits_float64.npz` holds every 16th row and column of
what it answered in float64, at output strides 16 and 8. `keys.tsv` lists the keys of its state
dict, in order.
"""

import ast
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

GOLDEN = Path(__file__).parent / "golden" / "segmentron"
STEP_PX = 16  # between the logits that are kept, in rows and columns


def golden_keys() -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and type of the 712 tensors of a checkpoint by key, in the order of the file."""
    rows = [line.split("\t") for line in (GOLDEN / "keys.tsv").read_text().splitlines()]
    return {key: (ast.literal_eval(shape), dtype) for key, shape, dtype, _ in rows}


def golden_state() -> dict[str, Tensor]:
    """A state dict as SegmenTron saves it: about 190 MB, always the same."""
    return {key: _tensor(key, shape) for key, (shape, _) in golden_keys().items()}


def golden_input() -> Tensor:
    """Normalised images (1, 3, 129, 257) float32."""
    values = np.random.RandomState(1234).standard_normal((1, 3, 129, 257))
    return torch.from_numpy(values.astype(np.float32))


def golden_logits(output_stride: int) -> Tensor:
    """What SegmenTron's network answers: (1, 19, 9, 17) float64, every `STEP_PX`th pixel."""
    return torch.from_numpy(np.load(GOLDEN / "logits_float64.npz")[f"stride{output_stride}"])


def _tensor(key: str, shape: tuple[int, ...]) -> Tensor:
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    random = np.random.RandomState(zlib.crc32(key.encode()))
    count = int(np.prod(shape))
    if key.endswith("running_var"):
        values = 0.8 + 0.4 * random.random_sample(count)
    elif key.endswith(("running_mean", "bias")):
        values = 0.1 * random.standard_normal(count)
    elif key == "head.block.2.weight":
        values = 0.05 * random.standard_normal(count).reshape(shape[0], -1)
        values = values - values.mean(axis=1, keepdims=True)
    elif len(shape) == 4:
        values = np.sqrt(2 / np.prod(shape[1:])) * random.standard_normal(count)
    elif len(shape) == 2:
        values = 0.01 * random.standard_normal(count)
    elif key.startswith("encoder.") and key.endswith(".bn3.weight"):
        values = 0.1 + 0.2 * random.random_sample(count)
    else:
        values = 0.8 + 0.4 * random.random_sample(count)
    return torch.from_numpy(values.astype(np.float32).reshape(shape))
