"""A checkpoint folder of a small network that sees many classes, without any training."""

import json
from pathlib import Path

import torch
from torch import nn

from tests.small_models import small_config
from uda.checkpoint import CONFIG_FILE, MODEL_FILE, save_weights
from uda.models import build_model
from uda.tree import to_plain


def write_checkpoint(folder: Path, num_classes: int = 19) -> Path:
    """Random weights; the classifier's are so large that every image has several classes."""
    config = small_config(norm="group", num_classes=num_classes)
    torch.manual_seed(0)
    model = build_model(config)
    nn.init.normal_(model.classifier.weight, std=3.0)
    folder.mkdir(parents=True)
    save_weights(model, folder / MODEL_FILE)
    (folder / CONFIG_FILE).write_text(json.dumps({"name": "small", "model": to_plain(config)}))
    return folder
