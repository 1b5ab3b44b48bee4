"""`python -m uda`: the same training and evaluation in this one process, without Ray.

For debugging, for a lone GPU machine, and as the baseline that shows what Ray costs.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from uda.arguments import (
    add_inspect,
    add_prepare,
    add_train,
    run_inspect,
    run_prepare,
    run_verb,
    say_where_it_starts,
)
from uda.score_arguments import add_score, open_score, show_score
from uda.scoring_arguments import (
    add_convert,
    add_distributions,
    add_evaluate,
    add_predict,
    inference_of,
    open_evaluation,
    print_now,
    run_convert,
    with_progress,
)


def main(argv: list[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="python -m uda",
        description="Train and evaluate in this process, without a cluster.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    add_prepare(verbs)
    add_inspect(verbs)
    add_train(verbs)
    add_evaluate(verbs, words)
    add_predict(verbs)
    add_score(verbs)
    add_distributions(verbs)
    add_convert(verbs)
    arguments = parser.parse_args(words)
    return run_verb(_VERBS[arguments.verb], arguments)


def _prepare(arguments: argparse.Namespace) -> int:
    from uda.data.prepare import prepare

    return run_prepare(prepare, arguments)


def _train(arguments: argparse.Namespace) -> int:
    import torch

    from uda.checkpoint import last_step
    from uda.feed import open_local_feed
    from uda.loop import train
    from uda.run import open_run, read_config
    from uda.solo import SoloWorker
    from uda.types import UserError

    kind = _device_kind(arguments.gpu)
    config = read_config(arguments.preset, arguments.set)
    if config.runtime.select_by == "quality":
        raise UserError("runtime.select_by: got 'quality', which takes actors; want `uda train`")
    out = arguments.out or Path("runs") / config.name
    run = open_run(config, out, arguments.source, arguments.target, resume=arguments.resume)
    say_where_it_starts(arguments.resume, last_step(run.folder))
    run.create()
    device = torch.device(kind)
    pin = device.type == "cuda"
    with (
        open_local_feed(config, run.data, pin_memory=pin) as feed,
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
    from uda.evaluate import evaluate_images, evaluate_predictions
    from uda.exhibition import exhibit, exhibition, save_sheet
    from uda.inference import decode_threads, ready
    from uda.judge import judge
    from uda.label_maps import prediction_files
    from uda.report import show_report

    kind = _device_kind(arguments.gpu)
    examples, class_list, inference = open_evaluation(arguments)
    if arguments.predictions:
        files = prediction_files(arguments.predictions, examples.keys)
        numbers = range(len(examples))
        results = evaluate_predictions(files, examples, numbers, ids=arguments.ids)
    else:
        model = ready(load_model(arguments.checkpoint), inference, kind)
        results = evaluate_images(
            model, examples, range(len(examples)), inference, threads=decode_threads(kind)
        )
    say = print_now if inference.protocol == "segmentron" else None
    if say is None:
        results = with_progress(results, len(examples))
    judgement = judge(results, len(examples), class_list, num_worst=arguments.worst, say=say)
    if arguments.png and judgement.worst:
        shown = [exhibit(model, examples, s.index, inference) for s in judgement.worst]
        save_sheet(exhibition(shown, judgement.worst, examples, class_list), arguments.png)
    judged = arguments.checkpoint or arguments.predictions
    report = judgement.report(examples, judged, inference if arguments.checkpoint else None)
    show_report(report, arguments.json)
    if arguments.png and report.oracle.get("worst"):
        print(f"{arguments.png}: the worst images as a picture")
    return 0


def _score(arguments: argparse.Namespace) -> int:
    from uda.checkpoint import load_model
    from uda.data.rows import ShardRows
    from uda.inference import PLAIN, decode_threads, ready
    from uda.observe import observe_source, observe_target
    from uda.quality import Evidence, SourceStatistics, Statistics
    from uda.quality.score import score
    from uda.quality.subset import chosen_images

    kind = _device_kind(arguments.gpu)
    source, target, images = open_score(arguments)
    model, threads = ready(load_model(arguments.checkpoint), PLAIN, kind), decode_threads(kind)
    chosen = [chosen_images(len(folder), images) for folder in (source, target)]
    on_source = observe_source(model, ShardRows(source, labels=True), chosen[0],
                               decode_threads=threads)  # fmt: skip
    on_target = observe_target(model, ShardRows(target, labels=False), chosen[1],
                               decode_threads=threads)  # fmt: skip
    evidence = Evidence(
        source=sum(with_progress(on_source, len(chosen[0])), SourceStatistics()),
        target=sum(with_progress(on_target, len(chosen[1])), Statistics()),
    )
    show_score(score(evidence), arguments, (source, target), images)
    return 0


def _predict(arguments: argparse.Namespace) -> int:
    from uda.checkpoint import load_model
    from uda.data.image_files import ImageFiles
    from uda.inference import decode_threads, ready
    from uda.predict import predict_images

    kind = _device_kind(arguments.gpu)
    inference = inference_of(arguments)
    images = ImageFiles(arguments.images, without=arguments.out)
    model = ready(load_model(arguments.checkpoint), inference, kind)
    written = predict_images(
        model,
        images,
        range(len(images)),
        arguments.out,
        arguments.format,
        inference,
        threads=decode_threads(kind),
    )
    print(f"{arguments.out}: {written} label maps ({arguments.format})")
    return 0


def _distributions(arguments: argparse.Namespace) -> int:
    from uda.checkpoint import find_checkpoint, load_model
    from uda.data.predictions import check_predictions_file, write_predictions
    from uda.data.rows import ShardRows
    from uda.data.shards import open_shards
    from uda.distributions import distribution_table, predict_distributions

    kind = _device_kind(arguments.gpu)
    folder = open_shards(arguments.data)
    check_predictions_file(arguments.file, folder)
    checkpoint = find_checkpoint(arguments.checkpoint)
    model = load_model(checkpoint).to(kind)
    counts = predict_distributions(model, ShardRows(folder, labels=False), range(len(folder)))
    write_predictions(arguments.file, folder, counts, str(checkpoint))
    print(distribution_table(counts))
    print(f"{arguments.file}: {len(counts)} images")
    return 0


def _device_kind(gpu: bool) -> str:
    import torch

    from uda.types import UserError

    if gpu and not torch.cuda.is_available():
        raise UserError("--gpu: torch finds no CUDA device here")
    return "cuda" if gpu else "cpu"


_VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "prepare": _prepare,
    "inspect": run_inspect,
    "train": _train,
    "evaluate": _evaluate,
    "score": _score,
    "predict": _predict,
    "convert": run_convert,
    "distributions": _distributions,
}

if __name__ == "__main__":
    sys.exit(main())
