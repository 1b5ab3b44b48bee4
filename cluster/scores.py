"""What `--val` scores checkpoints on, by whom, and under which tags their scores are logged."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.evaluate import evaluate
from cluster.pool import ActorPool
from cluster.room import check_gpus_per_actor
from cluster.validation import EVALUATION_FILE, Validator, read_evaluation
from uda.checkpoint import checkpoints
from uda.data.folder import Folder
from uda.data.shards import Manifest, ShardFolder, open_shards
from uda.run import Run
from uda.types import Domain, UserError


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Labelled shards, and what scoring on them is given.

    Where the labels `are_of_target`, the scores are called `oracle`: nothing may choose by them.
    """

    shards: ShardFolder
    are_of_target: bool
    actors: int = 1
    gpus_per_actor: float = 0.0

    def __post_init__(self) -> None:
        if self.actors < 1:
            raise UserError(f"actors that validate: got {self.actors}, want 1 or more")
        check_gpus_per_actor(self.gpus_per_actor)


def open_validation(
    run: Run, shards: str | Path, *, actors: int = 1, gpus_per_actor: float = 0.0
) -> Validation:
    """Checks what checkpoints are to be scored on.

    Labels are the target's unless they are of the source's domain, and of no other. The manifests
    name it, but for `folder`, under which a user's own data go whatever they are: there it is the
    source's only if these are its shards, or both were prepared from the same absolute ROOT.

    Raises:
        UserError: no shards there, none with labels, or other ones than this run had before.
    """
    folder = open_shards(Path(shards).absolute())
    if not any(folder.manifest.class_pixels):
        raise UserError(f"val {folder.path}: got shards without labels, want labels to score by")
    for checkpoint in checkpoints(run.folder):
        result = read_evaluation(checkpoint)
        if result and result["data"] != folder.manifest.digest:
            raise UserError(
                f"val {folder.path}: got other shards than those of {checkpoint / EVALUATION_FILE},"
                " want the same for a whole run; choose another --out for these"
            )
    source, target = (run.data[domain].manifest for domain in Domain)
    return Validation(
        shards=folder,
        are_of_target=not _are_of_source(folder.manifest, source) or source.domain == target.domain,
        actors=actors,
        gpus_per_actor=gpus_per_actor,
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
def open_validator(run: Run, validation: Validation) -> Iterator[Validator]:
    """A validator at work, with actors that live from its first checkpoint to the end."""
    with (
        ActorPool(actors=validation.actors, gpus_per_actor=validation.gpus_per_actor) as pool,
        Validator(
            run.folder,
            lambda checkpoint: score(checkpoint, validation, pool),
            cancel=pool.close,
            keep=run.config.runtime.keep_checkpoints,
            data=validation.shards.manifest.digest,
        ) as validator,
    ):
        yield validator


def score(checkpoint: Path, validation: Validation, pool: ActorPool) -> dict[str, float | None]:
    """The scores of a checkpoint by their tags, such as `oracle/miou` and `oracle/iou/road`."""
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
