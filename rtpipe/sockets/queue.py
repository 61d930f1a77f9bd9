"""The producer's half of one edge, without a socket: what waits, what is under way, what was counted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

import zmq

from rtpipe.ledger import Exchange, SentLedger
from rtpipe.types import Array, Count, Counters, Packet
from rtpipe.wire import Prepared

OVERHEAD = 512
"""Bytes that a packet costs beside its payload: header, parts, bookkeeping."""
ZERO_COPY_BYTES = 1 << 17
"""From this size on a payload is handed to ZeroMQ as it is; below, its own copy is cheaper."""
QUEUE_FULL, SKIPPED, CONSUMER_DIED, CONSUMER_LEFT, CONSUMER_ABSENT, CLOSED = (
    "queue_full", "skipped", "consumer_died", "consumer_left", "consumer_absent", "closed",
)  # fmt: skip
"""Why a packet of an edge was dropped on the producer's side."""


class Parcel:
    """A packed packet that several edges share; its buffer is given back when the last has been acknowledged."""

    __slots__ = ("_give_back", "_message", "_spoilt", "_users", "prepared")

    def __init__(self, prepared: Prepared, give_back: Callable[[Array], None]) -> None:
        self.prepared = prepared
        self._give_back = give_back
        self._users = 0
        self._spoilt = False
        self._message: zmq.Frame | None = None

    @property
    def message(self) -> Array | zmq.Frame | None:
        """The payload as ZeroMQ takes it, shared by all edges where it is large."""
        payload = self.prepared.payload
        if payload is None or len(payload) < ZERO_COPY_BYTES:
            return payload
        if self._message is None:
            self._message = zmq.Frame(payload, copy=False)
        return self._message

    def hold(self) -> None:
        """One more edge wants it."""
        self._users += 1

    def release(self, unread: bool = True) -> None:
        """An edge is done with it; not ``unread``: ZeroMQ may still be reading, so the buffer is never used again."""
        self._users -= 1
        self._spoilt |= not unread
        if self._users == 0 and not self._spoilt and self.prepared.payload is not None:
            self._give_back(self.prepared.payload)


class Item:
    """One packet on one edge. ``dropped`` are the stream's drops before it, ``number`` its place on the edge (from 1)
    and ``header`` its bytes, both once it was sent."""

    __slots__ = ("count", "dropped", "end", "header", "number", "parcel", "seq", "size", "stream")

    def __init__(self, packet: Packet, parcel: Parcel, dropped: Mapping[str, Count]) -> None:
        self.stream, self.seq, self.end, self.count = packet.stream, packet.seq, packet.end, packet.count
        self.parcel, self.dropped = parcel, dropped
        self.size = parcel.prepared.size + OVERHEAD
        self.number = 0
        self.header = b""


def _more(counts: Mapping[str, Count], reason: str, count: Count) -> Mapping[str, Count]:
    return {**counts, reason: counts.get(reason, Count()) + count}


