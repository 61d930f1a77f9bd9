"""Files of arrays (.npz, .npy) that may be damaged or hostile, read row by row in constant memory.

An .npz is a zip of .npy files. What a header claims is checked against the size of what is stored before anything is
allocated; nothing pickled is ever touched; a compressed member is decompressed as far as it is read and no further.
"""

from __future__ import annotations

import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from rtpipe.errors import FormatError, InputError
from rtpipe.types import Array

NPY_MAGIC = b"\x93NUMPY"
ZIP_MAGIC = b"PK\x03\x04"
LARGEST_ROW = 1 << 28
"""Bytes of one row, the piece that is read at once: a picture of 64 million pixels in colour and 8 bit."""
MOST_MEMBERS = 100_000
_BEST_DEFLATE = 1040
"""Deflate makes nothing smaller than by 1032; a member that claims more is a bomb or damaged."""


@contextmanager
def reading(path: Path, place: str) -> Iterator[None]:
    """Turn whatever zipfile, zlib and NumPy say of damage at ``place`` into one line of ``FormatError``."""
    try:
        yield
    except (
        *(OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError, IndexError, OverflowError, MemoryError),
        *(SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error),  # NumPy takes headers apart as Python text
    ) as error:
        said = " ".join(str(error.args[0] if error.args else error).split())[:160]
        raise FormatError(f"{path}: damaged at {place}: {said or type(error).__name__}") from error


@dataclass(frozen=True, slots=True)
class Header:
    """What a .npy says of itself: ``shape`` (at least one dimension), ``dtype`` and where its ``data`` begins."""

    shape: tuple[int, ...]
    dtype: np.dtype
    data: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row ``[k]``."""
        return self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=object))


def header(path: Path, place: str, stream: IO[bytes], size: int) -> Header:
    """The header of the .npy that ``stream`` is at the start of, ``size`` bytes long in all. Raises ``FormatError``
    for objects, for arrays in Fortran's order, and where not exactly the claimed rows are there."""
    with reading(path, place), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        version = npy.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise FormatError(f"{path}: {place}: version {version} of the npy format, 1.0 or 2.0 wanted")
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read_header(stream)
        data = stream.tell()
    shape = tuple(int(side) for side in shape)
    rows, *sides = shape or (1,)
    if dtype.hasobject or dtype.kind not in "biufV" or not dtype.itemsize:
        raise FormatError(f"{path}: {place} holds {str(dtype)[:60]}, numbers wanted")
    if fortran and sum(side > 1 for side in shape) > 1:
        raise FormatError(f"{path}: {place} is stored column by column (Fortran's order); row by row wanted")
    found = Header((rows, *sides), dtype, data)
    if min(found.shape) < 0 or found.row_bytes > LARGEST_ROW or data + rows * found.row_bytes != size:
        raise FormatError(f"{path}: {place} claims {dtype} {shape}; it was cut short or damaged")
    return found


class Npz:
    """An .npz, open for reading: ``arrays`` are its headers by name. Raises ``InputError`` or ``FormatError``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb"):
                pass
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
        with reading(path, "its table of contents"):
            self._zip = zipfile.ZipFile(path)
        try:
            self.arrays = self._headers()
        except BaseException:
            self.close()
            raise

    def _headers(self) -> dict[str, Header]:
        members = self._zip.infolist()
        if len(members) > MOST_MEMBERS:
            raise FormatError(f"{self.path}: {len(members)} members, no recording has as many")
        self._members: dict[str, zipfile.ZipInfo] = {}
        found: dict[str, Header] = {}
        for member in members:
            if not member.filename.endswith(".npy"):
                continue
            place = repr(member.filename)[:80]
            if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise FormatError(f"{self.path}: {place} is encrypted or compressed in an unusual way")
            if member.file_size > (member.compress_size + 64) * _BEST_DEFLATE:
                raise FormatError(f"{self.path}: {place} claims {member.file_size} bytes from {member.compress_size}")
            name = member.filename[: -len(".npy")]
            if name in found:
                raise FormatError(f"{self.path}: {place} is in it twice")
            self._members[name] = member
            with reading(self.path, place), self._zip.open(member) as stream:
                found[name] = header(self.path, place, stream, member.file_size)
        return found

    def rows(self, name: str) -> Rows:
        """The rows of array ``name``, to be read from front to back."""
        with reading(self.path, name):
            stream = self._zip.open(self._members[name])
        return Rows(self.path, name, self.arrays[name], stream)

    def whole(self, name: str, largest: int) -> Array:
        """All of array ``name``, at most ``largest`` rows (``FormatError`` otherwise)."""
        rows = self.arrays[name].shape[0]
        if rows > largest or rows * self.arrays[name].row_bytes > LARGEST_ROW:
            raise FormatError(f"{self.path}: {name}: {rows} rows; at most {largest} make sense here")
        with self.rows(name) as cursor:
            return cursor.read(0, rows)

    def close(self) -> None:
        """Let the file go. May be called twice."""
        self._zip.close()


class Rows:
    """A place in an array inside an .npz (a context manager). Reading on costs what is read; reading further ahead
    decompresses what lies between, reading back begins anew."""

    def __init__(self, path: Path, name: str, header: Header, stream: IO[bytes]) -> None:
        self._path = path
        self._name = name
        self._header = header
        self._stream = stream

    def read(self, start: int, stop: int) -> Array:
        """``array[start:stop]``, read-only. Raises ``FormatError`` that names the place."""
        head = self._header
        n = max(0, min(stop, head.shape[0]) - start)
        wanted = n * head.row_bytes
        with reading(self._path, f"{self._name}[{start}:{stop}]"):
            at = head.data + start * head.row_bytes
            if self._stream.tell() != at:
                self._stream.seek(at)
            data = self._stream.read(wanted)
            if len(data) != wanted:
                raise FormatError(f"{self._path}: {self._name}[{start}:{stop}]: the file ends within it")
            if not wanted:
                return np.empty((n, *head.shape[1:]), head.dtype)
            return np.frombuffer(data, head.dtype).reshape((n, *head.shape[1:]))

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
