"""The networks: segmentation model, backbones, discriminators, projection head and teacher."""

from uda.models.backbones import BACKBONES, Backbone
from uda.models.deeplabv3plus import DeepLabV3Plus, ModelConfig, SegmentationOutput, build_model
from uda.models.discriminator import PatchDiscriminator, num_strided_for
from uda.models.pretrained import check_pretrained, load_pretrained
from uda.models.projection import ProjectionHead
from uda.models.teacher import Teacher

__all__ = [
    "BACKBONES",
    "Backbone",
    "DeepLabV3Plus",
    "ModelConfig",
    "PatchDiscriminator",
    "ProjectionHead",
    "SegmentationOutput",
    "Teacher",
    "build_model",
    "check_pretrained",
    "load_pretrained",
    "num_strided_for",
]
