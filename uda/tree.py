"""Frozen dataclass trees: to and from plain JSON values, and `override`, the one door to change.

A tuple of named parts (losses, levels) is written as a dictionary by name and addressed by name.
"""

import dataclasses
import functools
import json
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from uda.schedule import Schedule
from uda.types import UserError

T = TypeVar("T")

Change = tuple[list[str], Any]  # a path, relative to some node, and its new value

# A third of the time that a digest takes.
_type_hints: Callable[[Any], dict[str, Any]] = functools.cache(get_type_hints)


def to_plain(value: Any) -> Any:
    """`value` as JSON values: dataclasses become dictionaries, named parts a dictionary by name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        if value and all(_is_named(type(part)) for part in value):
            return {part.name: _without_name(to_plain(part)) for part in value}
        return [to_plain(item) for item in value]
    return value


def from_plain(kind: type[T], plain: Any, path: str = "") -> T:
    """The `kind` that `to_plain` made `plain` of; strict, naming the path of whatever is wrong."""
    if not isinstance(plain, Mapping):
        raise UserError(f"{path or 'config'}: got {plain!r}, want {kind.__name__}")
    hints = _type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for key in plain:
        if key not in names:
            raise _unknown(_join(path, key), names)
    values = {key: _coerce(item, hints[key], _join(path, key)) for key, item in plain.items()}
    return _construct(kind, values, path)


def override(tree: T, changes: Mapping[str, Any]) -> T:
    """A copy of `tree` with dotted paths changed, such as {"optim.lr": 1e-4}.

    A number for a `Schedule` changes its value and keeps its shape. Naming a loss that the tree
    does not have yet adds it with its defaults. Ranges are checked when all changes are made, so
    their order does not matter; a whole part is set before what is inside it.

    Raises:
        UserError: an unknown path (listing what exists), a wrong type or a value out of range.
    """
    return _replace(tree, [(path.split("."), value) for path, value in changes.items()], ())


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """`["a.b=1", "c=text"]` as {"a.b": 1, "c": "text"}: JSON where it parses, else text."""
    changes = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise UserError(
                f"--set: got {assignment!r}, want PATH=VALUE, for example optim.lr=1e-4"
            )
        try:
            changes[path] = json.loads(text)
        except ValueError:  # no JSON, or a number of thousands of digits
            changes[path] = text
    return changes


def _replace(node: Any, changes: list[Change], done: tuple[str, ...]) -> Any:
    hints = _type_hints(type(node))
    values = _shallow(node)
    for name, inside in _by_first_name(changes).items():
        if name not in values:
            raise _unknown(".".join((*done, name)), list(values))
        values[name] = _replace_field(values[name], hints[name], inside, (*done, name))
    return _construct(type(node), values, ".".join(done))


def _replace_field(child: Any, hint: Any, changes: list[Change], done: tuple[str, ...]) -> Any:
    here = ".".join(done)
    for _, value in (change for change in changes if not change[0]):
        if hint is Schedule and _is_number(value):
            value = dataclasses.asdict(child) | {"value": value}
        child = _coerce(value, hint, here)
    deeper = [change for change in changes if change[0]]
    if not deeper:
        return child
    if (kinds := _named_parts(hint)) is not None:
        return _replace_parts(child, kinds, deeper, done)
    if dataclasses.is_dataclass(child):
        return _replace(child, deeper, done)
    raise UserError(f"{here}.{deeper[0][0][0]}: {here} is {child!r} and has nothing inside")


def _replace_parts(
    parts: tuple[Any, ...],
    kinds: Mapping[str, type],
    changes: list[Change],
    done: tuple[str, ...],
) -> tuple[Any, ...]:
    """`parts` with something inside the named ones changed (or a part of `kinds` added)."""
    by_name = {part.name: part for part in parts}
    for name, inside in _by_first_name(changes).items():
        here = ".".join((*done, name))
        if name not in by_name and name not in kinds:
            raise _unknown(here, [*by_name, *(k for k in kinds if k not in by_name)])
        part = by_name[name] if name in by_name else kinds[name]()
        for _, value in (change for change in inside if not change[0]):
            part = _part_from_plain(type(part), name, value, here)
        deeper = [change for change in inside if change[0]]
        by_name[name] = _replace(part, deeper, (*done, name)) if deeper else part
    return tuple(by_name.values())


def _by_first_name(changes: list[Change]) -> dict[str, list[Change]]:
    """The changes below each name, relative to it."""
    below: dict[str, list[Change]] = {}
    for path, value in changes:
        below.setdefault(path[0], []).append((path[1:], value))
    return below


def _coerce(value: Any, hint: Any, path: str) -> Any:
    """`value` as the type `hint` says, or a UserError naming the path."""
    parts = _named_parts(hint)
    if parts is not None and isinstance(value, Mapping):
        for name in value:
            if parts and name not in parts:
                raise _unknown(_join(path, name), list(parts))
        open_kind = get_args(hint)[0]
        return tuple(
            _part_from_plain(parts.get(name, open_kind), name, plain, _join(path, name))
            for name, plain in value.items()
        )
    if dataclasses.is_dataclass(hint):
        if hint is Schedule and _is_number(value):
            value = {"value": value}
        return value if isinstance(value, hint) else from_plain(hint, value, path)  # type: ignore[arg-type]
    return _coerce_leaf(value, hint, path)


def _coerce_leaf(value: Any, hint: Any, path: str) -> Any:
    origin = get_origin(hint)
    if origin is Literal:
        if value not in get_args(hint):
            raise UserError(f"{path}: got {value!r}, want one of {', '.join(get_args(hint))}")
        return value
    if origin is tuple:
        kinds = get_args(hint)
        if isinstance(value, list | tuple) and len(kinds) == 2 and kinds[1] is Ellipsis:
            return tuple(_coerce(v, kinds[0], f"{path}.{i}") for i, v in enumerate(value))
        if isinstance(value, list | tuple) and len(kinds) == len(value):
            pairs = zip(value, kinds, strict=True)
            return tuple(_coerce(v, k, f"{path}.{i}") for i, (v, k) in enumerate(pairs))
        if _named_parts(hint) is not None:
            raise UserError(f"{path}: got {value!r}, want its parts by name")
        count = "" if kinds[-1] is Ellipsis else f"{len(kinds)} "
        raise UserError(f"{path}: got {value!r}, want a list of {count}values")
    if hint is float and _is_number(value):
        if not abs(value) <= sys.float_info.max:
            raise UserError(f"{path}: got {value!r}, want a finite number")
        return float(value)
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint in (bool, str) and isinstance(value, hint):
        return value
    raise UserError(f"{path}: got {value!r}, want {getattr(hint, '__name__', hint)}")


def _construct(kind: type[T], values: Mapping[str, Any], path: str) -> T:
    """kind(**values), with range errors of __post_init__ and missing fields told by path."""
    missing = [
        f.name
        for f in dataclasses.fields(kind)  # type: ignore[arg-type]
        if f.name not in values
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UserError(f"{path or 'config'}: {', '.join(missing)} missing")
    try:
        return kind(**values)
    except ValueError as error:
        raise UserError(f"{path}.{error}" if path else str(error)) from None


def _named_parts(hint: Any) -> dict[str, type] | None:
    """For a tuple of named parts: its closed set of kinds by name ({} if names are free)."""
    if get_origin(hint) is not tuple:
        return None
    item = get_args(hint)[0]
    kinds = get_args(item) if get_origin(item) in (typing.Union, types.UnionType) else (item,)
    if not all(_is_named(kind) for kind in kinds):
        return None
    return {kind.name: kind for kind in kinds if isinstance(getattr(kind, "name", None), str)}


def _part_from_plain(kind: type[T], name: str, plain: Any, path: str) -> T:
    if not isinstance(plain, Mapping):
        raise UserError(f"{path}: got {plain!r}, want its settings; have {', '.join(_shape(kind))}")
    fields = {"name": name} if "name" in _shape(kind) else {}
    return from_plain(kind, {**plain, **fields}, path)


def _is_named(kind: Any) -> bool:
    return dataclasses.is_dataclass(kind) and (
        hasattr(kind, "name") or "name" in (f.name for f in dataclasses.fields(kind))
    )


def _without_name(plain: dict[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in plain.items() if key != "name"}


def _shape(kind: Any) -> list[str]:
    return [f.name for f in dataclasses.fields(kind)]


def _shallow(node: Any) -> dict[str, Any]:
    return {f.name: getattr(node, f.name) for f in dataclasses.fields(node)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _unknown(path: str, names: list[str]) -> UserError:
    parent, _, name = path.rpartition(".")
    where = f" in {parent}" if parent else ""
    return UserError(f"{path}: no {name!r}{where}; have {', '.join(sorted(names)) or 'none'}")
