"""Checkpoints: a folder per saved step, complete or invisible.

model.safetensors   the network that is evaluated
state.pt            everything else that changes (loads with weights_only=True); to resume from
config.json         the experiment
report.json         step, digest, versions, command, data, fades: where the weights come from

One that `uda.convert` made of another program's file has no state.pt, and of the experiment only
the name and the network. Such files are also evaluated as they are.
"""

import json
import os
import shutil
import sys
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

import uda
from uda.classes import NUM_CLASSES
from uda.config import Config
from uda.models import DeepLabV3Plus, ModelConfig, build_model
from uda.models.segmentron import load_segmentron
from uda.optim import Optimisers
from uda.task import AdaptationTask
from uda.tree import from_plain
from uda.types import UserError

MODEL_FILE, STATE_FILE, CONFIG_FILE, REPORT_FILE = (
    "model.safetensors",
    "state.pt",
    "config.json",
    "report.json",
)
# Empty; spares its checkpoint until that is scored, but not the state.pt in it: that is of no use
# for scoring, and several times as large as the rest.
WAITING_FILE = "waits_for_evaluation"
_STEP_PREFIX = "step-"


class TrainState:
    """Everything that changes during training, in one place.

    Random numbers and the place in the data are functions of `step`, so `step` is all there is to
    them. `step` counts finished steps.
    """

    def __init__(self, config: Config, device: torch.device) -> None:
        self.config = config
        self.task = AdaptationTask(config).to(device)
        if config.runtime.channels_last:  # before the optimisers' state, which must lie alike
            self.task.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimisers = Optimisers(self.task, config)
        self.step = 0

    def save(self, folder: Path, provenance: dict[str, Any], *, waits: bool = False) -> None:
        """Writes a checkpoint; `folder` appears under its name only when it is complete.

        One that `waits` for evaluation is marked and stays until `WAITING_FILE` is removed.
        """
        with whole_folder(folder, replace=True) as partial:
            save_weights(self.task.evaluated, partial / MODEL_FILE)
            fades = {"faded_at": list(self.task.faded_at)}
            state = {
                "step": self.step,
                **fades,
                "task": self.task.state_dict(),
                "optimisers": self.optimisers.state_dict(),
            }
            torch.save(state, partial / STATE_FILE)
            (partial / CONFIG_FILE).write_text(self.config.to_json())
            report = {"step": self.step, "digest": self.config.digest(), **provenance, **fades}
            (partial / REPORT_FILE).write_text(json.dumps(report, indent=2) + "\n")
            if waits:
                (partial / WAITING_FILE).touch()

    def load(self, folder: Path) -> None:
        """Continues from a checkpoint of the same experiment.

        Raises:
            UserError: the folder is damaged or belongs to another experiment.
        """
        saved = Config.from_json(folder / CONFIG_FILE)
        if saved.digest() != self.config.digest():
            raise UserError(
                f"resume {folder}: it is of experiment {saved.digest()} ({saved.name}), "
                f"this run is {self.config.digest()} ({self.config.name}); "
                "choose another --out or the same settings"
            )
        try:
            state = torch.load(folder / STATE_FILE, map_location="cpu", weights_only=True)
            self.task.load_state_dict(state["task"])
            self.optimisers.load_state_dict(state["optimisers"])
            self.step = state["step"]
            self.task.faded_at = tuple(state.get("faded_at", ()))  # older checkpoints have none
        except Exception as error:
            raise UserError(
                f"resume {folder / STATE_FILE}: does not load ({_line(error)})"
            ) from error


@contextmanager
def whole_folder(folder: Path, *, replace: bool) -> Iterator[Path]:
    """A folder to write into; it gets the name `folder` when the block ends without an error.

    With `replace`, one of that name is removed then: written before a crash, say, and the same step
    again after it. Else OSError, if it holds anything.
    """
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.partial")
    partial.mkdir(parents=True)
    try:
        yield partial
        _flush(partial)
        if replace and folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def provenance(data: dict[str, str]) -> dict[str, Any]:
    """Where a checkpoint comes from: versions, the command and the data's digests by role."""
    return {
        "versions": {
            "uda": uda.__version__,
            "torch": torch.__version__,
            "python": sys.version.split()[0],
        },
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "data": data,
    }


def step_folder(run: Path, step: int) -> Path:
    """Where a run keeps the checkpoint of a step."""
    return run / f"{_STEP_PREFIX}{step:07d}"


def step_of(folder: Path) -> int:
    """The step of a checkpoint that has the name `step_folder` gives."""
    return int(folder.name.removeprefix(_STEP_PREFIX))


