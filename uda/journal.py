"""What a run writes for people to follow: TensorBoard scalars and the same as JSON lines."""

import json
from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

SCALARS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"


class Journal:
    """Scalars of a run by step. After a resume, what a crashed attempt logged later is dropped.

    Whoever else writes at the same time takes another file and another folder: TensorBoard follows
    only the newest file of a folder.
    """

    def __init__(
        self,
        run: Path,
        first_step: int,
        *,
        scalars_file: str = SCALARS_FILE,
        tensorboard_folder: str = TENSORBOARD_FOLDER,
    ) -> None:
        run.mkdir(parents=True, exist_ok=True)
        # TensorBoard hides the events of steps that are run again; the JSON lines are cut alike.
        self._writer = SummaryWriter(str(run / tensorboard_folder), purge_step=first_step + 1)
        file = run / scalars_file
        kept = [line for line in _lines(file) if json.loads(line)["step"] <= first_step]
        partial = file.with_name(f".{file.name}.partial")  # a kill here must not lose the history
        partial.write_text("".join(f"{line}\n" for line in kept))
        partial.replace(file)
        self._file = file.open("a")

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)
        self._file.write(json.dumps({"step": step, **scalars}) + "\n")
        self._file.flush()

    def show_config(self, config: str) -> None:
        """The configuration, as JSON, on TensorBoard's text page."""
        indented = "\n".join(f"    {line}" for line in config.splitlines())  # Markdown for code
        self._writer.add_text("config", indented)

    def flush(self) -> None:
        """TensorBoard would see it in two minutes otherwise, and not at all after a crash."""
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
        self._file.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_scalars(run: Path, scalars_file: str = SCALARS_FILE) -> list[dict[str, int | float]]:
    """The logged scalars of a run, one dictionary (with "step") per log line."""
    return [json.loads(line) for line in _lines(run / scalars_file)]


def latest_scalars(run: Path) -> dict[str, int | float]:
    """The last of `read_scalars`, empty where nothing is logged; cheap enough to ask often."""
    lines = _lines(run / SCALARS_FILE)
    return json.loads(lines[-1]) if lines else {}


def _lines(file: Path) -> list[str]:
    """Complete lines only: a killed process may leave half a line at the end."""
    if not file.exists():
        return []
    return [line for line in file.read_text().split("\n")[:-1] if line]
