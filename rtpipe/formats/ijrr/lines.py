"""A text file of events that may be larger than memory: read in pieces, entered at a time by bisection."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rtpipe.errors import FormatError, InputError
from rtpipe.formats.ijrr import text
from rtpipe.types import Array, Events, Resolution

BLOCK = 1 << 22
"""Bytes read at once."""
NEAR = 1 << 16
"""Bytes within which bisection stops, and in which at least one event must be."""


class EventLines:
    """The file ``path`` of lines ``t x y p``, open for reading. ``header`` is a (width, height) that some tools put in
    the first line, or None. Raises ``FormatError`` naming the byte where a line is no event."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
        self.size = os.fstat(self._fd).st_size
        self.shift = 0
        self._zero = self._minus = False
        first = bytes(self._bytes(0, text.LONGEST_LINE)).split(b"\n", 1)[0]
        self.header = size_line(first)
        self._begin = len(first) + 1 if self.header else 0

    def words(self) -> tuple[list[str], list[str]]:
        """The times in the first lines and in the last one, as they are written, to tell their unit from."""
        head = self._whole_lines(self._begin, NEAR)[0]
        tail_at = max(self._begin, self.size - NEAR)
        tail = self._whole_lines(self._after_line_end(tail_at) if tail_at > self._begin else tail_at, 2 * NEAR)[0]
        times = [
            [line.split(maxsplit=1)[0].rstrip(b",").decode("ascii", "replace") for line in bytes(part).split(b"\n")
             if line.strip() and not line.lstrip().startswith(b"#")]
            for part in (head, tail)
        ]  # fmt: skip
        return times[0], times[1][-1:]

    def settle(self, unit: str) -> None:
        """Fix the unit of time."""
        self.shift = text.SHIFTS[unit]

    def ends(self) -> tuple[int, int] | None:
        """The first and the last event's time (µs); None where there is no event."""
        first = next(self.chunks(None, None), None)
        if first is None or not len(first):
            return None
        start = max(self._begin, self.size - NEAR)
        for last in self._runs(self._after_line_end(start) if start > self._begin else start):
            first_and_last = (int(first.t[0]), int(last.t[-1]))
        return first_and_last

    def largest(self) -> tuple[int, int]:
        """The largest x and y; reads all events."""
        x = y = 0
        for run in self.chunks(None, None):
            x, y = max(x, int(run.x.max())), max(y, int(run.y.max()))
        return x, y

    def count(self) -> int:
        """How many events there are; reads all of the file."""
        return sum(text.count(data) for _, data in self._pieces(self._begin))

    @property
    def off_is_minus(self) -> bool:
        """Whether off is -1 in what was read so far."""
        return self._minus

    def chunks(self, t0: int | None, t1: int | None) -> Iterator[Events]:
        """Events with ``t0 <= t < t1`` (µs), as the file has them; stops at the first run that ends after ``t1``."""
        for run in self._runs(self._begin if t0 is None else self._before(t0)):
            low = 0 if t0 is None else int(np.searchsorted(run.t, t0))
            high = len(run) if t1 is None else int(np.searchsorted(run.t, t1))
            if (run.t[1:] < run.t[:-1]).any():
                low, high = 0, len(run)  # for the reader to refuse
            if low < high:
                yield run[low:high]
            if high < len(run):
                return

    def close(self) -> None:
        """Let the file go. May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _runs(self, at: int) -> Iterator[Events]:
        for place, data in self._pieces(at):
            found = text.parsed_or_refused(data, self.shift, str(self.path), place)
            self._zero |= found.zero
            self._minus |= found.minus
            if self._zero and self._minus:
                raise FormatError(f"{self.path}: polarities 0 and -1 in one file: which of them is off?")
            if len(found.events):
                yield found.events

    def _pieces(self, at: int) -> Iterator[tuple[int, Array]]:
        """Where in the file each piece of whole lines begins, and the piece, from ``at`` on."""
        while at < self.size:
            data, used = self._whole_lines(at, BLOCK)
            yield at, data
            at += used

    def _whole_lines(self, at: int, n: int) -> tuple[Array, int]:
        """The whole lines in about ``n`` bytes from ``at``, and how many bytes they are."""
        data = self._bytes(at, n)
        if at + len(data) < self.size:
            tail = data[-text.LONGEST_LINE :]
            ends = np.flatnonzero(tail == 10)
            if not len(ends):
                raise FormatError(f"{self.path}: byte {at + len(data)}: a line of more than {text.LONGEST_LINE} bytes")
            data = data[: len(data) - len(tail) + int(ends[-1]) + 1]
        return data, len(data)

    def _after_line_end(self, at: int) -> int:
        data = self._bytes(at, text.LONGEST_LINE)
        ends = np.flatnonzero(data == 10)
        if not len(ends) and at + len(data) < self.size:
            raise FormatError(f"{self.path}: byte {at}: a line of more than {text.LONGEST_LINE} bytes")
        return at + int(ends[0]) + 1 if len(ends) else self.size

    def _before(self, instant: int) -> int:
        """Where a line begins before which all events are earlier than ``instant`` (µs)."""
        low, high = self._begin, self.size
        while high - low > NEAR:
            middle = self._after_line_end((low + high) // 2)
            time = self._time_at(middle) if middle < high else None
            if time is not None and time < instant:
                low = middle
            else:
                high = (low + high) // 2
        return low

    def _time_at(self, at: int) -> int | None:
        """The time of the first event behind ``at``, None where none is near."""
        found = text.parse(self._whole_lines(at, NEAR)[0], self.shift, 1)
        return int(found.events.t[0]) if len(found.events) else None

    def _bytes(self, at: int, n: int) -> Array:
        try:
            return np.frombuffer(os.pread(self._fd, n, at), np.uint8)
        except OSError as error:
            raise FormatError(f"{self.path}: byte {at}: cannot be read: {error.strerror or error}") from error


def size_line(line: bytes) -> Resolution | None:
    """(width, height) where ``line`` is just that, two whole numbers."""
    words = line.split()
    if len(words) != 2 or not all(word.isdigit() and len(word) < 6 for word in words):
        return None
    return int(words[0]), int(words[1])
