"""Finding drivers, engines, sinks and formats by name, through entry points: another package can add one."""

from __future__ import annotations

import importlib
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType

from rtpipe.errors import InputError

GROUPS = ("drivers", "engines", "sinks", "formats", "filters", "runtimes", "backends")


@cache
def names(group: str) -> tuple[str, ...]:
    """The names installed in ``group`` (one of :data:`GROUPS`), sorted."""
    return tuple(sorted({point.name for point in entry_points(group=f"rtpipe.{group}")}))


@cache
def load(group: str, name: str) -> ModuleType:
    """The module behind ``name``. Raises ``InputError`` that lists the names there are or says what is missing."""
    for point in entry_points(group=f"rtpipe.{group}"):
        if point.name == name:
            try:
                return importlib.import_module(point.module)
            except ImportError as error:
                raise InputError(f"{group[:-1]} {name!r} needs a package that is not installed: {error}") from error
    raise InputError(f"there is no {group[:-1]} {name!r}; installed: {', '.join(names(group)) or 'none'}")
