"""The last packets of a source in memory that never exceeds its bound."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from rtpipe.types import Array, Body, Packet

LARGEST_SEGMENT, SMALLEST_SEGMENT = 4 << 20, 1 << 16
SEGMENTS = 16
"""A small ring has at least so many segments: what falls off its end is at most one of them at a time."""
PACKET_BYTES = 1 << 10
"""What a packet costs beside its arrays."""
_ALIGN = 16


@dataclass(slots=True, eq=False)
class Kept:
    """A packet in the ring: ``number`` counts everything that the ring was offered, ``at`` µs is the ring's own time,
    which never goes back. The packet's arrays are the ring's: valid as long as it, or a pin, holds them."""

    number: int
    at: int
    packet: Packet


class Segment:
    """A piece of memory and the packets in it. ``pins``: who else reads it, so that it outlives its place."""

    __slots__ = ("_costs", "_used", "in_ring", "kept", "memory", "pins")

    def __init__(self, memory: Array) -> None:
        self.memory = memory
        self.kept: list[Kept] = []
        self.pins = 0
        self.in_ring = True
        self._used = self._costs = 0

    def fits(self, size: int) -> bool:
        """Whether another packet of so many bytes has room; an empty segment takes any that its memory holds."""
        if not self.kept:
            return size <= len(self.memory)
        return self._used + self._costs + size + PACKET_BYTES <= len(self.memory)

    def put(self, number: int, at: int, packet: Packet) -> None:
        """Copy a packet in."""
        self.kept.append(Kept(number, at, replace(packet, body=self._copied(packet.body))))
        self._costs += PACKET_BYTES

    def _copied(self, body: Body) -> Body:
        if body is None:
            return None
        moved = {name: self._moved(values) for name, values in _arrays(body).items()}
        return replace(body, **moved)  # type: ignore[arg-type]

    def _moved(self, values: Array) -> Array:
        stop = self._used + values.nbytes
        place = self.memory[self._used : stop].view(values.dtype).reshape(values.shape)
        place[...] = values
        self._used = stop + -stop % _ALIGN
        return place


def _arrays(body: Body) -> dict[str, Array]:
    assert body is not None
    columns = {field.name: getattr(body, field.name) for field in fields(body)}
    return {name: values for name, values in columns.items() if isinstance(values, np.ndarray)}


def size_of(packet: Packet) -> int:
    """Bytes that a packet's arrays take in the ring."""
    if packet.body is None:
        return 0
    return sum(values.nbytes + -values.nbytes % _ALIGN for values in _arrays(packet.body).values())


class Ring:
    """Packets in the order in which they came, the oldest given up for the newest.

    ``limit_bytes`` bounds all memory: packets, what they cost beside their arrays, what is pinned, what lies idle. At
    least ``span_us`` of the ring's time stays where the bytes allow, and not much more. Everything from :attr:`hold`
    on stays, whatever comes; while it is set nothing goes for its age. To be used from one thread.
    """

    def __init__(self, limit_bytes: int, span_us: int) -> None:
        self.limit_bytes, self.span_us = limit_bytes, span_us
        self.hold: int | None = None
        """The number of the first packet that must not go; None: all may."""
        self.bytes = 0
        """Memory taken, at most ``limit_bytes``."""
        self._segment_bytes = min(LARGEST_SEGMENT, max(SMALLEST_SEGMENT, limit_bytes // SEGMENTS))
        self._segments: deque[Segment] = deque()
        self._idle: list[Array] = []

    @property
    def oldest(self) -> Kept | None:
        """The first packet, None in an empty ring."""
        return self._segments[0].kept[0] if self._segments else None

    @property
    def newest(self) -> Kept | None:
        """The last packet, None in an empty ring."""
        return self._segments[-1].kept[-1] if self._segments else None

    def add(self, number: int, at: int, packet: Packet) -> bool:
        """Copy a packet in; False where it cannot be kept: it is larger than the ring, or all room is held or pinned.
        ``number`` and ``at`` grow from packet to packet; numbers may be missing."""
        size = size_of(packet)
        if not self._segments or not self._segments[-1].fits(size):
            memory = self._memory(max(size, self._segment_bytes))
            if memory is None:
                return False
            self._segments.append(Segment(memory))
        self._segments[-1].put(number, at, packet)
        while self.hold is None and len(self._segments) > 1 and at - self._segments[0].kept[-1].at > self.span_us:
            self._give_up()
        return True

    def from_number(self, number: int) -> Kept | None:
        """The first packet whose number is not lower."""
        for segment in self._from(number):
            return segment.kept[bisect_left(segment.kept, number, key=lambda kept: kept.number)]
        return None

    def after(self, at: int) -> Kept | None:
        """The first packet that is later than ``at`` (the ring's time, µs)."""
        for segment in self._segments:
            if segment.kept[-1].at > at:
                return segment.kept[bisect_right(segment.kept, at, key=lambda kept: kept.at)]
        return None

    def pin(self, number: int) -> list[tuple[Segment, Sequence[Kept]]]:
        """Everything from a number on, by segments. It stays readable, from any thread, until :meth:`release`."""
        pinned: list[tuple[Segment, Sequence[Kept]]] = []
        for segment in self._from(number):
            segment.pins += 1
            pinned.append((segment, [kept for kept in segment.kept if kept.number >= number]))
        return pinned

    def release(self, segment: Segment) -> None:
        """A reader is done with a segment that it pinned."""
        segment.pins -= 1
        self._settle(segment)

    def _from(self, number: int) -> list[Segment]:
        for index, segment in enumerate(self._segments):
            if segment.kept[-1].number >= number:
                return [self._segments[i] for i in range(index, len(self._segments))]
        return []

    def _memory(self, size: int) -> Array | None:
        """New memory within the bound, older packets given up for it where need be; None where that is not enough."""
        if size > self.limit_bytes:
            return None
        while True:
            if size == self._segment_bytes and self._idle:
                return self._idle.pop()
            if self.bytes + size <= self.limit_bytes:
                self.bytes += size
                return np.empty(size, np.uint8)
            if self._idle:
                self.bytes -= len(self._idle.pop())
            elif not self._segments or self._segments[0].pins or self._held(self._segments[0]):
                return None  # to give up what is pinned would free nothing
            else:
                self._give_up()

    def _held(self, segment: Segment) -> bool:
        return self.hold is not None and segment.kept[-1].number >= self.hold

    def _give_up(self) -> None:
        segment = self._segments.popleft()
        segment.in_ring = False
        self._settle(segment)

    def _settle(self, segment: Segment) -> None:
        """Take back the memory of a segment that nobody reads any more."""
        if segment.in_ring or segment.pins:
            return
        if len(segment.memory) == self._segment_bytes:
            self._idle.append(segment.memory)
        else:
            self.bytes -= len(segment.memory)
