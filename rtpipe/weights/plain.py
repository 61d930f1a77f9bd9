"""Plain data out of what a checkpoint holds beside its tensors: text, numbers, lists, mappings with text as keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain, islice
from typing import Any

from rtpipe.weights import inert

DEEPEST = 32
MOST_ENTRIES = 100
MOST_VALUES = 20_000
LONGEST_TEXT = 10_000


class _TooMuchError(Exception):
    """More than settings ever are: the data refers to itself, or is no settings at all (an optimiser's state)."""


def plain(top: Mapping[str, Any]) -> dict[str, Any]:
    """``top`` as plain data. An object becomes the mapping of its state (``config._config`` is then
    ``config["_config"]``), or the text of what it was made from (paths, enumerations). What holds tensors or more
    values than settings ever have is left out."""
    found = {}
    for name, value in islice(top.items(), MOST_ENTRIES):
        try:
            found[_text(name)] = _plain(value, 0, [MOST_VALUES])
        except _TooMuchError:
            continue
    return found


def _plain(value: Any, depth: int, left: list[int]) -> Any:
    left[0] -= 1 + (min(len(value), LONGEST_TEXT) // 100 if isinstance(value, str | bytes) else 0)
    if depth > DEEPEST or left[0] < 0:
        raise _TooMuchError
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str | bytes):
        return _text(value)
    if isinstance(value, list | tuple):
        return [_plain(each, depth + 1, left) for each in value]
    if isinstance(value, inert.Table):
        return _mapping(value.entries(), depth, left)
    if isinstance(value, Mapping):
        return _mapping(value.items(), depth, left)
    if isinstance(value, inert.Record):
        if isinstance(value.state, inert.Table):
            return _mapping(value.state.entries(), depth, left)
        if value.pairs:
            return _mapping(inert.Table(value.pairs).entries(), depth, left)
        if value.of.module.startswith("pathlib"):
            return "/".join(str(_plain(part, depth + 1, left)) for part in value.args)
        return [_plain(each, depth + 1, left) for each in chain(value.args, value.items)]
    if isinstance(value, inert.Global):
        return _text(f"{value.module}.{value.name}")
    raise _TooMuchError


def _mapping(entries: Iterable[tuple[Any, Any]], depth: int, left: list[int]) -> dict[str, Any]:
    found = {}
    for key, value in entries:
        left[0] -= 1
        if left[0] < 0:
            raise _TooMuchError
        if isinstance(key, str | int | float | None):
            found[_text(str(key))] = _plain(value, depth + 1, left)
    return found


def _text(value: str | bytes) -> str:
    if isinstance(value, bytes):
        value = value[:LONGEST_TEXT].decode("utf-8", "replace")
    return value[:LONGEST_TEXT].encode("utf-8", "replace").decode("utf-8")
