"""The producer's end of its edges: one ROUTER, a queue per consumer, nothing that blocks."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import zmq

from rtpipe import packing, wire
from rtpipe.errors import RtpipeError, WireError
from rtpipe.ledger import SentLedger, Tally
from rtpipe.sockets import messages
from rtpipe.sockets.buffers import Buffers
from rtpipe.sockets.curve import Admission, CurveServer
from rtpipe.sockets.edge import Edge, State, streams_of
from rtpipe.sockets.endpoints import MORE, NOW, Context, Socket, bind, send_part
from rtpipe.sockets.messages import Hello, Offer, Welcome
from rtpipe.sockets.queue import CLOSED, Parcel
from rtpipe.types import Packet, StreamInfo

BATCH = 256
"""Messages from consumers taken in one call of ``serve``."""
MOST_EDGES = 256
"""Consumers of one producer; those that left unasked are forgotten beyond it, the first first."""
PATIENCE_S = 2.0
"""A ``latest`` consumer that has not acknowledged anything for so long holds up no shutdown."""


class Publisher:
    """Sends packets to every consumer that asked for their kind.

    ``live``: never waits; a queue of ``every`` that holds ``queue_bytes`` drops the newest packets and counts them
    (``"queue_full"``), and packets for an expected consumer that died are counted too (``"consumer_absent"``).
    Otherwise (a replay) the owner waits while :attr:`room` is False. ``continues``: an instance started after a crash
    sends the same packets under the same numbers, so that consumers refuse what they have (``"duplicate"``); by default
    so for a replay. A stage that starts anew says False, as a camera does.

    ``expected``: names of the consumers without which :attr:`ready` stays False. Raises ``InputError`` for a bad
    endpoint, ``WorldError`` where it cannot listen. Nothing here blocks.
    """

    def __init__(
        self,
        endpoint: str,
        name: str,
        *,
        live: bool,
        queue_bytes: int = 64 << 20,
        expected: Sequence[str] = (),
        context: Context | None = None,
        curve: CurveServer | None = None,
        continues: bool | None = None,
    ) -> None:
        self._admission = None if curve is None else Admission(curve.clients)
        if self._admission is not None:
            context = self._admission.context
        try:
            self.socket: Socket = bind(context or zmq.Context.instance(), endpoint, messages.MAX_CONTROL, curve)
            """For the owner's poller (POLLIN)."""
        except RtpipeError:
            self._close_admission()
            raise
        self.instance = os.urandom(messages.INSTANCE_BYTES)
        self.refused: dict[str, Tally] = {}
        """What came from strangers and could not be understood, by reason."""
        self._name, self._live, self._bound = name, live, queue_bytes
        self._continues = not live if continues is None else continues
        self._edges = {consumer: Edge(name, consumer, queue_bytes, live, True) for consumer in expected}
        self._by_identity: dict[bytes, Edge] = {}
        self._streams: dict[str, StreamInfo] | None = None
        self._wanted: dict[str, list[Edge]] = {}
        self._next_seq: dict[str, int] = {}
        self._ends: dict[str, Packet] = {}
        self._buffers = Buffers()

    @property
    def ready(self) -> bool:
        """Every expected consumer has said hello and that it is ready, or was given up for good."""
        return self._streams is not None and all(
            edge.state not in (State.AWAITED, State.ABSENT) for edge in self._edges.values() if edge.expected
        )

    @property
    def attended(self) -> bool:
        """Somebody is ready and gets packets."""
        return any(edge.state is State.OPEN for edge in self._edges.values())

    @property
    def resume(self) -> Mapping[str, int]:
        """For a replay that was restarted: of each stream the lowest ``seq`` that the expected ``every`` consumers
        report as their last; -1 where one has none."""
        hellos = [edge.hello for edge in self._edges.values() if edge.expected and edge.every and edge.hello]
        return {name: min((h.last.get(name, -1) for h in hellos), default=-1) for name in self._streams or ()}

    @property
    def room(self) -> bool:
        """Every ``every`` queue can take another packet, and nobody who must be waited for is missing."""
        for edge in self._edges.values():
            if edge.every and (
                edge.queue.full or edge.state is State.ABSENT or (edge.expected and edge.state is State.AWAITED)
            ):
                return False
        return True

    @property
    def backlog(self) -> int:
        """Bytes that the slowest ``every`` consumer has not acknowledged."""
        held = (edge.queue.bytes_waiting + edge.queue.bytes_under_way for edge in self._edges.values() if edge.every)
        return max(held, default=0)

    @property
    def drained(self) -> bool:
        """Everything published is acknowledged or dropped. A ``latest`` consumer that is stuck is not waited for."""
        now = time.monotonic()
        return all(
            edge.queue.empty or (not edge.every and now - edge.progress_at > PATIENCE_S)
            for edge in self._edges.values()
        )

    @property
    def stirred(self) -> float:
        """When (CLOCK_MONOTONIC, s) somebody who owes an acknowledgement last gave a sign of life."""
        return max((edge.progress_at for edge in self._edges.values() if not edge.queue.empty), default=0.0)

    def announce(self, streams: Sequence[StreamInfo]) -> None:
        """Say what will be sent. Consumers are welcomed from now on. Takes a moment the first time (kernels)."""
        packing.warm()
        self._streams = {stream.name: stream for stream in streams}
        for stream in streams:
            self._next_seq.setdefault(stream.name, 0)
        for edge in list(self._edges.values()):
            if edge.hello is not None and edge.identity is not None:
                self._greet(edge, edge.hello.ready)
        self._plan()

    def _plan(self) -> None:
        self._wanted = {name: streams_of(self._edges.values(), info) for name, info in (self._streams or {}).items()}

    def publish(self, packet: Packet) -> None:
        """Queue a packet for every edge that wants its stream, and send what credits allow. Its arrays are copied:
        they are the owner's again at once. Raises ``WireError`` for a packet that cannot travel and ``KeyError`` for a
        stream that was not announced."""
        edges = self._wanted[packet.stream]
        self._next_seq[packet.stream] = packet.seq + 1
        if packet.end:
            self._ends[packet.stream] = packet
        admitting = [edge for edge in edges if edge.admits(packet.stream, packet.count, packet.end)]
        if admitting:
            parcel = Parcel(wire.prepare(packet, self._buffers.take), self._buffers.give_back)
            for edge in admitting:
                if edge.queue.empty:
                    edge.moved()
                edge.queue.put(packet, parcel)
                self._flush(edge)

    def _flush(self, edge: Edge) -> None:
        if edge.state is not State.OPEN or edge.identity is None:
            return
        queue = edge.queue
        while (item := queue.next()) is not None:
            queue.address(item)
            parts: list[wire.Part] = [
                messages.numbered(messages.PACKET, self.instance, item.number),
                item.parcel.prepared.topic,
                item.header,
            ]
            if item.parcel.prepared.payload is not None:
                parts.append(item.parcel.message)
            if item.number != edge.lose_number and not self._send(edge, parts):
                return
            queue.sent(item)

    def _send(self, edge: Edge, parts: Sequence[wire.Part]) -> bool:
        """Hand a message to ZeroMQ; False, and the edge disconnected, where the connection is gone."""
        assert edge.identity is not None
        socket = self.socket
        try:
            send_part(socket, edge.identity, MORE | NOW)
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                self._by_identity.pop(edge.identity, None)
                edge.disconnected()
            return False
        for part in parts[:-1]:
            send_part(socket, part, MORE)
        send_part(socket, parts[-1], 0, not isinstance(parts[-1], zmq.Frame))
        return True

    def serve(self) -> None:
        """Take hellos, acknowledgements and goodbyes; send what credits allow; see who is missing. Call it often."""
        for _ in range(BATCH):
            try:
                parts = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            try:
                self._hear(parts)
            except WireError as error:
                self.refused.setdefault(error.reason, Tally()).packets += 1
                if error.reason == "version":
                    self._reply(parts[0], messages.NO + str(error).encode())
        for edge in self._edges.values():
            if edge.overdue:
                edge.absent(will_return=False)
            elif edge.identity is not None:
                self._flush(edge)
                if edge.identity is not None and edge.ping_due:
                    self._send(edge, [messages.PING])

    def _hear(self, parts: list[bytes]) -> None:
        identity, data = parts[0], parts[-1]
        if len(parts) != 2:
            raise WireError("parts", f"{len(parts)} parts from a consumer, 2 were expected")
        kind, edge = data[:1], self._by_identity.get(identity)
        if kind == messages.HELLO:
            self._meet(identity, messages.parse_hello(data[1:]))
        elif data == b"" or (edge is None and kind in (messages.ACKNOWLEDGE, messages.READY, messages.BYE)):
            self._reply(identity, messages.WHO)
        elif edge is None:
            raise WireError("stranger", "a message from somebody who has not said hello")
        elif kind in (messages.ACKNOWLEDGE, messages.READY, messages.BYE):
            instance, number = messages.parse_numbered(data)
            if instance != self.instance:
                raise WireError("instance", "meant for a producer that died")
            edge.moved()
            if not edge.queue.acknowledge(number):
                raise WireError("number", f"{edge.name}: packet {number} acknowledged, which was never sent")
            if kind == messages.READY and edge.state is not State.OPEN:
                self._greet(edge, ready=True)
            elif kind == messages.BYE:
                self._by_identity.pop(identity)
                edge.leave()
                if not edge.expected:
                    self._plan()
        else:
            raise WireError("kind", f"a message that begins with {kind!r}")

    def _meet(self, identity: bytes, hello: Hello) -> None:
        if hello.producer != self._name:
            self._reply(identity, messages.NO + f"this is {self._name!r}, not {hello.producer!r}".encode())
            return
        edge = self._edges.get(hello.consumer)
        if edge is None:
            if len(self._edges) >= MOST_EDGES and not self._forget_one():
                raise WireError("hello", f"{hello.consumer!r} is one consumer too many")
            edge = Edge(self._name, hello.consumer, self._bound, self._live, False)
            self._edges[hello.consumer] = edge
        if edge.identity is not None and edge.identity != identity:
            self._by_identity.pop(edge.identity, None)
        known = self._by_identity.get(identity)
        if known is not None and known is not edge:
            raise WireError("hello", f"one connection says it is {known.consumer!r} and {hello.consumer!r}")
        edge.attach(identity, hello, self.instance)
        self._by_identity[identity] = edge
        if self._streams is not None:
            self._greet(edge, hello.ready)

    def _forget_one(self) -> bool:
        """Make room for a consumer: the first of those that came unasked and are gone. Its ledger goes with it."""
        for name, edge in self._edges.items():
            if not edge.expected and edge.state in (State.LEFT, State.GONE) and edge.queue.empty:
                del self._edges[name]
                self._plan()
                return True
        return False

    def _greet(self, edge: Edge, ready: bool) -> None:
        """Welcome a consumer; from its being ready on, packets follow."""
        assert edge.hello is not None
        if self._streams is None:
            edge.hello.ready = ready
            return
        self._plan()
        opened = ready and edge.state is not State.OPEN
        offers = []
        for info in self._streams.values():
            if edge.wants(info):
                start, counters = edge.queue.start(info.name, self._following(info.name))
                offers.append(
                    Offer(
                        info.name,
                        info.resolution,
                        info.camera,
                        start,
                        (counters.sent.packets, counters.sent.events),
                        {reason: (n.packets, n.events) for reason, n in counters.dropped.items()},
                        info.encoding,
                    )
                )
        welcome = Welcome(
            messages.PROTOCOL, wire.VERSION, self._name, self.instance, self._continues,
            opened or edge.state is State.OPEN, offers,
        )  # fmt: skip
        if not self._send(edge, [messages.HELLO + messages.encode(welcome)]):
            return
        if opened:
            edge.open(self.instance)
            self._repeat_ends(edge, edge.hello)
        self._flush(edge)

    def _following(self, stream: str) -> int:
        """The ``seq`` after everything published; of a stream that has ended, its end, which is said again."""
        end = self._ends.get(stream)
        return self._next_seq[stream] if end is None else end.seq

    def _repeat_ends(self, edge: Edge, hello: Hello) -> None:
        """A consumer that comes when a stream is over is told so."""
        waiting = {item.stream for item in edge.queue.waiting if item.end}
        for stream, end in self._ends.items():
            if stream not in waiting and edge in self._wanted[stream] and hello.last.get(stream, -1) < end.seq:
                t, n = end.t_last, end.received_ns
                again = Packet(stream, end.seq, t, t, n, epoch=end.epoch, end=True)
                edge.queue.put(again, Parcel(wire.prepare(again), self._buffers.give_back))

    def _reply(self, identity: bytes, message: bytes) -> None:
        with suppress(zmq.ZMQError):  # it may have gone again
            self.socket.send_multipart([identity, message], zmq.NOBLOCK)

    def mark_absent(self, name: str, will_return: bool) -> None:
        """The supervisor saw this consumer die. What it had not acknowledged is counted (``"consumer_died"``). Until it
        is back, a live producer counts ``"consumer_absent"`` and a replay waits, if it ``will_return``."""
        edge = self._edges.get(name)
        if edge is None:
            return
        if edge.identity is not None:
            self._by_identity.pop(edge.identity, None)
        edge.absent(will_return)

    def ledgers(self) -> list[SentLedger]:
        """One per consumer there ever was, as it stands now (they go on counting)."""
        return [edge.queue.ledger for edge in self._edges.values()]

    def give_up(self) -> None:
        """Count what nobody has acknowledged as dropped (``"closed"``): before the last report, or it is in none."""
        for edge in self._edges.values():
            edge.queue.lose(CLOSED)

    def close(self, linger_ms: int = 200) -> None:
        """Count what nobody acknowledged (``"closed"``) and close; ZeroMQ may take ``linger_ms`` to send what it has.
        Wait for :attr:`drained` first."""
        self.give_up()
        self.socket.close(linger_ms)
        self._close_admission()

    def _close_admission(self) -> None:
        if self._admission is not None:
            self._admission.close()
