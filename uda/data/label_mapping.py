"""What a user says about the labels of his own data: the file mapping.json.

    {"class_list": "cityscapes19",
     "ids": {"0": "road", "1": "sidewalk", "2": 13, "255": "ignore", "*": "ignore"}}

Keys of `ids` are raw ids (grey values or palette indices) or, where the labels are colour images,
colours such as "#804080". Values are class names, trainIds or "ignore"; "*": "ignore" is for all
raw ids that are not named, which without it are mistakes. `class_list` may be left out.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from uda.classes import CLASS_LISTS, CLASS_NAMES, IGNORE
from uda.data.raw import read_colors, read_ids, train_ids
from uda.types import UserError

MAPPING_FILE = "mapping.json"
DEFAULT_CLASS_LIST = "cityscapes19"

_OTHERS = "*"
_TRAIN_IDS = {name: train_id for train_id, name in enumerate(CLASS_NAMES)} | {"ignore": IGNORE}


@dataclass(frozen=True, kw_only=True)
class LabelMapping:
    """`ids` maps raw ids, or colours as 0xRRGGBB, to trainIds or 255."""

    class_list: str
    ids: Mapping[int, int]
    colors: bool
    ignore_others: bool

    def read_label(self, file: Path) -> UInt8[np.ndarray, "H W"]:
        """trainIds of a label image."""
        if file.suffix.lower() in (".jpg", ".jpeg"):
            raise UserError(f"{file}: label: got a JPEG, which blurs ids, want a PNG")
        raw = read_colors(file) if self.colors else read_ids(file)
        write_id = _color_name if self.colors else str
        return train_ids(
            raw,
            self.ids,
            file,
            ignore_others=self.ignore_others,
            write_id=write_id,
            known_by=f'{MAPPING_FILE}, or "*": "ignore" in it',
        )


def read_mapping(file: Path) -> LabelMapping:
    """UserError, on one line, for what is wrong in the file."""
    try:
        values = json.loads(file.read_text("utf-8"), object_pairs_hook=_unique)
    except FileNotFoundError as error:
        raise UserError(f"{file}: is missing: it says what the labels' ids mean") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict) or not isinstance(values.get("ids"), dict):
        raise UserError(f'{file}: want {{"ids": {{"0": "road", ...}}}}')
    unknown = sorted(set(values) - {"class_list", "ids"})
    if unknown:
        raise UserError(f"{file}: got {unknown[0]!r}, want only 'class_list' and 'ids'")
    class_list = values.get("class_list", DEFAULT_CLASS_LIST)
    if class_list not in list(CLASS_LISTS):
        raise UserError(f"{file}: class_list: got {class_list!r}, have {sorted(CLASS_LISTS)}")
    return _mapping(file, class_list, values["ids"])


def _mapping(file: Path, class_list: str, table: dict[str, object]) -> LabelMapping:
    train_id_of = {key: _train_id(file, key, value) for key, value in table.items()}
    others = train_id_of.pop(_OTHERS, None)
    if others not in (None, IGNORE):
        raise UserError(f"{file}: ids: got {table[_OTHERS]!r} for '*', want 'ignore'")
    raw_ids = {key: _raw_id(file, key) for key in train_id_of}
    colors = [key.startswith("#") for key in raw_ids]
    if not colors:
        raise UserError(f'{file}: ids: got none, want such as {{"0": "road"}}')
    if any(colors) != all(colors):
        raise UserError(f"{file}: ids: got both numbers and colours, want one kind")
    if len(set(raw_ids.values())) < len(raw_ids):
        raise UserError(f"{file}: ids: got one colour twice")
    return LabelMapping(
        class_list=class_list,
        ids={raw_ids[key]: train_id for key, train_id in train_id_of.items()},
        colors=all(colors),
        ignore_others=others is not None,
    )


def _train_id(file: Path, key: str, value: object) -> int:
    if isinstance(value, str) and value in _TRAIN_IDS:
        return _TRAIN_IDS[value]
    if type(value) is int and value in _TRAIN_IDS.values():  # `true` is an int as well
        return value
    raise UserError(
        f"{file}: ids: got {value!r} for {key!r}, want a trainId (0 to 18), 'ignore' or one of "
        f"{', '.join(CLASS_NAMES)}"
    )


def _raw_id(file: Path, key: str) -> int:
    if re.fullmatch(r"#[0-9a-fA-F]{6}", key):
        return int(key[1:], 16)
    if re.fullmatch(r"0|[1-9][0-9]{0,2}", key) and int(key) <= 255:
        return int(key)
    raise UserError(f"{file}: ids: got {key!r}, want 0 to 255, a colour such as #804080, or '*'")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """JSON allows the same key twice, and Python would take the last."""
    values: dict[str, object] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"got {key!r} twice, want each key once")
        values[key] = value
    return values


def _color_name(color: int) -> str:
    return f"#{color:06x}"
