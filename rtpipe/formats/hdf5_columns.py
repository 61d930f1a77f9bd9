"""HDF5 datasets read faster than HDF5 reads them, on several threads at once, and more carefully.

HDF5 holds one lock for a whole process and undoes its filters under it, on one thread, with the zlib it was built with.
Here chunks are read from the file by their place and undone by :mod:`rtpipe.formats.hdf5_filters`, for the storage that
event recordings have: plain, gzip with or without shuffle, blosc. Other filters, other number types and datasets in one
piece are left to h5py; what comes out is what h5py gives, bit for bit.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from rtpipe.errors import FormatError
from rtpipe.formats import hdf5
from rtpipe.formats.hdf5_filters import Broken, filters, undone, unshuffle
from rtpipe.types import Array

MOST_CHUNKS = 1 << 22
"""Chunks whose places are kept (24 bytes each); a dataset in more and smaller pieces is left to h5py."""


class _Chunks:
    """Where a dataset's chunks lie in the file, and what was done to them. ``known`` False: left to h5py."""

    def __init__(self, path: Path, node: Any) -> None:
        self._path, self._name = path, str(node.name)
        self.steps: tuple[int, ...] = node.chunks or ()
        self.item = int(node.dtype.itemsize)
        self.bytes = int(np.prod(self.steps, dtype=object)) * self.item if self.steps else 0
        self.grid = tuple(-(-side // step) for side, step in zip(node.shape, self.steps, strict=False))
        self._file: int | None = None
        n = int(np.prod(self.grid, dtype=object))
        if not self.steps or not 0 < n <= MOST_CHUNKS or node.file.userblock_size:
            return
        with hdf5.reading(path, self._name):
            applied = filters(node)
            if applied is None:
                return
            self._applied = applied
            self._at = np.zeros((3, n), np.int64)
            node.id.chunk_iter(self._note)
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    @property
    def known(self) -> bool:
        return self._file is not None

    def _note(self, info: Any) -> None:
        largest = 2 * self.bytes + 4096  # what does not shrink grows a little
        k = 0
        for offset, step, n in zip(info.chunk_offset, self.steps, self.grid, strict=True):
            index, rest = divmod(int(offset), step)
            if rest or not index < n:
                return
            k = k * n + index
        if 0 < info.size <= largest and info.byte_offset is not None and info.byte_offset < 1 << 62:
            self._at[:, k] = info.byte_offset, info.size, info.filter_mask

    def read(self, k: int) -> tuple[Array, bool]:
        """The bytes of chunk ``k`` (in C order), and whether they are still shuffled. Raises ``FormatError``."""
        place, size, mask = self._at[:, k].tolist()
        try:
            if self._file is None or not size:
                raise Broken("it is not in the file")
            return undone(os.pread(self._file, size, place), self._applied, mask, self.bytes)
        except (Broken, OSError) as error:
            said = " ".join(str(error).split())[:160]
            raise FormatError(f"{self._path}: damaged at {self._name}, chunk {k}: {said}") from error

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


class Column:
    """A one-dimensional dataset, checked by :func:`rtpipe.formats.hdf5.dataset`, of a file opened for reading.

    :meth:`read` may be called from several threads at once; nothing may be read any more once :meth:`close` was called.
    ``chunk`` is how many values the file keeps together (the whole length where it is in one piece).
    """

    def __init__(self, path: Path, node: Any) -> None:
        self._path, self._node = path, node
        self.name = str(node.name)
        self.dtype: np.dtype[Any] = node.dtype
        self._n = int(node.shape[0])
        self.chunk = max(1, int(node.chunks[0]) if node.chunks else self._n)
        self._chunks = _Chunks(path, node)
        self.direct = self._chunks.known
        """Whether it is read without HDF5."""

    def __len__(self) -> int:
        return self._n

    def read(self, start: int, stop: int) -> Array:
        """Values ``start`` to ``stop``, what h5py's ``dataset[start:stop]`` is. Raises ``FormatError``."""
        stop = min(stop, self._n)
        if not self.direct or stop <= start:
            return hdf5.values(self._path, self._node, start, stop)
        out = np.empty(stop - start, self.dtype)
        at = start
        while at < stop:
            first = at % self.chunk
            n = min(stop - at, self.chunk - first)
            data, shuffled = self._chunks.read(at // self.chunk)
            piece = out[at - start : at - start + n]
            if shuffled:
                unshuffle(data, self.dtype.itemsize, first, piece)
            else:
                piece[:] = data.view(self.dtype)[first : first + n]
            at += n
        return out

    def close(self) -> None:
        """Let the file go. May be called twice."""
        self._chunks.close()


def whole(path: Path, node: Any) -> Array:
    """All of a dataset of any number of dimensions, what h5py's ``dataset[()]`` is. Raises ``FormatError``."""
    chunks = _Chunks(path, node)
    if not chunks.known:
        with hdf5.reading(path, node.name):
            read: Array = node[()]
        return read
    try:
        out = np.empty(node.shape, node.dtype)
        for k, index in enumerate(np.ndindex(chunks.grid)):
            data, shuffled = chunks.read(k)
            piece = np.empty(chunks.bytes // chunks.item, node.dtype) if shuffled else data.view(node.dtype)
            if shuffled:
                unshuffle(data, chunks.item, 0, piece)
            here = tuple(slice(i * step, (i + 1) * step) for i, step in zip(index, chunks.steps, strict=True))
            there = out[here]
            there[...] = piece.reshape(chunks.steps)[tuple(slice(0, side) for side in there.shape)]
        return out
    finally:
        chunks.close()
