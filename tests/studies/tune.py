"""`make study-tune`: what does a search for hyper-parameters find, at what cost, judged by what?

Every point of the space `measured` on rendered streets, game -> camera, is trained to its end once,
from the common start of `make study-ablation`. Then searches are replayed over the table, a hundred
times and more each. A point that has a record is not trained again; the study goes on where it was.
On a GPU: ARGS="--device cuda --jobs 12".
"""

import argparse
import time
from typing import Any

import torch

from tests.record import STUDIES, at_most, goal, write_record
from tests.studies._data import shards, source_validation
from tests.studies._lattice import EXPERIMENTS
from tests.studies._live import live_search
from tests.studies._runner import Place, in_processes, with_starts
from tests.studies._searches import figures
from tests.studies._table import build, missing, read_table
from uda.types import UserError, WorkError

REPEATS = 200
MOST_BEHIND = 1.0  # points of mIoU that the search without labels may be behind that with them
MOST_STEPS = 0.3  # of the steps that its trials would take to their end


def main() -> None:
    arguments = _arguments()
    _fill(arguments)
    found = read_table()
    if found is None:
        print("searches are replayed when all points have a record")
        return
    record = figures(found, arguments.repeats, MOST_STEPS)
    record["live"] = live_search()
    write_record(STUDIES / "tune.json", "make study-tune", record, goals(record))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("I", "N"),
                        help="every Nth point from the Ith on: a process per core")  # fmt: skip
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--jobs", type=int, default=1, help="points at a time, each in a process")
    parser.add_argument("--minutes", type=float, default=1e6, help="start none after so many")
    parser.add_argument("--list", action="store_true", help="only say what is missing")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="of each search")
    return parser.parse_args()


def _fill(arguments: argparse.Namespace) -> None:
    """Trains and judges what has no record, several points at a time if asked."""
    first, every = arguments.part
    wanted = missing([*EXPERIMENTS.values()][first::every])
    runs = with_starts(wanted)
    print(f"{len(wanted)} points without a record, {len(runs) - len(wanted)} start to train")
    if arguments.list:
        print("\n".join(one.name for one, _ in wanted))
        return
    torch.set_num_threads(1)  # always: another order of summation is another network
    if every > 1 and len(runs) > len(wanted):
        # All parts would train it at once, in one folder.
        raise SystemExit('first: make study-ablation ARGS="--only start --seeds 0"')
    if runs:
        shards("streets"), source_validation()
    command = f"python -m tests.studies.tune --device {arguments.device}"
    place = Place(command=command, device=arguments.device, quiet=True)
    stop_at = time.monotonic() + 60 * arguments.minutes
    if arguments.jobs > 1:
        in_processes(runs, place, arguments.jobs, stop_at, build)
        return
    failed = []
    for run in runs:
        if time.monotonic() > stop_at:
            break
        try:
            build(run, place)
        except (UserError, WorkError) as error:
            failed.append(f"{run[0].name}: {error}")
            print(f"FAILED {failed[-1]}", flush=True)
    if failed:
        raise SystemExit(f"{len(failed)} points failed")


def goals(record: dict[str, Any]) -> dict[str, Any]:
    """Of the search that `uda tune` makes by itself, with its first comparison this early."""
    ours = record["searches"]["asha_tpe"]
    true = {judge: ours[judge]["true_miou"] for judge in ("quality", "oracle")}
    ahead = true["quality"] - record["hand_set"]["true_miou"]
    return {
        "ASHA + TPE by quality: mIoU points behind the same by the oracle": at_most(
            true["oracle"] - true["quality"], MOST_BEHIND
        ),
        "ASHA + TPE by quality: mIoU points ahead of the hand-set preset": goal(ahead, 0.0)
        | {"goal": "> 0", "met": ahead > 0},
        "ASHA + TPE by quality: share of the steps of its trials to their end": at_most(
            ours["quality"]["share"], MOST_STEPS
        ),
    }


if __name__ == "__main__":
    main()
