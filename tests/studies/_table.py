"""The table of `make study-tune`: every point of the lattice, trained to its end and judged.

A point has a record of its own, of a few of its checkpoints: quality, which is label-free; mIoU on
labelled source images that no training has seen; and mIoU by the target's test labels, the oracle.
The networks stay, to be judged by something else one day.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.record import STUDIES, machine
from tests.studies._data import digests, shards, source_validation
from tests.studies._experiments import Experiment, record_of
from tests.studies._judging import miou_of, quality_of
from tests.studies._lattice import EXPERIMENTS, JUDGED, Key
from tests.studies._results import provenance
from tests.studies._runner import CHANGED, COMMIT, Place, Run, carry_out
from tests.studies._solo import trained
from tests.studies.ablation import START
from tests.studies.quality import entry_value
from uda.checkpoint import MODEL_FILE, STATE_FILE, load_model, step_folder
from uda.data.examples import open_examples
from uda.data.rows import ShardRows
from uda.inference import PLAIN, ready
from uda.report import write_json
from uda.tree import override

SEED = 0
KEPT, FOLDER = Path("docs/results/tune"), STUDIES / "tune"
NEW = FOLDER / "records"
IMAGES = {"quality": 48, "source": 60}  # of each domain; of the source. The oracle sees all 200

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
    """The whole table, and in words where it was made."""

    table: Table
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
        {"runtime.checkpoint_every": JUDGED[0], "runtime.keep_checkpoints": 99},
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
        "start_sha256": _start_digest(experiment, seed),
        "checkpoints": _judged(folder, data, place.device),
        "minutes": round(minutes, 2),
        "command": place.command,
        "commit": COMMIT,
        "changed_since_commit": CHANGED,
        "machine": machine(place.device),
        **experiment.plain(seed),
    }
    write_json(NEW / experiment.file(seed), record)
    for state in folder.glob(f"*/{STATE_FILE}"):
        state.unlink()
    last = record["checkpoints"][-1]
    print(f"{experiment.name}: quality {last['quality']:.3f}, "
          f"oracle mIoU {last['oracle_miou']:.2f}", flush=True)  # fmt: skip


def _start_digest(experiment: Experiment, seed: int) -> str:
    """Of the network that it goes on from: one of the same settings may be another's."""
    assert experiment.start is not None
    network = experiment.start.network(seed) / MODEL_FILE
    return hashlib.sha256(network.read_bytes()).hexdigest()[:12]


def _judged(folder: Path, data: Mapping[str, Path], device: str) -> list[dict[str, Any]]:
    """One entry for each checkpoint, in order."""
    source = ShardRows(data["source"], labels=True)
    target = ShardRows(data["target"], labels=False)
    known, test = (open_examples(data[name]) for name in ("source_validation", "test"))
    entries = []
    for step in JUDGED:
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
    """All points of the lattice; None while a record is missing.

    Raises:
        ValueError: some were made on other data, or from another network, than the first.
    """
    found = {key: _record(one) for key, one in EXPERIMENTS.items()}
    known = {key: record for key, record in found.items() if record is not None}
    if len(known) < len(found):
        return None
    first, *others = known.values()
    for record in others:
        for name in ("data", "start_sha256"):
            if record[name] != first[name]:
                raise ValueError(
                    f"{record['experiment']}: its {name} differs from that of {first['experiment']}"
                )
    return Filled(
        table={key: _row(record["checkpoints"]) for key, record in known.items()},
        made=provenance({"all": list(known.values())}),
    )


def _record(experiment: Experiment) -> dict[str, Any] | None:
    """None also where the record was judged on fewer or other images, or at other steps."""
    for folder in (NEW, KEPT):
        found = record_of(experiment, SEED, (folder,))
        if found and (found["images"], _steps(found)) == (IMAGES, JUDGED):
            return found
    return None


def _steps(record: dict[str, Any]) -> tuple[int, ...]:
    return tuple(entry["step"] for entry in record["checkpoints"])


def _row(entries: list[dict[str, Any]]) -> Row:
    return Row(
        steps=tuple(entry["step"] for entry in entries),
        values={
            "quality": tuple(entry_value(entry, "quality") for entry in entries),
            "source": tuple(entry["source_miou"] for entry in entries),
            "oracle": tuple(entry["oracle_miou"] for entry in entries),
        },
    )
