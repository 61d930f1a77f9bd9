"""Merging and cutting: the packets that a recording would have arrived in, whatever its file looks like.

The cut depends on the recording alone, never on how its file is chunked: events on a grid of ``packet_us`` from the
recording's start, so that packet number n is the same packet every time it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np

from rtpipe.errors import InputError
from rtpipe.types import Body, Events, Frame, Imu, Packet, RawEvents, Trigger

Run: TypeAlias = Events | Imu | Trigger
"""Samples in order of time: what a stream of events, IMU samples or triggers comes in."""


class RawRun(NamedTuple):
    """Undecoded events: ``body``, and the time of the first and the last event in it (µs)."""

    body: RawEvents
    t_first: int
    t_last: int


Piece: TypeAlias = Run | Frame | RawRun
"""What a stream of a recording is made of."""

_R = TypeVar("_R", bound=Run)

_COLUMNS: dict[type, tuple[str, ...]] = {
    Events: ("t", "x", "y", "p"),
    Imu: ("t", "acceleration", "rotation", "temperature"),
    Trigger: ("t", "channel", "edge"),
}


def frame_end(frame: Frame) -> int:
    """The instant (µs) after which a frame can be sent: the end of its exposure, its ``t`` without one."""
    return frame.t if frame.exposure_end is None else frame.exposure_end


def cut(run: _R, start: int, stop: int) -> _R:
    """The view ``run[start:stop]``; the run itself where that is all of it."""
    if (start, stop) == (0, len(run)):
        return run
    return type(run)(*(getattr(run, name)[start:stop] for name in _COLUMNS[type(run)]))


def _join(runs: Sequence[Run]) -> Run:
    """Runs of one kind as one; still a view where there is only one."""
    kind = type(runs[0])
    if len(runs) == 1:
        return runs[0]
    return kind(*(np.concatenate([getattr(run, name) for run in runs]) for name in _COLUMNS[kind]))


class _Runs:
    """A stream of runs (events, IMU samples, triggers), taken from the front by time."""

    def __init__(self, runs: Iterator[Piece]) -> None:
        self._runs = runs
        self._run: Run | None = None
        self._at = 0

    def _peek(self) -> Run | None:
        """The run that holds the next sample, at ``_at``; None at the end."""
        while self._run is None or self._at >= len(self._run):
            run = next(self._runs, None)
            if run is None:
                self._run = None
                return None
            assert not isinstance(run, Frame | RawRun)
            self._run, self._at = run, 0
        return self._run

    def next_time(self) -> int | None:
        """When the next sample is (µs), None at the end."""
        run = self._peek()
        return None if run is None else int(run.t[self._at])

    def take(self, until: int, limit: int) -> Run | None:
        """The samples before ``until`` (µs), at most ``limit`` of them; None where there are none."""
        parts: list[Run] = []
        room = limit
        while room and (run := self._peek()) is not None:
            t = run.t
            if t[self._at] >= until:
                break
            stop = self._at + int(t[self._at : self._at + room].searchsorted(until))
            parts.append(cut(run, self._at, stop))
            room -= stop - self._at
            self._at = stop
        return _join(parts) if parts else None


class _RawRuns:
    """A stream of undecoded runs, each taken whole where its first event is."""

    def __init__(self, runs: Iterator[Piece]) -> None:
        self._runs = runs
        self._next = next(runs, None)

    def next_time(self) -> int | None:
        """When the next event is (µs), None at the end."""
        return None if self._next is None else self._run().t_first

    def take(self, until: int, limit: int) -> RawRun | None:  # noqa: ARG002
        """The next run, if it begins before ``until`` (µs); it is not cut."""
        if self._next is None or self._run().t_first >= until:
            return None
        run = self._run()
        self._next = next(self._runs, None)
        return run

    def _run(self) -> RawRun:
        assert isinstance(self._next, RawRun)
        return self._next


class _Frames:
    """A stream of frames, taken from the front by the end of their exposure."""

    def __init__(self, frames: Iterator[Piece]) -> None:
        self._frames = frames
        self._next = next(frames, None)

    def next_time(self) -> int | None:
        """When the next frame is complete (µs), None at the end."""
        return None if self._next is None else frame_end(self._frame())

    def take(self, until: int) -> Frame | None:
        """The next frame, if it is complete at ``until`` (µs, inclusive)."""
        if self._next is None or frame_end(self._frame()) > until:
            return None
        frame = self._frame()
        self._next = next(self._frames, None)
        return frame

    def _frame(self) -> Frame:
        assert isinstance(self._next, Frame)
        return self._next


class _Numbered:
    """Makes the packets of one stream: sequence numbers, and a ``t_last`` that never goes back."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._seq = 0
        self._t_last: int | None = None

    def packet(self, body: Body, t_first: int, t_last: int, *, end: bool = False) -> Packet:
        """The stream's next packet."""
        if self._t_last is not None:
            t_last = max(t_last, self._t_last)
        self._t_last = t_last
        self._seq += 1
        return Packet(self._stream, self._seq - 1, min(t_first, t_last), t_last, 0, body, end=end)


