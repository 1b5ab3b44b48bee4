"""Arguments of the verbs that look at images with a finished network, with Ray and without.

Nothing heavy is imported here at the top: `--help` must answer at once.
"""

import argparse
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from uda.arguments import add_verb

if TYPE_CHECKING:
    from uda.classes import ClassList
    from uda.data.examples import Examples
    from uda.inference import Inference

T = TypeVar("T")

FORMATS = ("labelids", "trainids", "color", "overlay")  # uda.label_maps, without importing it
_CHECKPOINT = "a checkpoint, a run (its latest is used), or a SegmenTron .pth file"
_EVALUATE_EXAMPLES = """\
uda evaluate runs/demo/adapted runs/demo/shards/camera_val --json scores.json
  uda evaluate runs/first CITYSCAPES --dataset cityscapes --scales 0.75 1 1.25 --flip
  uda evaluate deeplab.pth CITYSCAPES --dataset cityscapes --protocol segmentron
  uda evaluate --predictions results CITYSCAPES --dataset cityscapes"""
_PREDICT_EXAMPLES = """\
uda predict runs/first photos out --format overlay
  uda predict runs/first CITYSCAPES/leftImg8bit/test submission --format labelids"""


def add_evaluate(
    verbs: argparse._SubParsersAction, words: Sequence[str]
) -> argparse.ArgumentParser:
    """`evaluate`: checkpoint (or label maps) and labelled images -> scores.

    `words` are those of the command line: with --predictions among them there is no CHECKPOINT.
    argparse would take an optional one for absent as soon as an option stands behind it.
    """
    without_checkpoint = any(word.startswith("--predictions") for word in words)
    parser = add_verb(
        verbs,
        "evaluate",
        "score a checkpoint, or any program's label maps, on labelled images",
        _EVALUATE_EXAMPLES,
    )
    if without_checkpoint:
        parser.set_defaults(checkpoint=None)
    else:
        parser.add_argument("checkpoint", type=Path, help=_CHECKPOINT)
    parser.add_argument("data", help="folder of shards with labels; with --dataset its root")
    parser.add_argument("--predictions", type=Path, metavar="DIR",
                        help="instead of a checkpoint: label maps (PNG) that any program "
                        "wrote")  # fmt: skip
    parser.add_argument("--ids", choices=("labelids", "trainids"), default="labelids",
                        help="what those files hold; default: labelids")  # fmt: skip
    parser.add_argument("--dataset", metavar="NAME",
                        help="DATA is this data set as its authors publish it, such as "
                        "cityscapes")  # fmt: skip
    parser.add_argument("--split", help="of the data set; default: val")
    add_inference(parser)
    parser.add_argument("--classes", help="class list to score; default: the data set's own")
    parser.add_argument("--worst", type=_count, default=0, metavar="N",
                        help="also list the N images of the lowest mean IoU")  # fmt: skip
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw the worst images")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the scores to this file")
    return parser


