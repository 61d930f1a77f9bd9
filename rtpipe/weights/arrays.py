"""Named arrays out of safetensors and npz files, every size checked against the bytes that are there."""

from __future__ import annotations

import io
import math

import numpy as np

from rtpipe.errors import FormatError
from rtpipe.types import Array
from rtpipe.weights import archive
from rtpipe.weights.words import shown

MOST_UNPACKED = 64
"""How many times larger than the file its arrays may be: weights hardly compress, bombs do."""


def is_safetensors(data: bytes) -> bool:
    """Whether these bytes begin as a safetensors file: the length of a header, and a header."""
    return data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= len(data) - 8


def safetensors(data: bytes) -> dict[str, Array]:
    """The arrays of a safetensors file. Raises ``FormatError``."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(data)
    except (SafetensorError, ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        raise FormatError(f"not a whole safetensors file: {shown(str(error))}") from error


def is_npz(data: bytes) -> bool:
    """Whether these bytes are a zip archive of NumPy arrays."""
    if data[:4] != b"PK\x03\x04":
        return False
    _, infos = archive.members(data)
    return bool(infos) and all(name.endswith(".npy") for name in infos)


def npz(data: bytes) -> dict[str, Array]:
    """The arrays of an npz file of numbers. Raises ``FormatError``."""
    opened, infos = archive.members(data)
    left = len(data) * MOST_UNPACKED
    found = {}
    for name, info in infos.items():
        raw = archive.member(opened, info, left)
        left -= len(raw)
        found[name.removesuffix(".npy")] = _npy(name, raw)
    return found


def _npy(name: str, raw: bytes) -> Array:
    file = io.BytesIO(raw)
    try:
        version = np.lib.format.read_magic(file)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = reader(file)
    except (ValueError, EOFError, SyntaxError, TypeError, RecursionError, MemoryError, OverflowError) as error:
        raise FormatError(f"array {shown(name)} is damaged: {shown(str(error))}") from error
    if dtype.kind not in "fiub" or not all(type(size) is int and size > 0 for size in shape) or len(shape) > 16:
        raise FormatError(f"array {shown(name)} is no tensor of numbers")
    if math.prod(shape) * dtype.itemsize != len(raw) - file.tell():
        raise FormatError(f"array {shown(name)} holds {len(raw) - file.tell()} bytes, not what its shape says")
    flat = np.frombuffer(raw, dtype, offset=file.tell())
    return np.array(flat.reshape(shape, order="F" if fortran else "C"), dtype.newbyteorder("="), order="C")
