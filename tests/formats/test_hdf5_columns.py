"""Columns read without HDF5's own filters are what h5py reads, bit for bit, however they are stored."""

import re
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtpipe.errors import FormatError
from rtpipe.formats import hdf5
from rtpipe.formats.hdf5_columns import Column, whole

GZIP = {"compression": "gzip", "compression_opts": 4}
STORAGE: dict[str, tuple[dict[str, Any], bool]] = {  # how it is stored, whether we read it ourselves
    "contiguous": ({}, False),
    "chunks": ({"chunks": (700,)}, True),
    "gzip": ({"chunks": (700,), **GZIP}, True),
    "gzip and shuffle": ({"chunks": (700,), "shuffle": True, **GZIP}, True),
    "gzip at level 0": ({"chunks": (700,), "shuffle": True, "compression": "gzip", "compression_opts": 0}, True),
    "one chunk for all, and more": ({"chunks": (4096,), "maxshape": (None,), "shuffle": True, **GZIP}, True),
    "shuffle alone": ({"chunks": (700,), "shuffle": True}, True),
    "a checksum": ({"chunks": (700,), "fletcher32": True, **GZIP}, False),
    "lzf": ({"chunks": (700,), "compression": "lzf", "shuffle": True}, False),
    "blosc zstd": ({"chunks": (700,), **hdf5plugin.Blosc(cname="zstd")}, True),
    "blosc lz4, bits": ({"chunks": (700,), **hdf5plugin.Blosc(cname="lz4", shuffle=2)}, True),
    "blosc of its own": ({"chunks": (700,), **hdf5plugin.Blosc(cname="blosclz", shuffle=0)}, True),
    "blosc zlib": ({"chunks": (700,), **hdf5plugin.Blosc(cname="zlib", clevel=9)}, True),
    "blosc at level 0": ({"chunks": (700,), **hdf5plugin.Blosc(cname="lz4", clevel=0)}, True),
    "zstd": ({"chunks": (700,), **hdf5plugin.Zstd()}, False),
    "bitshuffle": ({"chunks": (700,), **hdf5plugin.Bitshuffle()}, False),
}
KINDS = ("<f8", "<f4", "<i8", "<u4", "<i2", ">i2", ">f8", "u1", "i1", "bool")


def values(kind: str, n: int = 3000) -> np.ndarray:
    rng = np.random.default_rng(7)
    if kind == "bool":
        return rng.random(n) < 0.5
    if "f" in kind:
        return np.sort(rng.normal(0, 1e6, n)).astype(kind)
    return rng.integers(0, 120, n).astype(kind)


def column(path: Path, name: str = "c") -> tuple[h5py.File, Column]:
    file = hdf5.open_file(path)
    return file, Column(path, hdf5.dataset(path, file[name], "biuf", (1,)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("storage", STORAGE)
def test_it_is_what_h5py_reads(tmp_path: Path, storage: str, kind: str) -> None:
    made, ours = STORAGE[storage]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("c", data=values(kind), **made)
    file, read = column(tmp_path / "a.h5")
    with file:
        assert read.direct == ours
        wanted = file["c"]
        for start, stop in (
            (0, 3000),
            (0, 1),
            (699, 701),
            (700, 1400),
            (2999, 3000),
            (1, 2999),
            (50, 50),
            (2900, 9999),
        ):
            got = read.read(start, stop)
            assert got.dtype == wanted.dtype
            assert got.tobytes() == wanted[start:stop].tobytes()
        read.close()


@pytest.mark.parametrize("name", ["rled_slider_0000_25fps.h5", "eventhdr_slider.h5", "reblur_cups.h5"])
def test_it_is_what_h5py_reads_of_real_files(shared: Callable[[str], Path], name: str) -> None:
    path = shared("recordings/layouts/" + name)
    for c in ("ts", "xs", "ys", "ps"):
        file, read = column(path, f"events/{c}")
        with file, h5py.File(path) as other:
            assert read.direct
            assert read.read(0, len(read)).tobytes() == other[f"events/{c}"][:].tobytes()
            read.close()


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 400), chunk=st.integers(1, 90), span=st.tuples(st.integers(0, 400), st.integers(0, 400)))
def test_any_piece_of_any_chunking(tmp_path_factory: pytest.TempPathFactory, n: int, chunk: int, span: Any) -> None:
    path = tmp_path_factory.mktemp("h") / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("c", data=np.arange(n) * 0.001, chunks=(chunk,), maxshape=(None,), shuffle=True, **GZIP)
    file, read = column(path)
    with file:
        start, stop = min(span), min(max(span), n)
        assert read.direct
        assert np.array_equal(read.read(start, stop), file["c"][start:stop])
        read.close()


