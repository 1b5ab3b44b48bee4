"""The table of `make study-tune`: every point of the lattice, trained to its end and judged.

A point has a record of its own, of its four checkpoints: quality, which is label-free; mIoU on
labelled source images that no training has seen; and mIoU by the target's test labels, the oracle.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.record import STUDIES, machine
from tests.studies._data import digests, shards, source_validation
from tests.studies._experiments import Experiment, record_of
from tests.studies._judging import miou_of, quality_of
from tests.studies._lattice import EXPERIMENTS, HAND_SET, SEED, Key
from tests.studies._results import provenance
from tests.studies._runner import CHANGED, CHECKPOINTS, COMMIT, Place, Run, carry_out
from tests.studies._solo import trained
from tests.studies.ablation import START
from tests.studies.quality import entry_value
from uda.checkpoint import load_model, step_folder
from uda.config import Config
from uda.data.examples import open_examples
from uda.data.rows import ShardRows
from uda.inference import PLAIN, ready
from uda.report import write_json
from uda.tree import override

KEPT, FOLDER = Path("docs/results/tune"), STUDIES / "tune"
NEW = FOLDER / "records"
IMAGES = {"quality": 32, "source": 100}  # of each domain; of the source. The oracle sees all 200

MEASURES = ("quality", "source", "oracle")  # what a network is judged by; higher is better


@dataclass(frozen=True)
class Row:
    """A point of the lattice at its checkpoints: their steps, and by measure their values.

    Quality is in [0, 1], the others are mIoU in per cent.
    """

    steps: tuple[int, ...]
    values: Mapping[str, tuple[float, ...]]


Table = Mapping[Key, Row]


@dataclass(frozen=True, kw_only=True)
class Filled:
    """The whole table, the hand-set preset beside it, and in words where they were made."""

    table: Table
    hand_set: Row
    made: str


def build(run: Run, place: Place) -> None:
    """Trains, judges all checkpoints and writes the record. A stopped one goes on where it was."""
    experiment, seed = run
    if experiment.name == START.name:
        carry_out(run, place)
        return
    config = experiment.config(seed)
    config = override(
        config,
        {"runtime.checkpoint_every": config.steps // CHECKPOINTS, "runtime.keep_checkpoints": 99},
    )
    data = {**shards(experiment.setting), "source_validation": source_validation()}
    folder = FOLDER / "runs" / experiment.folder(seed).name
    minutes = trained(
        config,
        folder,
        source=data["source"],
        target=data["target"],
        device=torch.device(place.device),
        quiet=place.quiet,
    )
    record = {
        "experiment": experiment.name,
        "setting": experiment.setting,
        "seed": seed,
        "is_oracle": experiment.is_oracle,
        "preset": experiment.preset,
        "changes": experiment.changes,
        "steps": config.steps,
        "data": digests(data),
        "images": IMAGES,
        "checkpoints": _judged(config, folder, data, place.device),
        "minutes": round(minutes, 2),
        "command": place.command,
        "commit": COMMIT,
        "changed_since_commit": CHANGED,
        "machine": machine(place.device),
        **experiment.plain(seed),
    }
    write_json(NEW / experiment.file(seed), record)
    shutil.rmtree(folder)  # what was of interest is in the record
    last = record["checkpoints"][-1]
    print(f"{experiment.name}: quality {last['quality']:.3f}, "
          f"oracle mIoU {last['oracle_miou']:.2f}", flush=True)  # fmt: skip


def _judged(
    config: Config, folder: Path, data: Mapping[str, Path], device: str
) -> list[dict[str, Any]]:
    """One entry for each checkpoint, in order."""
    source = ShardRows(data["source"], labels=True)
    target = ShardRows(data["target"], labels=False)
    known, test = (open_examples(data[name]) for name in ("source_validation", "test"))
    entries = []
    for part in range(1, CHECKPOINTS + 1):
        step = config.steps * part // CHECKPOINTS
        model = ready(load_model(step_folder(folder, step)), PLAIN, device)
        entries.append({
            "step": step,
            **quality_of(model, source, target, IMAGES["quality"])[0],
            "source_miou": miou_of(model, known, images=IMAGES["source"]),
            "oracle_miou": miou_of(model, test),
        })  # fmt: skip
    return entries


def missing(experiments: list[Experiment]) -> list[Run]:
    """The runs that have no record."""
    return [(one, SEED) for one in experiments if _record(one) is None]


def read_table() -> Filled | None:
    """All points of the lattice and the hand-set preset; None while a record is missing.

    Raises:
        ValueError: some were made on other data than the rest.
    """
    records = {key: _record(one) for key, one in {**EXPERIMENTS, (): HAND_SET}.items()}
    known = {key: record for key, record in records.items() if record is not None}
    if len(known) < len(records):
        return None
    data = known[()]["data"]
    for record in known.values():
        if record["data"] != data:
            raise ValueError(f"{record['experiment']}: made on other data than {HAND_SET.name}")
    rows = {key: _row(record["checkpoints"]) for key, record in known.items()}
    return Filled(
        table={key: rows[key] for key in EXPERIMENTS},
        hand_set=rows[()],
        made=provenance({"all": list(known.values())}),
    )


def _record(experiment: Experiment) -> dict[str, Any] | None:
    """None also where the record was judged on fewer or other images."""
    found = record_of(experiment, SEED, (KEPT, NEW))
    return found if found and found["images"] == IMAGES else None


def _row(entries: list[dict[str, Any]]) -> Row:
    return Row(
        steps=tuple(entry["step"] for entry in entries),
        values={
            "quality": tuple(entry_value(entry, "quality") for entry in entries),
            "source": tuple(entry["source_miou"] for entry in entries),
            "oracle": tuple(entry["oracle_miou"] for entry in entries),
        },
    )
