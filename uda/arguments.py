"""Arguments of the verbs that run with and without Ray, and what every verb does about errors.

Nothing heavy is imported here at the top: `--help` must answer at once.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

DONE, FAILED, USER_MISTAKE, INTERRUPTED = 0, 1, 2, 130

Verb = Callable[[argparse.Namespace], int]


def run_verb(verb: Verb, arguments: argparse.Namespace) -> int:
    """Runs a verb and turns what goes wrong into one line on stderr and an exit status.

    UDA_TRACEBACK=1 in the environment shows where an error comes from.
    """
    from uda.loop import TrainingError
    from uda.types import UserError

    try:
        return verb(arguments)
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (UserError, TrainingError, OSError, KeyboardInterrupt) as error:
        if os.environ.get("UDA_TRACEBACK"):
            raise
        kinds = {UserError: USER_MISTAKE, KeyboardInterrupt: INTERRUPTED}  # else: FAILED
        status = next((s for kind, s in kinds.items() if isinstance(error, kind)), FAILED)
        print(f"uda: {' '.join(str(error).split()) or 'interrupted'}", file=sys.stderr)
        return status


def run_prepare(prepare: Callable[..., Any], arguments: argparse.Namespace) -> int:
    """The verb `prepare`, by a function that takes its options, and what it says at the end."""
    manifest = prepare(
        arguments.dataset,
        arguments.root,
        arguments.out,
        arguments.split,
        size=arguments.size,
        codec=arguments.codec,
        count=arguments.count,
        seed=arguments.seed,
    )
    print(f"{arguments.out}: {manifest.samples} images in {len(manifest.shards)} shards")
    if unknown := manifest.unknown_label_pixels:
        print(f"{unknown} label pixels had ids outside the table: now ignored")
    return DONE


def say_where_it_starts(resume: bool, step: int) -> None:
    """A mistyped folder must not look like a run that went on."""
    if resume and not step:
        print("uda: no checkpoint to resume from: starting at step 0", file=sys.stderr)


def add_verb(
    verbs: argparse._SubParsersAction, name: str, summary: str, example: str
) -> argparse.ArgumentParser:
    """A verb whose help ends with an example that can be typed as it is."""
    return verbs.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_prepare(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """`prepare`: raw data set -> shards."""
    parser = add_verb(
        verbs,
        "prepare",
        "turn a raw data set into shards",
        "uda prepare camvid data/CamVid shards/camvid/train --split train",
    )
    parser.add_argument("dataset", help="camvid or streets")
    parser.add_argument("root", help="its folder; for streets the name of a look: game or camera")
    parser.add_argument("out", type=Path, help="folder of shards to write")
    parser.add_argument("--split", default="train", help="default: train")
    parser.add_argument("--size", type=image_size, metavar="WxH", help="resize images to this size")
    parser.add_argument("--codec", default="jpeg", choices=("jpeg", "png"),
                        help="png is lossless: for evaluation; default: jpeg")  # fmt: skip
    parser.add_argument("--count", type=int, help="only so many; for streets how many to render")
    parser.add_argument("--seed", type=int, default=0, help="of the rendered streets; default: 0")
    return parser


def add_train(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """`train`: shards of two domains -> checkpoints."""
    parser = add_verb(
        verbs,
        "train",
        "train on a labelled source and an unlabelled target",
        "uda train demo --source shards/game --target shards/camera --set optim.lr=1e-4",
    )
    parser.add_argument(
        "preset", help="a preset, such as demo (an unknown name lists all), or a config.json"
    )
    parser.add_argument("--source", required=True, metavar="SHARDS", help="with labels")
    parser.add_argument("--target", required=True, metavar="SHARDS",
                        help="to adapt to; their labels are not read")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="RUN", help="folder; default: runs/PRESET")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE",
                        help="change the config, such as optim.lr=1e-4; repeatable")  # fmt: skip
    parser.add_argument("--gpu", action="store_true", help="train on GPUs")
    parser.add_argument("--resume", action="store_true", help="continue the run in its folder")
    return parser


def add_evaluate(
    verbs: argparse._SubParsersAction, *, predictions: bool = False
) -> argparse.ArgumentParser:
    """`evaluate`: checkpoint (or `predictions`) and labelled shards -> scores."""
    parser = add_verb(
        verbs,
        "evaluate",
        "score a checkpoint on labelled shards",
        "uda evaluate runs/demo/adapted runs/demo/shards/camera_val --json scores.json",
    )
    parser.add_argument(
        "checkpoint",
        type=Path,
        nargs="?" if predictions else None,
        help="a checkpoint, or a run: its latest is used",
    )
    parser.add_argument("data", help="folder of shards with labels")
    if predictions:
        parser.add_argument(
            "--predictions",
            type=Path,
            metavar="DIR",
            help="instead of a checkpoint: label maps (PNG) that any program wrote",
        )
        parser.add_argument("--ids", choices=("labelids", "trainids"), default="labelids",
                            help="what those files hold; default: labelids")  # fmt: skip
    parser.add_argument("--classes", help="class list to score; default: the data set's own")
    parser.add_argument(
        "--scales",
        type=float,
        nargs="+",
        default=[1.0],
        metavar="FACTOR",
        help="after DATA: sizes to look at, averaged; default: 1.0",
    )
    parser.add_argument("--flip", action="store_true", help="also look at the mirrored image")
    parser.add_argument("--json", type=Path, help="write the scores to this file")
    parser.add_argument("--gpu", action="store_true", help="evaluate on GPUs")
    return parser


def image_size(text: str) -> tuple[int, int]:
    """WxH as (width, height), for argparse."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"got {text!r}, want WIDTHxHEIGHT, for example 256x128")
    return int(match[1]), int(match[2])
