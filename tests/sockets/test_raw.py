"""A camera's own bytes over real ZeroMQ: byte for byte, and one lost packet spoils no other."""

import random

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtpipe import encodings, raw, wire
from rtpipe.errors import InputError, WireError
from rtpipe.sockets import Publisher
from rtpipe.types import Events, Packet, RawEvents, StreamInfo
from tests.raw_runs import DRIVING, HASH, SIZE, camera_bytes, digest, packets, runs
from tests.sockets.pair import Pair
from tests.sockets.test_hostile import Forger

PLACES = range(0, 309_000, 2_500)
"""124 packets, cut without regard to what the words mean."""


class RawPair(Pair):
    """A camera that sends its own bytes, and an engine."""

    def make_publisher(self, **changes):
        publisher = Publisher(self.endpoint, "camera", **{**self.options, **changes})
        publisher.announce([StreamInfo("camera/events", SIZE, "Gen4.1", "evt3")])
        return publisher


def sent_over_zeromq(tmp_path, made, without=()):
    """What arrives of these packets where some are never put on the wire."""
    both = RawPair(tmp_path)
    try:
        engine = both.join(credit_bytes=1 << 30)
        assert engine.streams[0].encoding == "evt3"
        for packet in made:
            if packet.seq not in without:
                both.publisher.publish(packet)
        return both.take_all(), engine.ledger()
    finally:
        both.close()


@pytest.fixture(scope="module")
def data(shared):
    return camera_bytes(shared(DRIVING))


@pytest.fixture(scope="module")
def whole(data):
    events = encodings.load("evt3").Decoder(SIZE).decode(data).events
    assert digest(events) == HASH
    return events


@pytest.fixture(scope="module")
def arrived(tmp_path_factory, data):
    made = list(packets(data, PLACES))
    came, ledger = sent_over_zeromq(tmp_path_factory.mktemp("raw"), made)
    assert ledger.processed.events == 219_596
    assert ledger.refused == {}
    return came


def opened(packet):
    events, refused = raw.opened(packet.body, SIZE, packet.t_first, packet.t_last)
    assert refused == {}
    return events


def test_the_bytes_travel_as_they_are(data, arrived):
    assert [packet.seq for packet in arrived] == list(range(125))
    assert arrived[-1].end
    assert np.concatenate([packet.body.data for packet in arrived[:-1]]).tobytes() == data.tobytes()
    assert sum(packet.n_events for packet in arrived) == 219_596


def test_without_any_one_packet_the_others_are_what_they_were(arrived, whole):
    """Each is decoded by itself, in a wild order: whichever is missing, no other needs it."""
    edges = np.cumsum([0, *(packet.n_events for packet in arrived)])
    order = list(range(124))
    random.Random(3).shuffle(order)
    for k in order:
        events, wanted = opened(arrived[k]), whole[edges[k] : edges[k + 1]]
        for column in ("t", "x", "y", "p"):
            np.testing.assert_array_equal(getattr(events, column), getattr(wanted, column))


@pytest.mark.parametrize("lost", [{0}, {1}, {61}, {123}, set(range(1, 124, 2))])
def test_packets_lost_on_the_wire_take_their_own_events_and_no_more(tmp_path, data, whole, lost):
    made = list(packets(data, PLACES))
    came, ledger = sent_over_zeromq(tmp_path, made, lost)
    assert [packet.seq for packet in came] == [k for k in range(125) if k not in lost]
    edges = np.cumsum([0, *(packet.n_events for packet in made)])
    wanted = Events.concatenate([whole[edges[k] : edges[k + 1]] for k in range(124) if k not in lost])
    assert digest(Events.concatenate([opened(packet) for packet in came[:-1]])) == digest(wanted)
    assert ledger.unexplained.packets == len(lost)


def test_any_cut_gives_the_same_events(data, whole):
    rng = random.Random(5)
    places = [rng.randrange(309_000) for _ in range(400)]
    made = [opened(packet) for packet in packets(data, places, end=False)]
    assert digest(Events.concatenate(made)) == HASH


def test_an_offset_moves_every_time_and_nothing_else(data, whole):
    made = [opened(packet) for packet in packets(data, PLACES, t0=1 << 40, end=False)]
    moved = Events.concatenate(made)
    np.testing.assert_array_equal(moved.t, whole.t + (1 << 40))
    np.testing.assert_array_equal(moved.x, whole.x)


def test_what_cannot_be_a_run_is_refused_where_it_is_sent(data):
    run = next(runs(data, [1000]))[0]
    wrong = {
        "encoding": RawEvents("evt9", run.state, run.data, run.n),
        "length": RawEvents("evt3", run.state, run.data[:-1], run.n),
        "length ": RawEvents("evt3", run.state[:-1], run.data, run.n),
        "length  ": RawEvents("evt3", run.state, run.data, 12_001),
        "size": RawEvents("evt3", run.state, run.data, (1 << 24) + 1),
    }
    for reason, body in wrong.items():
        with pytest.raises(WireError) as caught:
            wire.encode(Packet("camera/events", 0, 0, 1, 0, body))
        assert caught.value.reason == reason.strip()


