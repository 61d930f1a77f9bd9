"""One consumer as its producer knows it: who it is, where it is, and whether it can be counted on."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from enum import Enum

from rtpipe.sockets.messages import Hello
from rtpipe.sockets.queue import CONSUMER_ABSENT, CONSUMER_DIED, CONSUMER_LEFT, QUEUE_FULL, EdgeQueue
from rtpipe.types import Count, StreamInfo

RETURN_S = 5.0
"""How long a consumer whose connection broke may take to come back before it counts as dead, unless the supervisor says
so earlier."""
FIRST_PING_S, LAST_PING_S = 0.5, 60.0
LOSE_VARIABLE = "RTPIPE_TEST_LOSE"
"""Test hook, never set in earnest: ``producer->consumer:N`` throws the N-th packet of that edge away uncounted, as if
ZeroMQ had lost it, so that tests can see the ledger name the edge."""


class State(Enum):
    """Where a consumer stands."""

    AWAITED = "expected, and has never been ready"
    OPEN = "gets packets"
    ABSENT = "died and will be back"
    GONE = "died for good"
    LEFT = "said goodbye"


class Edge:
    """State, identity and queue of one consumer. Knows no socket."""

    def __init__(self, producer: str, consumer: str, bound: int, live: bool, expected: bool) -> None:
        self.name = f"{producer}->{consumer}"
        self.consumer = consumer
        self.expected = expected
        self.queue = EdgeQueue(self.name, bound)
        self.state = State.AWAITED
        self.hello: Hello | None = None
        self.identity: bytes | None = None
        """The ROUTER's name for the connection; None while there is none."""
        self.lost_at: float | None = None
        self.progress_at = 0.0
        self._live = live
        self._next_ping = 0.0
        self._ping_every = FIRST_PING_S
        self.lose_number = _lose_number(self.name)

    @property
    def every(self) -> bool:
        """Delivery ``every`` (also supposed of a consumer that has not said)."""
        return not self.queue.latest

    def wants(self, stream: StreamInfo) -> bool:
        """Whether it asked for this kind of stream."""
        return self.hello is not None and stream.kind in self.hello.kinds

    def attach(self, identity: bytes, hello: Hello, instance: bytes) -> None:
        """A hello came over this connection. Another instance of the consumer means that the old one died; the same one
        over a new connection gets again what the old connection swallowed."""
        old = self.hello
        if self.state in (State.GONE, State.LEFT):
            self.state = State.AWAITED  # it joins as if for the first time
        elif self.state is State.OPEN and old is not None:
            if old.instance != hello.instance:
                self.queue.lose(CONSUMER_DIED, keep_waiting=self._keeps)
                self.state = State.ABSENT
            elif self.identity != identity:
                self.queue.send_again(hello.received if hello.knows == instance else 0)
        self.identity, self.hello, self.lost_at = identity, hello, None
        self.queue.latest = hello.delivery == "latest"
        self.queue.credit = hello.credit_bytes
        self.moved()

    def open(self, instance: bytes) -> None:
        """It is ready: packets flow from here on."""
        assert self.hello is not None
        self.state = State.OPEN
        self.queue.begin(f"{instance.hex()}-{self.hello.instance.hex()}")
        self.moved()

    @property
    def _keeps(self) -> bool:
        return not self._live and self.every

    def admits(self, stream: str, count: Count, end: bool) -> bool:
        """Whether a packet is to be queued; if not, it has been counted."""
        if self.state is State.OPEN:
            if not (self._live and self.every and self.queue.full) or end:
                return True
            self.queue.refuse(stream, count, QUEUE_FULL)
        elif self.state is State.ABSENT or (self.state is State.GONE and self.expected):
            if self.state is State.ABSENT and self._keeps:
                return True
            self.queue.refuse(stream, count, CONSUMER_ABSENT)
        return False

    def absent(self, will_return: bool) -> None:
        """It died, as the supervisor saw or its silence proves."""
        if (self.state is State.LEFT and not will_return) or (self.state is State.AWAITED and will_return):
            return
        self.queue.lose(CONSUMER_DIED, keep_waiting=will_return and self._keeps)
        self.state = State.ABSENT if will_return else State.GONE
        self.identity, self.lost_at = None, None

    def leave(self) -> None:
        """It said goodbye."""
        self.queue.lose(CONSUMER_LEFT)
        self.identity, self.lost_at = None, None
        self.state = State.LEFT

    def disconnected(self) -> None:
        """Its connection is gone; whether it died will show."""
        self.identity = None
        self.lost_at = time.monotonic()

    @property
    def overdue(self) -> bool:
        """Its connection broke too long ago."""
        return self.lost_at is not None and time.monotonic() - self.lost_at > RETURN_S

    def moved(self) -> None:
        """It gave a sign of life."""
        self.progress_at = time.monotonic()
        self._ping_every = FIRST_PING_S
        self._next_ping = self.progress_at + self._ping_every

    @property
    def ping_due(self) -> bool:
        """It owes an acknowledgement and has been silent: time to see whether the connection still stands. Ever more
        seldom, because pings pile up at a consumer that was stopped."""
        if self.queue.empty:
            return False
        now = time.monotonic()
        if now < self._next_ping:
            return False
        self._ping_every = min(2 * self._ping_every, LAST_PING_S)
        self._next_ping = now + self._ping_every
        return True


def _lose_number(edge: str) -> int:
    name, _, number = os.environ.get(LOSE_VARIABLE, "").rpartition(":")
    return int(number) if name == edge and number.isdigit() else 0


def streams_of(edges: Collection[Edge], stream: StreamInfo) -> list[Edge]:
    """The edges that want a stream."""
    return [edge for edge in edges if edge.wants(stream)]
