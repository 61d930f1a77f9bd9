"""What a filter is: packed events in, fewer (or moved) packed events out, every one of them accounted for.

A filter knows stream time and coordinates, no packet and no clock of the host: the same events come out however a
stream is cut into packets. It goes over the events once, in numba; what it keeps is written behind what it kept before,
so a chain of filters needs one buffer and works in place in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Protocol

import numpy as np

from rtpipe.ledger import Flow
from rtpipe.types import Array, Frame, PackedEvents, Resolution


class Filter(Protocol):
    """One filter, made from its module's ``Settings``; found by name in the entry points ``rtpipe.filters``."""

    name: ClassVar[str]
    """The filter's name, and the reason under which events are dropped."""

    geometric: bool
    """True where coordinates move: frames must go through :meth:`frame` to stay aligned with the events."""

    flow: Flow
    """Events: taken = passed + dropped, under the filter's own name."""

    @property
    def facts(self) -> Mapping[str, str]:
        """What a run's report says of it, in words."""
        ...

    def open(self, resolution: Resolution) -> Resolution:
        """Make ready for events of a sensor of this ``(width, height)``, compile; returns the size that comes out.

        May take seconds the first time. Raises ``InputError`` for settings that do not fit the sensor.
        """
        ...

    def apply(self, events: PackedEvents, room: PackedEvents | None = None) -> PackedEvents:
        """The events that are kept, in order, as views of ``room``.

        ``events`` must lie inside the resolution, be in order, and not be earlier than those of the call before.
        ``room`` has writable columns at least as long as ``events``; it may be the very columns of ``events``, which
        are then overwritten. New ones are made where it is left out, and belong to the caller.
        """
        ...

    def frame(self, frame: Frame) -> Frame:
        """The frame in the geometry of the events that come out; its times stay. The image is new where it changes."""
        ...

    def reset(self) -> None:
        """Time jumped: forget what hangs on the time of events."""
        ...


class Base:
    """What filters share: the ledger, the loop over parts of a packet, compiling.

    A filter overrides ``_prepare`` (its state for a resolution; returns the size that comes out), ``_keep`` (one
    kernel call) and, where its state changes at instants of stream time, ``_parts``.
    """

    geometric: bool = False
    warm_us: int = 1
    """Time between the two events with which the filter is compiled (µs)."""
    name: ClassVar[str]
    """The filter's name, and the reason under which events are dropped."""

    def __init__(self) -> None:
        self.flow = Flow()
        self.resolution: Resolution = (0, 0)
        """Of the events that come in."""

    @property
    def facts(self) -> Mapping[str, str]:
        """Nothing more than the ledger says."""
        return {}

    def open(self, resolution: Resolution) -> Resolution:
        """Make the state for ``resolution`` and compile; returns the size that comes out."""
        self.resolution = resolution
        self._prepare(resolution)
        zeros = np.zeros(2, np.uint16)
        self.apply(PackedEvents(1 << 32, np.array([0, self.warm_us], np.uint32), zeros, zeros))
        self.reset()
        self.flow = Flow()
        return self._prepare(resolution)

    def apply(self, events: PackedEvents, room: PackedEvents | None = None) -> PackedEvents:
        """The events that are kept, as views of ``room`` (which may be the columns of ``events``)."""
        n = len(events)
        if room is None:
            room = new_room(n)
        kept = 0
        for part in self._parts(sealed(events)):
            kept += self._keep(part, room[kept:])
        self.flow.taken += n
        self.flow.passed += kept
        self.flow.drop(self.name, n - kept)
        return PackedEvents(events.t0, room.dt[:kept], room.x[:kept], room.yp[:kept])

    def frame(self, frame: Frame) -> Frame:
        """The frame as it is."""
        return frame

    def reset(self) -> None:
        """Nothing hangs on time."""

    def _parts(self, events: PackedEvents) -> Iterator[PackedEvents]:
        if len(events):
            yield events

    def _prepare(self, resolution: Resolution) -> Resolution:
        return resolution

    def _keep(self, events: PackedEvents, room: PackedEvents) -> int:
        raise AssertionError(f"{type(self).__name__} does not say what it keeps of {len(events)} into {len(room)}")


def new_room(n: int) -> PackedEvents:
    """Columns for ``n`` events, of any content."""
    return PackedEvents(0, np.empty(n, np.uint32), np.empty(n, np.uint16), np.empty(n, np.uint16))


def sealed(events: PackedEvents) -> PackedEvents:
    """The same events as contiguous, aligned, read-only columns: numba compiles anew for every mixture of those."""
    return PackedEvents(events.t0, _seal(events.dt), _seal(events.x), _seal(events.yp))


def _seal(column: Array) -> Array:
    flags = column.flags
    if not (flags.c_contiguous and flags.aligned):
        column = np.require(column, requirements=("C", "A")).copy()
    if not column.flags.writeable:
        return column
    view = column.view()
    view.flags.writeable = False
    return view
