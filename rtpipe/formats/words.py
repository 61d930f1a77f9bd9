"""Recordings that are a header and then words of events, decoded one after the other (RAW, DAT)."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from rtpipe.encodings import Refused, Scan
from rtpipe.errors import FormatError, InputError
from rtpipe.formats.packets import cut
from rtpipe.formats.prophesee import fitting_size
from rtpipe.formats.recording import LONGEST_S, Recording
from rtpipe.types import Array, Events, Frame, Resolution, StreamInfo, Trigger

PIECE = 1 << 19
"""Bytes that are decoded at once; whole words of every encoding."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Where a piece begins: its byte, the decoder's state there, the latest time before (-1: none), and how much is in
    it: bytes, events (those included that are refused) and triggers."""

    at: int
    state: bytes
    reached: int
    length: int
    events: int
    triggers: int


class WordRecording(Recording):
    """A base for readers of such files: they open, tell what they know of the header, and call :meth:`_pass`.

    ``_module`` is an encoding, or what looks like one (``NAME``, ``WORD``, ``Decoder``, ``scan``): see
    :mod:`rtpipe.encodings`. ``_swapped``: words have the other end first.
    """

    _module: ModuleType
    _swapped = False

    def _begin(self, path: Path) -> None:
        self.path = Path(path)
        self._notes: list[str] = []
        self._counted: int | None = None
        self._fd = -1
        try:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read: {error.strerror or error}") from error

    def _pass(self, start: int, state: bytes, resolution: Resolution | None, widest: int, camera: str) -> None:
        """Go over the file from byte ``start`` once: where which time is found, what is in it and what will be refused.

        Without ``resolution`` the smallest sensor that holds all coordinates (below ``widest``) is inferred. Sets what
        a recording has. Raises ``FormatError``.
        """
        rest = (os.fstat(self._fd).st_size - start) % self._module.WORD
        end = os.fstat(self._fd).st_size - rest
        if rest:
            self._notes.append(f"cut off within a word: its last {rest} bytes are left out")
        self._pieces: list[Piece] = []
        span: tuple[int, int] | None = None
        reached, refused, largest = -1, Refused(), (0, 0)
        for at in range(start, end, PIECE):
            data = self._words(at, min(PIECE, end - at))
            found: Scan = self._module.scan(data, state)
            if resolution is None and found.n:
                largest = self._reach(data, state, widest, largest)
            self._pieces.append(Piece(at, state, reached, len(data), found.n, len(found.triggers)))
            for t in (found.t_first, found.t_last, *found.triggers.t[[0, -1][: len(found.triggers)]].tolist()):
                if t is not None:
                    span = (min(t, span[0]), max(t, span[1])) if span else (t, t)
            reached = reached if found.t_reached is None else found.t_reached
            state, refused = found.state, refused + found.refused
        name = self._module.NAME
        if span is None:
            raise FormatError(f"{self.path}: there is not one event of {name} in it")
        self.t_start, self.t_end = span
        if self.t_end - self.t_start > LONGEST_S * 1_000_000:
            days = LONGEST_S // 86_400
            raise FormatError(f"{self.path}: its times are more than {days} days apart: damaged, or not {name}")
        words = (end - start) // self._module.WORD
        if refused.words * 10 > words:
            raise FormatError(
                f"{self.path}: {refused.words} of its {words} words are none of {name}: damaged, or not {name}"
            )
        self._refused = refused
        self.resolution = resolution or self._infer(largest)
        self._say(refused)
        self.streams = (StreamInfo("camera/events", self.resolution, camera),)
        if any(piece.triggers for piece in self._pieces):
            self.streams += (StreamInfo("camera/triggers", None, camera),)

    def _reach(self, data: Array, state: bytes, widest: int, largest: tuple[int, int]) -> tuple[int, int]:
        events = self._module.Decoder((widest, widest), state).decode(data).events
        if not len(events):
            return largest
        return max(largest[0], int(events.x.max())), max(largest[1], int(events.y.max()))

    def _infer(self, largest: tuple[int, int]) -> Resolution:
        size, note = fitting_size(largest)
        self._notes.append(note)
        return size

    def _say(self, refused: Refused) -> None:
        for n, what in (
            (refused.order, "events earlier than those before them are left out"),
            (refused.no_time, "events before the first time are left out"),
            (refused.triggers, "triggers before the first time, or earlier than those before them, are left out"),
            (refused.words, "words of no known kind are left out"),
        ):
            if n:
                self._notes.append(f"{n} {what}")
        self.notes = tuple(self._notes)

    def counts(self) -> Mapping[str, int]:
        """Events and triggers. Decodes the whole file once: whether all events are on the sensor is known only then,
        and said in ``notes``."""
        if self._counted is None:
            self._counted = sum(len(run) for run in self.event_chunks())
            off = sum(piece.events for piece in self._pieces) - self._refused.events - self._counted
            if off:
                width, height = self.resolution
                self._notes.append(f"{off} events off the {width}x{height} sensor are left out")
                self.notes = tuple(self._notes)
        counted = {"camera/events": self._counted, "camera/triggers": sum(piece.triggers for piece in self._pieces)}
        return {stream.name: counted[stream.name] for stream in self.streams}

    def event_chunks(self, t0: int | None = None, t1: int | None = None) -> Iterator[Events]:
        """Events with ``t0 <= t < t1`` (µs) in order, in runs of half a megabyte of the file."""
        for piece in self._pieces[self._entry(t0) :]:
            if t1 is not None and piece.reached >= t1:
                return
            if not piece.events:
                continue
            decoder = self._module.Decoder(self.resolution, piece.state)
            events = decoder.decode(self._words(piece.at, piece.length)).events
            low, high = _within(events.t, t0, t1)
            if low < high:
                yield _snug(cut(events, low, high))

    def triggers(self, t0: int | None = None, t1: int | None = None) -> Iterator[Trigger]:
        """Triggers with ``t0 <= t < t1`` (µs) in order."""
        for piece in self._pieces:
            if piece.triggers:
                found = self._module.scan(self._words(piece.at, piece.length), piece.state).triggers
                low, high = _within(found.t, t0, t1)
                if low < high:
                    yield cut(found, low, high)

    def frames(self, t0: int | None = None, t1: int | None = None) -> Iterator[Frame]:  # noqa: ARG002
        """None: such a file holds events and triggers."""
        return iter(())

    def close(self) -> None:
        """Let the file go. May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _entry(self, t0: int | None) -> int:
        """The first piece that may hold an event at or after ``t0`` (µs)."""
        if t0 is None:
            return 0
        return max(0, bisect_left(self._pieces, t0, key=lambda piece: piece.reached) - 1)

    def _words(self, at: int, n: int) -> Array:
        """``n`` bytes (whole words) from byte ``at`` on, in the order that decoders expect."""
        data = self._bytes(at, n)
        if len(data) < n:
            raise FormatError(f"{self.path}: byte {at + len(data)}: the file has become shorter")
        word = self._module.WORD
        return data.view(f">u{word}").astype(f"<u{word}").view(np.uint8) if self._swapped else data

    def _bytes(self, at: int, n: int) -> Array:
        try:
            return np.frombuffer(os.pread(self._fd, n, at), np.uint8)
        except OSError as error:
            raise FormatError(f"{self.path}: byte {at}: cannot be read: {error.strerror or error}") from error


def _within(t: Array, t0: int | None, t1: int | None) -> tuple[int, int]:
    """Where in ``t`` (in order) the times ``t0 <= t < t1`` are."""
    low = 0 if t0 is None else int(np.searchsorted(t, t0))
    return low, len(t) if t1 is None else int(np.searchsorted(t, t1))


def _snug(events: Events) -> Events:
    """``events`` in columns of their own where those that they are views of are much longer: a decoder makes room for
    one event a word, and who gathers many runs would keep all that room."""
    if events.t.base is None or 2 * len(events) > len(events.t.base):
        return events
    return Events(events.t.copy(), events.x.copy(), events.y.copy(), events.p.copy())