def reheaded(packet, payload=None, **changes):
    parts = [bytes(part) for part in wire.encode(packet)]
    head = msgspec.structs.replace(wire.decode_header(parts[1]), **changes)
    return [parts[0], msgspec.msgpack.encode(head), parts[2] if payload is None else payload]


def test_each_thing_wrong_has_its_name(data):
    packet = next(packets(data, [1000]))
    size, state = len(packet.body.data), packet.body.state
    for reason, parts in {
        "encoding": reheaded(packet, encoding="evt4"),
        "length": reheaded(packet, bytes(size - 1)),
        "length ": reheaded(packet, n=12 * size // 2 + 1),
        "length  ": reheaded(packet, b""),
        "length   ": reheaded(packet, state=state + b"0"),
        "header": reheaded(packet, state=bytes(65)),
        "header ": reheaded(packet, n=-1),
    }.items():
        with pytest.raises(WireError) as caught:
            wire.decode(parts, SIZE)
        assert caught.value.reason == reason.strip()
    with pytest.raises(WireError, match="no resolution"):
        wire.decode(wire.encode(packet), None)


def test_a_packet_that_does_not_hold_what_it_says_is_refused_whole(data):
    packet = list(packets(data, PLACES))[5]
    for changes in ({"n": packet.body.n - 1}, {"n": packet.body.n + 1}, {"state": b"\xff" * len(packet.body.state)}):
        body = wire.decode(reheaded(packet, **changes), SIZE).body
        events, refused = raw.opened(body, SIZE, packet.t_first, packet.t_last)
        assert (len(events), refused) == (0, {raw.MISCOUNTED: body.n})
    for first, last in ((packet.t_first + 1, packet.t_last), (packet.t_first, packet.t_last - 1)):
        events, refused = raw.opened(packet.body, SIZE, first, last)
        assert (len(events), refused) == (0, {raw.TIMES: packet.body.n})


def test_events_off_the_sensor_are_counted_and_the_others_stay(data, whole):
    packet = list(packets(data, PLACES))[7]
    events, refused = raw.opened(packet.body, (640, 400), packet.t_first, packet.t_last)
    full = opened(packet)
    inside = (full.x < 640) & (full.y < 400)
    assert refused == {"coordinates": int((~inside).sum())}
    np.testing.assert_array_equal(events.x, full.x[inside])
    np.testing.assert_array_equal(events.t, full.t[inside])


states = st.sampled_from([encodings.load(name).INITIAL for name in raw.MOST]) | st.binary(max_size=70)


@given(
    st.sampled_from([*raw.MOST, "packed8", "none"]),
    states,
    st.binary(max_size=400),
    st.none() | st.integers(0, 3000),
    st.sampled_from([0, 5]) | st.integers(-(1 << 62), 1 << 62),
    st.sampled_from([0, -(1 << 61)]) | st.integers(-(1 << 62), 1 << 62),
)
@settings(max_examples=400, deadline=None)
def test_any_bytes_as_a_run_are_refused_by_name_or_decode_to_what_they_say(name, state, payload, n, t0, t_first):
    t_last = t_first + (1 << 61)
    if n is None:  # as many as there are
        try:
            n = encodings.load(name).scan(np.frombuffer(payload, np.uint8), state).n
        except InputError:
            n = 0
    packet = Packet("camera/events", 0, t_first, t_last, 0, RawEvents("evt3", encodings.load("evt3").INITIAL,
                                                                              np.empty(0, np.uint8), 0))  # fmt: skip
    try:
        body = wire.decode(reheaded(packet, payload, encoding=name, state=state, n=n, t0=t0), SIZE).body
    except WireError as error:
        assert error.reason in wire.REASONS
        return
    if isinstance(body, RawEvents):
        events, refused = raw.opened(body, SIZE, t_first, t_last)
        assert len(events) + sum(refused.values()) == body.n
        if len(events):
            assert t_first <= events.t[0]
            assert events.t[-1] <= t_last
            assert (np.diff(events.t) >= 0).all()
            assert (events.x < SIZE[0]).all()
            assert (events.y < SIZE[1]).all()
            assert (events.p <= 1).all()


@pytest.fixture
def forger(tmp_path):
    made = Forger(tmp_path)
    yield made
    made.close()


@given(st.lists(st.tuples(st.sampled_from([*raw.MOST, "evt4"]), states, st.binary(max_size=60), st.integers(0, 400)),
                min_size=1, max_size=6))  # fmt: skip
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_producer_may_send_any_run(forger, sent):
    empty = Packet(
        "camera/events", 0, 0, 1, 0, RawEvents("evt3", encodings.load("evt3").INITIAL, np.empty(0, np.uint8), 0)
    )
    for name, state, payload, n in sent:
        forger.packet(*reheaded(empty, payload, encoding=name, state=state, n=n))
    for packet in forger.receive():
        assert raw.fault(packet.body) == ""
    ledger = forger.subscriber.ledger()
    refused = sum(tally.packets for tally in ledger.refused.values())
    assert ledger.received.packets == refused + ledger.processed.packets > 0
