"""The filter stage: the events (and, where coordinates move, the frames) of one source, filtered; all else as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from rtpipe import packing
from rtpipe.errors import ConfigError
from rtpipe.ledger import Flow
from rtpipe.packing import LONGEST_US, fault, pack
from rtpipe.raw import opened, warm
from rtpipe.types import Events, Frame, PackedEvents, Packet, RawEvents, Resolution, StreamInfo
from rtpipe.window.columns import t_first, t_last
from rtpipe.window.cut import BACKWARDS, DISCONTINUITY
from rtpipe.window.filters.base import Filter
from rtpipe.window.filters.chain import Chain

SIZE = "size"
"""Why a frame is refused that is not of its stream's resolution, and why events that span more than 71 minutes are."""


class FilterStage:
    """Filters ``{of}/events``, and ``{of}/frames`` where a filter moves coordinates; other packets pass unchanged.

    Packets keep their stream, sequence number, times, epoch and end; one whose events are all removed is a watermark. A
    camera's own bytes are decoded first. What cannot be believed (coordinates, order, an epoch gone by) is counted and
    not passed on: the gap in the sequence numbers tells the windows. Columns that go out belong to whoever takes them.
    """

    def __init__(self, of: str, filters: Sequence[Filter]) -> None:
        self._chain = Chain(filters)
        self._of = of
        self._events_stream, self._frames_stream = f"{of}/events", f"{of}/frames"
        self._frames = Flow()
        self._resolution: Resolution = (0, 0)
        self._epoch: int | None = None
        self._t_last: int | None = None

    @property
    def flows(self) -> Mapping[str, Flow]:
        """``"filters"`` (events of the chain as a whole, by what removed them), ``"filter NAME"`` of each, and
        ``"filtered frames"`` where frames are changed."""
        return {**self._chain.flows, **({"filtered frames": self._frames} if self._chain.geometric else {})}

    @property
    def facts(self) -> Mapping[str, str]:
        """What the filters say in words: the hot pixels they found."""
        return self._chain.facts

    def open(self, streams: Sequence[StreamInfo]) -> Sequence[StreamInfo]:
        """Compile for the resolution of the source's events; the same streams, in the size that comes out.

        Raises ``ConfigError`` where there are no events, or frames that cannot be changed along with them.
        """
        by_name = {stream.name: stream for stream in streams}
        events, frames = by_name.get(self._events_stream), by_name.get(self._frames_stream)
        if events is None or events.resolution is None:
            what = "has no events" if events is None else "does not say the resolution of its events"
            raise ConfigError(f"filters: source {self._of!r} {what}; streams: {', '.join(by_name) or 'none'}")
        if self._chain.geometric and frames is not None and frames.resolution not in (None, events.resolution):
            moving = ", ".join(each.name for each in self._chain.filters if each.geometric)
            raise ConfigError(
                f"filters: {moving} must change frames and events alike, but frames are {frames.resolution} and "
                f"events {events.resolution}"
            )
        self._resolution = events.resolution
        packing.warm()
        warm(events.encoding)
        made = self._chain.open(events.resolution)
        changed = {self._events_stream, *((self._frames_stream,) if self._chain.geometric else ())}
        return [
            replace(stream, resolution=made, encoding="") if stream.name in changed else stream for stream in streams
        ]

    def process(self, packet: Packet) -> Sequence[Packet]:
        """The packet with what the filters kept; none where it was refused."""
        if packet.stream == self._frames_stream and self._chain.geometric:
            return self._take_frame(packet)
        if packet.stream != self._events_stream:
            return (packet,)
        if self._epoch is not None and packet.epoch < self._epoch:
            return self._refused(packet, DISCONTINUITY)
        if packet.epoch != self._epoch:
            if self._epoch is not None:
                self._chain.reset()
            self._epoch, self._t_last = packet.epoch, None
        body = packet.body
        before, self._t_last = self._t_last, packet.t_last
        if isinstance(body, RawEvents):
            body, reasons = opened(body, self._resolution, packet.t_first, packet.t_last)
            for reason, n in reasons.items():
                self._chain.refuse(n, reason)
            if reasons and not len(body):
                return self._withheld(packet)
        if not isinstance(body, Events | PackedEvents):
            return (packet,)
        if len(body) == 0:
            return (replace(packet, body=None),)
        wrong = fault(body, self._resolution)
        if not wrong and before is not None and t_first(body) < before:
            wrong = BACKWARDS
        if not wrong and t_last(body) - t_first(body) > LONGEST_US:
            wrong = SIZE
        if wrong:
            return self._refused(packet, wrong, len(body))
        own = isinstance(body, Events)
        kept = self._chain.apply(pack(body) if isinstance(body, Events) else body, owned=own)
        return (replace(packet, body=kept if len(kept) else None),)

    def _take_frame(self, packet: Packet) -> Sequence[Packet]:
        if not isinstance(packet.body, Frame):
            return (packet,)
        self._frames.taken += 1
        if packet.body.resolution != self._resolution:
            self._frames.drop(SIZE)
            return self._withheld(packet)
        self._frames.passed += 1
        return (replace(packet, body=self._chain.frame(packet.body)),)

    def _refused(self, packet: Packet, reason: str, n: int | None = None) -> Sequence[Packet]:
        self._chain.refuse(packet.n_events if n is None else n, reason)
        return self._withheld(packet)

    @staticmethod
    def _withheld(packet: Packet) -> Sequence[Packet]:
        return (replace(packet, body=None),) if packet.end else ()

    def close(self) -> Sequence[Packet]:
        """Nothing is kept inside."""
        return ()
