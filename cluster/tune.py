"""`uda tune`: a search by Ray Tune, each of whose trials is an ordinary run on Ray Train."""

import contextlib
import dataclasses
import logging
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import ray
from ray import tune as ray_tune
from ray.tune.schedulers import TrialScheduler

from cluster.ingest import choose_mode, object_store_bytes, open_ingest
from cluster.trial import TRIAL_CPUS, TuneTrial
from cluster.trial_run import ADOPT_FILE, Job
from cluster.tune_book import Book
from cluster.tune_bridge import BookKeeper, BookSearcher, Stops
from cluster.tune_folder import claimed
from cluster.tune_plan import Plan
from cluster.tune_population import PopulationScheduler
from cluster.tune_room import trials_at_once
from cluster.tune_show import Screen
from cluster.worker import STOP_FILE
from uda.types import WorkError

_POLL_S = 0.5
_STOP_S = 900  # for all trials to save and stop; one that hangs must not keep a machine for ever
_TUNE_FOLDER = ".tune"  # what Ray Tune writes; of no use when it has ended

# Tune's own files, lines and checks, which ours stand in for.
_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
}


def tune(plan: Plan) -> tuple[Book, bool]:
    """Searches on the cluster that Ray is connected to, until the end or the first Ctrl-C.

    Then, and when its hours are over, the running trials save and stop; a second Ctrl-C aborts.
    Returns the book, which knows what is left to do, and whether it was Ctrl-C.

    Raises:
        UserError: the cluster has no room, or the folder another search.
        WorkError: Ray Tune has failed.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    at_once = trials_at_once(plan.job, plan.concurrent, nodes)
    with claimed(plan.folder, plan.settings):
        book = Book(
            plan.folder,
            plan.search,
            plan.sampler,
            plan.config_of,
            num_trials=plan.num_trials,
            num_kept=plan.num_kept,
        )
        stops = Stops()
        if not book.is_over:
            with Screen(book) as screen:
                _search(plan, book, at_once, stops, screen)
    return book, stops.was_interrupted


def _search(plan: Plan, book: Book, at_once: int, stops: Stops, screen: Screen) -> None:
    error: list[BaseException] = []
    ended = threading.Event()
    job = _with_data(plan)

    def fit() -> None:
        try:
            with _quiet():
                _tuner(plan, job, book, stops, at_once).fit()
        except BaseException as caught:
            error.append(caught)
        finally:
            ended.set()

    shutil.rmtree(plan.folder / _TUNE_FOLDER, ignore_errors=True)
    # In a thread of its own, Ray leaves Ctrl-C to us.
    threading.Thread(target=fit, name="tune", daemon=True).start()
    try:
        _wait(ended, plan, book, stops, screen)
    finally:
        book.close()  # Tune's thread may be at work still, and what it would note is its own end
        shutil.rmtree(plan.folder / _TUNE_FOLDER, ignore_errors=True)
        for trial in book.running:
            (plan.folder / trial.folder / STOP_FILE).unlink(missing_ok=True)
    if stops.error:
        raise stops.error
    if error:
        said = " ".join(str(error[0]).split())
        raise WorkError(f"Ray Tune has failed: {said[-300:]}") from error[0]


def _tuner(plan: Plan, job: Job, book: Book, stops: Stops, at_once: int) -> ray_tune.Tuner:
    trainable = ray_tune.with_resources(
        # In a list, so that Tune's own actors pass it on without reading it.
        ray_tune.with_parameters(TuneTrial, job=[ray.put(job)]),
        ray_tune.PlacementGroupFactory([{"CPU": TRIAL_CPUS}]),
    )
    return ray_tune.Tuner(
        trainable,
        tune_config=ray_tune.TuneConfig(
            search_alg=BookSearcher(book, stops),
            scheduler=_scheduler(plan, book, stops),
            num_samples=-1,  # the book says when it is enough
            max_concurrent_trials=at_once,
            trial_dirname_creator=lambda trial: f"{trial.config['number']:04d}",
        ),
        run_config=ray_tune.RunConfig(
            name=_TUNE_FOLDER,
            storage_path=str(plan.folder),
            failure_config=ray_tune.FailureConfig(max_failures=plan.retries),
            checkpoint_config=ray_tune.CheckpointConfig(checkpoint_at_end=False),  # ours will do
            callbacks=[BookKeeper(book, stops)],
            verbose=0,
        ),
    )


def _scheduler(plan: Plan, book: Book, stops: Stops) -> TrialScheduler:
    schedule = plan.schedule
    if schedule.name != "pbt":
        return schedule.scheduler(stops.ask, book.search.trials)
    return PopulationScheduler(
        book,
        stops,
        plan.space,
        metric=schedule.metric,
        grace_steps=schedule.grace_steps,
        seed=plan.seed,
    )


def _with_data(plan: Plan) -> Job:
    """The job with the data in it, if they are resident: read once for all trials."""
    run = plan.run
    if choose_mode(run.config, run.data, object_store_bytes()) != "resident":
        return plan.job
    return dataclasses.replace(plan.job, ingest=open_ingest(run.config, run.data))


def _wait(ended: threading.Event, plan: Plan, book: Book, stops: Stops, screen: Screen) -> None:
    hours = plan.budget_hours
    deadline = time.monotonic() + 3600 * hours if hours else float("inf")
    last = float("inf")  # when those that were asked to stop must have stopped
    while not ended.is_set():
        try:
            ended.wait(_POLL_S)
            screen.show()
            if time.monotonic() > deadline and not stops.search_ends.is_set():
                stops.search_ends.set()
                screen.say(f"{hours:g} hours are over: saving and stopping")
            _ask_to_stop(plan.folder, book, stops)
            if stops.search_ends.is_set():
                last = min(last, time.monotonic() + _STOP_S)
            if time.monotonic() > last:
                raise WorkError(_hanging(book))
        except KeyboardInterrupt:
            if stops.was_interrupted:
                raise
            stops.was_interrupted = True
            stops.search_ends.set()
            screen.say("saving and stopping; press Ctrl-C again to abort")


def _ask_to_stop(folder: Path, book: Book, stops: Stops) -> None:
    """Again and again: a run that has just started forgets it."""
    running = {trial.number: folder / trial.folder for trial in book.running}
    asked = stops.asked(list(running))
    for number, run in running.items():
        if (number in asked and run.is_dir()) or (run / ADOPT_FILE).exists():
            (run / STOP_FILE).touch()


def _hanging(book: Book) -> str:
    numbers = ", ".join(str(trial.number) for trial in book.running)
    return (
        f"trials {numbers}: asked to save and stop, and still running {_STOP_S / 60:.0f} minutes "
        "later; they are given up, and --resume goes on from their last checkpoints"
    )


@contextlib.contextmanager
def _quiet() -> Any:
    before = {name: os.environ.get(name) for name in _QUIET}
    os.environ.update(_QUIET)
    logger = logging.getLogger("ray.tune")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