def cut_packets(
    streams: Mapping[str, Iterator[Piece]],
    t_start: int,
    t_end: int,
    packet_us: int = 2000,
    packet_events: int = 100_000,
    t0: int | None = None,
    raw: bool = False,
) -> Iterator[Packet]:
    """The packets of a recording, merged over ``streams`` (name to runs or frames, each in order of time).

    Cell k of the grid is ``[t_start + k packet_us, t_start + (k + 1) packet_us)``. Per cell, in this order: of every
    events stream (name ending in ``/events``) its events, in packets of at most ``packet_events``, or a watermark
    where it has none; of the IMU and trigger streams one packet if they have samples; then the frames whose exposure
    is over when the cell ends (at its very end included), so that all events of an exposure precede its frame. The
    last cell is the one that holds ``t_end`` (µs, inclusive) or the last element, whichever is later; then comes one
    ``end`` packet per stream.

    ``t_first`` is the time of the first element (a frame: the start of its exposure; a watermark: of its cell);
    ``t_last`` of events and samples is the end of the cell, or the last event's time where the cell goes on in the
    next packet; of frames the end of the exposure. Nothing later in the stream is earlier than ``t_last``. ``seq``
    counts each stream from 0.

    With ``t0`` (µs) the streams are expected to begin there; the grid stays, the first cell is cut short. Bodies are
    views of the runs where a packet lies within one. Memory: one run per stream and one packet.

    ``raw``: events streams are of :class:`RawRun`, one packet each, sent in the cell of its first event.
    """
    if packet_us < 1 or packet_events < 1:
        raise InputError(f"packet_us and packet_events must be at least 1, not {packet_us} and {packet_events}")
    numbered = {name: _Numbered(name) for name in streams}
    source_of = _RawRuns if raw else _Runs
    events: dict[str, _Runs | _RawRuns] = {
        name: source_of(runs) for name, runs in streams.items() if name.endswith("/events")
    }
    samples = {name: _Runs(runs) for name, runs in streams.items() if name.endswith(("/imu", "/triggers"))}
    frames = {name: _Frames(runs) for name, runs in streams.items() if name not in events and name not in samples}
    everything: list[_Runs | _RawRuns | _Frames] = [*events.values(), *samples.values(), *frames.values()]

    begin = t_start if t0 is None else max(t0, t_start)
    end = begin
    last_cell = (t_end - t_start) // packet_us
    cell = (begin - t_start) // packet_us
    while True:
        if not events or cell > last_cell:  # nothing promises watermarks here: go on where something is
            times = [time for source in everything if (time := source.next_time()) is not None]
            if not times:
                break
            cell = max(cell, (min(times) - t_start) // packet_us)
        end = t_start + (cell + 1) * packet_us
        for name, runs in events.items():
            empty = True
            while (taken := runs.take(end, packet_events)) is not None:
                empty = False
                body, first, last = taken if isinstance(taken, RawRun) else (taken, int(taken.t[0]), int(taken.t[-1]))
                following = runs.next_time()
                t_last = max(end, last) if following is None or following >= end else last
                yield numbered[name].packet(body, first, t_last)
            if empty:
                yield numbered[name].packet(None, max(begin, end - packet_us), end)
        for name, runs in samples.items():
            if (samples_ := runs.take(end, packet_events)) is not None:
                yield numbered[name].packet(samples_, int(samples_.t[0]), end)
        for name, source in frames.items():
            while (frame := source.take(end)) is not None:
                exposed = frame.t if frame.exposure_start is None else frame.exposure_start
                yield numbered[name].packet(frame, exposed, frame_end(frame))
        cell += 1
    for name in streams:
        yield numbered[name].packet(None, end, end, end=True)
