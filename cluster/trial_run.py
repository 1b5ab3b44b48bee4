"""What a trial of a search does: an ordinary run of ours, which passes on its scores."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.ingest import IngestRef
from cluster.scores import open_validation, outcome
from cluster.train import Scaling, train
from uda.checkpoint import (
    MODEL_FILE,
    REPORT_FILE,
    STATE_FILE,
    checkpoints,
    resumable_checkpoint,
    step_folder,
    step_of,
    whole_folder,
)
from uda.config import Config
from uda.data.write import atomic
from uda.journal import read_scalars
from uda.run import CONFIG_FILE, open_run
from uda.selection import QUALITY, VALIDATION_FILE
from uda.tree import from_plain, to_plain
from uda.types import Domain

ADOPT_FILE = "adopt.json"  # in a run's folder: what it shall go on from when it has stopped
_ADOPTED_FILE = "adopted.json"  # what it went on from the last time

_ATTEMPTS = 3
_ORACLE = "oracle/miou"
_MEASURE = "quality/"


@dataclass(frozen=True, kw_only=True)
class Job:
    """What all trials of a search share: data, place, and what their checkpoints are scored on.

    - `val`: labelled shards to look at, or none. Unless `allow_oracle`, no score that needs labels
      of the target leaves the run.
    - `directory`: where relative paths in a config start.
    - `ingest`: the data, where they are resident.
    """

    source: str
    target: str
    val: str | None
    allow_oracle: bool
    scaling: Scaling
    val_actors: int
    val_gpus: float
    directory: str
    ingest: Mapping[Domain, IngestRef] | None = None


def train_trial(
    job: Job, folder: Path, on_score: Callable[[Path], None], on_adopt: Callable[[int], None]
) -> bool:
    """Trains the run of the config in `folder`, from its latest checkpoint; False if stopped.

    Where it is asked to meanwhile, it goes on from another one's; `on_adopt` is told which step.

    Raises:
        UserError: an input cannot be read.
        TrainingError: training cannot go on, in one line.
    """
    if Path(job.directory).is_dir():
        os.chdir(job.directory)
    while True:
        if (adopted := adopt(folder)) is not None:
            on_adopt(adopted)
        is_done = _train(job, folder, on_score)
        if not (folder / ADOPT_FILE).exists():
            return is_done


def _train(job: Job, folder: Path, on_score: Callable[[Path], None]) -> bool:
    run = open_run(
        Config.from_json(folder / CONFIG_FILE),
        folder,
        job.source,
        job.target,
        num_workers=job.scaling.num_workers,
        resume=True,
    )
    validation = open_validation(run, job.val, actors=job.val_actors, gpus_per_actor=job.val_gpus)
    step = train(
        run,
        job.scaling,
        validation=validation,
        progress=False,
        on_score=on_score,
        ingest=job.ingest,
    )
    _, is_done = outcome(run, step)
    return is_done


@dataclass(frozen=True, kw_only=True)
class Adoption:
    """A run is to go on from the latest checkpoint of a `donor`, with settings of its own.

    `changes` are those of the space that are in `config`, for the record.
    """

    donor: int
    folder: str
    changes: Mapping[str, Any]
    config: Config

    def ask(self, run: Path) -> None:
        """Asks the run in a folder, which has to be stopped as well."""
        asked = {**vars(self), "changes": dict(self.changes), "config": to_plain(self.config)}
        with atomic(run / ADOPT_FILE) as partial:
            partial.write_text(json.dumps(asked))


def adopt(folder: Path) -> int | None:
    """Takes what the run in `folder` was asked to; the step it goes on from, None if nothing.

    Its own checkpoints before that stay, to be evaluated. Where the donor has come to its end
    meanwhile, there is nothing to take.
    """
    file = folder / ADOPT_FILE
    if not file.exists():
        return None
    asked = json.loads(file.read_text())
    config = from_plain(Config, asked["config"])
    step = _copy_latest(Path(asked["folder"]), folder, config)
    if step is None:
        file.unlink()
        return None
    for own in checkpoints(folder):
        if step_of(own) > step:
            shutil.rmtree(own)
        elif step_of(own) < step:
            (own / STATE_FILE).unlink(missing_ok=True)
    for name, text in (
        (CONFIG_FILE, config.to_json()),
        (_ADOPTED_FILE, json.dumps({**asked, "step": step})),
    ):
        with atomic(folder / name) as partial:
            partial.write_text(text)
    file.unlink()
    return step


def _copy_latest(donor: Path, folder: Path, config: Config) -> int | None:
    """Its step. The run that it belongs to goes on, and may remove it meanwhile."""
    for _ in range(_ATTEMPTS):
        checkpoint = resumable_checkpoint(donor)
        if checkpoint is None or (step := step_of(checkpoint)) >= config.steps:
            return None
        with (
            contextlib.suppress(FileNotFoundError),
            whole_folder(step_folder(folder, step), replace=True) as partial,
        ):
            for name in (MODEL_FILE, STATE_FILE, REPORT_FILE):
                shutil.copyfile(checkpoint / name, partial / name)
            (partial / CONFIG_FILE).write_text(config.to_json())
            return step
    return None


def scores_after(folder: Path, step: int, *, allow_oracle: bool) -> dict[str, Any] | None:
    """Those of a run's first scored checkpoint after `step`, as of `cluster.trials.Point`.

    Where it has `adopted` another one's checkpoint before, that is said as well.
    """
    for line in read_scalars(folder, VALIDATION_FILE):
        if line["step"] > step:
            return {
                "step": int(line["step"]),
                "quality": line.get(QUALITY),
                "measures": {
                    tag.removeprefix(_MEASURE): value
                    for tag, value in line.items()
                    if tag.startswith(_MEASURE) and tag != QUALITY
                },
                "oracle_miou": line.get(_ORACLE) if allow_oracle else None,
                **_adopted_before(folder, line["step"]),
            }
    return None


def _adopted_before(folder: Path, step: float) -> dict[str, Any]:
    file = folder / _ADOPTED_FILE
    if not file.exists():
        return {}
    adopted = json.loads(file.read_text())
    known = {name: adopted[name] for name in ("donor", "changes", "step")}
    return {"adopted": known} if adopted["step"] < step else {}