class EdgeQueue:
    """``every``: in order, at most ``credit`` bytes under way, at most ``bound`` in all. ``latest``: of each stream one
    packet under way and the newest waiting. A packet larger than a limit passes alone."""

    def __init__(self, edge: str, bound: int) -> None:
        self.ledger = SentLedger(edge)
        self.latest = False
        self.credit = 1
        self.bound = bound
        self.waiting: deque[Item] = deque()
        self.under_way: deque[Item] = deque()
        self.bytes_waiting = 0
        self.bytes_under_way = 0
        self._busy: dict[str, int] = {}
        self._sent: dict[str, Count] = {}
        self._dropped: dict[str, Mapping[str, Count]] = {}
        self._number = 0
        self._session = Exchange()

    @property
    def last_number(self) -> int:
        """Of the packet sent last."""
        return self._number

    @property
    def full(self) -> bool:
        """No room for another packet."""
        held = self.bytes_waiting + self.bytes_under_way
        return held >= self.bound

    @property
    def empty(self) -> bool:
        """Nothing waits and everything is acknowledged."""
        return not self.waiting and not self.under_way

    def counters(self, stream: str) -> Counters:
        """Of the packets sent so far."""
        return Counters(self._sent.get(stream, Count()), self._dropped.get(stream, {}))

    def start(self, stream: str, following: int) -> tuple[int, Counters]:
        """The ``seq`` that comes next on this edge (``following`` where nothing waits) and the counters before it."""
        for item in self.waiting:
            if item.stream == stream:
                return item.seq, Counters(self._sent.get(stream, Count()), item.dropped)
        return following, self.counters(stream)

    def begin(self, session: str) -> None:
        """What is sent from now on goes to this session (producer's and consumer's instance)."""
        self._session = self.ledger.sessions.setdefault(session, Exchange())

    def refuse(self, stream: str, count: Count, reason: str) -> None:
        """A packet was meant for this edge and is dropped before it got into the queue."""
        self.ledger.offered.add(count)
        self._drop(stream, count, reason)

    def _drop(self, stream: str, count: Count, reason: str) -> None:
        self.ledger.drop(reason, count)
        self._dropped[stream] = _more(self._dropped.get(stream, {}), reason, count)

    def put(self, packet: Packet, parcel: Parcel) -> None:
        """Queue a packet; ``latest`` first drops the one of its stream that waits, unless that is to be sent again or
        the new one is the end."""
        if self.latest and not packet.end:
            for item in self.waiting:
                if item.stream == packet.stream and not item.end and not item.number:
                    self.waiting.remove(item)
                    self._forget(item, SKIPPED)
                    break
        item = Item(packet, parcel, self._dropped.get(packet.stream, {}))
        parcel.hold()
        self.ledger.offered.add(item.count)
        self.waiting.append(item)
        self.bytes_waiting += item.size

    def _forget(self, item: Item, reason: str) -> None:
        self.bytes_waiting -= item.size
        self._drop(item.stream, item.count, reason)
        item.parcel.release()

    def next(self) -> Item | None:
        """The packet that may be sent now, or None. It stays queued until :meth:`sent`."""
        if self.latest:
            return next((item for item in self.waiting if not self._busy.get(item.stream)), None)
        if self.waiting:
            item = self.waiting[0]
            if not self.under_way or self.bytes_under_way + item.size <= self.credit:
                return item
        return None

    def address(self, item: Item) -> None:
        """Give an item its number and header; one that is sent again keeps them."""
        if not item.number:
            sent = self._sent.get(item.stream, Count()) + item.count
            item.number = self._number + 1
            item.header = item.parcel.prepared.header(Counters(sent, item.dropped))

    def sent(self, item: Item) -> None:
        """It was handed to ZeroMQ."""
        if item.number > self._number:
            self._number = item.number
            self._sent[item.stream] = self._sent.get(item.stream, Count()) + item.count
            self.ledger.sent.add(item.count)
            self._session.passed.add(item.count)
        if self.waiting[0] is item:
            self.waiting.popleft()
        else:
            self.waiting.remove(item)
        self.bytes_waiting -= item.size
        self.under_way.append(item)
        self.bytes_under_way += item.size
        self._busy[item.stream] = self._busy.get(item.stream, 0) + 1

    def acknowledge(self, number: int) -> bool:
        """Everything up to ``number`` has been processed; False for a number that was never sent."""
        if number > self._number:
            return False
        while self.under_way and self.under_way[0].number <= number:
            item = self._landed()
            self.ledger.acknowledged.add(item.count)
            self._session.acknowledged.add(item.count)
            item.parcel.release()
        return True

    def _landed(self) -> Item:
        item = self.under_way.popleft()
        self.bytes_under_way -= item.size
        self._busy[item.stream] -= 1
        return item

    def send_again(self, after: int) -> None:
        """The connection broke but the consumer lives and has all up to ``after``: the rest goes back to wait."""
        kept = [self._landed() for _ in range(len(self.under_way))]
        for item in reversed(kept):
            if item.number > after:
                self.waiting.appendleft(item)
                self.bytes_waiting += item.size
        for item in kept:
            if item.number <= after:
                self.under_way.append(item)
                self.bytes_under_way += item.size
                self._busy[item.stream] += 1

    def lose(self, reason: str, keep_waiting: bool = False) -> None:
        """Nobody will acknowledge what is under way: it is dropped for ``reason``, and what was never sent with it,
        unless ``keep_waiting``."""
        lost: dict[str, Count] = {}
        while self.under_way:
            self._drop_lost(self._landed(), reason, lost)
        kept: deque[Item] = deque()
        for item in self.waiting:
            if keep_waiting and not item.number:  # one with a number was sent before and would have been sent again
                kept.append(item)
                continue
            self.bytes_waiting -= item.size
            self._drop_lost(item, reason, lost)
        self.waiting = kept
        for item in kept:
            if item.stream in lost:
                item.dropped = _more(item.dropped, reason, lost[item.stream])

    def _drop_lost(self, item: Item, reason: str, lost: dict[str, Count]) -> None:
        lost[item.stream] = lost.get(item.stream, Count()) + item.count
        self._drop(item.stream, item.count, reason)
        if item.number:
            self._session.lost.add(item.count)
        item.parcel.release(unread=not item.number)
