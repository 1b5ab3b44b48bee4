"""The folder of a search: whose it is, and that it stays the same search until its end."""

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from uda.data.write import atomic, is_temporary
from uda.types import UserError

SETTINGS_FILE = "tune.json"  # what may not change until the end of the search
_LOCK_FILE = ".lock"

Settings = Mapping[str, str | int]


def check_folder(folder: Path, settings: Settings, *, resume: bool) -> None:
    """Writes nothing.

    Raises:
        UserError: the folder holds something else, a search that was not asked to go on, or one
            with other settings; names the first that differs.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"out {folder}: is a file, want a folder")
    file = folder / SETTINGS_FILE
    if not file.exists():
        found = sorted(
            each.name
            for each in folder.glob("*")
            if each.name != _LOCK_FILE and not is_temporary(each)
        )
        if found:
            raise UserError(
                f"out {folder}: holds something else ({', '.join(found[:3])}), "
                "want an empty folder or a search; choose another --out"
            )
        return
    if not resume:
        raise UserError(
            f"out {folder}: already holds a search; continue it with --resume or choose another "
            "--out"
        )
    try:
        before = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"resume {file}: cannot be read ({error})") from None
    for name, value in settings.items():
        if before.get(name) != value:
            raise UserError(
                f"resume {folder}: its {name} was {before.get(name)}, now {value}; want the same, "
                "or another --out"
            )


@contextmanager
def claimed(folder: Path, settings: Settings) -> Iterator[None]:
    """Makes the folder, this search's own; UserError where another process searches in it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK_FILE).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"out {folder}: another search is running in it, want its end"
            ) from None
        with atomic(folder / SETTINGS_FILE) as partial:
            partial.write_text(json.dumps(dict(settings), indent=2) + "\n")
        yield
