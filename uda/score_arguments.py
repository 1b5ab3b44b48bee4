"""The verb `score`, with Ray and without: a checkpoint's quality on a target without labels.

Nothing heavy is imported here at the top: `--help` must answer at once.
"""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from uda.arguments import add_verb

if TYPE_CHECKING:
    from uda.data.shards import ShardFolder
    from uda.quality.score import Score

_EXAMPLE = """\
uda score runs/demo/adapted --source runs/demo/shards/game_train \\
    --target runs/demo/shards/camera_train"""
_NOTES = """\
Quality is between 0 and 1 and compares networks on the same shards: which step of a run, which
setting. It reads no label of the target. It is no estimate of the mean IoU."""


def add_score(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """`score`: checkpoint, labelled source and unlabelled target -> quality."""
    parser = add_verb(
        verbs, "score", "measure adaptation quality without target labels", _EXAMPLE, _NOTES
    )
    parser.add_argument("checkpoint", type=Path, help="a checkpoint, or a run (its latest is used)")
    parser.add_argument("--source", required=True, metavar="SHARDS",
                        help="with labels; best some that were not trained on")  # fmt: skip
    parser.add_argument("--target", required=True, metavar="SHARDS",
                        help="whose labels, if there are any, are not read")  # fmt: skip
    parser.add_argument("--images", type=int, metavar="N",
                        help="of each to look at, by lot; default: 100")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the score to this file")
    parser.add_argument("--gpu", action="store_true", help="on GPUs")
    return parser


def open_score(arguments: argparse.Namespace) -> "tuple[ShardFolder, ShardFolder, int]":
    """Source, target and number of images; everything that can be wrong, found in a second."""
    from uda.checkpoint import find_checkpoint, load_model
    from uda.data.shards import open_shards
    from uda.quality.subset import IMAGES
    from uda.report import check_output_file
    from uda.types import UserError

    images = IMAGES if arguments.images is None else arguments.images
    if images < 1:
        raise UserError(f"--images: got {images}, want 1 or more")
    check_output_file("--json", arguments.json)
    source, target = open_shards(arguments.source), open_shards(arguments.target)
    if not any(source.manifest.class_pixels):
        raise UserError(f"--source {source.path}: got shards without labels, want labelled ones")
    # Found once: a run that goes on meanwhile has a later one when an actor looks for it.
    arguments.checkpoint = find_checkpoint(arguments.checkpoint)
    load_model(arguments.checkpoint)
    return source, target, images


def show_score(
    score: "Score",
    arguments: argparse.Namespace,
    data: "tuple[ShardFolder, ShardFolder]",
    images: int,
) -> None:
    """Prints the score, and writes the JSON where a file is named (whole or not at all).

    `data` are source and target, of which up to `images` each were looked at.
    """
    from uda.report import write_json

    seen = dict(zip(("source", "target"), (_seen(folder, images) for folder in data), strict=True))
    print(score_table(score))
    shown = (f"{role} {of['name']}: {of['images']} of {of['total']}" for role, of in seen.items())
    print(f"images: {', '.join(shown)}")
    for note in score.notes:
        print(f"note: {note}")
    if arguments.json is not None:
        checkpoint = {"checkpoint": str(arguments.checkpoint)}
        write_json(arguments.json, {**score.json(), **checkpoint, **seen})


def _seen(folder: "ShardFolder", images: int) -> dict[str, str | int]:
    """Names what was looked at: by the digest, as a path says little on another machine."""
    from uda.quality.subset import chosen_images

    return {
        "name": folder.path.absolute().name,
        "digest": folder.manifest.digest,
        "images": len(chosen_images(len(folder), images)),
        "total": len(folder),
    }


def score_table(score: "Score") -> str:
    """Quality and the measures behind it, those that are part of it first."""
    from uda.quality.score import GUARDS, WEIGHTS

    used = [*WEIGHTS, *GUARDS]
    names = [*used, *(name for name in score.measures if name not in used)]
    width = max(map(len, names))
    lines = [f"{'quality':<{width}}  {score.quality:6.3f}", "-" * (width + 8)]
    for name in names:
        value = score.measures[name]
        shown = f"{value:6.3f}" if math.isfinite(value) else "     -  nothing to judge it by"
        lines.append(f"{name:<{width}}  {shown}{'  in quality' if name in used else ''}")
    return "\n".join(lines)
