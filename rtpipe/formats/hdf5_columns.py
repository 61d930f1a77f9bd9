"""One-dimensional HDF5 datasets read faster than HDF5 reads them, and on several threads at once.

HDF5 holds one lock for a whole process and undoes its filters under it, on one thread, with the zlib it was built with.
Here chunks are read from the file by their place and inflated and unshuffled by ourselves, for the storage that event
recordings have: plain, or gzip with or without shuffle. Whatever else a dataset is made of (other filters, other number
types, chunks that are missing or odd) is left to h5py, and what comes out is what h5py gives, bit for bit.
"""

from __future__ import annotations

import importlib
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np

from rtpipe.errors import FormatError
from rtpipe.formats import hdf5
from rtpipe.kernels import kernel
from rtpipe.types import Array

inflation: ModuleType
try:  # two to three times as fast as zlib; the same streams, the same errors
    inflation = importlib.import_module("zlib_ng.zlib_ng")
except ImportError:  # no wheel for this machine
    inflation = zlib

DEFLATE, SHUFFLE = int(h5py.h5z.FILTER_DEFLATE), int(h5py.h5z.FILTER_SHUFFLE)
MOST_CHUNKS = 1 << 22
"""Chunks whose places are kept (24 bytes each); a dataset in more and smaller pieces is left to h5py."""
_ODD: tuple[type[Exception], ...] = (zlib.error, inflation.error, OSError, ValueError)


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


class Odd(Exception):
    """This piece is stored in a way that is left to h5py."""


class Column:
    """A one-dimensional dataset, checked by :func:`rtpipe.formats.hdf5.dataset`, of a file opened for reading.

    :meth:`read` may be called from several threads at once; nothing may be read any more once :meth:`close` was called.
    ``chunk`` is how many values the file keeps together (the whole length where it is contiguous).
    """

    def __init__(self, path: Path, node: Any) -> None:
        self._path, self._node = path, node
        self.name = str(node.name)
        self.dtype: np.dtype[Any] = node.dtype
        self._n = int(node.shape[0])
        self.chunk = max(1, int(node.chunks[0]) if node.chunks else self._n)
        self._bytes = self.chunk * self.dtype.itemsize
        self._inflates = self._shuffled = False
        self._at: Array | None = None
        self._file: int | None = None
        if self._is_plain():
            with hdf5.reading(path, self.name):
                self._at = self._places()
            if self._at is not None:
                self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __len__(self) -> int:
        return self._n

    @property
    def direct(self) -> bool:
        """Whether chunks are read without HDF5 (where none of them is odd)."""
        return self._file is not None

    def read(self, start: int, stop: int) -> Array:
        """Values ``start`` to ``stop``, what h5py's ``dataset[start:stop]`` is. Raises ``FormatError``."""
        stop = min(stop, self._n)
        if self._file is None or stop <= start:
            return hdf5.values(self._path, self._node, start, stop)
        out = np.empty(stop - start, self.dtype)
        try:
            at = start
            while at < stop:
                first = at % self.chunk
                n = min(stop - at, self.chunk - first)
                self._piece(at // self.chunk, first, out[at - start : at - start + n])
                at += n
        except Odd:
            return hdf5.values(self._path, self._node, start, stop)
        return out

    def close(self) -> None:
        """Let the file go. May be called twice."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _is_plain(self) -> bool:
        """Whether the bytes of this dataset, once inflated and unshuffled, are NumPy's bytes."""
        node = self._node
        if node.chunks is None or not self._n or node.file.userblock_size:
            return False
        with hdf5.reading(self._path, self.name):
            if node.id.get_type() != h5py.h5t.py_create(self.dtype, logical=True):
                return False
            made = node.id.get_create_plist()
            filters = [made.get_filter(k)[0] for k in range(made.get_nfilters())]
        self._inflates = DEFLATE in filters
        self._shuffled = SHUFFLE in filters and self.dtype.itemsize > 1
        known = filters in ([], [DEFLATE], [SHUFFLE, DEFLATE])
        return known and (not self._shuffled or self.dtype.itemsize in _UNSHUFFLE)

    def _places(self) -> Array | None:
        """Where in the file each chunk is: offset, size (0 where it is odd) [2, chunks]."""
        n = -(-self._n // self.chunk)
        if n > MOST_CHUNKS:
            return None
        places = np.zeros((2, n), np.int64)
        largest = 2 * self._bytes + 4096  # what does not shrink grows a little

        def note(info: Any) -> None:
            k, rest = divmod(int(info.chunk_offset[0]), self.chunk)
            usual = not rest and 0 <= k < n and not info.filter_mask and 0 < info.size <= largest
            if usual and info.byte_offset is not None and info.byte_offset < 1 << 62:
                places[:, k] = info.byte_offset, info.size

        self._node.id.chunk_iter(note)
        return places

    def _piece(self, k: int, first: int, out: Array) -> None:
        """The values from ``first`` on of chunk ``k`` into ``out``. Raises :class:`Odd`, ``FormatError``."""
        assert self._at is not None
        assert self._file is not None
        place, size = self._at[:, k].tolist()
        if not size:
            raise Odd
        try:
            stored = os.pread(self._file, size, place)
            data = self._inflated(k, stored) if self._inflates else stored
        except _ODD as error:  # h5py will say what is wrong with it
            raise Odd from error
        if len(data) != self._bytes:
            raise Odd
        planes = np.frombuffer(data, np.uint8)
        if self._shuffled:
            unshuffle, word = _UNSHUFFLE[self.dtype.itemsize]
            unshuffle(planes.reshape(-1, self.chunk), first, out.view(word))
        else:
            out[:] = planes.view(self.dtype)[first : first + len(out)]

    def _inflated(self, k: int, stored: bytes) -> bytes:
        inflating = inflation.decompressobj()
        data: bytes = inflating.decompress(stored, self._bytes + 1)
        if len(data) > self._bytes:  # not for h5py: it would inflate to whatever size this claims to have
            raise FormatError(f"{self._path}: damaged at {self.name}, chunk {k}: it holds more than a chunk can")
        if not inflating.eof:
            raise Odd
        return data
