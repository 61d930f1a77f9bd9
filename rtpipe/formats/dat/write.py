"""Writing DAT files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from rtpipe.errors import InputError
from rtpipe.formats.export import Export
from rtpipe.packing import fault, unpack
from rtpipe.types import Count, Events, PackedEvents, Packet, Resolution, StreamInfo

SUFFIXES = (".dat",)

WIDEST = 1 << 14
"""Columns and rows have 14 bits."""

LATEST_US = (1 << 32) - 1
"""Times have 32 bits: 71.6 minutes."""

_CHANGE_EVENTS = bytes((0x0C, 8))


class Writer(Export):
    """A DAT recording, written as it comes (a context manager).

    ``resolution`` is the sensor's (width, height). Grows as ``PATH.part`` and takes its name in :meth:`close`; after an
    error no ``PATH`` is left. Times are written as they are, so they must lie between 0 and ``LATEST_US``.
    """

    HOLDS: ClassVar[tuple[str, ...]] = ("events",)

    def __init__(self, path: str | os.PathLike[str], resolution: Resolution) -> None:
        super().__init__(path)
        self.resolution = resolution
        if max(resolution) > WIDEST or min(resolution) < 1:
            raise InputError(f"{self.path}: DAT holds sensors up to {WIDEST}x{WIDEST}, not {resolution}")
        self._n = 0
        self._newest = 0
        width, height = resolution
        header = f"% Data file containing CD events.\n% Version 2\n% Width {width}\n% Height {height}\n"
        with self._world():
            self._file = self._part.open("wb")
            self._file.write(header.encode() + _CHANGE_EVENTS)

    @classmethod
    def for_streams(cls, path: str | os.PathLike[str], streams: Sequence[StreamInfo]) -> Writer:
        """A writer for the one events stream among ``streams``."""
        events = [stream for stream in streams if stream.kind == "events"]
        if len(events) != 1 or events[0].resolution is None:
            raise InputError(f"{path}: a DAT file holds one stream of events, not {len(events)}")
        return cls(path, events[0].resolution)

    def write(self, packet: Packet) -> None:
        """Append the events of a packet (``InputError`` for what DAT cannot hold)."""
        events = unpack(packet.body) if isinstance(packet.body, PackedEvents) else packet.body
        if not isinstance(events, Events):
            if events is None:
                return
            raise InputError(f"{self.path}: a DAT file cannot hold {type(events).__name__}")
        if not len(events):
            return
        wrong = fault(events, self.resolution)
        if wrong:
            raise InputError(f"{self.path}: events with bad {wrong} cannot be written")
        first, last = int(events.t[0]), int(events.t[-1])
        if not 0 <= first <= last <= LATEST_US:
            raise InputError(
                f"{self.path}: time {first if first < 0 else last} µs: DAT holds times from 0 to {LATEST_US} µs "
                "(71 minutes) only (convert --from-zero counts from 0); a RAW file holds any"
            )
        if first < self._newest:
            raise InputError(f"{self.path}: time {first} µs comes after {self._newest} µs")
        words = events.t.astype("<u8")
        words |= events.x.astype("<u8") << np.uint64(32)
        words |= events.y.astype("<u8") << np.uint64(46)
        words |= events.p.astype("<u8") << np.uint64(60)
        with self._world():
            self._file.write(words.data)
        self._n += len(events)
        self._newest = last

    def close(self) -> Mapping[str, Count]:
        """Finish the file and give it its name; how many events it holds. May be called twice."""
        if self._open:
            self._name()
        return {"camera/events": Count(0, self._n)}
