"""Both ends of an edge in one process, for tests of the protocol: real ZeroMQ, turned by hand."""

import time
from contextlib import contextmanager

import numpy as np

from rtpipe.sockets import Publisher, Subscriber
from rtpipe.types import Events, PackedEvents, Packet, StreamInfo

SIZE = (346, 260)
EVENTS = StreamInfo("camera/events", SIZE, "test")
FRAMES = StreamInfo("camera/frames", SIZE, "test")
PATIENCE_S = 20.0


def events(seq, n=10):
    t = 1000 * seq + np.arange(n) * 900 // max(n, 1)
    return Events(t, np.full(n, seq % 346, np.uint16), np.arange(n, dtype=np.uint16) % 260, np.zeros(n, np.uint8))


def packet(seq, n=10, stream="camera/events", end=False):
    body = events(seq, n) if n else None
    return Packet(stream, seq, 1000 * seq, 1000 * seq + 999, time.monotonic_ns(), body, end=end)


def is_packet(received, seq, n=10):
    """The packet that :func:`packet` made, whole."""
    wanted = events(seq, n)
    body = received.body
    return (
        received.seq == seq
        and isinstance(body, PackedEvents)
        and np.array_equal(body.t0 + body.dt.astype(np.int64), wanted.t)
        and np.array_equal(body.x, wanted.x)
    )


class Pair:
    """A producer and any number of consumers on one endpoint."""

    def __init__(self, tmp_path, **options):
        self.endpoint = f"ipc://{tmp_path}/edge"
        self.options = {"live": False, "expected": ("engine",), **options}
        self.publisher = self.make_publisher()
        self.subscribers = {}
        self.closed = []

    def make_publisher(self, **changes):
        publisher = Publisher(self.endpoint, "camera", **{**self.options, **changes})
        publisher.announce([EVENTS, FRAMES])
        return publisher

    def join(self, name="engine", ready=True, **options):
        options = {"kinds": ("events",), **options}
        subscriber = Subscriber(self.endpoint, consumer=name, producer="camera", **options)
        self.subscribers[name] = subscriber
        self.until(lambda: subscriber.streams is not None)
        if ready:
            subscriber.say_ready()
            self.until(lambda: subscriber._opened_by == self.publisher.instance)
        return subscriber

    def turn(self):
        self.publisher.serve()
        for subscriber in self.subscribers.values():
            subscriber.serve()

    def until(self, condition):
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, "nothing happened"
            self.turn()
            time.sleep(0.0005)

    def settle(self, seconds=0.1):
        """Let everything that can arrive arrive."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.turn()
            time.sleep(0.002)

    def take(self, name="engine", wanted=1):
        """The next ``wanted`` packets, processed as they come."""
        subscriber, taken = self.subscribers[name], []
        deadline = time.monotonic() + PATIENCE_S
        while len(taken) < wanted:
            assert time.monotonic() < deadline, f"{len(taken)} of {wanted} packets came"
            self.publisher.serve()
            received = subscriber.receive()
            if received is None:
                time.sleep(0.0005)
                continue
            taken.append(received)
            subscriber.processed(received)
        return taken

    def take_all(self, name="engine"):
        """Packets until the end."""
        subscriber, taken = self.subscribers[name], []
        while not subscriber.ended:
            taken += self.take(name)
        self.until(lambda: self.publisher._edges[name].queue.empty)
        return taken

    def end(self, seq):
        self.publisher.publish(packet(seq, 0, end=True))

    def sent(self, name="engine"):
        return next(ledger for ledger in self.publisher.ledgers() if ledger.edge == f"camera->{name}")

    def vanish(self, name="engine"):
        """As if killed: no goodbye. Its socket is gone when this returns."""
        subscriber = self.subscribers.pop(name)
        subscriber.socket.close(0)
        return subscriber

    def close(self):
        for subscriber in self.subscribers.values():
            subscriber.close()
        self.publisher.close()


@contextmanager
def pair(tmp_path, **options):
    both = Pair(tmp_path, **options)
    try:
        yield both
    finally:
        both.close()
