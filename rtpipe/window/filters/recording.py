"""A recording as it looks through filters: for converting, for looking, for tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from rtpipe.formats.recording import Recording
from rtpipe.ledger import Flow
from rtpipe.packing import LONGEST_US, pack, unpack
from rtpipe.types import Events, Frame, Imu, StreamInfo, Trigger
from rtpipe.window.filters.chain import Chain, Choice, make

MOST_AT_ONCE = 1 << 20
"""Events that are filtered in one go: what a file's own runs may be larger than."""


class Filtered(Recording):
    """A recording whose events went through filters, and whose frames are in the geometry that comes out.

    Every call of :meth:`event_chunks` begins with filters that have seen nothing: entered at ``t0``, hot pixels are
    learned from there. ``flows`` and ``facts`` are those of the call that was begun last. Closing it closes the
    recording inside.
    """

    def __init__(self, recording: Recording, filters: Sequence[Choice]) -> None:
        self._inner, self._choices = recording, tuple(filters)
        self._chain = Chain(make(self._choices))
        self.resolution = self._chain.open(recording.resolution)
        self.path, self.t_start, self.t_end, self.notes = (
            recording.path, recording.t_start, recording.t_end, recording.notes,
        )  # fmt: skip
        changed = ("events", "frames") if self._chain.geometric else ("events",)
        self.streams: tuple[StreamInfo, ...] = tuple(
            replace(stream, resolution=self.resolution)
            if stream.kind in changed and stream.resolution == recording.resolution
            else stream
            for stream in recording.streams
        )

    @property
    def flows(self) -> Mapping[str, Flow]:
        """What was taken, passed and removed: ``"filters"``, then ``"filter NAME"`` of each."""
        return self._chain.flows

    @property
    def facts(self) -> Mapping[str, str]:
        """What the filters say in words."""
        return self._chain.facts

    def counts(self) -> Mapping[str, int]:
        """Elements per stream name, events as they come out: filters all of them once."""
        counts = dict(self._inner.counts())
        for stream in self.streams:
            if stream.kind == "events":
                counts[stream.name] = sum(len(part) for part in self.event_chunks())
        return counts

    def event_chunks(self, t0: int | None = None, t1: int | None = None) -> Iterator[Events]:
        """The events that are kept of those with ``t0 <= t < t1`` (µs), in order, with new arrays."""
        chain = self._chain = Chain(make(self._choices))
        chain.open(self._inner.resolution)
        for chunk in self._inner.event_chunks(t0, t1):
            for part in _parts(chunk):
                kept = chain.apply(pack(part), owned=True)
                if len(kept):
                    yield unpack(kept)

    def frames(self, t0: int | None = None, t1: int | None = None) -> Iterator[Frame]:
        """Frames with ``t0 <= t < t1`` (µs) in the geometry that comes out."""
        return self._changed(self._inner.frames(t0, t1))

    def truth(self, t0: int | None = None, t1: int | None = None) -> Iterator[Frame]:
        """Sharp pictures, likewise."""
        return self._changed(self._inner.truth(t0, t1))

    def _changed(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        chain = Chain(make(self._choices))
        chain.open(self._inner.resolution)
        for frame in frames:
            yield chain.frame(frame) if frame.resolution == self._inner.resolution else frame

    def imu(self, t0: int | None = None, t1: int | None = None) -> Iterator[Imu]:
        """IMU samples as they are (the sensor's axes, whatever the picture's)."""
        return self._inner.imu(t0, t1)

    def triggers(self, t0: int | None = None, t1: int | None = None) -> Iterator[Trigger]:
        """Trigger signals as they are."""
        return self._inner.triggers(t0, t1)

    def close(self) -> None:
        """Let the file go."""
        self._inner.close()


def _parts(events: Events) -> Iterator[Events]:
    while len(events):
        n = min(len(events), MOST_AT_ONCE)
        if int(events.t[n - 1]) - int(events.t[0]) > LONGEST_US:
            n = int(events.t.searchsorted(int(events.t[0]) + LONGEST_US))
        yield events[:n]
        events = events[n:]


def filtered(recording: Recording, filters: Sequence[Choice]) -> Filtered:
    """``recording`` through ``filters`` (``["hot_pixels", {"filter": "background", "duration_us": 2000}]``), to be read
    like any other. Raises ``InputError`` for filters or settings that there are not, or that do not fit the sensor."""
    return Filtered(recording, filters)
