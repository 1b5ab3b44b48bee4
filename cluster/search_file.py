"""A search as a file: JSON with a trial per line, so that people and `grep` can read it too."""

import functools
import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from cluster.search_words import oracle_mark
from cluster.trials import Search
from uda.data.write import atomic
from uda.tree import to_plain
from uda.types import UserError

_FORMAT = "uda-search-1"  # tells our files from others

# Asked once for every checkpoint.
_type_hints: Callable[[Any], dict[str, Any]] = functools.cache(get_type_hints)


def write_search(search: Search, file: Path) -> None:
    """As JSON, a trial per line; whole or not at all."""
    plain = to_plain(search)
    trials = ",\n    ".join(_line(trial) for trial in plain.pop("trials"))
    lines = [f"{json.dumps(key)}: {_line(value)}" for key, value in plain.items()]
    marks = [
        f'"format": "{_FORMAT}"',
        *([f'"note": "{mark}"'] if (mark := oracle_mark(search)) else []),
    ]
    body = ",\n  ".join([*marks, *lines, f'"trials": [\n    {trials}\n  ]'])
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic(file) as partial:
        partial.write_text(f"{{\n  {body}\n}}\n", encoding="utf-8")


def read_search(file: Path) -> Search:
    """What `write_search` has written; UserError where it is anything else."""
    try:
        plain = json.loads(file.read_text(encoding="utf-8"), parse_constant=_no_number)
        if not isinstance(plain, dict) or plain.pop("format", "") != _FORMAT:
            raise ValueError(f"got another format, want {_FORMAT}")
        plain.pop("note", None)
        return _from_plain(Search, plain, "")
    except (OSError, ValueError, OverflowError, RecursionError) as error:
        said = " ".join(str(error).split())
        raise UserError(f"search {file}: cannot be read: {said}") from None


def _line(plain: Any) -> str:
    return json.dumps(plain, allow_nan=False)


def _no_number(name: str) -> None:
    raise ValueError(f"got {name}, want finite numbers")


def _from_plain(hint: Any, plain: Any, path: str) -> Any:
    """The value of a type that `to_plain` has made `plain` of; ValueError naming the path."""
    kind, inside = get_origin(hint), get_args(hint)
    if is_dataclass(hint) and isinstance(plain, dict):
        hints, names = _type_hints(hint), [field.name for field in fields(hint)]
        if plain.keys() != set(names):
            differing = sorted(plain.keys() ^ set(names))
            raise ValueError(f"{path or 'search'}: {', '.join(differing)[:80]} missing or unknown")
        values = {name: _from_plain(hints[name], plain[name], f"{path}.{name}") for name in names}
        return hint(**values)  # type: ignore[operator]
    if kind is tuple and isinstance(plain, list):
        return tuple(_from_plain(inside[0], v, f"{path}.{i}") for i, v in enumerate(plain))
    if kind is dict and isinstance(plain, dict):
        return {key: _from_plain(inside[1], v, f"{path}.{key}") for key, v in plain.items()}
    if kind is Literal and plain in inside:
        return plain
    kinds = inside or (hint,)
    if kind is not Literal and type(plain) in kinds:
        return plain
    if float in kinds and type(plain) is int:
        return float(plain)
    if kind in (tuple, dict) or is_dataclass(hint):
        wanted = "a list" if kind is tuple else "names with values"
    else:
        wanted = " or ".join(str(k) if kind is Literal else k.__name__ for k in kinds)
    raise ValueError(f"{path.lstrip('.') or 'search'}: got {str(plain)[:60]!r}, want {wanted}")
