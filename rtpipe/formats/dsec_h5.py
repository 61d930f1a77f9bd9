"""DSEC's events: HDF5 with ``events/t`` (uint32 µs after ``t_offset``), ``x``, ``y``, ``p``, indexed by millisecond.

``ms_to_idx[ms]`` is the first event that is not before ``ms`` milliseconds after ``t_offset``. The sensor has 640x480
pixels. A sequence's folder opens too: ``events/left/events.h5`` in it. Its pictures come from other cameras in another
place, in folders of their own, and are not read; nor is ``rectify_map.h5``: events are as the sensor sent them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rtpipe.errors import FormatError
from rtpipe.formats import hdf5
from rtpipe.formats.hdf5_columns import Column
from rtpipe.formats.hdf5_events import EventColumns
from rtpipe.formats.recording import LONGEST_S, Recording
from rtpipe.types import Array, Events, Frame, Resolution, StreamInfo

__all__ = ["DESCRIPTION", "Reader", "probe"]

DESCRIPTION = "DSEC's HDF5 of events, or a sequence's folder"
RESOLUTION: Resolution = (640, 480)
FURTHEST = 1 << 61
"""Times (µs) beyond this are none."""


def probe(path: Path, head: bytes) -> bool:
    """An HDF5 file with ``events/t`` and ``ms_to_idx``, or a folder with such a file where DSEC has it."""
    if path.is_dir():
        return any((path / "events" / side / "events.h5").is_file() for side in ("left", "right"))
    if not head.startswith(hdf5.SIGNATURE):
        return False
    try:
        with hdf5.open_file(path) as file:
            events = hdf5.child(path, file, "events")
            indexed = hdf5.child(path, file, "ms_to_idx") is not None
            return indexed and hasattr(events, "keys")
    except FormatError:
        return False  # too damaged to tell: ecm_h5 says what is wrong


class Reader(Recording):
    """A DSEC recording (see :class:`rtpipe.formats.contract.Reader`), read in constant memory.

    ``side``: which of the two event cameras, where a folder is opened. ``resolution`` (width, height) where the sensor
    is not DSEC's of 640x480.
    """

    def __init__(
        self, path: Path, *, side: Literal["left", "right"] = "left", resolution: Resolution = RESOLUTION
    ) -> None:
        self.path = Path(path)
        self.resolution = resolution
        place = self.path / "events" / side / "events.h5" if self.path.is_dir() else self.path
        self._file = hdf5.open_file(place)
        self._events: EventColumns | None = None
        self._index: Column | None = None
        try:
            with hdf5.reading(self.path, "its structure"):
                self._open(place)
        except BaseException:
            self.close()
            raise

    def _open(self, place: Path) -> None:
        notes = []
        group = hdf5.child(self.path, self._file, "events")
        if not hasattr(group, "keys"):
            raise FormatError(f"{place}: no group events; DSEC has t, x, y and p there")
        nodes: list[Any] = []
        for name in ("t", "x", "y", "p"):
            node = hdf5.child(self.path, group, name)
            if node is None:
                raise FormatError(f"{place}: no events/{name}; DSEC has t, x, y and p there")
            nodes.append(hdf5.dataset(self.path, node, "biu" if name == "p" else "iu", (1,)))
        self._offset = self._stated_offset()
        self._events = events = EventColumns(place, nodes, self._microseconds, self._polarity)
        events.resolution = self.resolution
        if not len(events):
            raise FormatError(f"{self.path}: no events in it")
        index = hdf5.child(self.path, self._file, "ms_to_idx")
        if index is not None:
            self._index = Column(place, hdf5.dataset(self.path, index, "iu", (1,)))
        if self._offset is None:
            notes.append("no t_offset in it: times are relative")
        notes.append(f"resolution: {self.resolution[0]}x{self.resolution[1]}, DSEC's sensor")
        if place.with_name("rectify_map.h5").is_file():
            notes.append("events are as the sensor sent them; rectify_map.h5 beside them is not applied")
        if (self.path / "images").is_dir():
            notes.append("pictures are of other cameras and are not read")
        self.t_start = int(events.microseconds(0, 1)[0])
        self.t_end = int(events.microseconds(len(events) - 1, len(events))[0])
        if not 0 <= self.t_end - self.t_start <= LONGEST_S * 1_000_000:
            raise FormatError(f"{self.path}: its times run from {self.t_start} to {self.t_end} µs; damaged")
        self.notes = tuple(notes)
        self.streams = (StreamInfo("camera/events", self.resolution, "Prophesee Gen3.1 of DSEC"),)

    def _stated_offset(self) -> int | None:
        node = hdf5.child(self.path, self._file, "t_offset")
        if node is None:
            return None
        node = hdf5.dataset(self.path, node, "iu", (0, 1))
        with hdf5.reading(self.path, "t_offset"):
            stated = np.asarray(node[()]).reshape(-1)
        if stated.size != 1 or abs(int(stated[0])) > FURTHEST:
            raise FormatError(f"{self.path}: t_offset: one number of microseconds wanted, got {str(stated)[:60]}")
        return int(stated[0])

    def _microseconds(self, values: Array) -> tuple[Array, int]:
        bad = -1
        if values.dtype.kind == "i" or values.dtype.itemsize > 4:  # not as DSEC has it
            beyond = (values < 0) | (values > FURTHEST)
            bad = int(np.argmax(beyond)) if beyond.any() else -1
        t = values.astype(np.int64)
        t += self._offset or 0
        return t, bad

    def _polarity(self, values: Array) -> Array:
        if values.size and (values.min() < 0 or values.max() > 1):
            raise FormatError(f"polarity {values.min()} to {values.max()}; 0 and 1 wanted")
        return values.view(np.uint8) if values.dtype.itemsize == 1 else values.astype(np.uint8)

    @property
    def _columns(self) -> EventColumns:
        assert self._events is not None
        return self._events

    def first_at(self, instant: int) -> int:
        """The index of the first event that is not before ``instant`` (µs): looked up in ``ms_to_idx``, and searched
        for where that says something impossible or wrong."""
        events = self._columns
        ms, n = (instant - (self._offset or 0)) // 1000, len(events)
        if self._index is not None and 0 <= ms < len(self._index) - 1:
            low, high = (int(i) for i in self._index.read(ms, ms + 2))
            if 0 <= low <= high <= n:
                found = low + int(np.searchsorted(events.microseconds(low, high), instant)) if low < high else low
                late = found == 0 or int(events.microseconds(found - 1, found)[0]) < instant
                if late and (found == n or int(events.microseconds(found, found + 1)[0]) >= instant):
                    return found
        return events.first_at(instant)

    def counts(self) -> Mapping[str, int]:
        """Events; nothing is scanned."""
        return {"camera/events": len(self._columns)}

    def event_chunks(self, t0: int | None = None, t1: int | None = None) -> Iterator[Events]:
        """Events with ``t0 <= t < t1`` (µs of DSEC's clock) in order, in runs of about 260k. Raises ``FormatError``."""
        first = 0 if t0 is None else self.first_at(t0)
        end = len(self._columns) if t1 is None else self.first_at(t1)
        return self._columns.between(first, end, t0, t1)

    def frames(self, t0: int | None = None, t1: int | None = None) -> Iterator[Frame]:  # noqa: ARG002
        """None: DSEC's pictures are other cameras'."""
        return iter(())

    def close(self) -> None:
        """Let the file go. May be called twice."""
        if self._events is not None:
            self._events.close()
        if self._index is not None:
            self._index.close()
        self._file.close()
