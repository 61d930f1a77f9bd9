"""Event Stream files (.es), version 2, of neuromorphic systems' tools: DVS, ATIS, colour and generic streams.

After ``Event Stream``, three bytes of version and one of type, all but generic streams have width and height (uint16).
An event is a first byte with the time since the event before it, then x, y (uint16) and in colour files red, green and
blue. Bytes above the largest such time mean that time goes on without an event (overflow) or mean nothing (reset). y
counts from the bottom of the picture; events are given with y from the top, as everywhere in rtpipe.

Of an ATIS file the threshold crossings (grey levels) are left out, a colour or generic file holds no brightness
changes and is refused in words that say what it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rtpipe.errors import FormatError, InputError
from rtpipe.formats.recording import LONGEST_S, Recording
from rtpipe.kernels import kernel
from rtpipe.types import MAX_SIDE, Array, Events, Frame, StreamInfo

__all__ = ["DESCRIPTION", "Reader", "probe"]

DESCRIPTION = "Event Stream (.es) of ATIS and DVS cameras"

MAGIC = b"Event Stream"
HEADER = 20
"""Bytes before the first event."""
EVENT = 5
BLOCK = 1 << 20
"""Bytes that are decoded at once; where each such block begins is kept, so that any time is found at once."""

_DVS, _ATIS = 1, 2
_TYPES = {0: "generic data", 1: "DVS events", 2: "ATIS events", 3: "a display's events", 4: "colour events"}


def probe(path: Path, head: bytes) -> bool:  # noqa: ARG001
    """Whether the file begins as an Event Stream does."""
    return head.startswith(MAGIC[: max(5, len(head))])


@kernel()
def _decode(
    data: Array, atis: bool, width: int, height: int, now: Any, t: Array, x: Array, y: Array, p: Array
) -> tuple[int, int, int, int, int]:
    """How many events were put into the arrays, the bytes used, the time then, how many threshold crossings were passed
    over, and where an event is off the sensor (-1: nowhere)."""
    n = 0
    i = 0
    crossings = 0
    end = data.size
    while i < end:
        first = np.int64(data[i])
        if atis and first >= 0xFC:
            now += 63 * (first & 3)  # 0: a reset
            i += 1
            continue
        if not atis and first >= 0xFE:
            now += 127 * (first & 1)
            i += 1
            continue
        if i + EVENT > end:
            break
        column = np.int64(data[i + 1]) | np.int64(data[i + 2]) << 8
        row = np.int64(data[i + 3]) | np.int64(data[i + 4]) << 8
        if column >= width or row >= height:
            return n, i, now, crossings, i
        if atis:
            now += first >> 2
            if first & 1:
                crossings += 1
                i += EVENT
                continue
            p[n] = first >> 1 & 1
        else:
            now += first >> 1
            p[n] = first & 1
        t[n] = now
        x[n] = column
        y[n] = height - 1 - row
        n += 1
        i += EVENT
    return n, i, now, crossings, -1


class Reader(Recording):
    """An Event Stream recording (see :class:`rtpipe.formats.contract.Reader`), decoded block by block. The constructor
    reads the file once: where a time is found in it, and that it is sound, is known only then."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read: {error.strerror or error}") from error
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        head = self._bytes(0, HEADER)
        if len(head) < HEADER or bytes(head[:12]) != MAGIC:
            raise FormatError(f"{self.path}: cut off within its header")
        major, minor, patch, self._type = (int(byte) for byte in head[12:16])
        if major != 2:
            raise FormatError(f"{self.path}: version {major}.{minor}.{patch} of Event Stream; version 2 is read")
        if self._type not in (_DVS, _ATIS):
            held = _TYPES.get(self._type, f"type {self._type}")
            raise FormatError(f"{self.path}: it holds {held}, no brightness changes")
        width, height = (int(side) for side in head[16:20].view("<u2"))
        if not 0 < min(width, height) <= max(width, height) <= MAX_SIDE:
            raise FormatError(f"{self.path}: its header states a sensor of {width}x{height}")
        self.resolution = (width, height)
        self._blocks: list[tuple[int, int, int]] = []
        first, self._n, crossings, at, now = None, 0, 0, HEADER, 0
        while True:
            events, used, after, passed = self._block(at, now)
            if not used:
                break
            self._blocks.append((at, now, int(events.t[0]) if len(events) else after))
            first = int(events.t[0]) if first is None and len(events) else first
            self._n += len(events)
            crossings += passed
            at, now = at + used, after
            if now > LONGEST_S * 1_000_000:
                raise FormatError(f"{self.path}: byte {at}: it lasts more than {LONGEST_S // 86_400} days, damaged")
        rest = os.fstat(self._fd).st_size - at
        notes = ["y counts from the bottom in the file and from the top here"]
        if crossings:
            notes.append(f"{crossings} threshold crossings (grey levels of an ATIS) are left out")
        if rest:
            raise FormatError(f"{self.path}: cut off within the event at byte {at}")
        if first is None:
            raise FormatError(f"{self.path}: no events in it")
        self.t_start, self.t_end = first, now
        self.notes = tuple(notes)
        self.streams = (StreamInfo("camera/events", self.resolution, "ATIS" if self._type == _ATIS else ""),)

    def counts(self) -> Mapping[str, int]:
        """Events."""
        return {"camera/events": self._n}

    def event_chunks(self, t0: int | None = None, t1: int | None = None) -> Iterator[Events]:
        """Events with ``t0 <= t < t1`` (µs) in order, in runs of about 200k."""
        start = 0
        if t0 is not None:
            start = max(0, int(np.searchsorted([begin for _, _, begin in self._blocks], t0)) - 1)
        for at, now, _ in self._blocks[start:]:
            run = self._block(at, now)[0]
            low = 0 if t0 is None else int(np.searchsorted(run.t, t0))
            high = len(run) if t1 is None else int(np.searchsorted(run.t, t1))
            if low < high:
                yield run[low:high]
            if high < len(run):
                return

    def frames(self, t0: int | None = None, t1: int | None = None) -> Iterator[Frame]:  # noqa: ARG002
        """None: the file holds events alone."""
        return iter(())

    def close(self) -> None:
        """Let the file go. May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _block(self, at: int, now: int) -> tuple[Events, int, int, int]:
        """The events in the block at byte ``at``, the bytes they take, the time after it and the crossings in it."""
        data = self._bytes(at, BLOCK)
        room = len(data) // EVENT + 1
        t, x, y = np.empty(room, np.int64), np.empty(room, np.uint16), np.empty(room, np.uint16)
        p = np.empty(room, np.uint8)
        n, used, after, crossings, off = _decode(data, self._type == _ATIS, *self.resolution, now, t, x, y, p)
        if off >= 0:
            found = data[off + 1 : off + EVENT].copy().view("<u2").tolist()
            width, height = self.resolution
            raise FormatError(f"{self.path}: byte {at + off}: event at {found}, off the {width}x{height} sensor")
        return Events(t[:n], x[:n], y[:n], p[:n]), used, after, crossings

    def _bytes(self, at: int, n: int) -> Array:
        try:
            return np.frombuffer(os.pread(self._fd, n, at), np.uint8)
        except OSError as error:
            raise FormatError(f"{self.path}: byte {at}: cannot be read: {error.strerror or error}") from error
