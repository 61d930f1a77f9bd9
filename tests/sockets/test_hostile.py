"""Whatever a stranger, a broken driver or another version says: nothing crashes, everything is counted."""

import os
import struct
import time

import msgspec
import numpy as np
import pytest
import zmq
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rtpipe import wire
from rtpipe.errors import InputError
from rtpipe.ledger import check
from rtpipe.sockets import Subscriber, messages
from rtpipe.sockets.messages import Hello, Offer, Welcome
from rtpipe.types import Count, Frame, Packet
from tests.sockets.pair import SIZE, packet, pair

HELLO = Hello(1, 1, "stranger", "camera", b"12345678", ["events"], "every", 1 << 20, True, bytes(8), 0, {})

numbered = st.builds(
    lambda kind, instance, number: kind + instance + struct.pack("<Q", number),
    st.sampled_from([b"A", b"R", b"B", b"P"]), st.binary(min_size=8, max_size=8), st.integers(0, (1 << 64) - 1),
)  # fmt: skip
hellos = st.builds(
    lambda changes: b"H" + messages.encode(msgspec.structs.replace(HELLO, **changes)),
    st.fixed_dictionaries(
        {},
        optional={
            "consumer": st.sampled_from(["engine", "x", "", "a" * 500]),
            "protocol": st.integers(0, 3),
            "producer": st.text(max_size=3),
            "instance": st.binary(max_size=9),
            "kinds": st.lists(st.sampled_from(["events", "frames", "\0"]), max_size=3),
            "delivery": st.sampled_from(["every", "latest", "none"]),
            "credit_bytes": st.integers(-1, 1 << 50),
            "received": st.integers(-1, 1 << 63),
            "last": st.dictionaries(st.text(max_size=3), st.integers(-1, 1 << 62), max_size=2),
        },
    ),
)
anything = st.one_of(st.binary(max_size=60), st.binary(max_size=40).map(lambda b: b"H" + b), numbered, hellos)


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    with pair(tmp_path_factory.mktemp("hostile"), live=True, queue_bytes=50_000) as both:
        both.join()
        yield both


@given(st.lists(st.lists(anything, min_size=1, max_size=3), min_size=1, max_size=8))
@example([[b"H" + messages.encode(HELLO)], [b"A" + bytes(16)]])
@example([[b""], [b"W"], [b"\xff" * 50_000]])
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_stranger_may_say_anything(edge, conversation):
    stranger = zmq.Context.instance().socket(zmq.DEALER)
    stranger.setsockopt(zmq.LINGER, 0)
    stranger.connect(edge.endpoint)
    for parts in conversation:
        stranger.send_multipart(parts)
        edge.publisher.serve()
    for _ in range(3):
        time.sleep(0.001)
        edge.publisher.serve()
        edge.publisher.publish(packet(int(time.monotonic() * 1e6)))
    stranger.close()


def test_the_edge_still_works_after_all_that(tmp_path):
    with pair(tmp_path) as both:
        stranger = zmq.Context.instance().socket(zmq.DEALER)
        stranger.setsockopt(zmq.LINGER, 0)
        stranger.connect(both.endpoint)
        for noise in (b"H", b"A" + bytes(16), b"Q", b"H\xc1", os.urandom(100), bytes(200_000)):
            stranger.send(noise)
        stranger.send_multipart([b"A", b"B"])
        both.settle()
        assert sum(tally.packets for tally in both.publisher.refused.values()) >= 3
        engine = both.join()
        both.publisher.publish(packet(0))
        both.end(1)
        assert [p.seq for p in both.take_all()] == [0, 1]
        assert check(both.sent(), engine.ledger()) is None
        stranger.close()


def test_an_acknowledgement_of_what_was_never_sent_is_refused(tmp_path):
    with pair(tmp_path) as both:
        engine = both.join()
        both.publisher.publish(packet(0))
        engine.socket.send(messages.numbered(b"A", both.publisher.instance, 2))
        both.settle(0.05)
        assert both.publisher.refused["number"].packets == 1
        assert both.sent().acknowledged.packets == 0


def test_consumers_without_end_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("rtpipe.sockets.publisher.MOST_EDGES", 3)
    with pair(tmp_path) as both:
        strangers = []
        for k in range(5):
            stranger = zmq.Context.instance().socket(zmq.DEALER)
            stranger.connect(both.endpoint)
            stranger.send(b"H" + messages.encode(msgspec.structs.replace(HELLO, consumer=f"stranger{k}")))
            strangers.append(stranger)
        both.until(lambda: "hello" in both.publisher.refused)
        assert len(both.publisher.ledgers()) == 3
        for stranger in strangers:
            stranger.close(0)


def test_another_version_is_told_so_in_words(tmp_path, monkeypatch):
    with pair(tmp_path) as both:
        newer = Subscriber(both.endpoint, consumer="engine", producer="camera", kinds=["events"])

        def talk():
            for _ in range(1000):
                monkeypatch.setattr(messages, "PROTOCOL", 1)
                both.publisher.serve()
                monkeypatch.setattr(messages, "PROTOCOL", 2)
                newer.serve()
                time.sleep(0.002)

        with pytest.raises(InputError, match="install the same rtpipe"):
            talk()
        assert both.publisher.refused["version"].packets == 1
        newer.close()


