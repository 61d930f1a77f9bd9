"""What the readers of all formats share: everything that follows from events, frames, IMU and triggers in order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from rtpipe.errors import InputError
from rtpipe.formats.packets import Piece, RawRun, cut_packets
from rtpipe.types import Events, Frame, Imu, Packet, Resolution, StreamInfo, Trigger, Window

LONGEST_S = 31 * 24 * 3600
"""No recording is longer: times further apart than this many seconds are damage, not silence."""


_S = TypeVar("_S", bound="Recording")


class Recording(ABC):
    """A recording open for reading; a base for readers (see :class:`rtpipe.formats.contract.Reader`).

    A reader sets the attributes in its constructor and yields its streams; merging, cutting and the rest are here.
    Not thread-safe: one reader per thread. A context manager, closed on leaving.
    """

    path: Path
    resolution: Resolution
    streams: tuple[StreamInfo, ...]
    t_start: int
    t_end: int
    notes: tuple[str, ...] = ()

    @abstractmethod
    def counts(self) -> Mapping[str, int]:
        """Elements per stream name: events, frames, IMU samples, triggers; of :meth:`truth` as ``"truth"``, where there
        are any. May scan the file once."""

    @abstractmethod
    def event_chunks(self, t0: int | None = None, t1: int | None = None) -> Iterator[Events]:
        """Events with ``t0 <= t < t1`` (µs) in order, in runs of the file's own size. Raises ``FormatError``."""

    @abstractmethod
    def frames(self, t0: int | None = None, t1: int | None = None) -> Iterator[Frame]:
        """Frames with ``t0 <= t < t1`` (µs), ordered by the end of their exposure. Raises ``FormatError``."""

    def imu(self, t0: int | None = None, t1: int | None = None) -> Iterator[Imu]:  # noqa: ARG002
        """IMU samples with ``t0 <= t < t1`` (µs), in packets of the file's own size."""
        return iter(())

    def triggers(self, t0: int | None = None, t1: int | None = None) -> Iterator[Trigger]:  # noqa: ARG002
        """Trigger signals with ``t0 <= t < t1`` (µs), in packets of the file's own size."""
        return iter(())

    def truth(self, t0: int | None = None, t1: int | None = None) -> Iterator[Frame]:  # noqa: ARG002
        """Sharp pictures that came with the recording, ``source="truth"``; never part of :meth:`packets`."""
        return iter(())

    def windows(self) -> Iterator[Window]:
        """Ready-made windows, in order, where the recording holds representations instead of events."""
        return iter(())

    def pieces(self, t0: int | None = None) -> dict[str, Iterator[Piece]]:
        """For every stream what :meth:`packets` cuts: its runs or frames from ``t0`` (µs) on.

        Frames whose exposure began before ``t0`` are left out: the events that belong to them are.
        """
        made: dict[str, Iterator[Piece]] = {}
        for stream in self.streams:
            if stream.kind == "events":
                made[stream.name] = self.event_chunks(t0)
            elif stream.kind == "imu":
                made[stream.name] = self.imu(t0)
            elif stream.kind == "triggers":
                made[stream.name] = self.triggers(t0)
            else:
                made[stream.name] = self._frames_begun_since(t0)
        return made

    def _frames_begun_since(self, t0: int | None) -> Iterator[Frame]:
        for frame in self.frames(t0):
            if t0 is None or frame.exposure_start is None or frame.exposure_start >= t0:
                yield frame

    def events(self, t0: int | None = None, t1: int | None = None) -> Events:
        """All events with ``t0 <= t < t1`` (µs) at once: mind the memory (13 bytes each)."""
        return Events.concatenate(self.event_chunks(t0, t1))

    def raw_runs(self, packet_us: int, t0: int | None = None) -> Iterator[RawRun]:  # noqa: ARG002
        """The camera's own bytes, not decoded, in runs of about ``packet_us`` (on the grid of :meth:`packets`, where
        the file does not say otherwise), those that begin at ``t0`` (µs) or later. ``InputError`` where there are
        none."""
        raise InputError(f"{self.path}: holds no camera's own bytes that could be passed on: leave raw out")

    def packets(
        self, packet_us: int = 2000, packet_events: int = 100_000, t0: int | None = None, *, raw: bool = False
    ) -> Iterator[Packet]:
        """The recording as a camera would have sent it, cut the same way every time: see
        :func:`rtpipe.formats.packets.cut_packets`. ``received_ns`` is 0: whoever sends them stamps it. ``raw``: events
        as :meth:`raw_runs` has them; ``InputError`` where there are none."""
        pieces = self.pieces(t0)
        if raw:
            pieces |= {name: self.raw_runs(packet_us, t0) for name in pieces if name.endswith("/events")}
        return cut_packets(pieces, self.t_start, self.t_end, packet_us, packet_events, t0, raw)

    @abstractmethod
    def close(self) -> None:
        """Let the file go. May be called twice."""

    def __enter__(self: _S) -> _S:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
