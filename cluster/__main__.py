"""The command line `uda` (also `python -m cluster`). Every verb is imported when it runs."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster.tune_arguments import add_tune
from uda.arguments import (
    DONE,
    INTERRUPTED,
    add_inspect,
    add_prepare,
    add_train,
    add_verb,
    run_inspect,
    run_prepare,
    run_verb,
    say_where_it_starts,
)
from uda.score_arguments import add_score, open_score, show_score
from uda.scoring_arguments import (
    add_actors,
    add_convert,
    add_distributions,
    add_evaluate,
    add_predict,
    gpus_per_actor,
    inference_of,
    open_evaluation,
    print_now,
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
    words = sys.argv[1:] if argv is None else argv
    arguments = _parser(words).parse_args(words, argparse.Namespace(words=words))
    return run_verb(arguments.run, arguments)


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
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
    train.add_argument("--val", metavar="SHARDS", help="with labels: score every checkpoint on "
                       "them meanwhile, for TensorBoard and RUN/validation.jsonl")  # fmt: skip
    train.add_argument("--val-actors", type=int, default=1, metavar="N",
                       help="processes that score, each with a CPU; default: 1")  # fmt: skip
    train.add_argument("--val-gpus", type=float, default=0.0, metavar="FRACTION",
                       help="of each of them, such as 0.5; default: 0, the CPU")  # fmt: skip
    train.set_defaults(run=_train)
    add_tune(verbs).set_defaults(run=_tune)
    for verb, run in (
        (add_evaluate(verbs, words), _evaluate),
        (add_score(verbs), _score),
        (add_predict(verbs), _predict),
        (add_distributions(verbs), _distributions),
    ):
        add_actors(verb)
        verb.set_defaults(run=run)
    add_convert(verbs)
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
    from cluster.room import required_gpus
    from cluster.runtime import check_resources, required_cpus, start_ray
    from cluster.scores import open_validation, outcome
    from cluster.train import Scaling, train
    from uda.types import UserError

    actors, fraction = arguments.val_actors, arguments.val_gpus
    validation = open_validation(run, arguments.val, actors=actors, gpus_per_actor=fraction)
    if validation is None and (actors, fraction) != (1, 0):
        raise UserError(
            "--val-actors, --val-gpus: got them without --val SHARDS or runtime.select_by=quality"
        )
    scaling = Scaling(
        num_workers=arguments.workers,
        gpu=arguments.gpu,
        cpus_per_worker=arguments.cpus_per_worker,
    )
    say_where_it_starts(arguments.resume, last_step(run.folder))
    actors = actors if validation else 0
    place = (scaling.num_workers, scaling.cpus_per_worker)
    with start_ray(needed_cpus=required_cpus(*place, actors)):
        gpus = (scaling.num_workers if scaling.gpu else 0) + required_gpus(actors, fraction)
        check_resources(*place, gpus, actors=actors)
        step = train(run, scaling, validation=validation)
    said, is_done = outcome(run, step)
    print(said, file=sys.stdout if is_done else sys.stderr)
    return DONE if is_done else INTERRUPTED


def _tune(arguments: argparse.Namespace) -> int:
    from cluster.tune_plan import open_plan
    from cluster.tune_room import trial_cpus

    plan = open_plan(arguments)
    from cluster.runtime import start_ray
    from cluster.tune import tune
    from cluster.tune_show import conclude

    with start_ray(needed_cpus=trial_cpus(plan.job) * (plan.concurrent or 1)):
        book, was_interrupted = tune(plan)
    return conclude(book, arguments, was_interrupted=was_interrupted)


def _evaluate(arguments: argparse.Namespace) -> int:
    from uda.checkpoint import load_model
    from uda.report import show_report

    # A mistake shows here in a second, before Ray starts.
    examples, class_list, inference = open_evaluation(arguments)
    gpus = gpus_per_actor(arguments)
    if arguments.checkpoint:
        load_model(arguments.checkpoint)
    from cluster.evaluate import evaluate, evaluate_predictions
    from cluster.runtime import start_ray

    as_segmentron = inference.protocol == "segmentron"
    with start_ray(needed_cpus=1):
        if arguments.predictions:
            report = evaluate_predictions(
                arguments.predictions,
                examples,
                ids=arguments.ids,
                class_list=class_list,
                num_worst=arguments.worst,
                actors=arguments.actors,
            )
        else:
            report = evaluate(
                arguments.checkpoint,
                examples,
                inference,
                class_list=class_list,
                num_worst=arguments.worst,
                png=arguments.png,
                say=print_now if as_segmentron else None,
                actors=arguments.actors,
                gpus_per_actor=gpus,
                progress=not as_segmentron,  # its lines are its progress
            )
    show_report(report, arguments.json)
    if arguments.png and report.oracle.get("worst"):
        print(f"{arguments.png}: the worst images as a picture")
    return DONE


def _score(arguments: argparse.Namespace) -> int:
    source, target, images = open_score(arguments)
    gpus = gpus_per_actor(arguments)
    from cluster.pool import ActorPool
    from cluster.runtime import start_ray
    from cluster.score import score_checkpoint

    with (
        start_ray(needed_cpus=1),
        ActorPool(actors=arguments.actors, gpus_per_actor=gpus) as pool,
    ):
        score = score_checkpoint(
            arguments.checkpoint,
            source.path,
            target.path,
            images=images,
            pool=pool,
            gpus_per_actor=gpus,
        )
    show_score(score, arguments, (source, target), images)
    return DONE


def _predict(arguments: argparse.Namespace) -> int:
    from uda.checkpoint import load_model
    from uda.data.image_files import ImageFiles

    inference, gpus = inference_of(arguments), gpus_per_actor(arguments)
    images = ImageFiles(arguments.images, without=arguments.out)
    load_model(arguments.checkpoint)
    from cluster.predict import predict
    from cluster.runtime import start_ray

    with start_ray(needed_cpus=1):
        written = predict(
            arguments.checkpoint,
            images,
            arguments.out,
            arguments.format,
            inference,
            actors=arguments.actors,
            gpus_per_actor=gpus,
        )
    print(f"{arguments.out}: {written} label maps ({arguments.format})")
    return DONE


def _distributions(arguments: argparse.Namespace) -> int:
    from uda.checkpoint import find_checkpoint, load_model
    from uda.data.predictions import check_predictions_file
    from uda.data.shards import open_shards
    from uda.distributions import distribution_table

    gpus = gpus_per_actor(arguments)  # a mistake shows here in a second, before Ray starts
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
            gpus_per_actor=gpus,
        )
    print(distribution_table(counts))
    print(f"{arguments.file}: {len(counts)} images")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
