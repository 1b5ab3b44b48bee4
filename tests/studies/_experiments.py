"""Training runs of a study, each with a record of its own; what has one is not run again.

A run is an `Experiment` and a seed. Its record is a small JSON file: scores, what was run, where
and on which commit. Records that are kept lie under docs/results/adaptation; new ones are written
to runs/study/adaptation/records, so that a long study can grow over days and machines.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.record import STUDIES
from uda.checkpoint import step_folder
from uda.config import Config
from uda.presets import preset
from uda.tree import from_plain, override, to_plain
from uda.types import UserError

KEPT = Path("docs/results/adaptation")
FOLDER = STUDIES / "adaptation"
NEW = FOLDER / "records"
SEEDS = (0, 1, 2)
_PLACES = ("runtime", "ingest")  # how it is computed, not what


@dataclass(frozen=True, kw_only=True, eq=False)
class Experiment:
    """`preset` with `changes` (dotted paths) on the data of a setting.

    An oracle learns from the target's labels. The setting is one of `tests.studies._data`. Given a
    `start`, training goes on from the network that this experiment ends with, of the same seed.
    """

    name: str
    preset: str
    changes: dict[str, Any] = field(default_factory=dict)
    setting: str = "streets"
    is_oracle: bool = False
    start: "Experiment | None" = None

    def config(self, seed: int) -> Config:
        steps = self.changes.get("steps")  # schedules follow it
        changes = {**self.changes, "seed": seed}
        if self.start:
            changes["model.pretrained"] = str(self.start.network(seed))
        return override(preset(self.preset, steps), changes)

    def folder(self, seed: int) -> Path:
        return FOLDER / "runs" / f"{self.name}-{seed}-{self.config(seed).digest()}"

    def network(self, seed: int) -> Path:
        """The checkpoint of the last step."""
        return step_folder(self.folder(seed), self.config(seed).steps)

    def file(self, seed: int) -> str:
        return f"{self.name}-{seed}.json"

    def plain(self, seed: int) -> dict[str, Any]:
        """What a record says of the configuration, and of the one it started from."""
        configs = {"config": self.config(seed)}
        if self.start:
            configs["start"] = self.start.config(seed)
        return {
            name: {k: v for k, v in to_plain(config).items() if k not in _PLACES}
            for name, config in configs.items()
        }


def record_of(
    experiment: Experiment, seed: int, folders: Sequence[Path] = (KEPT, NEW)
) -> dict[str, Any] | None:
    """The record of a run that learned exactly what this one would, if there is one."""
    files = [folder / experiment.file(seed) for folder in folders]
    if not any(file.exists() for file in files):  # configurations take their time
        return None
    wanted = science(experiment.plain(seed))
    for file in files:
        if file.exists():
            record = json.loads(file.read_text())
            if (record["setting"], record["is_oracle"]) != (
                experiment.setting,
                experiment.is_oracle,
            ):
                continue
            with suppress(UserError):  # of a time when there were other settings
                if science(record) == wanted:
                    return record
    return None


def science(record: dict[str, Any]) -> tuple[str, ...]:
    """Names what is learned, whatever is listed and off, and whatever came to the config since."""
    parts = [from_plain(Config, record[name]) for name in ("config", "start") if name in record]
    if "start" in record:  # the path of its network says no more than its configuration
        model = replace(parts[0].model, pretrained="start")
        parts[0] = replace(parts[0], model=model)
    return tuple(
        replace(
            config,
            name="any",
            losses=tuple(loss for loss in config.losses if not loss.weight.is_off),
            levels=tuple(level for level in config.levels if not level.weight.is_off),
        ).digest()
        for config in parts
    )
