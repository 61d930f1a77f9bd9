"""The events of a topic, whatever its messages are, on one clock and in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rtpipe import encodings
from rtpipe.errors import FormatError, InputError
from rtpipe.formats.ros import messages
from rtpipe.formats.ros.bag import Bag, Message, Topic
from rtpipe.formats.ros.caer import DECODERS
from rtpipe.packing import fault
from rtpipe.types import Array, Events, Resolution, Trigger

EVENT_PACKET = "event_camera_msgs/EventPacket"
EVENT_ARRAYS = ("dvs_msgs/EventArray", "prophesee_event_msgs/EventArray")

WRAP_US = {"evt3": 1 << 24, "evt2": 1 << 34, "evt21": 1 << 34}
"""When a camera's own time begins anew."""
EARLIER_US = 1_000_000

Run = tuple[Events, Trigger]


class EventStream:
    """The events of one topic. ``stamped``: put on the clock of the messages' stamps where they have one of their own.

    Cameras' own encodings (evt3) carry state from message to message and a time that wraps; where reading begins in
    the middle, what precedes the first time word is not known, so it begins a second early, and the wraps before are
    told from the messages' stamps.
    """

    def __init__(self, bag: Bag, topic: Topic, stamped: bool) -> None:
        self._bag, self._topic = bag, topic
        self._packets = topic.type == EVENT_PACKET
        self.triggers = False
        self.notes: tuple[str, ...] = ()
        self._offset = 0
        self._wrap = 0
        self.resolution: Resolution = (0, 0)
        self._decoder: Any = None
        first = next(self.runs(None), None)
        while first is not None and not len(first[0]):  # a stream may begin with messages that only say the time
            first = next((run for run in self.runs(None) if len(run[0])), None)
        if first is None:
            raise FormatError(f"{bag.path}: there is not one event on {topic.name}")
        self.t_start = int(first[0].t[0])
        if self._wrap and stamped:
            self._offset = self._stamp_0 // 1000 - self.t_start
            self.t_start += self._offset
            self.notes = ("events carry the sensor's own time: their first is put at its message's stamp",)
        elif self._wrap:
            self.notes = ("times are the sensor's own, not those of the stamps",)
        self.t_end = self._end()

    def runs(self, t0: int | None) -> Iterator[Run]:
        """Events and triggers message by message, in order; with ``t0`` (µs) some earlier ones may be left out.
        Raises ``FormatError`` naming the message."""
        start_ns: int | None = None
        margin = EARLIER_US
        if t0 is not None and t0 > self.t_start + margin:
            while True:  # until what comes first is early enough, or is the very first
                start_ns = self._log_0 + (t0 - self.t_start - margin) * 1000
                if start_ns <= self._log_0:
                    start_ns = None
                    break
                early = next((run for run in self._decode(start_ns) if len(run[0])), None)
                if early is not None and early[0].t[0] <= t0:
                    break
                margin *= 4
        yield from self._decode(start_ns)

    def _decode(self, start_ns: int | None) -> Iterator[Run]:
        decoder: Any = None
        newest: int | None = None
        shift = self._offset
        for number, message in enumerate(self._bag.messages([self._topic.name], start_ns)):
            try:
                if self._packets:
                    packet = messages.event_packet(message.data, self._bag.cdr)
                    self._meet(packet.resolution, packet.encoding, packet.stamp, message)
                    if self._wrap:
                        if decoder is None:
                            decoder = encodings.load(packet.encoding).Decoder(self.resolution)
                        decoded = decoder.decode(_words(packet.data, packet.encoding))
                        events, triggers = decoded.events, decoded.triggers
                        if newest is None and start_ns is not None and len(events):
                            shift += self._wraps_before(int(events.t[0]) + self._offset, packet.stamp)
                    else:
                        ns, x, y, p = DECODERS[packet.encoding](packet.data)
                        events, triggers = Events((ns + packet.time_base) // 1000, x, y, p), _NO_TRIGGERS
                else:
                    array = messages.event_array(message.data, self._bag.cdr)
                    self._meet(array.resolution, "", array.stamp, message)
                    events, triggers = Events(array.t // 1000, array.x, array.y, array.p), _NO_TRIGGERS
                if shift:
                    events = Events(events.t + shift, events.x, events.y, events.p)
                    triggers = Trigger(triggers.t + shift, triggers.channel, triggers.edge)
                wrong = fault(events, self.resolution)
                if wrong or (newest is not None and len(events) and events.t[0] < newest):
                    raise messages.Broken(f"events with bad {wrong or 'order'}")
            except (messages.Broken, InputError, OverflowError) as error:
                where = f"message {number} of {self._topic.name}" + (f" from {start_ns} ns on" if start_ns else "")
                raise FormatError(f"{self._bag.path}: damaged {where}: {error}"[:490]) from error
            newest = int(events.t[-1]) if len(events) else newest
            yield events, triggers

    def _meet(self, resolution: Resolution, encoding: str, stamp: int, message: Message) -> None:
        """Keep what the first message says, and refuse one that contradicts it. Raises ``Broken``."""
        if self.resolution == (0, 0):
            if self._packets and encoding not in (*DECODERS, *encodings.NAMES):
                known = ", ".join((*DECODERS, *encodings.NAMES))
                raise messages.Broken(f"events in {encoding[:20]!r}; {known} are read")
            self.resolution, self._encoding = resolution, encoding
            self._stamp_0, self._log_0 = stamp, message.log_ns
            self._wrap = WRAP_US.get(encoding, 0)
            self.triggers = bool(self._wrap)
        elif (resolution, encoding) != (self.resolution, self._encoding):
            width, height = resolution
            raise messages.Broken(f"it is of {width}x{height} {encoding[:20]}, the first message is not")

    def _wraps_before(self, t: int, stamp: int) -> int:
        """What the wraps amount to that a decoder missed which began at a message of this stamp and gives ``t``."""
        expected = self.t_start + (stamp - self._stamp_0) // 1000
        return round((expected - t) / self._wrap) * self._wrap

    def _end(self) -> int:
        """The last event's time: nothing is read but the last messages."""
        last = self._bag.last([self._topic.name])
        if last is None:
            raise FormatError(f"{self._bag.path}: its last messages of {self._topic.name} are not there")
        span = EARLIER_US * 1000
        while True:
            start = last.log_ns - span
            newest = None
            for events, _ in self._decode(start if start > self._log_0 else None):
                newest = int(events.t[-1]) if len(events) else newest
            if newest is not None or start <= self._log_0:
                return self.t_start if newest is None else newest
            span *= 8


_NO_TRIGGERS = Trigger(np.empty(0, np.int64), np.empty(0, np.uint8), np.empty(0, np.uint8))


def _words(data: Array, encoding: str) -> Array:
    """Messages end where the driver's buffer did: whole words, or nothing that can be decoded. Raises ``Broken``."""
    if len(data) % encodings.load(encoding).WORD:
        raise messages.Broken(f"{len(data)} bytes are no whole words of {encoding}")
    return data
