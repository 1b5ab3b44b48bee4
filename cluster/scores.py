"""What `--val` scores checkpoints on, by whom, and under which tags their scores are logged."""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from cluster.evaluate import evaluate
from cluster.pool import ActorPool
from cluster.room import check_gpus_per_actor
from cluster.score import score_checkpoint
from cluster.validation import Validator
from cluster.worker import FADE_FILE, STOP_FILE, ask_for_fades, fades_asked
from uda.adversaries import FADE
from uda.checkpoint import checkpoints, last_step
from uda.data.folder import Folder
from uda.data.shards import Manifest, ShardFolder, open_shards
from uda.run import Run
from uda.selection import (
    EVALUATION_FILE,
    QUALITY,
    best_checkpoints,
    fades_wanted,
    graded,
    is_over,
    read_evaluation,
    tidy,
)
from uda.types import Domain, UserError


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What checkpoints are scored on, and what that is given.

    - `shards`: labelled ones, or none. Where the labels `are_of_target`, the scores are called
      `oracle`: nothing may choose by them.
    - `unlabelled`: source and target of the run, to measure quality on without target labels.
    """

    shards: ShardFolder | None = None
    are_of_target: bool = True
    unlabelled: tuple[ShardFolder, ShardFolder] | None = None
    actors: int = 1
    gpus_per_actor: float = 0.0

    def __post_init__(self) -> None:
        if self.actors < 1:
            raise UserError(f"actors that validate: got {self.actors}, want 1 or more")
        check_gpus_per_actor(self.gpus_per_actor)

    @property
    def data(self) -> str:
        """Names what is scored on: the labelled shards, or `none`, and whether quality is too."""
        labelled = self.shards.manifest.digest if self.shards else _NO_LABELS
        return f"{labelled} quality" if self.unlabelled else labelled


_NO_LABELS = "none"


def open_validation(
    run: Run, shards: str | Path | None, *, actors: int = 1, gpus_per_actor: float = 0.0
) -> Validation | None:
    """Checks what checkpoints are to be scored on; None where nobody wants any score.

    Labels are the target's unless they are of the source's domain, and of no other. The manifests
    name it, but for `folder`, under which a user's own data go whatever they are: there it is the
    source's only if these are its shards, or both were prepared from the same absolute ROOT.

    Raises:
        UserError: no shards there, none with labels, or other ones than this run had before.
    """
    by_quality = run.config.runtime.select_by == "quality"
    unlabelled = (run.data[Domain.SOURCE], run.data[Domain.TARGET]) if by_quality else None
    place = {"actors": actors, "gpus_per_actor": gpus_per_actor}
    if shards is None:
        return Validation(unlabelled=unlabelled, **place) if by_quality else None  # type: ignore[arg-type]
    folder = open_shards(Path(shards).absolute())
    if not any(folder.manifest.class_pixels):
        raise UserError(f"val {folder.path}: got shards without labels, want labels to score by")
    for checkpoint in checkpoints(run.folder):
        result = read_evaluation(checkpoint)
        before = result["data"].split()[0] if result else _NO_LABELS
        if before not in (_NO_LABELS, folder.manifest.digest):
            raise UserError(
                f"val {folder.path}: got other shards than those of {checkpoint / EVALUATION_FILE},"
                " want the same for a whole run; choose another --out for these"
            )
    source, target = (run.data[domain].manifest for domain in Domain)
    return Validation(
        shards=folder,
        are_of_target=not _are_of_source(folder.manifest, source) or source.domain == target.domain,
        unlabelled=unlabelled,
        **place,  # type: ignore[arg-type]
    )


def _are_of_source(manifest: Manifest, source: Manifest) -> bool:
    """Whether it is certain that both show the same domain."""
    if manifest.dataset != Folder.name or source.dataset != Folder.name:
        return manifest.domain == source.domain
    if manifest.digest == source.digest:
        return True
    root, source_root = _root(manifest), _root(source)
    return root.is_absolute() and root == source_root  # nobody knows what another one was below


def _root(manifest: Manifest) -> Path:
    """ROOT of `uda prepare`, from the command that `uda.data.plan.Options` makes."""
    words = shlex.split(manifest.made_by.get("command", ""))
    return Path(*words[3:4])


@contextmanager
def open_validator(
    run: Run, validation: Validation, on_score: Callable[[Path], None] = lambda _: None
) -> Iterator[Validator]:
    """A validator at work, with actors that live from its first checkpoint to the end.

    `on_score` is told of every checkpoint that has been scored, see `Validator`.
    """

    def look(checkpoint: Path) -> None:
        _stop_if_over(run)
        _fade_if_stalled(run)
        on_score(checkpoint)

    fade_file = run.folder / FADE_FILE
    fade_file.unlink(missing_ok=True)  # of a start that was killed
    _fade_if_stalled(run)  # by the scores of one that was stopped before it could
    with (
        _removed_at_the_end(run.folder / STOP_FILE),
        _removed_at_the_end(fade_file),
        ActorPool(actors=validation.actors, gpus_per_actor=validation.gpus_per_actor) as pool,
        Validator(
            run.folder,
            lambda checkpoint: score(checkpoint, validation, pool),
            cancel=pool.close,
            prune=lambda: tidy(run.folder, run.config.runtime),
            data=validation.data,
            on_score=look,
        ) as validator,
    ):
        yield validator


def _stop_if_over(run: Run) -> None:
    """Asks the workers to save and stop, at the next line they log."""
    stop_file = run.folder / STOP_FILE
    if is_over(run.folder, run.config.runtime) and not stop_file.exists():
        stop_file.touch()
        _say(f"{_stalled(run)}: saving and stopping")


def _fade_if_stalled(run: Run) -> None:
    """Asks the workers to fade the levels, once for each stall; not when all steps are done."""
    runtime = run.config.runtime
    if runtime.on_stall != "fade" or last_step(run.folder) >= run.config.steps:
        return
    if (wanted := fades_wanted(run.folder, runtime)) > fades_asked(run.folder):
        ask_for_fades(run.folder, wanted)
        _say(f"{_stalled(run)}: adversarial weights are faded to {FADE**wanted:g} of their own")


def _stalled(run: Run) -> str:
    return f"quality has not risen for {run.config.runtime.patience} checkpoints"


@contextmanager
def _removed_at_the_end(file: Path) -> Iterator[None]:
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def score(checkpoint: Path, validation: Validation, pool: ActorPool) -> dict[str, float | None]:
    """The scores of a checkpoint by their tags, such as `quality/score` and `oracle/iou/road`."""
    if not validation.unlabelled:
        return _labelled(checkpoint, validation, pool)
    scores = _quality(checkpoint, validation, pool)
    if validation.shards:
        try:
            scores |= _labelled(checkpoint, validation, pool)
        except UserError as error:  # bad labels must not decide which checkpoint is kept
            _say(f"{checkpoint.name} has no score by labels: {error}")
    return scores


def _say(message: str) -> None:
    tqdm.write(f"uda: {message}", file=sys.stderr)


def _quality(checkpoint: Path, validation: Validation, pool: ActorPool) -> dict[str, float | None]:
    assert validation.unlabelled is not None
    source, target = validation.unlabelled
    found = score_checkpoint(
        checkpoint,
        source.path,
        target.path,
        pool=pool,
        gpus_per_actor=validation.gpus_per_actor,
        progress=False,
    )
    return {QUALITY: found.quality, **{f"quality/{k}": v for k, v in found.measures.items()}}


def _labelled(checkpoint: Path, validation: Validation, pool: ActorPool) -> dict[str, float | None]:
    assert validation.shards is not None
    report = evaluate(
        checkpoint,
        validation.shards.path,
        gpus_per_actor=validation.gpus_per_actor,
        pool=pool,
        progress=False,
    )
    result = report.json()
    prefix = "oracle" if validation.are_of_target else "validation"
    scores = {name: result[name] for name in ("miou", "pixel_accuracy")}
    scores |= {f"iou/{name.replace(' ', '_')}": value for name, value in result["iou"].items()}
    return {f"{prefix}/{name}": value for name, value in scores.items()}


def outcome(run: Run, step: int) -> tuple[str, bool]:
    """What is said of a training that has ended after `step`, and whether that was its end."""
    runtime = run.config.runtime
    is_stalled = step < run.config.steps and is_over(run.folder, runtime)
    if step < run.config.steps and not is_stalled:
        return f"stopped at step {step} of {run.config.steps}; continue with --resume", False
    lines = [f"{run.folder}: {step} steps done"]
    if is_stalled:
        lines.append(f"ended before step {run.config.steps}: {_stalled(run)}")
    if best := best_checkpoints(run.folder, 1):
        grade = graded(best[0])
        lines.append(f"best by quality: {best[0]} ({grade.quality if grade else 0:.3f})")
    return "\n".join(lines), True
