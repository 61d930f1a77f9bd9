"""What flows through rtpipe: events, frames, IMU samples, triggers, packets and windows.

Everything is a frozen struct over NumPy arrays (struct of arrays). Times are int64 microseconds of the camera's
clock; a float never holds an absolute time. ``resolution`` is always ``(width, height)``, arrays are ``(..., H, W)``.
A struct owns nothing: its arrays may be views into a message or a file, so treat them as read-only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Resolution: TypeAlias = tuple[int, int]
"""``(width, height)`` in pixels."""

Array: TypeAlias = npt.NDArray[Any]

MAX_SIDE = 1 << 15
"""Coordinates are below this: a packed event keeps its polarity in the top bit of ``y``."""


def _column(name: str, values: npt.ArrayLike, dtype: npt.DTypeLike, length: int | None = None) -> Array:
    """``values`` as a one-dimensional array of ``dtype``; raises ``ValueError`` where a value would change."""
    array = np.asarray(values)
    wanted = np.dtype(dtype)
    if array.dtype != wanted:
        converted = array.astype(wanted)
        if array.size and not np.array_equal(converted, array):
            raise ValueError(f"{name}: values do not fit {wanted.name}")
        array = converted
    if array.ndim != 1 or (length is not None and len(array) != length):
        raise ValueError(f"{name}: one-dimensional and as long as t wanted, got shape {array.shape}")
    return array


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """Brightness changes, in order of time.

    ``t`` int64 µs (camera clock, non-decreasing), ``x`` uint16 (column), ``y`` uint16 (row), ``p`` uint8 (0 off, 1 on),
    all of one length. Other dtypes are converted when no value changes, else ``ValueError``. Order and coordinates
    are checked where data enters (formats, wire, drivers), not here.
    """

    t: Array
    x: Array
    y: Array
    p: Array

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "t", _column("t", self.t, np.int64))
        n = len(self.t)
        set_(self, "x", _column("x", self.x, np.uint16, n))
        set_(self, "y", _column("y", self.y, np.uint16, n))
        set_(self, "p", _column("p", self.p, np.uint8, n))

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, index: slice) -> Events:
        """A view of a run of events (no copy)."""
        return Events(self.t[index], self.x[index], self.y[index], self.p[index])

    def between(self, t0: int, t1: int) -> Events:
        """The view of events with ``t0 <= t < t1`` (µs)."""
        i, j = np.searchsorted(self.t, [t0, t1])
        return self[int(i) : int(j)]

    @staticmethod
    def empty() -> Events:
        """No events."""
        return Events(np.empty(0, np.int64), np.empty(0, np.uint16), np.empty(0, np.uint16), np.empty(0, np.uint8))

    @staticmethod
    def concatenate(parts: Iterable[Events]) -> Events:
        """One struct that holds ``parts`` one after the other (copies)."""
        kept = [part for part in parts if len(part)]
        if not kept:
            return Events.empty()
        if len(kept) == 1:
            return kept[0]
        return Events(*(np.concatenate([getattr(part, name) for part in kept]) for name in ("t", "x", "y", "p")))


@dataclass(frozen=True, slots=True, eq=False)
class PackedEvents:
    """Events as they travel and as the window kernels eat them: 8 bytes each, nothing to decode.

    ``t0`` µs (int), ``dt`` uint32 µs since ``t0`` (non-decreasing), ``x`` uint16, ``yp`` uint16 = ``y | p << 15``.
    Made by :func:`rtpipe.packing.pack`, undone by :func:`rtpipe.packing.unpack`. Usually views into a message.
    ``checked``: the resolution for which :func:`rtpipe.packing.fault` has found nothing wrong with these very arrays;
    only who has just asked it may set this (the wire does), and kernels behind it rely on it.
    """

    t0: int
    dt: Array
    x: Array
    yp: Array
    checked: Resolution | None = None

    def __len__(self) -> int:
        return len(self.dt)

    def __getitem__(self, index: slice) -> PackedEvents:
        """A view of a run of events (no copy); ``t0`` stays."""
        checked = self.checked if index.step in (None, 1) else None  # others may turn the order round
        return PackedEvents(self.t0, self.dt[index], self.x[index], self.yp[index], checked)


@dataclass(frozen=True, slots=True, eq=False)
class RawEvents:
    """A run of a camera's own bytes, not decoded: what a driver passes through when nobody upstream of the recorder
    needs to look inside.

    ``encoding`` names a module of :mod:`rtpipe.encodings` (``"evt2"``, ``"evt21"``, ``"evt3"``); ``state`` is its
    decoder's state before the first byte, so that this run can be decoded without any other; ``data`` uint8, whole
    words; ``n`` events are in it, counted when it was scanned; ``t0`` µs is added to every time in it (a replay that
    begins anew goes on in time). Made and undone by :mod:`rtpipe.encodings`.
    """

    encoding: str
    state: bytes
    data: Array
    n: int
    t0: int = 0

    def __len__(self) -> int:
        return self.n


class FrameFlag(IntFlag):
    """What befell a frame on its way."""

    NONE = 0
    PASSED_THROUGH = 1
    """The engine could do nothing (no events, no exposure): the camera's picture as it came."""
    STATE_RESET = 2
    """The first picture after the engine's state was reset (start, seek, loop, time jump)."""
    SKIPPED_BEFORE = 4
    """One or more windows before this one were skipped to keep the latency."""
    INCOMPLETE = 8
    """Events of this window are known to be missing (dropped or lost upstream)."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A picture, from a camera or from an engine.

    ``image`` uint8 or uint16, (H, W) grey or (H, W, 3) BGR. ``t`` µs: the instant it shows; mid-exposure for a
    camera's frame with a known exposure. ``exposure_start``, ``exposure_end`` µs or None. ``source``: ``"camera"``,
    the engine's name, ``"events"`` for a drawing of a window's events, ``"truth"`` for a simulated sharp picture.
    ``window_start``, ``window_end`` µs or None: where the recording itself says which events belong to the picture
    (RLED's ``event_indices``), the half-open interval of their times.
    """

    image: Array
    t: int
    exposure_start: int | None = None
    exposure_end: int | None = None
    source: str = "camera"
    flags: FrameFlag = FrameFlag.NONE
    window_start: int | None = None
    window_end: int | None = None

    @property
    def resolution(self) -> Resolution:
        """``(width, height)``."""
        return int(self.image.shape[1]), int(self.image.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class Imu:
    """Inertial samples: ``t`` int64 µs [n], ``acceleration`` float32 [n,3] m/s², ``rotation`` float32 [n,3] rad/s,
    ``temperature`` float32 [n] °C (NaN where the device has none)."""

    t: Array
    acceleration: Array
    rotation: Array
    temperature: Array

    def __len__(self) -> int:
        return len(self.t)


class Edge(IntEnum):
    """Which way a trigger's signal went."""

    FALLING = 0
    RISING = 1
    PULSE = 2


@dataclass(frozen=True, slots=True, eq=False)
class Trigger:
    """Trigger signals: ``t`` int64 µs [n], ``channel`` uint8 [n] (the format or driver says what is wired to it),
    ``edge`` uint8 [n] of :class:`Edge`."""

    t: Array
    channel: Array
    edge: Array

    def __len__(self) -> int:
        return len(self.t)


@dataclass(frozen=True, slots=True)
class Count:
    """So many packets, holding so many events (a frame, an IMU or a trigger packet holds 0 events)."""

    packets: int = 0
    events: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.packets + other.packets, self.events + other.events)


