"""A search before it starts: what is asked, on what, where; all that can be wrong found at once."""

import argparse
import dataclasses
import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.room import check_gpus_per_actor
from cluster.scores import Validation, open_validation
from cluster.train import Scaling
from cluster.trial_run import Job
from cluster.trials import Axis, Search
from cluster.tune_book import shown
from cluster.tune_folder import Settings, check_folder
from cluster.tune_population import check_population
from cluster.tune_schedule import SCHEDULES, Schedule
from tune_spaces import find_space
from tune_spaces.domains import Choice, Drawn
from tune_spaces.sampler import KINDS, Sampler
from tune_spaces.space import Space
from uda.config import Config
from uda.run import Run, open_run
from uda.task import preflight
from uda.tree import parse_assignments
from uda.types import UserError

METRICS = ("quality", "oracle:miou")

_LEAST = {
    **dict.fromkeys(("trials", "concurrent", "keep", "workers", "cpus_per_worker"), 1),
    **dict.fromkeys(("evaluations", "steps", "grace_steps", "points"), 1),
    **dict.fromkeys(("retries", "seed"), 0),
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A search that can start.

    - `search`: without any trial yet.
    - `settings`: what has to stay the same when it is resumed.
    - `run`: one of its trials, to know its data and network by.
    - `num_kept`, `retries`, `concurrent`, `budget_hours`: as of `uda tune`; None for no limit.
    """

    folder: Path
    space: Space
    search: Search
    settings: Settings
    sampler: Sampler
    schedule: Schedule
    run: Run
    job: Job
    num_trials: int
    num_kept: int
    retries: int
    concurrent: int | None
    seed: int
    budget_hours: float | None

    def config_of(self, changes: Mapping[str, Any]) -> Config:
        """The config of a trial; UserError where it is none."""
        config = self.space.config(changes)
        preflight(config, self.job.scaling.num_workers)
        return config


def open_plan(arguments: argparse.Namespace) -> Plan:
    """Checks everything a user can get wrong, but for what the cluster has; writes nothing.

    Raises:
        UserError: a number, name, path or folder is wrong, or data are missing.
    """
    _check_words(arguments)
    folder = (arguments.out or Path("runs/tune") / arguments.space).absolute()
    space = _space(arguments)
    job = open_job(arguments)
    run = open_run(
        space.config({}),
        folder / "trials" / "none",
        arguments.source,
        arguments.target,
        num_workers=arguments.workers,
        resume=True,
    )
    validation = open_validation(
        run, arguments.val, actors=job.val_actors, gpus_per_actor=job.val_gpus
    )
    _check_metric(arguments, validation)
    schedule = _schedule(arguments, run.config)
    if schedule.name == "pbt":
        check_population(space)
    settings = _settings(arguments, space, run, validation)
    sampler = Sampler(space, arguments.search, arguments.seed, points=arguments.points)
    check_folder(folder, settings, resume=arguments.resume)
    return Plan(
        folder=folder,
        space=space,
        search=_search(arguments, space, run.config),
        settings=settings,
        sampler=sampler,
        schedule=schedule,
        run=run,
        job=job,
        num_trials=arguments.trials,
        num_kept=arguments.keep,
        retries=arguments.retries,
        concurrent=_concurrent(arguments),
        seed=arguments.seed,
        budget_hours=arguments.budget_hours,
    )


def _check_words(arguments: argparse.Namespace) -> None:
    for name, known in (("search", KINDS), ("schedule", SCHEDULES), ("metric", METRICS)):
        if (value := getattr(arguments, name)) not in known:
            raise UserError(f"--{name}: got {value!r}, want one of {', '.join(known)}")
    for name, fewest in _LEAST.items():
        value = getattr(arguments, name)
        if value is not None and value < fewest:
            raise UserError(f"--{name.replace('_', '-')}: got {value}, want {fewest} or more")
    if arguments.budget_hours is not None and not arguments.budget_hours > 0:
        raise UserError(f"--budget-hours: got {arguments.budget_hours:g}, want more than 0")
    if not 1 < arguments.reduction < math.inf:
        raise UserError(f"--reduction: got {arguments.reduction:g}, want more than 1")
    if arguments.metric != "quality" and not arguments.allow_oracle:
        raise UserError(
            f"--metric: got {arguments.metric}, which needs labels of the target, want quality; "
            "or --allow-oracle, which marks everything so"
        )


def _space(arguments: argparse.Namespace) -> Space:
    """The space of this search, checked, with what all trials have in common."""
    space = find_space(arguments.space)
    fixed = parse_assignments(arguments.set)
    if (taken := fixed.pop("steps", None)) is not None:
        raise UserError(f"--set steps: got {taken}, want --steps {taken}")
    own = {"runtime.select_by": "quality", "runtime.keep_best": 1, "runtime.keep_checkpoints": 1}
    for path in (*own, "runtime.checkpoint_every"):
        if path in fixed:
            raise UserError(f"--set {path}: is the search's own, see --evaluations and --keep")
    space = dataclasses.replace(
        space,
        preset=arguments.preset or space.preset,
        steps=arguments.steps or space.steps,
        fixed={**space.fixed, **fixed},
    )
    space.check()
    config = space.config({})
    every = math.ceil(config.steps / arguments.evaluations)
    own |= {"runtime.checkpoint_every": every}
    if "runtime.log_every" not in fixed:  # where a line is logged, a trial can be stopped
        own |= {"runtime.log_every": min(config.runtime.log_every, every)}
    return dataclasses.replace(space, fixed={**space.fixed, **own})


def open_job(arguments: argparse.Namespace) -> Job:
    """Data and place of the trials."""
    gpus = 1.0 if arguments.gpu and arguments.gpus is None else arguments.gpus or 0.0
    check_gpus_per_actor(gpus)
    if 0 < gpus < 1 and arguments.workers > 1:
        raise UserError(
            f"--gpus: got {gpus:g} with {arguments.workers} workers, which cannot share a GPU; "
            "want --workers 1 or whole GPUs"
        )
    scaling = Scaling(
        num_workers=arguments.workers,
        cpus_per_worker=arguments.cpus_per_worker,
        gpu=gpus > 0,
        gpus_per_worker=gpus or 1.0,
    )
    paths = (arguments.source, arguments.target, arguments.val)
    source, target, val = (None if path is None else str(Path(path).absolute()) for path in paths)
    assert source is not None
    assert target is not None
    return Job(
        source=source,
        target=target,
        val=val,
        allow_oracle=arguments.allow_oracle,
        scaling=scaling,
        val_actors=arguments.val_actors,
        val_gpus=arguments.val_gpus,
        directory=os.getcwd(),
    )


def _check_metric(arguments: argparse.Namespace, validation: Validation | None) -> None:
    shows_truth = validation is not None and validation.shards and validation.are_of_target
    if arguments.allow_oracle and not shows_truth:
        raise UserError(
            f"--allow-oracle: got {arguments.val or 'no --val'}, want --val with labelled shards "
            "of the target"
        )


def _concurrent(arguments: argparse.Namespace) -> int | None:
    if arguments.schedule != "pbt":
        wanted: int | None = arguments.concurrent
        return wanted
    if arguments.concurrent not in (None, arguments.trials):
        raise UserError(
            f"--concurrent: got {arguments.concurrent} with --schedule pbt, want all "
            f"{arguments.trials} trials at once"
        )
    return int(arguments.trials)


def _schedule(arguments: argparse.Namespace, config: Config) -> Schedule:
    every = config.runtime.checkpoint_every
    grace = arguments.grace_steps or every * max(1, arguments.evaluations // 3)
    return Schedule(
        name=arguments.schedule,
        metric=arguments.metric,
        grace_steps=grace,
        reduction=arguments.reduction,
        steps=config.steps,
    )


def _settings(
    arguments: argparse.Namespace, space: Space, run: Run, validation: Validation | None
) -> Settings:
    labels = validation.shards if validation else None
    return {
        "space": f"{arguments.space} {_digest(space)}",
        "preset": f"{space.preset} {run.config.digest()}",
        **{f"{role} data": digest[:12] for role, digest in run.digests.items()},
        "val data": labels.manifest.digest[:12] if labels else "none",
        "metric": arguments.metric,
        "--allow-oracle": "given" if arguments.allow_oracle else "not given",
        "search": arguments.search,
        "seed": arguments.seed,
        "points": arguments.points,
        "evaluations": arguments.evaluations,
    }


def _digest(space: Space) -> str:
    """Names what may be drawn; a changed domain or condition gives another one."""
    drawn = repr((list(space.resolved.items()), sorted(space.conditions.items(), key=str)))
    return hashlib.sha256(drawn.encode()).hexdigest()[:12]


def _search(arguments: argparse.Namespace, space: Space, config: Config) -> Search:
    own = space.start_values()
    return Search(
        space=arguments.space,
        question=space.question,
        preset=space.preset,
        config_digest=config.digest(),
        metric=arguments.metric,
        allow_oracle=arguments.allow_oracle,
        steps=config.steps,
        axes=tuple(_axis(path, drawn, own.get(path)) for path, drawn in space.resolved.items()),
    )


def _axis(path: str, drawn: Drawn, own: Any) -> Axis:
    preset = None if own is None else shown(own)
    if isinstance(drawn, Choice):
        values = tuple(shown(value) for value in drawn.values)
        return Axis(path=path, kind="choice", values=values, preset=preset)
    return Axis(
        path=path,
        kind="log" if drawn.log else "linear",
        low=float(drawn.low),
        high=float(drawn.high),
        whole=drawn.whole,
        or_zero=drawn.or_zero,
        preset=preset,
    )
