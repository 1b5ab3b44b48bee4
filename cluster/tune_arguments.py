"""The arguments of `uda tune`. Nothing heavy is imported here: `--help` must answer at once."""

import argparse
from pathlib import Path

from uda.arguments import add_verb

_EXAMPLE = """\
uda tune optimiser --source shards/game --target shards/camera --trials 20
  uda tune full --source shards/gta5 --target shards/cityscapes/train \\
      --gpus 1 --budget-hours 24 --schedule asha --out runs/tune/full"""
_NOTES = """\
Trials are ordinary runs in OUT/trials, compared by quality, which reads no label of the target.
Trial 0 is the preset as it is. OUT/report.html shows what was found, OUT/best.json is a config for
`uda train`. Ctrl-C saves and stops; the same command with --resume goes on, also after a crash."""


def add_tune(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """`tune`: a space, shards of two domains -> trials and the best config."""
    parser = add_verb(verbs, "tune", "search for better settings", _EXAMPLE, _NOTES)
    parser.add_argument("space", help="a question of tune_spaces, such as optimiser (an unknown "
                        "name lists all)")  # fmt: skip
    parser.add_argument("--source", required=True, metavar="SHARDS", help="with labels")
    parser.add_argument("--target", required=True, metavar="SHARDS",
                        help="to adapt to; their labels are not read")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder; default: runs/tune/SPACE")
    parser.add_argument("--preset", metavar="PRESET", help="to change; default: the space's own")
    parser.add_argument("--steps", type=int, metavar="N", help="of each trial; default: the "
                        "space's or the preset's own")  # fmt: skip
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE",
                        help="for all trials, such as batch_size=8; repeatable")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn; default: 0")
    parser.add_argument("--resume", action="store_true", help="continue the search in its folder")
    _add_search(parser.add_argument_group("what is tried"))
    _add_judgement(parser.add_argument_group("what it is judged by"))
    _add_place(parser.add_argument_group("where it runs"))
    return parser


def _add_search(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--trials", type=int, default=20, metavar="N", help="in all; default: 20")
    group.add_argument(
        "--budget-hours",
        type=float,
        metavar="H",
        help="save and stop after so long; default: until all trials are done",
    )
    group.add_argument(
        "--search",
        default="tpe",
        metavar="HOW",
        help="random, tpe (learns from the trials before) or grid; default: tpe",
    )
    group.add_argument(
        "--points",
        type=int,
        default=3,
        metavar="N",
        help="of a grid, of each range of numbers; default: 3",
    )
    group.add_argument(
        "--schedule",
        default="asha",
        metavar="HOW",
        help="none; asha or median, which stop what is behind early; or pbt, where "
        "what is behind goes on from the best; default: asha",
    )
    group.add_argument(
        "--evaluations",
        type=int,
        default=6,
        metavar="N",
        help="of a trial, evenly spaced; default: 6",
    )
    group.add_argument(
        "--grace-steps",
        type=int,
        metavar="N",
        help="before a trial may be stopped; default: a third of its steps",
    )
    group.add_argument(
        "--reduction",
        type=float,
        default=2.0,
        metavar="F",
        help="asha: one of F goes on each time; default: 2",
    )


def _add_judgement(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--metric",
        default="quality",
        metavar="NAME",
        help="quality, or oracle:miou with --allow-oracle; default: quality",
    )
    group.add_argument(
        "--val",
        metavar="SHARDS",
        help="with labels: score every checkpoint on them as well, for TensorBoard",
    )
    group.add_argument(
        "--allow-oracle",
        action="store_true",
        help="show scores by labels of the target, and mark everything so",
    )
    group.add_argument(
        "--keep",
        type=int,
        default=3,
        metavar="N",
        help="best trials whose checkpoints stay; default: 3",
    )


def _add_place(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--concurrent",
        type=int,
        metavar="N",
        help="trials at once; default: what there is room for",
    )
    group.add_argument(
        "--retries",
        type=int,
        default=2,
        metavar="N",
        help="of a trial that fails, from its last checkpoint; default: 2",
    )
    group.add_argument(
        "--workers", type=int, default=1, metavar="N", help="of each trial; default: 1"
    )
    group.add_argument("--cpus-per-worker", type=int, default=1, metavar="N", help="default: 1")
    group.add_argument(
        "--gpus",
        type=float,
        metavar="FRACTION",
        help="of each worker, such as 0.5; default: 0, the CPU",
    )
    group.add_argument("--gpu", action="store_true", help="the same as --gpus 1")
    group.add_argument(
        "--val-actors",
        type=int,
        default=1,
        metavar="N",
        help="processes of each trial that score, each with a CPU; default: 1",
    )
    group.add_argument(
        "--val-gpus",
        type=float,
        default=0.0,
        metavar="FRACTION",
        help="of each of them, such as 0.5; default: 0, the CPU",
    )
