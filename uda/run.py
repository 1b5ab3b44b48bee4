"""A training run before it starts: its settings, its data and its folder, all checked.

Everything a user can get wrong is found here in a second or two, before any worker starts.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uda.checkpoint import (
    REPORT_FILE,
    STATE_FILE,
    checkpoints,
    last_step,
    provenance,
    resumable_checkpoint,
)
from uda.config import Config
from uda.data.shards import ShardFolder, open_shards
from uda.data.write import atomic
from uda.feed import check_data, target_predictions
from uda.models import check_pretrained
from uda.presets import preset
from uda.task import preflight
from uda.tree import override, parse_assignments
from uda.types import Domain, UserError

CONFIG_FILE = "config.json"


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is trained, on what, and where it is written."""

    config: Config
    folder: Path
    data: dict[Domain, ShardFolder]
    digests: dict[str, str]  # name exactly these data, by their role

    def create(self) -> None:
        """Makes the folder, with the config in it: after everything has been checked."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic(self.folder / CONFIG_FILE) as partial:  # others may read it meanwhile
            partial.write_text(self.config.to_json())

    @property
    def provenance(self) -> dict[str, Any]:
        """What a checkpoint says about where it comes from."""
        return provenance(self.digests)


def read_config(preset_or_file: str, assignments: list[str]) -> Config:
    """A preset by name or a config.json by path, changed by `--set` assignments."""
    changes = parse_assignments(assignments)
    if preset_or_file.endswith(".json"):
        config = Config.from_json(Path(preset_or_file))
    else:
        steps = changes.get("steps")
        config = preset(preset_or_file, steps if isinstance(steps, int) and steps > 0 else None)
    return override(config, changes)


def open_run(
    config: Config,
    folder: str | Path,
    source: str | Path,
    target: str | Path,
    *,
    num_workers: int = 1,
    resume: bool = False,
) -> Run:
    """Checks everything a user can get wrong; writes nothing.

    Raises:
        UserError: the batch does not divide by the workers, a name or shape in the config is
            wrong, data are missing or damaged, or the folder belongs to another run.
    """
    run = Path(folder).absolute()  # as the data's, because workers run in folders of their own
    check_pretrained(config.model)
    preflight(config, num_workers)
    paths = {Domain.SOURCE: source, Domain.TARGET: target}
    data = {domain: open_shards(Path(path).absolute()) for domain, path in paths.items()}
    check_data(config, data)
    opened = Run(config=config, folder=run, data=data, digests=_digests(config, data))
    _check_folder(opened, resume)
    return opened


def _digests(config: Config, data: dict[Domain, ShardFolder]) -> dict[str, str]:
    digests = {str(domain): folder.manifest.digest for domain, folder in data.items()}
    if predictions := target_predictions(config, data):
        digests["predictions"] = predictions.digest
    return digests


def _check_folder(opened: Run, resume: bool) -> None:
    run, config = opened.folder, opened.config
    if run.exists() and not run.is_dir():
        raise UserError(f"out {run}: is a file, want a folder")
    found = checkpoints(run)
    if found and not resume:
        raise UserError(
            f"out {run}: already holds a run at step {last_step(run)}; "
            "continue it with --resume or choose another --out"
        )
    latest = resumable_checkpoint(run)
    if latest is None:
        if found:
            raise UserError(
                f"resume {run}: got no {STATE_FILE} in any of its checkpoints, want one to go on "
                "from; choose another --out"
            )
        return
    if (saved := Config.from_json(latest / CONFIG_FILE)).digest() != config.digest():
        raise UserError(
            f"out {run}: holds experiment {saved.digest()} ({saved.name}), not {config.digest()} "
            f"({config.name}); resume it with its own settings ({run / CONFIG_FILE}) "
            "or choose another --out"
        )
    _check_same_data(latest / REPORT_FILE, opened.digests)


def _check_same_data(report: Path, data: dict[str, str]) -> None:
    """The digest names the settings only; a run that went on with other data would be neither."""
    try:
        trained = json.loads(report.read_text()).get("data", data)
    except (OSError, ValueError) as error:
        raise UserError(f"resume {report}: cannot be read ({error})") from None
    other = [role for role in data if trained.get(role) != data[role]]
    if other:
        raise UserError(
            f"resume {report.parent}: it was trained on another {' and '.join(other)}; "
            "resume it with its own data or choose another --out"
        )
