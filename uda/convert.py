"""Checkpoint folders made of other programs' weight files."""

import hashlib
import json
from pathlib import Path
from typing import Any

from torch import Tensor

from uda.checkpoint import (
    CONFIG_FILE,
    MODEL_FILE,
    REPORT_FILE,
    provenance,
    save_weights,
    whole_folder,
)
from uda.models.segmentron import network_of, never_run, read_segmentron, segmentron_config
from uda.tree import to_plain
from uda.types import UserError


def convert_segmentron(source: Path, out: Path, *, output_stride: int = 16) -> None:
    """Writes the checkpoint folder `out` of SegmenTron's weight file, whole or not at all.

    `load_model(out)` is then its network, and `model.pretrained=OUT` starts a training from it.
    `output_stride` (16 or 8) is that of the training, which the file does not tell.

    Raises:
        UserError: `out` exists, or `source` is not what `uda.models.segmentron` reads.
    """
    if out.exists() or out.is_symlink():
        raise UserError(f"convert: got {out}, which exists; want a new folder")
    config = segmentron_config(output_stride)
    state = read_segmentron(source)
    model = network_of(state, str(source), config)
    with whole_folder(out, replace=False) as partial:
        save_weights(model, partial / MODEL_FILE)
        _write_json(partial / CONFIG_FILE, {"name": "segmentron", "model": to_plain(config)})
        _write_json(partial / REPORT_FILE, _report(source, state))


def _report(source: Path, state: dict[str, Tensor]) -> dict[str, Any]:
    with source.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "source": {
            "program": "SegmenTron",
            "file": source.name,
            "sha256": sha256,
            "num_tensors": len(state),
            "left_out": never_run(state),
        },
        **provenance({}),
    }


def _write_json(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2) + "\n")
