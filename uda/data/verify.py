"""Whether the files of a shard folder are still, byte for byte, those that were written."""

import hashlib
from pathlib import Path

from tqdm import tqdm

from uda.data.shards import read_manifest
from uda.types import WorkError

_READ_BYTES = 2**22


class DamagedFilesError(WorkError):
    """Files are missing or hold other bytes; the message names all of them on one line."""


def verify_shards(folder: Path, *, progress: bool = True) -> int:
    """Compares every file with its SHA-256 in the manifest, and returns how many there are.

    DamagedFilesError if any differs. The manifest itself has no hash to be compared with.
    """
    manifest = read_manifest(folder)
    files = manifest.sha256
    problems = {}
    total = sum((folder / name).stat().st_size for name in files if (folder / name).is_file())
    with tqdm(total=total, unit="B", unit_scale=True, desc="verify", disable=not progress) as bar:
        for name, want in files.items():
            if problem := _problem(folder / name, want, bar):
                problems[name] = problem
    if problems:
        listed = ", ".join(f"{name} ({problem})" for name, problem in problems.items())
        raise DamagedFilesError(
            f"{folder}: {len(problems)} of {len(files)} files are not those that were written: "
            f"{listed}; delete manifest.json and `uda prepare` writes them again"
        )
    return len(files)


def _problem(file: Path, want: str, bar: tqdm) -> str:
    """What is wrong with a file; empty where nothing is."""
    state = hashlib.sha256()
    try:
        with file.open("rb") as opened:
            while part := opened.read(_READ_BYTES):
                state.update(part)
                bar.update(len(part))
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"does not read: {error.strerror}"
    return "" if state.hexdigest() == want else "holds other bytes"
