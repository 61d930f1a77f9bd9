"""Reading FlatBuffers that nobody has verified: every offset is checked, so that hostile bytes raise, never wander.

Only what AEDAT4 needs: tables, numbers, text, and vectors of numbers, structs and tables.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from rtpipe.types import Array


class Broken(ValueError):
    """The bytes are no FlatBuffer of the wanted kind; the message says what is wrong with them."""


class Table:
    """A table at byte ``at`` of ``data``; fields by their number in the schema. Every access may raise ``Broken``."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at
        self._vtable = at - self._unpack("<i", at)
        size = self._unpack("<H", self._vtable)
        if size < 4 or size % 2 or self._vtable + size > len(data):
            raise Broken("broken table")
        self._fields = (size - 4) // 2

    @staticmethod
    def root(data: bytes, start: int, identifier: bytes) -> Table:
        """The root table of the buffer that begins at ``start`` and says it is ``identifier`` (4 bytes)."""
        if data[start + 4 : start + 8] != identifier:
            raise Broken(f"{data[start + 4 : start + 8]!r} where {identifier!r} should be")
        return Table(data, start + struct.unpack_from("<I", data, start)[0])

    def number(self, field: int, code: str, default: int = 0) -> int:
        """An integer field; ``code`` is its :mod:`struct` letter."""
        at = self._field(field)
        return default if at is None else self._unpack("<" + code, at)

    def real(self, field: int) -> float:
        """A float32 field, 0 where it is left out."""
        at = self._field(field)
        return 0.0 if at is None else float(self._unpack("<f", at))

    def text(self, field: int) -> bytes:
        """A string field, empty where it is left out."""
        at, n = self._vector(field, 1)
        return self._data[at : at + n]

    def array(self, field: int, dtype: np.dtype[Any]) -> Array:
        """A vector of numbers or structs as a view of the data."""
        at, n = self._vector(field, dtype.itemsize)
        return np.frombuffer(self._data, dtype, n, at)

    def tables(self, field: int) -> list[Table]:
        """A vector of tables."""
        at, n = self._vector(field, 4)
        return [Table(self._data, k + self._unpack("<I", k)) for k in range(at, at + 4 * n, 4)]

    def _unpack(self, code: str, at: int) -> int:
        if at < 0 or at + struct.calcsize(code) > len(self._data):
            raise Broken("an offset leads out of the packet")
        value: int = struct.unpack_from(code, self._data, at)[0]
        return value

    def _field(self, field: int) -> int | None:
        if field >= self._fields:
            return None
        offset = self._unpack("<H", self._vtable + 4 + 2 * field)
        return self._at + offset if offset else None

    def _vector(self, field: int, itemsize: int) -> tuple[int, int]:
        """Where the elements of a vector begin, and how many they are."""
        at = self._field(field)
        if at is None:
            return len(self._data), 0
        at += self._unpack("<I", at)
        n = self._unpack("<I", at)
        if at + 4 + n * itemsize > len(self._data):
            raise Broken(f"a list of {n} elements does not fit the packet")
        return at + 4, n
