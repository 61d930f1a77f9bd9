"""Undoing what HDF5 did to a chunk of numbers, without HDF5: deflate, shuffle and blosc.

HDF5 believes that a filter gives back as many bytes as the file's header says a chunk has. Where a damaged or hostile
file makes that untrue it reads beyond them, so that the process dies, or inflates to any size. Here both are refused.
"""

from __future__ import annotations

import importlib
import struct
import zlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import blosc2
import h5py
import numpy as np

from rtpipe.kernels import kernel
from rtpipe.types import Array

inflation: ModuleType
try:  # two to three times as fast as zlib; the same streams, the same errors
    inflation = importlib.import_module("zlib_ng.zlib_ng")
except ImportError:  # no wheel for this machine
    inflation = zlib

DEFLATE, SHUFFLE, BLOSC = int(h5py.h5z.FILTER_DEFLATE), int(h5py.h5z.FILTER_SHUFFLE), 32001
_KNOWN = ((), (DEFLATE,), (SHUFFLE,), (SHUFFLE, DEFLATE), (BLOSC,))

blosc2.set_releasegil(True)  # chunks are decompressed in several threads at once


class Broken(Exception):
    """A chunk that is not what its dataset says; the text says why."""


def filters(node: Any) -> tuple[int, ...] | None:
    """The filters of a dataset in the order in which they were applied; None where one is unknown here, or where the
    bytes below them are not NumPy's."""
    if node.id.get_type() != h5py.h5t.py_create(node.dtype, logical=True):
        return None
    made = node.id.get_create_plist()
    found = tuple(int(made.get_filter(k)[0]) for k in range(made.get_nfilters()))
    plain = SHUFFLE not in found or node.dtype.itemsize == 1 or node.dtype.itemsize in _UNSHUFFLE
    return found if found in _KNOWN and plain else None


def undone(stored: bytes, applied: tuple[int, ...], mask: int, size: int) -> tuple[Array, bool]:
    """The ``size`` bytes (uint8) of a chunk, and whether they are still shuffled. Bit k of ``mask``: filter k was left
    out. Raises :class:`Broken`; takes no more memory than ``size`` whatever the chunk says."""
    shuffled = False
    for k in range(len(applied) - 1, -1, -1):
        if mask >> k & 1:
            continue
        if applied[k] == SHUFFLE:
            shuffled = True
        else:
            stored = _inflated(stored, size) if applied[k] == DEFLATE else _from_blosc(stored, size)
    if len(stored) != size:
        raise Broken(f"it holds {len(stored)} bytes, not a chunk's {size}")
    return np.frombuffer(stored, np.uint8), shuffled


def unshuffle(planes: Array, item: int, first: int, out: Array) -> None:
    """Values ``first`` on of a shuffled chunk (uint8) into ``out``, whose items are of ``item`` bytes, 1, 2, 4 or 8."""
    if item == 1:
        out.view(np.uint8)[:] = planes[first : first + len(out)]
        return
    kernel_, word = _UNSHUFFLE[item]
    kernel_(planes.reshape(item, -1), first, out.view(word))


def _inflated(stored: bytes, size: int) -> bytes:
    inflating = inflation.decompressobj()
    try:
        data: bytes = inflating.decompress(stored, size + 1)
    except (zlib.error, inflation.error) as error:
        raise Broken(str(error)) from error
    if len(data) > size:
        raise Broken("it holds more than a chunk can")
    if not inflating.eof:
        raise Broken("its deflate stream is cut short")
    return data


def _from_blosc(stored: bytes, size: int) -> Any:
    """C-Blosc 1's format; every length in its header is checked before it is believed."""
    if len(stored) < 16:
        raise Broken("it is too short for blosc")
    version, _, flags, item, n, block, length = struct.unpack_from("<BBBBIII", stored)
    if version > 2 or flags & 0b101 == 0b101 or not item or n != size or length != len(stored) or not 0 < block <= n:
        raise Broken("its blosc header is wrong")
    data = np.zeros(size, np.uint8)
    try:
        blosc2.decompress2(stored, dst=data, nthreads=1)
    except (RuntimeError, ValueError, TypeError) as error:
        raise Broken(str(error)) from error
    return data.data


@kernel()
def _unshuffle_8(planes: Array, first: int, out: Array) -> None:
    end = first + out.size
    a, b, c, d = planes[0][first:end], planes[1][first:end], planes[2][first:end], planes[3][first:end]
    e, f, g, h = planes[4][first:end], planes[5][first:end], planes[6][first:end], planes[7][first:end]
    for i in range(out.size):  # slices and one expression: so that it becomes vector instructions
        out[i] = (
            np.uint64(a[i])
            | np.uint64(b[i]) << np.uint64(8)
            | np.uint64(c[i]) << np.uint64(16)
            | np.uint64(d[i]) << np.uint64(24)
            | np.uint64(e[i]) << np.uint64(32)
            | np.uint64(f[i]) << np.uint64(40)
            | np.uint64(g[i]) << np.uint64(48)
            | np.uint64(h[i]) << np.uint64(56)
        )


@kernel()
def _unshuffle_4(planes: Array, first: int, out: Array) -> None:
    end = first + out.size
    a, b, c, d = planes[0][first:end], planes[1][first:end], planes[2][first:end], planes[3][first:end]
    for i in range(out.size):
        out[i] = (
            np.uint32(a[i])
            | np.uint32(b[i]) << np.uint32(8)
            | np.uint32(c[i]) << np.uint32(16)
            | np.uint32(d[i]) << np.uint32(24)
        )


@kernel()
def _unshuffle_2(planes: Array, first: int, out: Array) -> None:
    end = first + out.size
    a, b = planes[0][first:end], planes[1][first:end]
    for i in range(out.size):
        out[i] = np.uint16(a[i]) | np.uint16(b[i]) << np.uint16(8)


_UNSHUFFLE: dict[int, tuple[Callable[..., None], type]] = {
    8: (_unshuffle_8, np.uint64),
    4: (_unshuffle_4, np.uint32),
    2: (_unshuffle_2, np.uint16),
}
