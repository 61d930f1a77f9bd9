"""The consumer's end of one edge: a DEALER that takes packets, checks them, accounts for gaps and acknowledges."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import zmq

from rtpipe import packing, wire
from rtpipe.errors import InputError, WireError
from rtpipe.ledger import DUPLICATE, Exchange, ReceivedLedger, Tally
from rtpipe.sockets import messages
from rtpipe.sockets.continuity import Continuity
from rtpipe.sockets.curve import CurveClient
from rtpipe.sockets.endpoints import NOW, Context, Socket, connect, receive_part
from rtpipe.sockets.messages import Hello, Welcome
from rtpipe.types import Count, Packet, Resolution, StreamInfo

LARGEST = wire.MAX_PAYLOAD + (1 << 16)
ACKNOWLEDGE_PACKETS = 8
"""So many processed packets, or a quarter of the credit, are acknowledged at once; less when nothing more is there."""
NOT_PROCESSED = "not_processed"
"""Refused because the consumer closed before it got to them."""
_NOBODY = bytes(messages.INSTANCE_BYTES)


class Subscriber:
    """Takes the packets of one producer.

    ``kinds``: the kinds of streams wanted (the last part of their names). ``delivery`` ``"every"``: all packets in
    order; ``"latest"``: of each stream the newest, what is skipped is counted. ``credit_bytes``: how much may be under
    way before it is acknowledged. The producer need not be there yet, and may be restarted: the edge is taken up again.
    Nothing blocks. Raises ``InputError`` for a bad endpoint.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        consumer: str,
        producer: str,
        kinds: Sequence[str],
        delivery: Literal["every", "latest"] | str = "every",
        credit_bytes: int = 16 << 20,
        context: Context | None = None,
        curve: CurveClient | None = None,
    ) -> None:
        if delivery not in ("every", "latest"):
            raise InputError(f"delivery {delivery!r}: every or latest is wanted")
        self.socket: Socket = connect(context or zmq.Context.instance(), endpoint, LARGEST, curve)
        """For the owner's poller (POLLIN)."""
        self.edge = f"{producer}->{consumer}"
        self.streams: tuple[StreamInfo, ...] | None = None
        """What will come, once the producer has said so."""
        self._consumer, self._producer, self._kinds, self._delivery = consumer, producer, list(kinds), delivery
        self._credit = credit_bytes
        self._instance = os.urandom(messages.INSTANCE_BYTES)
        self._producer_instance = _NOBODY
        self._ready = False
        self._ledger = ReceivedLedger(self.edge)
        self._continuity = Continuity(self._ledger)
        self._session = Exchange()
        self._opened_by = _NOBODY
        self._resolutions: dict[bytes, Resolution | None] = {}
        self._held: deque[_Held] = deque()
        self._more = False
        self._received = 0
        self._finished = 0
        self._acknowledged = 0
        self._owed_packets = 0
        self._owed_bytes = 0

    @property
    def ended(self) -> bool:
        """Every stream had its end packet: nothing more will come."""
        return self._opened_by != _NOBODY and self._continuity.ended

    def ledger(self) -> ReceivedLedger:
        """As it stands now (it goes on counting)."""
        return self._ledger

    def say_ready(self) -> None:
        """Ask for packets: the owner has opened what needed opening. Said again to a producer that is restarted."""
        packing.warm()
        self._ready = True
        if self.streams is not None:
            self._say(messages.READY, self._finished)

    def serve(self) -> None:
        """Answer the producer where no packet can be in the way, and send the acknowledgements that are owed. Call it
        between receives and while waiting."""
        while self._opened_by == _NOBODY and (prelude := self._next()) is not None:
            self._other(prelude)
        self._acknowledge()

    def receive(self) -> Packet | None:
        """The next packet, checked, or None where none has come. Events are views into the message: hold on to the
        packet while they are used. Raises ``InputError`` where the producer is another than the one meant, or speaks
        another version."""
        while (prelude := self._next()) is not None:
            if prelude[:1] != messages.PACKET:
                self._other(prelude)
            elif (packet := self._packet(prelude)) is not None:
                return packet
        self._acknowledge()
        return None

    def _next(self) -> bytes | None:
        """The first part of the next message; :meth:`_rest` takes the others."""
        try:
            frame = receive_part(self.socket, NOW, False)
        except zmq.Again:
            return None
        self._more = frame.more
        first: bytes = frame.bytes
        return first

    def _rest(self) -> list[wire.Part]:
        parts: list[wire.Part] = []
        while self._more:
            frame = receive_part(self.socket, NOW, False)
            self._more = frame.more
            parts.append(frame)
        return parts

    def _packet(self, prelude: bytes) -> Packet | None:
        parts = self._rest()
        try:
            instance, number = messages.parse_numbered(prelude)
            if instance != self._opened_by:
                raise WireError("instance", "a packet from a producer that has not welcomed us")
        except WireError as error:
            self._count(Count(1, 0), error.reason)
            return None
        if number <= self._received:
            return None  # sent again after a broken connection, but it had come through
        self._received = number
        size = sum(map(len, parts))
        packet: Packet | None = None
        reason = ""
        try:
            packet = self._decode(parts)
            count = packet.count
            if self._continuity.duplicate(packet):
                packet, reason = None, DUPLICATE
        except WireError as error:
            reason, count = error.reason, _claimed(parts)
            self._continuity.unreadable(bytes(parts[0]).decode(errors="replace") if parts else "")
        if packet is not None:
            self._continuity.arrived(packet)
            self._ledger.received.add(count)
            self._session.passed.add(count)
        else:
            self._count(count, reason)
        self._held.append(_Held(number, packet, count, size, self._session))
        if packet is None:
            self._finish()
        return packet

    def _decode(self, parts: Sequence[wire.Part]) -> Packet:
        topic = bytes(parts[0]) if parts else b""
        if topic not in self._resolutions:
            raise WireError("stream", f"a packet of {topic[:40]!r}, which was not announced")
        return wire.decode(parts, self._resolutions[topic])

    def _count(self, count: Count, reason: str) -> None:
        """A packet that is not delivered."""
        self._ledger.received.add(count)
        self._ledger.refused.setdefault(reason, Tally()).add(count)
        self._session.passed.add(count)

    def processed(self, packet: Packet) -> None:
        """The owner is done with this packet and all before it: they are acknowledged, several at once while more are
        there, at the latest by the next call that finds none. Raises ``ValueError`` for a packet that is not held."""
        if not any(held.packet is packet for held in self._held):
            raise ValueError(f"{self.edge}: {packet.stream} packet {packet.seq} is not waiting to be processed")
        while True:
            held = self._held[0]
            found = held.packet is packet
            if held.packet is not None:
                self._ledger.processed.add(held.count)
                held.packet = None
            self._finish(one=True)
            if found:
                break
        self._finish()
        if (
            self._delivery == "latest"
            or self._owed_packets >= ACKNOWLEDGE_PACKETS
            or 4 * self._owed_bytes >= self._credit
        ):
            self._acknowledge()

    def _finish(self, one: bool = False) -> None:
        """Let go of what is done at the head of the line."""
        while self._held and self._held[0].packet is None:
            held = self._held.popleft()
            held.session.acknowledged.add(held.count)
            if held.session is self._session:
                self._finished = held.number
                self._owed_packets += 1
                self._owed_bytes += held.size
            if one:
                return

    def _acknowledge(self) -> None:
        if self._finished > self._acknowledged and self._say(messages.ACKNOWLEDGE, self._finished):
            self._acknowledged = self._finished
            self._owed_packets = self._owed_bytes = 0

    def _say(self, kind: bytes, number: int) -> bool:
        return self._send(messages.numbered(kind, self._producer_instance, number))

    def _send(self, message: bytes) -> bool:
        try:
            self.socket.send(message, zmq.NOBLOCK)
        except zmq.Again:
            return False  # nobody is there; whoever comes will be told anew
        return True

    def _other(self, data: bytes) -> None:
        """A message that is not a packet."""
        extra = self._rest()
        kind = data[:1]
        try:
            if extra:
                raise WireError("parts", "more parts than such a message has")
            if kind == messages.WHO:
                self._hello()
            elif kind == messages.HELLO:
                self._welcomed(messages.parse_welcome(data[1:]))
            elif kind == messages.PING:
                self._say(messages.ACKNOWLEDGE, self._finished)
            elif kind == messages.NO:
                raise InputError(f"edge {self.edge}: the producer refuses: {data[1:400].decode(errors='replace')}")
            else:
                raise WireError("kind", f"a message that begins with {kind!r}")
        except WireError as error:
            if error.reason == "version":
                raise InputError(f"edge {self.edge}: {error}") from None
            self._ledger.received.packets += 1
            self._ledger.refused.setdefault(error.reason, Tally()).packets += 1

    def _hello(self) -> None:
        hello = Hello(
            messages.PROTOCOL, wire.VERSION, self._consumer, self._producer, self._instance, self._kinds,
            "latest" if self._delivery == "latest" else "every", self._credit, self._ready, self._opened_by,
            self._received, self._continuity.last,
        )  # fmt: skip
        self._send(messages.HELLO + messages.encode(hello))

    def _welcomed(self, welcome: Welcome) -> None:
        if welcome.producer != self._producer:
            raise InputError(f"edge {self.edge}: its endpoint belongs to {welcome.producer!r}")
        again = self._producer_instance == welcome.instance
        self._producer_instance = welcome.instance
        self.streams = tuple(offer.info for offer in welcome.streams)
        self._resolutions = {offer.name.encode(): offer.resolution for offer in welcome.streams}
        if welcome.open:
            same = welcome.instance == self._opened_by
            if not same:
                self._opened_by = welcome.instance
                self._received = self._finished = self._acknowledged = 0
                session = f"{welcome.instance.hex()}-{self._instance.hex()}"
                self._session = self._ledger.sessions.setdefault(session, Exchange())
            for offer in welcome.streams:
                self._continuity.welcome(offer, same, welcome.continues)
            if same:
                self._say(messages.ACKNOWLEDGE, self._finished)
        elif self._ready and not again:
            self._say(messages.READY, 0)  # ready was said while the hello was under way

    def close(self, linger_ms: int = 200) -> None:
        """Acknowledge what is done, say goodbye and close. What was taken but not processed is counted
        (``"not_processed"``)."""
        for held in self._held:
            if held.packet is not None:
                self._ledger.refused.setdefault(NOT_PROCESSED, Tally()).add(held.count)
            held.session.lost.add(held.count)
        self._held.clear()
        if self._producer_instance != _NOBODY:
            self._say(messages.BYE, self._finished)
        self.socket.close(linger_ms)


@dataclass(slots=True)
class _Held:
    """A packet that is not acknowledged: with the owner, or (``packet`` None) done but behind one that is."""

    number: int
    packet: Packet | None
    count: Count
    size: int
    session: Exchange


def _claimed(parts: Sequence[wire.Part]) -> Count:
    """What a malformed packet's header says that it held."""
    try:
        head = wire.decode_header(parts[1])
    except (WireError, IndexError):
        return Count(1, 0)
    return Count(1, head.n if head.encoding in wire.EVENTS else 0)
