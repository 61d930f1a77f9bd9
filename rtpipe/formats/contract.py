"""What every recording format offers, whatever its file looks like."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol, TypeVar

from rtpipe.types import Count, Events, Frame, Imu, Packet, Resolution, StreamInfo, Trigger, Window

_W = TypeVar("_W", bound="Writer")


class Reader(Protocol):
    """A recording, open for reading in constant memory. Made as ``Reader(path)``; raises ``FormatError`` on a file
    that is truncated, empty, of the wrong kind or hostile: one plain line that names the file and the place."""

    path: Path
    resolution: Resolution
    streams: tuple[StreamInfo, ...]
    """What it holds: ``camera/events``, ``camera/frames``, ``camera/imu``, ``camera/triggers``, ``engine/output``."""
    t_start: int
    """First and last instant (µs, camera clock) of anything in it."""
    t_end: int
    notes: tuple[str, ...]
    """What was inferred rather than stated (time unit, order of the resolution, polarity), and what was mended."""

    def counts(self) -> Mapping[str, int]:
        """Elements per stream name: events, frames, IMU samples, triggers. May scan the file once."""
        ...

    def event_chunks(self, t0: int | None = None, t1: int | None = None) -> Iterator[Events]:
        """Events with ``t0 <= t < t1`` in order, in runs of the file's own size (at most about 1M)."""
        ...

    def frames(self, t0: int | None = None, t1: int | None = None) -> Iterator[Frame]:
        """Frames whose ``t`` is in ``[t0, t1)``, ordered by the end of their exposure (by ``t`` without one)."""
        ...

    def imu(self, t0: int | None = None, t1: int | None = None) -> Iterator[Imu]:
        """IMU samples, in packets of the file's own size."""
        ...

    def triggers(self, t0: int | None = None, t1: int | None = None) -> Iterator[Trigger]:
        """Trigger signals, in packets of the file's own size."""
        ...

    def truth(self, t0: int | None = None, t1: int | None = None) -> Iterator[Frame]:
        """Sharp pictures that came with the recording (simulated or from a second camera), ``source="truth"``.
        Never part of :meth:`packets`: they are for scores."""
        ...

    def windows(self) -> Iterator[Window]:
        """Ready-made windows (tensor, mask, frame), in order, where the recording holds representations instead of
        events (EFNet's processed files, HighREV's voxels); nothing otherwise."""
        ...

    def events(self, t0: int | None = None, t1: int | None = None) -> Events:
        """All events with ``t0 <= t < t1`` at once (mind the memory)."""
        ...

    def packets(
        self, packet_us: int = 2000, packet_events: int = 100_000, t0: int | None = None, *, raw: bool = False
    ) -> Iterator[Packet]:
        """The recording as a camera would have sent it, merged over streams in order of time, cut the same way every
        time: event packets of ``packet_us`` on a grid from ``t_start`` (cut further at ``packet_events``), a watermark
        where a cell of the grid is empty, a frame after the events packet in whose cell its exposure ends, and at the
        very end one ``end`` packet per stream. ``received_ns`` is 0: whoever sends them stamps it. ``raw``: events are
        the camera's own bytes, not decoded; ``InputError`` where the file has none."""
        ...

    def close(self) -> None:
        """Let the file go."""
        ...


class Writer(Protocol):
    """A recording being written; a context manager that closes, or after an error leaves no file under ``path``.

    Its format's module also names ``SUFFIXES``, the endings by which ``rtpipe convert`` knows that this format is
    meant (``(".raw",)``; empty: only by ``--to NAME``); a format that is a folder has ``"/"`` there.
    """

    HOLDS: ClassVar[tuple[str, ...]]
    """Kinds of streams (:data:`rtpipe.types.KINDS`, and ``"truth"``) that a file can hold. What it cannot hold is never
    left out in silence: ``convert`` refuses, or is told to drop it."""

    @classmethod
    def for_streams(cls: type[_W], path: str | os.PathLike[str], streams: Sequence[StreamInfo]) -> _W:
        """Begin a file for these streams; further keyword arguments are the format's own options, each with a default.
        An existing file is never overwritten. Raises ``InputError`` for what this format cannot hold (a sensor too
        large, two cameras), ``WorldError`` where the disk is full or not writable."""
        ...

    def write(self, packet: Packet) -> None:
        """Append one packet (events as columns or packed; packets come in order of time); may buffer. Raises
        ``WorldError`` where the disk is full or not writable, ``InputError`` for what this format cannot hold. A
        writer that holds ``"truth"`` also has ``add_truth(frame)``."""
        ...

    def close(self) -> Mapping[str, Count]:
        """Finish the file; how much of each stream it holds."""
        ...
