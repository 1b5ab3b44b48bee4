"""`python -m uda`: the same training and evaluation in this one process, without Ray.

For debugging, for a lone GPU machine, and as the baseline that shows what Ray costs.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from uda.arguments import (
    add_evaluate,
    add_prepare,
    add_train,
    run_prepare,
    run_verb,
    say_where_it_starts,
)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m uda",
        description="Train and evaluate in this process, without a cluster.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    add_prepare(verbs)
    add_train(verbs)
    add_evaluate(verbs)
    arguments = parser.parse_args(argv)
    return run_verb(_VERBS[arguments.verb], arguments)


def _prepare(arguments: argparse.Namespace) -> int:
    from uda.data.prepare import prepare

    return run_prepare(prepare, arguments)


def _train(arguments: argparse.Namespace) -> int:
    import torch

    from uda.checkpoint import last_step
    from uda.data.rows import ShardRows
    from uda.feed import open_feed
    from uda.loop import train
    from uda.run import open_run, read_config
    from uda.solo import SoloWorker
    from uda.types import Domain

    kind = _device_kind(arguments.gpu)
    config = read_config(arguments.preset, arguments.set)
    out = arguments.out or Path("runs") / config.name
    run = open_run(config, out, arguments.source, arguments.target, resume=arguments.resume)
    say_where_it_starts(arguments.resume, last_step(run.folder))
    run.create()
    device = torch.device(kind)
    rows = {d: ShardRows(f, labels=d is Domain.SOURCE) for d, f in run.data.items()}
    pin = device.type == "cuda"
    with (
        open_feed(config, run.data, rows, pin_memory=pin) as feed,
        SoloWorker(config, run.folder, device) as worker,
    ):
        step = train(config, worker, feed, run.provenance)
    if worker.was_stopped and step < config.steps:
        print(f"stopped at step {step}; continue with --resume", file=sys.stderr)
        return 130
    print(f"{run.folder}: {step} steps done")
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    from uda.checkpoint import load_model
    from uda.classes import find_class_list
    from uda.data.rows import ShardRows
    from uda.data.shards import open_shards
    from uda.evaluate import evaluate_rows
    from uda.report import EvalReport, check_json_file, show_report

    kind = _device_kind(arguments.gpu)
    check_json_file(arguments.json)
    folder = open_shards(arguments.data)
    classes = find_class_list(arguments.classes or folder.manifest.class_list)
    model = load_model(arguments.checkpoint).to(kind)
    rows = ShardRows(folder, labels=True)
    confusion = evaluate_rows(
        model, rows, range(len(folder)), scales=arguments.scales, flip=arguments.flip
    )
    report = EvalReport.of(
        confusion,
        classes,
        images=len(folder),
        checkpoint=str(arguments.checkpoint),
        data=str(arguments.data),
    )
    show_report(report, arguments.json)
    return 0


def _device_kind(gpu: bool) -> str:
    import torch

    from uda.types import UserError

    if gpu and not torch.cuda.is_available():
        raise UserError("--gpu: torch finds no CUDA device here")
    return "cuda" if gpu else "cpu"


_VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "prepare": _prepare,
    "train": _train,
    "evaluate": _evaluate,
}

if __name__ == "__main__":
    sys.exit(main())
