"""The command line `uda` (also `python -m cluster`). Every verb is imported when it runs."""

import argparse
import sys
from pathlib import Path

from uda.arguments import (
    DONE,
    INTERRUPTED,
    add_distributions,
    add_evaluate,
    add_inspect,
    add_prepare,
    add_train,
    add_verb,
    run_inspect,
    run_prepare,
    run_verb,
    say_where_it_starts,
)

_DESCRIPTION = """\
Adapt a segmentation network from labelled synthetic streets to unlabelled real ones.

Runs on this machine, or on the Ray cluster that RAY_ADDRESS names."""

_EPILOG = """\
start here:
  uda demo                    the whole story in minutes: see runs/demo/report.png
  tensorboard --logdir runs   what training is doing
  uda VERB --help             what a verb takes, with an example"""


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    return run_verb(arguments.run, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="uda",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(title="verbs", dest="verb", required=True, metavar="VERB")
    demo = add_verb(
        verbs,
        "demo",
        "render two looks of streets, adapt from one to the other, and report",
        "uda demo --out runs/demo",
    )
    demo.add_argument("--out", type=Path, default=Path("runs/demo"), help="default: runs/demo")
    demo.add_argument("--seed", type=int, default=0, help="of scenes and training; default: 0")
    demo.set_defaults(run=_demo)
    add_prepare(verbs).set_defaults(run=_prepare)
    add_inspect(verbs).set_defaults(run=run_inspect)
    train = add_train(verbs)
    train.add_argument("--workers", type=int, default=1, metavar="N", help="default: 1")
    train.add_argument("--cpus-per-worker", type=int, default=1, metavar="N", help="default: 1")
    train.set_defaults(run=_train)
    evaluate = add_evaluate(verbs, predictions=True)
    evaluate.add_argument("--actors", type=int, help="default: as many as the cluster has room for")
    evaluate.set_defaults(run=_evaluate)
    distributions = add_distributions(verbs)
    distributions.add_argument("--actors", type=int,
                               help="default: as many as the cluster has room for")  # fmt: skip
    distributions.set_defaults(run=_distributions)
    return parser


def _demo(arguments: argparse.Namespace) -> int:
    from cluster.demo import demo

    demo(arguments.out, seed=arguments.seed)
    return DONE


def _prepare(arguments: argparse.Namespace) -> int:
    from cluster.prepare import prepare

    return run_prepare(prepare, arguments)


def _train(arguments: argparse.Namespace) -> int:
    from uda.checkpoint import last_step
    from uda.run import open_run, read_config

    config = read_config(arguments.preset, arguments.set)
    run = open_run(
        config,
        arguments.out or Path("runs") / config.name,
        arguments.source,
        arguments.target,
        num_workers=arguments.workers,
        resume=arguments.resume,
    )
    from cluster.runtime import check_resources, required_cpus, start_ray
    from cluster.train import Scaling, train

    scaling = Scaling(
        num_workers=arguments.workers,
        gpu=arguments.gpu,
        cpus_per_worker=arguments.cpus_per_worker,
    )
    say_where_it_starts(arguments.resume, last_step(run.folder))
    with start_ray(needed_cpus=required_cpus(scaling.num_workers, scaling.cpus_per_worker)):
        gpus = scaling.num_workers if scaling.gpu else 0
        check_resources(scaling.num_workers, scaling.cpus_per_worker, gpus)
        step = train(run, scaling)
    if step < config.steps:
        print(f"stopped at step {step} of {config.steps}; continue with --resume", file=sys.stderr)
        return INTERRUPTED
    print(f"{run.folder}: {step} steps done")
    return DONE


def _evaluate(arguments: argparse.Namespace) -> int:
    from uda.checkpoint import load_model
    from uda.classes import find_class_list
    from uda.data.shards import open_shards
    from uda.report import check_json_file, show_report
    from uda.types import UserError

    if (arguments.checkpoint is None) == (arguments.predictions is None):
        raise UserError(
            "evaluate: want CHECKPOINT DATA, or --predictions DIR DATA; "
            f"got {'both' if arguments.checkpoint else f'only {arguments.data}'}"
        )
    check_json_file(arguments.json)
    classes = find_class_list(arguments.classes) if arguments.classes else None
    open_shards(arguments.data)  # a mistake shows here in a second, before Ray starts
    if arguments.checkpoint:
        load_model(arguments.checkpoint)
    from cluster.evaluate import evaluate, evaluate_predictions
    from cluster.runtime import start_ray

    with start_ray(needed_cpus=1):
        common = {"class_list": classes, "actors": arguments.actors}
        if arguments.predictions:
            report = evaluate_predictions(
                arguments.predictions, arguments.data, ids=arguments.ids, **common
            )
        else:
            report = evaluate(
                arguments.checkpoint,
                arguments.data,
                scales=arguments.scales,
                flip=arguments.flip,
                gpu=arguments.gpu,
                **common,
            )
    show_report(report, arguments.json)
    return DONE


def _distributions(arguments: argparse.Namespace) -> int:
    from uda.checkpoint import find_checkpoint, load_model
    from uda.data.predictions import check_predictions_file
    from uda.data.shards import open_shards
    from uda.distributions import distribution_table

    # A mistake shows here in a second, before Ray starts.
    check_predictions_file(arguments.file, open_shards(arguments.data))
    checkpoint = find_checkpoint(arguments.checkpoint)
    load_model(checkpoint)
    from cluster.distributions import write_distributions
    from cluster.runtime import start_ray

    with start_ray(needed_cpus=1):
        counts = write_distributions(
            checkpoint,
            arguments.data,
            arguments.file,
            actors=arguments.actors,
            gpu=arguments.gpu,
        )
    print(distribution_table(counts))
    print(f"{arguments.file}: {len(counts)} images")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
