"""Checkpoints as others publish them, read without running anything: PyTorch's files, safetensors, npz.

PyTorch's are read by our own code (:mod:`rtpipe.weights.archive`), which needs no PyTorch and takes the tensors out of
files that PyTorch's safe loader refuses because a class of someone's project is pickled in them. What our code does not
know (a layout older than 2018) goes to that loader where it is installed in a version without known holes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rtpipe.errors import FormatError, InputError
from rtpipe.types import Array
from rtpipe.weights import archive, arrays, inert
from rtpipe.weights.plain import plain
from rtpipe.weights.words import shown

MOST_BYTES = 1 << 31
MOST_TENSORS = 20_000
LONGEST_NAME = 200
STATES = ("state_dict", "params_ema", "params", "model_state_dict", "model", "net", "generator")
"""Under which key of a checkpoint its tensors may lie; the first that holds tensors alone counts."""

SAFE_TORCH = (2, 6)
"""Before this, ``torch.load(weights_only=True)`` could be made to run code (CVE-2025-32434)."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a file holds: ``tensors`` by name (without the ``module.`` that parallel training puts in front), in their
    own type; ``config``, the plain data beside them (text, numbers, lists and mappings with text as keys: settings,
    epoch); the ``file``'s name, its ``sha256``, and by whom it was ``read_by`` (``"rtpipe"`` or ``"torch"``)."""

    tensors: Mapping[str, Array]
    config: Mapping[str, Any]
    file: str
    sha256: str
    read_by: str


def read(path: Path) -> Checkpoint:
    """The checkpoint in this file; its kind is told from its bytes. Raises ``InputError`` where there is no such file,
    ``FormatError`` where it is damaged, hostile or no checkpoint."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise FormatError(f"{path}: larger than any checkpoint that is read here ({MOST_BYTES >> 30} GiB)")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    read_by = "rtpipe"
    try:
        try:
            tensors, config = _taken(data)
        except archive.UnknownLayoutError:
            loaded = _by_torch(path)
            if loaded is None:
                raise
            (tensors, config), read_by = loaded, "torch"
        _check(tensors)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error
    return Checkpoint(tensors, config, path.name, hashlib.sha256(data).hexdigest(), read_by)


def _taken(data: bytes) -> tuple[dict[str, Array], dict[str, Any]]:
    if arrays.is_safetensors(data):
        return _named(arrays.safetensors(data)), {}
    if arrays.is_npz(data):
        return _named(arrays.npz(data)), {}
    opened = archive.opened(data)
    found, rest = _state(opened.root)
    return _named({name: opened.array(tensor) for name, tensor in found.items()}), rest


def _state(root: Any) -> tuple[dict[str, inert.Tensor], dict[str, Any]]:
    """The tensors of the network and, made plain, what lies beside them."""
    if not isinstance(root, inert.Table):
        raise FormatError("holds no dictionary of tensors; a whole network that was pickled is code, not weights")
    top = {key: value for key, value in root.entries() if isinstance(key, str)}
    found = _tensors(root)
    if found:
        return found, {}
    for key in STATES:
        found = _tensors(top.get(key))
        if found:
            return found, plain({name: value for name, value in top.items() if name != key})
    raise FormatError(f"holds no tensors under {', '.join(STATES)}")


def _tensors(value: Any) -> dict[str, inert.Tensor]:
    """The tensors of a dictionary that holds nothing else; else none."""
    found: dict[str, inert.Tensor] = {}
    if not isinstance(value, inert.Table) or len(value.pairs) > MOST_TENSORS:
        return {}
    for name, tensor in value.entries():
        if not isinstance(name, str) or not isinstance(tensor, inert.Tensor):
            return {}
        found[name] = tensor
    return found


def _named(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """``tensors`` without the prefix of parallel training, if all have it."""
    prefix = "module."
    if all(name.startswith(prefix) for name in tensors):
        return {name.removeprefix(prefix): array for name, array in tensors.items()}
    return dict(tensors)


def _check(tensors: Mapping[str, Array]) -> None:
    if not tensors:
        raise FormatError("holds no tensors")
    if len(tensors) > MOST_TENSORS:
        raise FormatError(f"holds {len(tensors)} tensors, more than any network")
    for name in tensors:
        if not name or len(name) > LONGEST_NAME or not (name.isascii() and name.isprintable()):
            raise FormatError(f"a tensor is called {shown(name)}, which no network's is")


def _by_torch(path: Path) -> tuple[dict[str, Array], dict[str, Any]] | None:
    """The same by PyTorch's safe loader; None where it is not installed, too old, or refuses the file too."""
    try:
        import torch
    except ImportError:
        return None
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < SAFE_TORCH:
        return None
    try:
        root = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # they have no class in common, and ours says why the file was not read
        return None
    tops = dict(_text_keys(root))
    for found in (root, *(tops.get(key) for key in STATES)):
        inside = dict(_text_keys(found))
        if inside and all(isinstance(value, torch.Tensor) for value in inside.values()):
            values = {
                name: np.array((value.float() if value.is_floating_point() else value).detach().numpy())
                for name, value in inside.items()
            }
            rest = {} if found is root else {key: value for key, value in tops.items() if value is not found}
            return _named(values), plain(rest)
    return None


def _text_keys(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((key, each) for key, each in value.items() if isinstance(key, str))
