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

CODECS = ("jpeg", "exact")  # uda.data.codec.IMAGE_CODECS, without importing it

Verb = Callable[[argparse.Namespace], int]


def run_verb(verb: Verb, arguments: argparse.Namespace) -> int:
    """Runs a verb and turns what goes wrong into one line on stderr and an exit status.

    UDA_TRACEBACK=1 in the environment shows where an error comes from.
    """
    from uda.types import UserError, WorkError

    try:
        return verb(arguments)
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (UserError, WorkError, OSError, KeyboardInterrupt) as error:
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
        on_error=arguments.on_error,
        max_bad=arguments.max_bad,
    )
    shards = f"{len(manifest.shards)} shard{'' if len(manifest.shards) == 1 else 's'}"
    if bad := manifest.quarantined:
        from uda.data.quarantine import QUARANTINE_FILE

        said = f"{manifest.inputs} inputs = {manifest.samples} written in {shards}"
        said += f" + {bad} quarantined ({arguments.out / QUARANTINE_FILE})"
    else:
        labels = "" if any(manifest.class_pixels) else " without labels"
        said = f"{manifest.samples} images{labels} in {shards}"
    print(f"{arguments.out}: {said}")
    return DONE


def run_inspect(arguments: argparse.Namespace) -> int:
    """The verb `inspect`, which needs no Ray."""
    from uda.inspect_shards import inspect_shards

    inspect_shards(
        arguments.shards,
        png=arguments.png,
        pictures=arguments.pictures,
        verify=arguments.verify,
        json_file=arguments.json,
    )
    return DONE


def say_where_it_starts(resume: bool, step: int) -> None:
    """A mistyped folder must not look like a run that went on."""
    if resume and not step:
        print("uda: no checkpoint to resume from: starting at step 0", file=sys.stderr)


def add_verb(
    verbs: argparse._SubParsersAction, name: str, summary: str, example: str, notes: str = ""
) -> argparse.ArgumentParser:
    """A verb whose help ends with notes and an example that can be typed as it is."""
    return verbs.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"{notes}\n\nexample:\n  {example}".strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


# What ROOT is, for each of uda.data.DATASETS (which is too heavy to be imported for a help text).
ROOTS = {
    "camvid": "folder with train, trainannot, val, valannot, ...: the 11-class form, 480x360",
    "cityscapes": "folder with leftImg8bit and gtFine",
    "folder": "folder of any images; those with labels have images, labels and mapping.json in it",
    "gta5": "folder with images and labels",
    "streets": "no folder, but the look of the streets to render: game, camera or dusk",
    "synthia": "folder with RGB and GT, as in RAND_CITYSCAPES",
}
_PREPARE_EXAMPLES = """\
uda prepare camvid data/CamVid shards/camvid/train --split train
  uda prepare cityscapes data/cityscapes shards/cityscapes/val --split val --codec exact
  uda prepare gta5 data/gta5 shards/gta5 --split all --size 1280x720 --max-bad 1%
  uda prepare streets game shards/game --count 400"""


def add_prepare(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """`prepare`: raw data set -> shards."""
    parser = add_verb(
        verbs,
        "prepare",
        "turn a raw data set into shards, leaving out what is damaged",
        _PREPARE_EXAMPLES,
        "\n".join(["ROOT of each data set:", *(f"  {n:<11} {r}" for n, r in ROOTS.items())]),
    )
    parser.add_argument("dataset", help=f"one of {', '.join(ROOTS)}")
    parser.add_argument("root", help="where its files are, see below")
    parser.add_argument("out", type=Path, help="folder of shards to write; one that was not "
                        "finished is continued")  # fmt: skip
    parser.add_argument("--split", default="train",
                        help="such as val, or all of gta5 and synthia; default: train")  # fmt: skip
    parser.add_argument("--size", type=image_size, metavar="WxH",
                        help="resize: images averaged, labels by the nearest pixel")  # fmt: skip
    parser.add_argument("--codec", default="jpeg", choices=CODECS,
                        help="exact is lossless: for evaluation; default: jpeg")  # fmt: skip
    parser.add_argument("--count", type=int, metavar="N",
                        help="only the first N; of streets how many to render")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the rendered streets; default: 0")
    parser.add_argument("--on-error", default="quarantine", choices=("quarantine", "fail"),
                        help="what to do about a bad image or label: list it in "
                        "OUT/quarantine.jsonl and go on, or stop; default: quarantine")  # fmt: skip
    parser.add_argument("--max-bad", type=share, default=0.05, metavar="SHARE",
                        help="stop if more of the inputs are bad; default: 5%%")  # fmt: skip
    return parser


def add_inspect(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """`inspect`: shards -> what is in them."""
    parser = add_verb(
        verbs,
        "inspect",
        "say what is in a folder of shards: classes, sizes, quarantine",
        "uda inspect shards/camvid/train --png camvid.png --verify",
    )
    parser.add_argument("shards", type=Path, help="a folder that `uda prepare` wrote")
    parser.add_argument("--png", type=Path, metavar="FILE",
                        help="draw samples with their labels as colours over them")  # fmt: skip
    parser.add_argument("--pictures", type=int, default=12, metavar="N",
                        help="how many samples to draw, evenly spaced; default: 12")  # fmt: skip
    parser.add_argument("--verify", action="store_true",
                        help="compare every file with its hash in the manifest")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to this file")
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


def image_size(text: str) -> tuple[int, int]:
    """WxH as (width, height), for argparse."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"got {text!r}, want WIDTHxHEIGHT, for example 256x128")
    return int(match[1]), int(match[2])


def share(text: str) -> float:
    """5% or 0.05, for argparse."""
    match = re.fullmatch(r"(\d*\.?\d+)\s*(%?)", text)
    value = float(match[1]) / (100 if match[2] else 1) if match else -1
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, want a share such as 5% or 0.05")
    return value