def test_the_wrong_producer_is_told_apart(tmp_path):
    with pair(tmp_path) as both:
        lost = Subscriber(both.endpoint, consumer="engine", producer="other", kinds=["events"])

        def talk():
            for _ in range(1000):
                both.publisher.serve()
                lost.serve()
                time.sleep(0.002)

        with pytest.raises(InputError, match="this is 'camera', not 'other'"):
            talk()
        lost.close()


class Forger:
    """A producer that speaks the protocol and may send anything as a packet."""

    def __init__(self, tmp_path):
        self.endpoint = f"ipc://{tmp_path}/forged"
        self.socket = zmq.Context.instance().socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(self.endpoint)
        self.subscriber = Subscriber(self.endpoint, consumer="engine", producer="camera", kinds=["events", "frames"])
        self.number = 0
        self.identity, probe = self.hear()
        assert probe == b""
        self.send(b"W")
        assert self.hear()[1][:1] == b"H"
        self.welcome(False)
        self.subscriber.say_ready()
        assert self.hear()[1][:1] == b"R"
        self.welcome(True)
        self.subscriber.receive()

    def hear(self):
        for _ in range(2000):
            self.subscriber.serve()
            if self.socket.poll(2):
                return self.socket.recv_multipart()
        raise AssertionError("nothing was said")

    def send(self, *parts):
        self.socket.send_multipart([self.identity, *parts])

    def welcome(self, is_open):
        offers = [Offer(name, SIZE, "", 0, (0, 0), {}) for name in ("camera/events", "camera/frames")]
        self.send(b"H" + messages.encode(Welcome(1, 1, "camera", b"instance", False, is_open, offers)))
        time.sleep(0.01)
        while self.subscriber.streams is None:
            self.subscriber.serve()

    def packet(self, *parts):
        self.number += 1
        self.send(messages.numbered(b"P", b"instance", self.number), *parts)

    def receive(self):
        """What the subscriber delivers of all that was sent."""
        got = []
        for _ in range(10):
            while (received := self.subscriber.receive()) is not None:
                got.append(received)
                self.subscriber.processed(received)
            time.sleep(0.002)
        return got

    def acknowledged(self):
        number = 0
        while self.socket.poll(50):
            number = max(number, messages.parse_numbered(self.socket.recv_multipart()[1])[1])
        return number

    def close(self):
        self.subscriber.close()
        self.socket.close()


@pytest.fixture
def forger(tmp_path):
    made = Forger(tmp_path)
    yield made
    made.close()


def counted(seq, sent):
    """A proper packet, as the ``sent``-th of its stream."""
    made = packet(seq)
    parts = [bytes(part) for part in wire.encode(made)]
    head = msgspec.structs.replace(wire.decode_header(parts[1]), sent=(sent, 10 * sent))
    return [parts[0], msgspec.msgpack.encode(head), parts[2]]


def test_malformed_packets_are_counted_acknowledged_and_never_delivered(forger):
    good = counted(0, 1)
    picture = wire.encode(Packet("camera/frames", 0, 0, 0, 0, Frame(np.zeros((3, 3), np.uint8), 0)))
    outside = bytearray(counted(1, 2)[2])
    outside[40:42] = (SIZE[0]).to_bytes(2, "little")
    forger.packet(*good)
    forger.packet(*counted(1, 2)[:2], bytes(outside))
    forger.packet(*counted(2, 3)[:2], b"")
    forger.packet(b"camera/imu", *good[1:])
    forger.packet(*map(bytes, picture))
    forger.packet()
    forger.packet(good[0], b"\xc1", good[2])
    forger.packet(*counted(5, 6))
    assert [p.seq for p in forger.receive()] == [0, 5]
    ledger = forger.subscriber.ledger()
    assert ledger.refused.keys() == {"coordinates", "length", "stream", "resolution", "header"}
    assert ledger.refused["coordinates"].count == Count(1, 10)
    assert ledger.received.packets == 8
    assert ledger.processed.count == Count(2, 20)
    assert ledger.unexplained.packets == 0  # four refused packets of the stream are the gap
    assert forger.acknowledged() == 8


def test_a_gap_that_refusals_do_not_explain_is_unexplained(forger):
    forger.packet(*counted(0, 1))
    forger.packet(*counted(1, 2)[:2], b"")
    forger.packet(*counted(4, 5))
    assert [p.seq for p in forger.receive()] == [0, 4]
    assert forger.subscriber.ledger().unexplained.packets == 2


@given(st.lists(st.lists(st.binary(max_size=60), min_size=1, max_size=5), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_producer_may_send_anything(forger, conversation):
    for parts in conversation:
        if parts[0][:1] != b"N":
            forger.send(*parts)
        forger.packet(*parts)
    assert forger.receive() == []
    ledger = forger.subscriber.ledger()
    refused = sum(tally.packets for tally in ledger.refused.values())
    assert refused == ledger.received.packets > 0


def test_packets_of_a_producer_that_has_not_welcomed_us_are_refused(forger):
    forger.send(messages.numbered(b"P", b"somebody", 1), *counted(0, 1))
    forger.send(b"P", *counted(0, 1))
    assert forger.receive() == []
    assert forger.subscriber.ledger().refused.keys() == {"instance", "prelude"}
