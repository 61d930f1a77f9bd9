"""One NumPy array of events, [N, 4]: t, x, y, polarity in every row (EvINR; the sequences of EFNet's DAVIS346 demo).

EvINR has t in seconds as float64 and polarity -1 and 1, the demo microseconds and 0 and 1: which of them is proven by
the data or must be said. There is no geometry in such a file. Mapped into memory, not loaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import ClassVar

import numpy as np

from rtpipe.errors import FormatError, InputError
from rtpipe.formats import sensors, zipped
from rtpipe.formats.ecm_h5 import infer
from rtpipe.formats.event_table import Cursor, EventTable, unit_clock
from rtpipe.formats.export import Export
from rtpipe.formats.recording import Recording
from rtpipe.packing import fault, unpack
from rtpipe.types import MAX_SIDE, Array, Count, Events, Frame, PackedEvents, Packet, Resolution, StreamInfo

__all__ = ["DESCRIPTION", "SUFFIXES", "Reader", "Writer", "probe"]

DESCRIPTION = "NumPy array of rows (t, x, y, p): EvINR"
SUFFIXES = (".npy",)

LARGEST_US = 1 << 51
"""Beyond this a float64 in seconds no longer tells two microseconds apart (71 years from the clock's zero)."""
_HEAD = 128
"""Bytes of the header that is written: as long as any number of events needs."""


def probe(path: Path, head: bytes) -> bool:  # noqa: ARG001
    """Whether the file begins as a .npy does."""
    return head.startswith(zipped.NPY_MAGIC[: max(4, len(head))])


class _Columns:
    """Columns of a mapped array [N, 4]."""

    def __init__(self, rows: Array) -> None:
        self._rows = rows

    def read(self, column: str, start: int, stop: int) -> Array:
        return np.ascontiguousarray(self._rows[start:stop, "txyp".index(column)])


class Reader(Recording):
    """A recording of this kind (see :class:`rtpipe.formats.contract.Reader`), read in constant memory.

    Options settle what the data leave open: ``time_unit`` ``"s"``, ``"ms"``, ``"us"`` or ``"ns"``; ``resolution``
    (width, height), without which the smallest usual sensor is taken that holds all events (``notes`` says so).
    """

    def __init__(self, path: Path, *, time_unit: str | None = None, resolution: Resolution | None = None) -> None:
        self.path = Path(path)
        if time_unit is not None and time_unit not in infer.UNITS:
            raise InputError(f"time_unit {time_unit!r}: {', '.join(infer.UNITS)} wanted")
        if resolution is not None and not 0 < min(resolution) <= max(resolution) <= MAX_SIDE:
            raise InputError(f"{self.path}: resolution {resolution}: 1 to {MAX_SIDE} pixels wanted")
        self._rows = self._mapped()
        self._events = EventTable(self.path, len(self._rows), self._cursor)
        notes: list[str] = []
        if time_unit is None:
            time_unit, why = self._events.infer_unit()
            notes.append(why)
        notes += self._events.settle(unit_clock(self.path, infer.UNITS[time_unit]))
        if resolution is None:
            resolution, why = sensors.fitting(self._events.largest())
            notes.append(why)
        self.resolution = self._events.resolution = resolution
        self.notes = tuple(notes)
        self.t_start, self.t_end = self._events.first, self._events.last
        self.streams = (StreamInfo("camera/events", resolution),)

    def _mapped(self) -> Array:
        try:
            with self.path.open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                head = zipped.header(self.path, "its header", stream, size)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read: {error.strerror or error}") from error
        if len(head.shape) != 2 or head.shape[1] != 4 or head.dtype.kind not in "iuf":
            raise FormatError(f"{self.path}: {head.dtype} {head.shape}; rows of four numbers (t, x, y, p) wanted")
        if not head.shape[0]:
            raise FormatError(f"{self.path}: no events in it")
        with zipped.reading(self.path, "its rows"):
            return np.memmap(self.path, head.dtype, "r", head.data, head.shape)

    def _cursor(self) -> AbstractContextManager[Cursor]:
        return nullcontext(_Columns(self._rows))

    def counts(self) -> Mapping[str, int]:
        """Events; nothing is scanned."""
        return {"camera/events": len(self._events)}

    def event_chunks(self, t0: int | None = None, t1: int | None = None) -> Iterator[Events]:
        """Events with ``t0 <= t < t1`` (µs) in order. Raises ``FormatError`` naming the place of unsound ones."""
        return self._events.chunks(t0, t1)

    def frames(self, t0: int | None = None, t1: int | None = None) -> Iterator[Frame]:  # noqa: ARG002
        """None: the file holds events alone."""
        return iter(())

    def close(self) -> None:
        """Let the file go once no array made from it is left. May be called twice."""
        self._rows = np.empty((0, 4))


class Writer(Export):
    """An array [N, 4] of float64 in EvINR's conventions (seconds; polarity -1 and 1), written as it comes.

    ``resolution`` is the sensor's; it bounds the coordinates but has no place in the file. Grows as ``PATH.part``, its
    header is written in :meth:`close`; after an error no ``PATH`` is left.
    """

    HOLDS: ClassVar[tuple[str, ...]] = ("events",)

    def __init__(self, path: str | os.PathLike[str], resolution: Resolution) -> None:
        super().__init__(path)
        self.resolution = resolution
        self._n = 0
        self._newest: int | None = None
        with self._world():
            self._file = self._part.open("wb")
            self._file.write(bytes(_HEAD))

    @classmethod
    def for_streams(cls, path: str | os.PathLike[str], streams: Sequence[StreamInfo]) -> Writer:
        """A writer for the one events stream among ``streams``."""
        events = [stream for stream in streams if stream.kind == "events"]
        if len(events) != 1 or events[0].resolution is None:
            raise InputError(f"{path}: an array of events holds one stream of events, not {len(events)}")
        return cls(path, events[0].resolution)

    def write(self, packet: Packet) -> None:
        """Append the events of a packet, in order and on the sensor (``InputError`` otherwise)."""
        events = packet.body
        if isinstance(events, PackedEvents):
            events = unpack(events)
        if not isinstance(events, Events):
            if events is None:
                return
            raise InputError(f"{self.path}: an array of events cannot hold {type(events).__name__}")
        if not len(events):
            return
        wrong = fault(events, self.resolution)
        if not wrong and self._newest is not None and events.t[0] < self._newest:
            wrong = "order"
        if wrong:
            raise InputError(f"{self.path}: events with bad {wrong} cannot be written")
        if max(abs(int(events.t[0])), abs(int(events.t[-1]))) > LARGEST_US:
            raise InputError(f"{self.path}: time {events.t[-1]} µs is too far from zero for seconds in float64")
        rows = np.empty((len(events), 4), "<f8")
        rows[:, 0] = events.t / 1e6
        rows[:, 1], rows[:, 2] = events.x, events.y
        rows[:, 3] = events.p * 2.0 - 1
        with self._world():
            self._file.write(rows.data)
        self._n += len(events)
        self._newest = int(events.t[-1])

    def close(self) -> Mapping[str, Count]:
        """Write the header and give the file its name; how many events it holds. May be called twice."""
        if self._open:
            said = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({self._n}, 4), }}"
            with self._world():
                self._file.seek(0)
                length = (_HEAD - 10).to_bytes(2, "little")
                self._file.write(zipped.NPY_MAGIC + b"\1\0" + length + said.ljust(_HEAD - 11).encode() + b"\n")
            self._name()
        return {"camera/events": Count(0, self._n)}
