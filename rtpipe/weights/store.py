"""The store of weights: one safetensors file per checkpoint, with what it is and where it came from inside.

A file ``NAME.safetensors`` holds tensors and, as metadata, ``network``, ``variant``, every ``property.KEY``,
``provenance.KEY`` and the ``sha256`` of its tensors. Weights are found by name in :func:`directory` or by path.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from rtpipe import registry, whole_file
from rtpipe.errors import FormatError, InputError, WorldError
from rtpipe.types import Array
from rtpipe.weights.learned import Learned, Properties
from rtpipe.weights.words import shown

SUFFIX = ".safetensors"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""What a name of stored weights may be: never a path."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Weights that were read: where from, ``tensors`` by the names of the network's module (floating point as float32,
    counters as int64; C-contiguous, the caller's own), what they are, ``sha256`` of the tensors alone (caches are keyed
    by it) and ``provenance`` in words (``file``, ``sha256``, ``imported``, ``rtpipe``)."""

    path: Path
    tensors: Mapping[str, Array]
    properties: Properties
    sha256: str
    provenance: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Listed:
    """A file in the store without its tensors: its ``name``, and ``problem`` where it cannot be read."""

    name: str
    path: Path
    properties: Properties | None
    provenance: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""


def directory() -> Path:
    """Where weights live: ``RTPIPE_WEIGHTS``, else ``rtpipe/weights`` in ``XDG_DATA_HOME`` or ``~/.local/share``."""
    given = os.environ.get("RTPIPE_WEIGHTS")
    if given:
        return Path(given).expanduser()
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "rtpipe" / "weights"


def name_of(properties: Properties) -> str:
    """Under which name weights are stored unless the user gives one: ``NETWORK-VARIANT``."""
    return "-".join(filter(None, (properties.network, properties.variant)))


def path_of(name: str) -> Path:
    """The file of the weights stored as ``name``, there or not. Raises ``InputError`` for what is no name."""
    if not NAME.fullmatch(name):
        raise InputError(f"{shown(name)} is no name for weights: letters, digits, '.', '_' and '-' alone, please")
    return directory() / f"{name}{SUFFIX}"


def load(name_or_path: str | os.PathLike[str]) -> Stored:
    """The weights of this name in the store, or of this file (anything with a ``/`` or ending in ``.safetensors``).

    Reads the whole file and compares it with its checksum. Raises ``InputError``: in two lines how to get weights that
    are not there and how to go on without them; ``FormatError`` for a file that is damaged or was never imported.
    """
    text = os.fspath(name_or_path)
    if "/" in text or text.endswith(SUFFIX):
        path = Path(text).expanduser()
        if not path.is_file():
            raise InputError(f"{path}: no such file with weights")
    else:
        path = path_of(text)
        if not path.is_file():
            raise InputError(missing(text))
    metadata, tensors = _read(path, whole=True)
    properties, provenance = _described(path, metadata)
    sha256 = fingerprint(tensors)
    if sha256 != metadata.get("sha256"):
        raise FormatError(f"{path}: damaged: its tensors are not those that were imported; import them again")
    return Stored(path, MappingProxyType(tensors), properties, sha256, provenance)


def save(
    tensors: Mapping[str, Array],
    properties: Properties,
    provenance: Mapping[str, str],
    *,
    name: str = "",
    overwrite: bool = False,
) -> Stored:
    """Write weights into the store as ``name`` (without it: :func:`name_of`) and return them as :func:`load` would.

    The file appears whole or not at all. Floating point becomes float32, integers int64. Raises ``InputError`` where
    the name is taken and ``overwrite`` is not given or a value is not finite, ``WorldError`` where nothing can be
    written.
    """
    from safetensors.numpy import save as serialised

    path = path_of(name or name_of(properties))
    if path.exists() and not overwrite:
        raise InputError(f"{path}: there already; import with --overwrite to replace it, or under another --name")
    plain = {key: _plain(key, array) for key, array in tensors.items()}
    sha256 = fingerprint(plain)
    provenance = {**provenance, "rtpipe": version("rtpipe")}
    metadata = {"network": properties.network, "variant": properties.variant, "sha256": sha256}
    metadata |= {f"property.{key}": value for key, value in properties.values.items()}
    metadata |= {f"provenance.{key}": value for key, value in provenance.items()}
    try:
        whole_file.write(path, [serialised(plain, metadata)])
    except OSError as error:
        raise WorldError(f"{path}: cannot be written: {error.strerror or error}") from error
    return Stored(path, MappingProxyType(plain), properties, sha256, provenance)


