"""PyTorch's files: a description (pickled, read as inert data) and the numbers of its tensors, in both layouts.

The zip layout (PyTorch 1.6 and later) has ``NAME/data.pkl`` and one uncompressed member ``NAME/data/KEY`` per storage.
The older one is five pickles in a row (a magic number, a version, facts of the machine, the description, the keys) and
then for each key a count as int64 and the numbers. Everything is checked against the bytes that are there.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import as_strided

from rtpipe.errors import FormatError
from rtpipe.types import Array
from rtpipe.weights import inert
from rtpipe.weights.words import shown

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
KINDS = {
    "Float": "f4", "Double": "f8", "Half": "f2", "Long": "i8", "Int": "i4", "Short": "i2", "Char": "i1",
    "Byte": "u1", "Bool": "u1", "BFloat16": "u2", "Untyped": "u1",
}  # fmt: skip
"""NumPy's types of PyTorch's storages; BFloat16 is widened to float32 when it is read."""


class UnknownLayoutError(FormatError):
    """Perhaps a checkpoint, but in a layout that is not read here."""


@dataclass(eq=False, slots=True)
class Archive:
    """A file of PyTorch that was opened: the ``root`` of what it describes, and where its ``size`` bytes hold the
    ``numbers`` of a storage. Gives out a few times that size at most: a file can describe the same bytes many times."""

    root: Any
    numbers: Callable[[str], bytes]
    order: Literal["<", ">"]
    size: int
    _read: dict[str, bytes] = field(default_factory=dict)
    _spent: int = 0

    def array(self, tensor: inert.Tensor) -> Array:
        """The numbers of a tensor, C-contiguous and a copy. Raises ``FormatError`` where it is not within its storage
        or larger than that (one number repeated over a shape without end)."""
        storage, shape = tensor.storage, tensor.shape
        if storage.kind not in KINDS:
            raise UnknownLayoutError(f"numbers of kind {shown(storage.kind)}, which are not read here")
        dtype = np.dtype(KINDS[storage.kind]).newbyteorder(self.order)
        raw = self._storage(storage.key)
        there = len(raw) // dtype.itemsize
        if storage.start + storage.length > there:
            raise FormatError(f"storage {shown(storage.key)} should hold {storage.length} numbers and holds {there}")
        if len(shape) != len(tensor.strides) or 0 in shape:
            raise FormatError(f"a tensor of shape {shown(str(shape))}, which holds nothing or has other strides")
        count = math.prod(shape)
        reach = sum((size - 1) * stride for size, stride in zip(shape, tensor.strides, strict=True))
        if count > storage.length or tensor.offset + reach >= storage.length:
            raise FormatError(f"a tensor of shape {shown(str(shape))} in a storage of {storage.length} numbers")
        self._spend(count * dtype.itemsize)
        flat = np.frombuffer(raw, dtype, there)[storage.start + tensor.offset :]
        steps = zip(shape, tensor.strides, strict=True)
        strides = [stride * dtype.itemsize if size > 1 else 0 for size, stride in steps]
        values = np.array(as_strided(flat, shape, strides), dtype.newbyteorder("="), order="C")
        if storage.kind == "BFloat16":
            return (values.astype("u4") << 16).view("f4")
        return values.astype(bool) if storage.kind == "Bool" else values

    def _storage(self, key: str) -> bytes:
        if key not in self._read:
            self._read[key] = self.numbers(key)
            self._spend(len(self._read[key]))
        return self._read[key]

    def _spend(self, count: int) -> None:
        self._spent += count
        if self._spent > 4 * self.size:
            raise FormatError("describes the same numbers again and again: more tensors than the file can hold")


def opened(data: bytes) -> Archive:
    """The file of PyTorch with these bytes. Raises ``FormatError``; :class:`UnknownLayoutError` for what looks like
    neither layout."""
    if data[:4] == b"PK\x03\x04":
        return _zipped(data)
    if data[:1] == b"\x80":
        return _sequence(data)
    raise UnknownLayoutError("not a file of PyTorch (neither its zip nor its older layout)")


def members(data: bytes) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
    """The zip file with these bytes and its members. Raises ``FormatError``."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        return archive, {info.filename: info for info in archive.infolist()}
    except DAMAGED as error:
        raise FormatError(f"the zip archive is damaged: {shown(str(error))}") from error


DAMAGED = (zipfile.BadZipFile, RuntimeError, struct.error, ValueError, OSError, EOFError, OverflowError, IndexError)
"""What :mod:`zipfile` raises where bytes are wrong."""


def member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> bytes:
    """A member's bytes, at most ``most``; its checksum holds. Raises ``FormatError``."""
    import zlib

    if info.file_size > most:
        raise FormatError(f"member {shown(info.filename)} unpacks to {info.file_size} bytes, more than is plausible")
    try:
        return archive.read(info)
    except (*DAMAGED, zlib.error) as error:
        raise FormatError(f"member {shown(info.filename)} is damaged: {shown(str(error))}") from error


def _zipped(data: bytes) -> Archive:
    archive, infos = members(data)
    described = [name for name in infos if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(described) != 1:
        raise UnknownLayoutError("a zip archive without the one data.pkl of a checkpoint")
    prefix = described[0].removesuffix("data.pkl")

    def stored(name: str) -> bytes:
        info = infos.get(f"{prefix}{name}")
        if info is None:
            raise FormatError(f"member {shown(prefix + name)} is missing")
        if info.compress_type != zipfile.ZIP_STORED:
            raise FormatError(f"member {shown(prefix + name)} is compressed, which PyTorch never does")
        return member(archive, info, len(data))

    root, _ = inert.read(stored("data.pkl"))
    big = f"{prefix}byteorder" in infos and stored("byteorder").strip() == b"big"
    folder = "data/" if any(name.startswith(f"{prefix}data/") for name in infos) else ""
    return Archive(root, lambda key: stored(f"{folder}{key}"), ">" if big else "<", len(data))


def _sequence(data: bytes) -> Archive:
    magic, at = inert.read(data)
    if not isinstance(magic, int) or magic != MAGIC:
        raise UnknownLayoutError("pickled data, but not a file of PyTorch")
    version, at = inert.read(data, at)
    if not isinstance(version, int) or version != VERSION:
        raise UnknownLayoutError(f"PyTorch's older layout in a version other than {VERSION}")
    machine, at = inert.read(data, at)
    kinds: dict[str, str] = {}
    root, at = inert.read(data, at, kinds)
    keys, at = inert.read(data, at)
    big = isinstance(machine, inert.Table) and any(
        key == "little_endian" and value is False for key, value in machine.entries()
    )
    order: Literal["<", ">"] = ">" if big else "<"
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise FormatError("the list of its storages is damaged")
    places: dict[str, tuple[int, int]] = {}
    for key in keys:
        if KINDS.get(kinds.get(key, "")) is None:
            raise UnknownLayoutError(f"storage {shown(key)} is of no kind that is known")
        if len(data) - at < 8:
            raise FormatError(f"the file ends before storage {shown(key)}")
        (count,) = struct.unpack_from(f"{order}q", data, at)
        at += 8
        size = count * np.dtype(KINDS[kinds[key]]).itemsize
        if not 0 <= size <= len(data) - at:
            raise FormatError(f"the file ends within storage {shown(key)}")
        places[key] = at, at + size
        at += size

    def numbers(key: str) -> bytes:
        if key not in places:
            raise FormatError(f"storage {shown(key)} is missing")
        return data[slice(*places[key])]

    return Archive(root, numbers, order, len(data))