@dataclass(frozen=True, slots=True)
class Counters:
    """Cumulative, per edge and stream, up to and including the packet that carries them: ``sent`` to this consumer
    and ``dropped`` on the way to it by reason. A consumer that sees a gap in ``seq`` finds its reason here."""

    sent: Count = Count()
    dropped: Mapping[str, Count] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """What an engine eats: the events of ``t_start <= t < t_end`` (µs).

    ``tensor`` float32 (C, H, W), the representation, or None; ``mask`` (H, W) uint8 0/1 where the representation has
    one; ``events`` the window's own events where the engine asks for representation ``"events"``; ``frame`` the
    camera's frame the window was cut for, or None; ``times`` float64 (C,) the channels' own instants, from -1 to 1
    between the edges that time is measured against, where the representation has such (``"stack"``; None where there
    were too few events for one). Buffers are pooled: valid until the next window is asked for.
    """

    t_start: int
    t_end: int
    n_events: int
    tensor: Array | None = None
    mask: Array | None = None
    events: PackedEvents | None = None
    frame: Frame | None = None
    flags: FrameFlag = FrameFlag.NONE
    times: Array | None = None


Body: TypeAlias = Events | PackedEvents | RawEvents | Frame | Imu | Trigger | Window | None


@dataclass(frozen=True, slots=True, eq=False)
class Packet:
    """What travels on every edge.

    ``stream`` (``"camera/events"``: the stage that made it, and the kind), ``seq`` counts the stream's packets from 0,
    ``t_first``, ``t_last`` µs: nothing later in this stream is earlier than ``t_last``; ``received_ns``
    CLOCK_MONOTONIC when the data reached this host; ``epoch`` grows by one where time jumped (seek, loop,
    reconnection): state built before it is void; ``end`` marks the stream's last packet. ``body`` None is a
    watermark: nothing happened until ``t_last``. A :class:`Window` body never crosses a socket.
    """

    stream: str
    seq: int
    t_first: int
    t_last: int
    received_ns: int
    body: Body = None
    epoch: int = 0
    end: bool = False
    counters: Counters = Counters()

    @property
    def n_events(self) -> int:
        """Events in the body; 0 for every other kind."""
        return len(self.body) if isinstance(self.body, Events | PackedEvents | RawEvents) else 0

    @property
    def count(self) -> Count:
        """What this packet adds to a ledger."""
        return Count(1, self.n_events)


KINDS = ("events", "frames", "imu", "triggers", "output", "picture")
"""The last part of a stream's name: camera data; an engine's frames; a drawing of a window's events."""


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What a stage says of a stream before its first packet: ``name`` (``"camera/events"``), ``resolution`` or None
    where it has none (IMU, triggers), ``camera`` as far as known (model, serial), ``encoding`` of its
    :class:`RawEvents` if it will send such: what takes them can make ready."""

    name: str
    resolution: Resolution | None = None
    camera: str = ""
    encoding: str = ""

    @property
    def kind(self) -> str:
        """One of :data:`KINDS`."""
        return self.name.rsplit("/", 1)[-1]
