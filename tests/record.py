"""The record of a bench or study: what was measured, where, on which commit, by which command."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from uda.report import write_json

BENCHES, STUDIES = Path("runs/bench"), Path("runs/study")


def write_record(file: Path, command: str, figures: dict[str, Any], goals: dict[str, Any]) -> None:
    """Writes `file`; `goals` are {name: {"value", "goal", "met"}}."""
    values = {
        "name": file.stem,
        "command": command,
        "commit": git("rev-parse", "--short", "HEAD"),
        "changed_since_commit": bool(git("status", "--porcelain", "uda", "cluster")),
        "machine": machine(),
        "goals": goals,
        **figures,
    }
    write_json(file, values)
    print(f"wrote {file}")


def goal(value: float, at_least: float) -> dict[str, Any]:
    return {"value": round(value, 4), "goal": f">= {at_least}", "met": value >= at_least}


def at_most(value: float, most: float) -> dict[str, Any]:
    return {"value": round(value, 4), "goal": f"<= {most}", "met": value <= most}


def machine(device: str = "cpu") -> str:
    """Where a figure was measured, in words."""
    gpu = f"{torch.cuda.get_device_name()}, " if device == "cuda" else ""
    return f"{gpu}{os.cpu_count()} cores, {_processor()}, Python {platform.python_version()}"


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True).stdout.strip()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
