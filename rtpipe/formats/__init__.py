"""Recording formats: one module per format, each with ``probe``, ``Reader`` and, where it can be written, ``Writer``.

``open_recording(path)`` finds the module that knows the file (entry points ``rtpipe.formats``) and opens it.
"""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import msgspec

from rtpipe import registry
from rtpipe.errors import FormatError, InputError
from rtpipe.formats.recording import Recording

HEAD_BYTES = 4096
"""How much of a file a format's ``probe`` gets to see."""


def format_of(path: str | os.PathLike[str]) -> str:
    """The name of the format of ``path``, told from its content.

    Each format module offers ``probe(path, head: bytes) -> bool``, ``head`` being the first ``HEAD_BYTES`` of the file,
    empty for a folder (some recordings are one). Raises ``InputError`` for a missing file and ``FormatError`` for an
    empty file or an unknown kind.
    """
    file = Path(path)
    head = _head(file)
    known = []
    for name in registry.names("formats"):
        try:
            module = registry.load("formats", name)
        except InputError:  # a format whose package is missing must not keep the others from opening
            continue
        if module.probe(file, head):
            return name
        known.append(name)
    what = "a folder that is not" if file.is_dir() else "not"
    raise FormatError(f"{file}: {what} a recording that rtpipe knows; it reads {', '.join(known)} (rtpipe doctor)")


def open_recording(path: str | os.PathLike[str], **options: Any) -> Recording:
    """Open a recording of any supported format for reading (a context manager).

    ``options`` are the format's own (``exposure_us`` …), those of its ``Reader``. Raises ``InputError`` or
    ``FormatError``, a line that names the file and the place.
    """
    name = format_of(path)
    reader = registry.load("formats", name).Reader
    allowed = _options(reader)
    for option, value in options.items():
        if option not in allowed:
            offered = f"its options are {', '.join(allowed)}" if allowed else "it has no options"
            raise InputError(f"{path}: a recording of format {name} knows no option {option!r}; {offered}")
        try:
            options[option] = msgspec.convert(value, allowed[option])
        except msgspec.ValidationError as error:
            raise InputError(f"{path}: option {option}: {error}") from error
    recording: Recording = reader(Path(path), **options)
    return recording


def _head(file: Path) -> bytes:
    if file.is_dir():
        return b""
    try:
        if not file.is_file():  # a pipe or a device could block for ever
            raise InputError(f"{file}: no such file")
        with file.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from error
    if not head:
        raise FormatError(f"{file}: the file is empty")
    return head


def _options(reader: type) -> dict[str, Any]:
    """The keyword-only parameters of a ``Reader`` and their types."""
    types = get_type_hints(reader.__init__)  # type: ignore[misc]
    parameters = inspect.signature(reader).parameters.values()
    return {p.name: types[p.name] for p in parameters if p.kind is p.KEYWORD_ONLY}


def writable() -> dict[str, ModuleType]:
    """The formats that can be written, by name: their modules have ``Writer`` and ``SUFFIXES`` (contract.Writer)."""
    modules: dict[str, ModuleType] = {}
    for name in registry.names("formats"):
        try:
            module = registry.load("formats", name)
        except InputError:
            continue
        if hasattr(module, "Writer") and hasattr(module, "SUFFIXES"):
            modules[name] = module
    return modules
