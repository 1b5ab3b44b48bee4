"""Presets: functions that return a whole Config. Every number says why it is what it is.

A preset is a *setting* (data, network, length; `settings`) and a *method* (what adapts; `methods`).
The name of a setting alone means its recommended method; `NAME_METHOD` names another one, such as
`demo_source_only`.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

from uda.config import Config
from uda.presets.methods import METHODS, recommended
from uda.presets.settings import SETTINGS
from uda.types import UserError

__all__ = ["METHODS", "PRESETS", "SETTINGS", "preset", "recommended"]


def preset(name: str, steps: int | None = None) -> Config:
    """The preset called `name`, of another length where `steps` is given.

    Schedules that follow the length of training, such as a start after a quarter of it, follow
    `steps` too; changing the finished config's `steps` would leave them where they were.

    Raises:
        UserError: there is none; lists all.
    """
    if name not in PRESETS:
        raise UserError(
            f"preset {name!r}: no such preset or config file; have {', '.join(PRESETS)}"
        )
    return PRESETS[name](steps)


def _build(setting: str, method: str | None, steps: int | None = None) -> Config:
    config = SETTINGS[setting].config()
    config = dataclasses.replace(config, steps=steps or config.steps)
    is_long = SETTINGS[setting].is_long
    config = METHODS[method or recommended(is_long)](config, is_long)
    return dataclasses.replace(config, name=f"{setting}_{method}" if method else setting)


PRESETS: dict[str, Callable[..., Config]] = {
    setting if method is None else f"{setting}_{method}": partial(_build, setting, method)
    for setting in SETTINGS
    for method in (None, *METHODS)
}