def checkpoints(run: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    named = (f for f in run.glob(f"{_STEP_PREFIX}*") if f.name[len(_STEP_PREFIX) :].isdecimal())
    return sorted((folder for folder in named if _is_checkpoint(folder)), key=step_of)


def waiting_checkpoints(run: Path) -> list[Path]:
    """Those of a run that wait for evaluation, oldest first."""
    return [folder for folder in checkpoints(run) if (folder / WAITING_FILE).exists()]


def resumable_checkpoints(run: Path) -> list[Path]:
    """Those of a run that training can go on from, oldest first.

    Others are for evaluation alone: `prune` has taken their `STATE_FILE`.
    """
    return [folder for folder in checkpoints(run) if (folder / STATE_FILE).is_file()]


def resumable_checkpoint(run: Path) -> Path | None:
    """Where a run is resumed: the latest checkpoint that it can go on from."""
    found = resumable_checkpoints(run)
    return found[-1] if found else None


def last_step(run: Path) -> int:
    """The step that a run is resumed at, 0 where it starts anew."""
    found = resumable_checkpoint(run)
    return step_of(found) if found else 0


def fades_before(run: Path) -> list[int]:
    """After which steps a run has faded its levels, up to the one that it is resumed at."""
    if (checkpoint := resumable_checkpoint(run)) is None:
        return []
    return json.loads((checkpoint / REPORT_FILE).read_text()).get("faded_at", [])


def find_checkpoint(path: Path) -> Path:
    """`path` if it is a checkpoint, or the latest checkpoint of the run in it.

    A file counts as one, whatever is in it: `load_model` looks inside.

    Raises:
        UserError: there is none, saying what was looked for.
    """
    if _is_checkpoint(path) or path.is_file():
        return path
    if found := checkpoints(path):
        return found[-1]
    missing = "" if path.exists() else "no such folder or file; "
    raise UserError(
        f"checkpoint {path}: {missing}want a folder with {MODEL_FILE} and {CONFIG_FILE}, "
        f"a run with {_STEP_PREFIX}* folders in it, or a SegmenTron file (.pth)"
    )


def load_model(path: str | Path) -> DeepLabV3Plus:
    """The evaluated network of a checkpoint, or of a run's latest one: on the CPU, in eval mode.

    A file is read as a SegmenTron checkpoint of output stride 16; `uda.convert` makes a checkpoint
    folder of one of stride 8.

    `model(images)` takes images (B, 3, H, W) float32, normalised as `model.normalise` does, and
    returns an output whose `.logits` are (B, classes, H, W).

    Raises:
        UserError: no checkpoint there, a damaged file, or weights of another architecture.
    """
    found = find_checkpoint(Path(path))
    if found.is_file():
        return load_segmentron(found).eval()
    config = _model_config(found / CONFIG_FILE)
    if config.num_classes != NUM_CLASSES:
        raise UserError(f"checkpoint {found}: got {config.num_classes} classes, want {NUM_CLASSES}")
    model = build_model(config)
    load_weights(model, found / MODEL_FILE)
    return model.eval()


def _model_config(file: Path) -> ModelConfig:
    """The network's part of a config.json; the others may be absent or of another version."""
    try:
        plain = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"config {file}: cannot be read ({_line(error)})") from None
    if not isinstance(plain, dict) or "model" not in plain:
        raise UserError(f"config {file}: want an object with an entry 'model'")
    try:
        return from_plain(ModelConfig, plain["model"], "model")
    except UserError as error:
        raise UserError(f"config {file}: {error}") from None


def save_weights(model: torch.nn.Module, file: Path) -> None:
    """Writes every parameter and buffer for `load_weights`."""
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file(weights, file)


def load_weights(model: torch.nn.Module, file: Path) -> None:
    """Fills every parameter and buffer of `model` from a safetensors file; strict.

    Raises:
        UserError: the file is damaged or its names or shapes are not the model's.
    """
    try:
        weights = safetensors.torch.load_file(file)
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"checkpoint {file}: cannot be read ({_line(error)})") from None
    own = model.state_dict()
    wrong = [
        *(f"{k} missing" for k in own if k not in weights),
        *(f"{k} unknown" for k in weights if k not in own),
        *(
            f"{k} is {tuple(weights[k].shape)}, want {tuple(own[k].shape)}"
            for k in own
            if k in weights and weights[k].shape != own[k].shape
        ),
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(
            f"checkpoint {file}: of another architecture than its config: "
            f"{'; '.join(wrong[:3])}{more}"
        )
    model.load_state_dict(weights)


def prune(run: Path, keep: int, spare: Collection[Path] = ()) -> None:
    """Removes all before a run's latest `keep` checkpoints, and what a killed save left behind.

    Those that a run can be resumed from are counted. What waits for evaluation and what is in
    `spare` stays, without its training state. Only for whoever saves, or when nobody does: a
    half-written checkpoint looks like what a killed save left.
    """
    for leftover in run.glob(f".{_STEP_PREFIX}*.partial"):
        shutil.rmtree(leftover)
    kept = resumable_checkpoints(run)[-keep:]
    for folder in checkpoints(run):
        if not kept or step_of(folder) >= step_of(kept[0]):
            continue
        if folder in spare or (folder / WAITING_FILE).exists():
            (folder / STATE_FILE).unlink(missing_ok=True)
        else:
            shutil.rmtree(folder)


def _is_checkpoint(folder: Path) -> bool:
    return (folder / MODEL_FILE).is_file() and (folder / CONFIG_FILE).is_file()


def _flush(folder: Path) -> None:
    """Forces the files onto the disk before the rename that makes them visible."""
    for file in folder.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