def test_threads_read_the_same_column_at_once(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("c", data=np.arange(200_000) * 1e-6, chunks=(1000,), shuffle=True, **GZIP)
    file, read = column(tmp_path / "a.h5")
    with file, ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda k: read.read(k * 777, (k + 1) * 777), range(250)))
        assert np.array_equal(np.concatenate(parts), np.arange(250 * 777) * 1e-6)
        read.close()


def test_a_file_with_a_block_of_its_user_in_front(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=1024) as file:
        file.create_dataset("c", data=values("<f8"), chunks=(700,), shuffle=True, **GZIP)
    file, read = column(tmp_path / "a.h5")
    with file:
        assert np.array_equal(read.read(5, 2000), values("<f8")[5:2000])


def test_chunks_that_were_stored_without_some_filter(tmp_path: Path) -> None:
    data = values("<f8", 2100)
    shuffled = np.ascontiguousarray(data[1400:].view(np.uint8).reshape(-1, 8).T).tobytes()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        made = file.create_dataset("c", data=data, chunks=(700,), shuffle=True, **GZIP)
        made.id.write_direct_chunk((700,), (data[700:1400] * 2).tobytes(), filter_mask=0b11)
        made.id.write_direct_chunk((1400,), shuffled, filter_mask=0b10)
    file, read = column(tmp_path / "a.h5")
    with file:
        assert read.direct
        assert np.array_equal(read.read(0, 2100), np.r_[data[:700], data[700:1400] * 2, data[1400:]])
        assert np.array_equal(read.read(0, 2100), file["c"][:])
        read.close()


WRONG: dict[str, tuple[Any, Callable[[bytes], bytes], str]] = {
    "swells": (GZIP, lambda _: zlib.compress(bytes(1_000_000), 9), "it holds more than a chunk can"),
    "short": (GZIP, lambda _: zlib.compress(bytes(5000)), "it holds 5000 bytes, not a chunk's 5600"),
    "no deflate": (GZIP, lambda stored: stored[:50] + bytes(20) + stored[70:], "Error -3|invalid"),
    "cut": (GZIP, lambda stored: stored[:-9], "cut short"),
    "blosc, cut": (hdf5plugin.Blosc(), lambda stored: stored[:-1], "blosc header is wrong"),
    "blosc, longer": (hdf5plugin.Blosc(), lambda s: s[:4] + (11_200).to_bytes(4, "little") + s[8:], "header is wrong"),
    "blosc, nothing": (hdf5plugin.Blosc(), lambda stored: stored[:9], "too short for blosc"),
    "blosc, bad": (hdf5plugin.Blosc(cname="zstd"), lambda s: s[:30] + bytes(len(s) - 30), "chunk 2: "),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_chunk_that_is_not_what_its_dataset_says_is_refused(tmp_path: Path, what: str) -> None:
    storage, damage, said = WRONG[what]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        made = file.create_dataset("c", data=values("<f8"), chunks=(700,), **storage)
        mask, stored = made.id.read_direct_chunk((1400,))
        made.id.write_direct_chunk((1400,), damage(stored), mask)
    file, read = column(tmp_path / "a.h5")
    with file:
        assert read.direct
        assert np.array_equal(read.read(0, 1400), values("<f8")[:1400])
        with pytest.raises(FormatError, match=r"a\.h5: damaged at /c, chunk 2: .*") as caught:
            read.read(0, 3000)
        assert re.search(said, str(caught.value))
        read.close()


@pytest.mark.parametrize("storage", [{}, GZIP, {"shuffle": True, **GZIP}, hdf5plugin.Blosc(), {"compression": "lzf"}])
@pytest.mark.parametrize("shape", [(37, 53), (20, 30, 3), (5, 1, 1)])
def test_a_whole_dataset_of_several_dimensions(tmp_path: Path, shape: tuple[int, ...], storage: Any) -> None:
    wanted = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    chunks = tuple(-(-side // 2) for side in shape)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("c", data=wanted, chunks=chunks, **storage)
    with h5py.File(tmp_path / "a.h5") as file:
        read = whole(tmp_path / "a.h5", file["c"])
        assert read.dtype == np.uint16
        assert np.array_equal(read, wanted)