def add_predict(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """`predict`: checkpoint and images -> label maps."""
    parser = add_verb(
        verbs,
        "predict",
        "write label maps for a folder of images",
        _PREDICT_EXAMPLES,
        "labelids, trainids: grey PNGs of Cityscapes ids (for its benchmark) or of trainIds\n"
        "color, overlay:     the classes' colours, alone or over the image",
    )
    parser.add_argument("checkpoint", type=Path, help=_CHECKPOINT)
    parser.add_argument("images", type=Path, help="folder of images, with folders in it or not")
    parser.add_argument(
        "out", type=Path, help="folder to write to; its folders are those of IMAGES"
    )
    parser.add_argument("--format", choices=FORMATS, default="color",
                        help="what to write; default: color")  # fmt: skip
    add_inference(parser)
    return parser


def add_convert(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """`convert`: another program's checkpoint -> ours."""
    parser = add_verb(
        verbs,
        "convert",
        "turn another program's checkpoint into one of ours",
        "uda convert segmentron deeplabv3_plus_resnet101_segmentron.pth runs/segmentron",
    )
    parser.add_argument("program", choices=("segmentron",), help="which wrote the file")
    parser.add_argument("file", type=Path, metavar="IN",
                        help="its DeepLabV3+ ResNet-101, a .pth file")  # fmt: skip
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    parser.add_argument("--output-stride", type=int, choices=(8, 16), default=16,
                        help="which the file does not say; default: 16")  # fmt: skip
    parser.set_defaults(run=run_convert)
    return parser


def run_convert(arguments: argparse.Namespace) -> int:
    """The verb `convert`, which needs no Ray."""
    from uda.convert import convert_segmentron

    convert_segmentron(arguments.file, arguments.out, output_stride=arguments.output_stride)
    print(f"{arguments.out}: a checkpoint, of {arguments.file}")
    return 0


def add_distributions(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """`distributions`: checkpoint and shards without labels -> a file for matched sampling."""
    parser = add_verb(
        verbs,
        "distributions",
        "predict the classes of unlabelled shards, for matched sampling of the source",
        "uda distributions runs/demo/source_only runs/demo/shards/camera_train camera.parquet",
    )
    parser.add_argument("checkpoint", type=Path, help=_CHECKPOINT)
    parser.add_argument("data", metavar="shards",
                        help="the target's folder; its labels are not read")  # fmt: skip
    parser.add_argument(
        "file",
        type=Path,
        help="Parquet file to write; train with --set data.source_sampling.kind=matched and "
        "--set data.source_sampling.predictions=FILE",
    )
    parser.add_argument("--gpu", action="store_true", help="predict on GPUs")
    return parser


def add_inference(parser: argparse.ArgumentParser) -> None:
    """How to look at the images, for verbs that do."""
    parser.add_argument("--protocol", choices=("cityscapes", "segmentron"), default="cityscapes",
                        help="rules to look and to score by: of the official Cityscapes program, "
                        "or of SegmenTron, with its output; default: cityscapes")  # fmt: skip
    parser.add_argument("--crop-size", type=rows_columns, metavar="HxW", default=(),
                        help="of protocol segmentron: what images are padded to (where rows and "
                        "columns lack differently many, they change places, as there); default: "
                        "one more pixel each way")  # fmt: skip
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0], metavar="FACTOR",
                        help="after the other words: sizes to look at, averaged; "
                        "default: 1.0")  # fmt: skip
    parser.add_argument("--flip", action="store_true", help="also look at the mirrored image")
    parser.add_argument("--window", type=rows_columns, metavar="HxW", default=(),
                        help="look through a sliding window of this size; default: the whole "
                        "image")  # fmt: skip
    parser.add_argument("--precision", choices=("float32", "tf32", "bfloat16"), default="float32",
                        help="to compute in: the others are faster where the device has them; "
                        "default: float32, exact")  # fmt: skip
    parser.add_argument("--batch", type=_count, default=1, metavar="N",
                        help="images to look at together; default: 1")  # fmt: skip
    parser.add_argument("--gpu", action="store_true", help="on GPUs")


def add_actors(parser: argparse.ArgumentParser) -> None:
    """How many actors of what size, for the verbs that have them."""
    parser.add_argument("--actors", type=int, metavar="N",
                        help="default: as many as the cluster has room for")  # fmt: skip
    parser.add_argument("--gpus-per-actor", type=float, metavar="SHARE",
                        help="with --gpu: 0.5 lets two actors share one; default: 1")  # fmt: skip


def gpus_per_actor(arguments: argparse.Namespace) -> float:
    """GPUs of one actor, 0 without --gpu."""
    from uda.types import UserError

    wanted = arguments.gpus_per_actor
    if wanted is not None and not arguments.gpu:
        raise UserError(f"--gpus-per-actor: got {wanted:g} without --gpu")
    if wanted is not None and not 0 < wanted <= 1:
        raise UserError(f"--gpus-per-actor: got {wanted:g}, want more than 0 and at most 1")
    return (1.0 if wanted is None else wanted) if arguments.gpu else 0.0


def inference_of(arguments: argparse.Namespace) -> "Inference":
    """The options as one value; UserError where they do not fit together."""
    from uda.inference import Inference

    return Inference(
        scales=tuple(arguments.scales),
        flip=arguments.flip,
        window=arguments.window,
        precision=arguments.precision,
        batch_size=arguments.batch,
        protocol=arguments.protocol,
        crop_size=arguments.crop_size,
    )


def open_evaluation(arguments: argparse.Namespace) -> "tuple[Examples, ClassList, Inference]":
    """Everything that a user can get wrong in `evaluate` but the checkpoint, found in a second."""
    from uda.classes import find_class_list
    from uda.data.examples import open_examples
    from uda.inference import Inference
    from uda.report import check_output_file
    from uda.types import UserError

    if arguments.predictions and arguments.protocol == "segmentron":
        raise UserError("--protocol segmentron: got --predictions, want a network's logits")
    if arguments.split and not arguments.dataset:
        raise UserError(f"--split: got {arguments.split} without --dataset")
    if arguments.png and not arguments.worst:
        raise UserError("--png: got it without --worst N, the images to draw")
    if arguments.png and arguments.predictions:
        raise UserError("--png: got it with --predictions, want a checkpoint")
    inference = inference_of(arguments)
    if arguments.predictions and inference != Inference():
        raise UserError("--predictions: got it with options that say how a network is to look")
    check_output_file("--json", arguments.json)
    check_output_file("--png", arguments.png)
    examples = open_examples(
        arguments.data,
        arguments.dataset,
        arguments.split or "val",
        images=arguments.predictions is None,
    )
    class_list = find_class_list(arguments.classes or examples.class_list)
    if inference.protocol == "segmentron" and class_list.name != "cityscapes19":
        raise UserError(f"--protocol segmentron: got classes {class_list.name}, want cityscapes19")
    return examples, class_list, inference


def print_now(line: str) -> None:
    """For lines that are progress: seen at once, also in a file or a pipe."""
    print(line, flush=True)


def with_progress(results: Iterable[T], total: int) -> Iterator[T]:
    """The same results, and a bar on stderr that shows how many there have been."""
    from tqdm import tqdm

    yield from tqdm(results, total=total, unit="image")


def rows_columns(text: str) -> tuple[int, int]:
    """HxW as (height, width), for argparse."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match or not int(match[1]) * int(match[2]):
        raise argparse.ArgumentTypeError(f"got {text!r}, want HEIGHTxWIDTH, for example 512x1024")
    return int(match[1]), int(match[2])


def _count(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,5}", text):
        raise argparse.ArgumentTypeError(f"got {text!r}, want a number from 1 on")
    return int(text)