def listed() -> tuple[Listed, ...]:
    """What is in the store, by name, unreadable files too. Reads headers alone."""
    found = []
    for path in sorted(directory().glob(f"*{SUFFIX}")):
        try:
            properties, provenance = _described(path, _read(path, whole=False)[0])
            found.append(Listed(path.stem, path, properties, provenance))
        except InputError as error:
            found.append(Listed(path.stem, path, None, problem=str(error)))
    return tuple(found)


def fingerprint(tensors: Mapping[str, Array]) -> str:
    """The sha256 of tensors: their names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def missing(name: str) -> str:
    """What to tell someone whose weights ``name`` are not in the store: where they are to be had, how to import them,
    and how to go on without."""
    network = network_of(name)
    first = f"there are no weights {name!r} in {directory()}"
    if network is None:
        there = ", ".join(each.name for each in listed()) or "nothing"
        return f"{first} (there is: {there}); import them with: rtpipe engines import NETWORK FILE"
    published = next((each for each in network.published if each.name == name), None)
    if published is None:
        others = ", ".join(each.name for each in network.published)
        first += f" (published: {others})" if others else ""
        how = f"import them with: rtpipe engines import {network.name} FILE --name {name}"
    elif not published.file:
        how = f"get them with: rtpipe engines import {network.name} ({published.where})"
    else:
        first += f": get {published.file} from {published.where}"
        how = f"then: rtpipe engines import {network.name} {published.file}"
    without = getattr(network, "without", "")
    return f"{first}\n{how}" + (f"; or go on without: {without}" if without else "")


def network_of(name: str) -> Learned | None:
    """The network that weights of this name belong to, by the name's beginning; None where no engine has it."""
    for engine in sorted(registry.names("engines"), key=len, reverse=True):
        if name == engine or name.startswith(f"{engine}-"):
            try:
                network = getattr(registry.load("engines", engine), "NETWORK", None)
            except InputError:
                continue
            if network is not None:
                return network  # type: ignore[no-any-return]
    return None


def _plain(name: str, array: Array) -> Array:
    array = np.asarray(array)
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused
            plain = np.ascontiguousarray(array, np.float32).reshape(array.shape)
        if not np.isfinite(plain).all():
            raise InputError(f"tensor {shown(name)} holds values that are not finite numbers")
        return plain
    if array.dtype.kind in "iub":
        return np.ascontiguousarray(array, np.int64).reshape(array.shape)
    raise InputError(f"tensor {shown(name)} is of type {array.dtype}, which no network has")


def _described(path: Path, metadata: Mapping[str, str]) -> tuple[Properties, Mapping[str, str]]:
    if "network" not in metadata or "sha256" not in metadata:
        raise FormatError(f"{path}: does not say what it is; bring it in with: rtpipe engines import NETWORK {path}")

    def under(prefix: str) -> Mapping[str, str]:
        return {key.removeprefix(prefix): text for key, text in metadata.items() if key.startswith(prefix)}

    properties = Properties(metadata["network"], metadata.get("variant", ""), under("property."))
    return properties, under("provenance.")


def _read(path: Path, whole: bool) -> tuple[dict[str, str], dict[str, Array]]:
    """Metadata and, if ``whole``, tensors of a safetensors file. The package checks every offset against the file."""
    from safetensors import SafetensorError, safe_open

    opened: Any = safe_open
    try:
        with opened(path, framework="np") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()} if whole else {}  # noqa: SIM118 no mapping
            return dict(file.metadata() or {}), tensors
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        raise FormatError(f"{path}: not a whole safetensors file: {shown(str(error))}") from error
