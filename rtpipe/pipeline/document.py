"""A YAML document with the line of every key, and its conversion into typed structs with errors for people."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import yaml

from rtpipe.errors import ConfigError

T = TypeVar("T")
KeyPath = tuple[str | int, ...]

MAX_BYTES = 1 << 20
MAX_DEPTH = 32


def dotted(path: KeyPath) -> str:
    """``("sinks", 0, "dir")`` as ``sinks[0].dir``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else str(part))
    return text


@dataclass(frozen=True)
class Document:
    """Plain data (dict, list, str, int, float, bool, None) and where each key stands: ``lines[path]`` counts from 1."""

    name: str
    data: dict[str, Any]
    lines: Mapping[KeyPath, int] = field(default_factory=dict)

    def error(self, path: KeyPath, text: str) -> ConfigError:
        """An error at ``path``: file, line where known, key, what is wrong."""
        line = next((self.lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.lines), None)
        place = self.name if line is None else f"{self.name}:{line}"
        return ConfigError(f"{place}: {dotted(path) + ': ' if path else ''}{text}")


def parse(text: str, name: str) -> Document:
    """Read YAML safely (no tags that build objects, no aliases, no key twice). Raises ``ConfigError``."""
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{name}: {len(text)} bytes is no pipeline file")
    lines: dict[KeyPath, int] = {}
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        data = {} if node is None else _plain(loader, node, (), lines, name)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{name}:{mark.line + 1}" if mark is not None else name
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise ConfigError(f"{place}: not valid YAML: {problem}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{name}: a mapping with the keys sources, window, engine, sinks is wanted")
    return Document(name, data, lines)


def _plain(loader: yaml.SafeLoader, node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], name: str) -> Any:
    lines[path] = node.start_mark.line + 1
    if len(path) > MAX_DEPTH:
        raise ConfigError(f"{name}:{node.start_mark.line + 1}: nested deeper than {MAX_DEPTH} levels")
    if isinstance(node, yaml.MappingNode):
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError(f"{name}:{line}: a key must be a plain word")
            if key in result:
                raise ConfigError(f"{name}:{line}: {dotted((*path, key))}: this key stands twice")
            result[key] = _plain(loader, value_node, (*path, key), lines, name)
            lines[(*path, key)] = line
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_plain(loader, item, (*path, i), lines, name) for i, item in enumerate(node.value)]
    if node.tag.rsplit(":", 1)[-1] not in ("str", "int", "float", "bool", "null"):
        return str(node.value)  # dates and the like stay the text they were written as
    return loader.construct_object(node, deep=True)


def override(document: Document, assignments: Sequence[str]) -> Document:
    """``document`` with each ``key.path=value`` set; list items by number (``sinks.0.dir=x``), values are YAML."""
    data = msgspec.json.decode(msgspec.json.encode(document.data))
    for assignment in assignments:
        path_text, equals, value_text = assignment.partition("=")
        keys = [key for key in re.split(r"[.\[\]]+", path_text.strip()) if key]
        if not equals or not keys:
            raise ConfigError(f"{assignment!r}: an override is written key.path=value")
        value = parse(f"value: {value_text}" if value_text.strip() else "value: ''", f"override {assignment}").data[
            "value"
        ]
        _set(data, keys, value, assignment)
    return Document(document.name, data, document.lines)


def _set(data: Any, keys: Sequence[str], value: Any, assignment: str) -> None:
    place = data
    for position, key in enumerate(keys):
        last = position == len(keys) - 1
        if isinstance(place, list):
            if not key.isdigit() or int(key) >= len(place):
                raise ConfigError(f"{assignment!r}: {key!r} is no item of a list of {len(place)} (they count from 0)")
            index: Any = int(key)
        elif isinstance(place, dict):
            index = key
            if not last and not isinstance(place.get(key), dict | list):
                place[key] = {}
        else:
            raise ConfigError(f"{assignment!r}: {'.'.join(keys[:position])} is a value, it has no keys")
        if last:
            place[index] = value
        else:
            place = place[index]


def convert(document: Document, path: KeyPath, data: Any, kind: type[T], *, what: str, also: Sequence[str] = ()) -> T:
    """``data``, which stands at ``path``, as a struct of ``kind``; unknown keys and wrong types are refused by name.
    ``also``: keys that are allowed there too but are not in ``data``."""
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise document.error(path, f"a mapping of {what} settings is wanted, not {data!r}")
    allowed = [item.encode_name for item in msgspec.structs.fields(kind)]  # type: ignore[arg-type]
    for key in data:
        if key not in allowed:
            known = ", ".join([*allowed, *also]) or "none"
            raise document.error((*path, key), f"{what} has no such key; allowed: {known}")
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$")
        inner = tuple(int(p) if p.isdigit() else p for p in re.findall(r"[^.\[\]`]+", place))
        raise document.error((*path, *inner), message[:1].lower() + message[1:]) from error
    except (ValueError, TypeError) as error:
        raise document.error(path, str(error)) from error
