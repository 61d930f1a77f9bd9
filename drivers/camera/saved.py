"""Settings of a camera out of a recording, or a file of their own."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from drivers.camera.settings import IDENTITY, Camera
from rtpipe.errors import InputError
from rtpipe.formats import mcap

NOTE = "source"
"""The note of a driver with a recording; in the recording ``source/NAME``, by the name of the pipeline's source."""
MOST_BYTES = 1 << 20

S = TypeVar("S", bound=Camera)


def loaded(settings: S) -> S:
    """The settings with what :attr:`Camera.load` names put under what is written: a setting that is as it would be left
    out is taken from there. Raises ``InputError`` where that is no recording of a camera of ours and no settings."""
    if not settings.load:
        return settings
    path = Path(settings.load)
    found = _settings(path)
    kind = type(settings)
    known = {field.name for field in msgspec.structs.fields(kind)} - set(IDENTITY)
    written, default = msgspec.to_builtins(settings), msgspec.to_builtins(kind())
    under = {name: value for name, value in found.items() if name in known}
    over = {name: value for name, value in written.items() if value != default[name]}
    for name in set(under) & set(over):
        if isinstance(under[name], dict) and isinstance(over[name], dict) and name in ("biases", "frames"):
            plain = default[name]
            over[name] = under[name] | {k: v for k, v in over[name].items() if k not in plain or v != plain[k]}
    try:
        return msgspec.convert({**written, **under, **over}, kind)
    except (msgspec.ValidationError, ValueError) as error:
        raise InputError(f"{path}: its settings do not fit this camera: {error}") from error


def _settings(path: Path) -> Mapping[str, Any]:
    """The mapping of settings in a file."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise InputError(f"load: {path}: {error.strerror or error}") from error
    if mcap.probe(path, head):
        with closing(mcap.Reader(path)) as recording:
            notes = [text for name, text in recording.metadata.items() if name.split("/")[0] == NOTE]
        for text in notes:
            try:
                told = msgspec.json.decode(text.encode())
            except msgspec.DecodeError:
                continue
            if isinstance(told, dict) and isinstance(told.get("settings"), dict):
                return dict(told["settings"])
        raise InputError(f"load: {path}: no camera's settings are kept in this recording")
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"load: {path}: neither a recording of ours nor settings")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"load: {path}: neither a recording of ours nor settings: {error}"[:400]) from error
    if not isinstance(data, dict):
        raise InputError(f"load: {path}: a mapping of settings is wanted")
    inner = data.get("settings")
    return dict(inner) if isinstance(inner, dict) else data
