"""HDF5 files that may be damaged or hostile: opened and read so that the worst outcome is a plain line of text.

What a file claims is checked against what it stores before anything is allocated, and links that lead out of the file
(external links, external storage, virtual datasets) are refused: a recording has no business with other files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers its filters, so that compressed files open)
import numpy as np

from rtpipe.errors import FormatError, InputError
from rtpipe.types import Array

SIGNATURE = b"\x89HDF\r\n\x1a\n"
LARGEST_CHUNK = 1 << 28
"""Bytes of one chunk, the piece that HDF5 decompresses at once; recordings have some kB to some MB."""


@contextmanager
def reading(path: Path, place: str) -> Iterator[None]:
    """Turn whatever HDF5 says of damage at ``place`` into one line of ``FormatError``."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError, UnicodeError) as error:
        said = " ".join(str(error.args[0] if error.args else error).split())[:160]
        raise FormatError(f"{path}: damaged at {place}: {said or type(error).__name__}") from error


def open_file(path: Path) -> Any:
    """The ``h5py.File``, open for reading. Raises ``InputError`` or ``FormatError``."""
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        return h5py.File(path, "r")
    except (OSError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())
        said = said.split("(", 1)[1].rstrip(")") if "(" in said else said  # HDF5 puts the reason in brackets
        raise FormatError(f"{path}: HDF5 cannot open it, it is cut off or damaged: {said[:160]}") from error


def child(path: Path, group: Any, name: str) -> Any | None:
    """What ``group`` holds under ``name`` (a single name), None where there is nothing."""
    place = f"{group.name.rstrip('/')}/{name}"
    with reading(path, place):
        link = group.get(name, getlink=True)
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise FormatError(f"{path}: {place} is a link to elsewhere; only what is in the file itself is read")
        return group[name]


def dataset(path: Path, node: Any, kinds: str, dims: tuple[int, ...]) -> Any:
    """``node`` if it is an honest dataset: numbers of one of NumPy's ``kinds``, as many dimensions as one of ``dims``,
    stored in this file in pieces of bounded size, and nothing claimed that is not stored. Raises ``FormatError``."""
    if not isinstance(node, h5py.Dataset):
        raise FormatError(f"{path}: {getattr(node, 'name', '?')} is not a dataset")
    place = str(node.name)
    with reading(path, place):
        dtype, shape, chunks = node.dtype, node.shape, node.chunks
        if dtype.kind not in kinds or shape is None or len(shape) not in dims:
            wanted = " or ".join(str(n) for n in dims)
            raise FormatError(f"{path}: {place} holds {dtype} {shape}; {wanted}-dimensional numbers wanted")
        if node.external or node.is_virtual:
            raise FormatError(f"{path}: {place} keeps its data in another file; only the file itself is read")
        n = int(np.prod(shape, dtype=object))
        if chunks is None:
            stored, needed = node.id.get_storage_size(), n * dtype.itemsize
        else:
            piece = int(np.prod(chunks, dtype=object)) * dtype.itemsize
            if piece > LARGEST_CHUNK:
                raise FormatError(f"{path}: {place} comes in chunks of {piece} bytes; at most {LARGEST_CHUNK} are read")
            needed = int(np.prod([-(-side // step) for side, step in zip(shape, chunks, strict=True)], dtype=object))
            stored = node.id.get_num_chunks()
            if piece > 1 << 20:  # one chunk must fit the cache, or every slice decompresses it anew
                access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
                access.set_chunk_cache(521, piece + (1 << 20), 0.75)
                node = h5py.Dataset(h5py.h5d.open(node.file.id, place.encode(), access))
        if stored < needed:
            raise FormatError(f"{path}: {place} claims {n} values of which not all are in the file; it was cut short")
    return node


def values(path: Path, node: Any, start: int, stop: int) -> Array:
    """``node[start:stop]`` of a one-dimensional dataset. Raises ``FormatError`` that names the place."""
    with reading(path, f"{node.name}[{start}:{stop}]"):
        found: Array = node[start:stop]
        return found


def _attribute(path: Path, node: Any, name: str) -> Array | None:
    """An attribute made of numbers or fixed-length text, None where there is none or it is made of something else:
    text of variable length lies in a heap in which a damaged file makes HDF5 search for ever."""
    with reading(path, f"{node.name}, attribute {name}"):
        if not h5py.h5a.exists(node.id, name.encode()):
            return None
        stored = h5py.h5a.open(node.id, name.encode())
        dtype, shape = stored.dtype, stored.shape
        if dtype.kind not in "iufS" or len(shape) > 1 or int(np.prod(shape, dtype=object)) * dtype.itemsize > 4096:
            return None
        read = np.empty(shape, dtype)
        stored.read(read)
        return read


def numbers(path: Path, node: Any, name: str) -> list[float | int]:
    """The attribute ``name`` of ``node`` as finite numbers, none where there is none. Raises ``FormatError``."""
    read = _attribute(path, node, name)
    if read is None:
        return []
    if read.dtype.kind == "S" or not np.isfinite(read).all():
        raise FormatError(f"{path}: {node.name}, attribute {name}: numbers wanted, got {str(read)[:40]}")
    found: list[float | int] = read.reshape(-1).tolist()
    return found


def number(path: Path, node: Any, name: str) -> float | int | None:
    """The attribute ``name`` of ``node`` as one finite number, None where there is none. Raises ``FormatError``."""
    found = numbers(path, node, name)
    if len(found) > 1:
        raise FormatError(f"{path}: {node.name}, attribute {name}: one number wanted, got {len(found)}")
    return found[0] if found else None


def text(path: Path, node: Any, name: str) -> str:
    """The attribute ``name`` of ``node`` as text, empty where there is none or it is no text of fixed length."""
    read = _attribute(path, node, name)
    if read is None or read.dtype.kind != "S" or read.size != 1:
        return ""
    return bytes(read.reshape(-1)[0]).decode("utf-8", "replace")


def coordinates(path: Path, place: str, read: Array) -> Array:
    """``read`` from ``place`` as uint16 (a view of int16). Raises ``FormatError`` for what does not fit."""
    fits = read.dtype == np.uint8 or read.dtype == np.uint16 or not read.size
    if not fits and (read.min() < 0 or (read.dtype.itemsize > 2 and read.max() > np.iinfo(np.uint16).max)):
        raise FormatError(f"{path}: {place}: coordinates {read.min()} to {read.max()}")
    return read.view(np.uint16) if read.dtype == np.int16 else read.astype(np.uint16, copy=False)
