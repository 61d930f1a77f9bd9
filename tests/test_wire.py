"""Any packet survives the wire; any mutilated message is refused by name, and nothing unchecked ever comes out."""

import dataclasses

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rtpipe import wire
from rtpipe.errors import WireError
from rtpipe.packing import LONGEST_US, unpack
from rtpipe.types import (
    KINDS,
    Count,
    Counters,
    Events,
    Frame,
    FrameFlag,
    Imu,
    PackedEvents,
    Packet,
    Trigger,
    Window,
)

SIZE = (346, 260)
EPOCH_US = 1_700_000_000_000_000

times = st.integers(-(1 << 61), 1 << 61)
counts = st.builds(Count, st.integers(0, 1 << 62), st.integers(0, 1 << 62))
reasons = st.text(min_size=1, max_size=64)
floats = st.floats(width=32, allow_nan=True)


@st.composite
def event_columns(draw):
    n = draw(st.integers(0, 300))
    t0 = draw(times)
    steps = draw(hnp.arrays(np.uint32, n, elements=st.integers(0, LONGEST_US // 300)))
    t = t0 + np.cumsum(steps, dtype=np.int64)
    x = draw(hnp.arrays(np.uint16, n, elements=st.integers(0, SIZE[0] - 1)))
    y = draw(hnp.arrays(np.uint16, n, elements=st.integers(0, SIZE[1] - 1)))
    return Events(t, x, y, draw(hnp.arrays(np.uint8, n, elements=st.integers(0, 1))))


@st.composite
def frames(draw):
    dtype = draw(st.sampled_from([np.uint8, np.uint16]))
    h, w = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    image = draw(hnp.arrays(dtype, draw(st.sampled_from([(h, w), (h, w, 3)]))))
    start = draw(st.none() | times)
    end = draw(st.none() | (times if start is None else st.integers(start, 1 << 62)))
    flags = FrameFlag(draw(st.integers(0, 15)))
    window = draw(st.sampled_from([(None, None), (-5, None), (None, 7), (3, 3), (-(1 << 61), 1 << 61)]))
    return Frame(image, draw(times), start, end, draw(st.text(min_size=1, max_size=64)), flags, *window)


@st.composite
def samples(draw):
    n = draw(st.integers(0, 20))
    t = np.sort(draw(hnp.arrays(np.int64, n, elements=times)))
    vectors = hnp.arrays(np.float32, (n, 3), elements=floats)
    return Imu(t, draw(vectors), draw(vectors), draw(hnp.arrays(np.float32, n, elements=floats)))


@st.composite
def triggers(draw):
    n = draw(st.integers(0, 20))
    t = np.sort(draw(hnp.arrays(np.int64, n, elements=times)))
    edge = draw(hnp.arrays(np.uint8, n, elements=st.integers(0, 2)))
    return Trigger(t, draw(hnp.arrays(np.uint8, n)), edge)


@st.composite
def packets(draw):
    body = draw(st.none() | event_columns() | frames() | samples() | triggers())
    t = getattr(body, "t", None)
    if isinstance(t, np.ndarray) and len(t):
        first, last = int(t[0]), int(t[-1])
    else:
        first = draw(times)
        last = first + draw(st.integers(0, 1 << 40))
    stage = draw(st.text("abc/é_-09", min_size=1, max_size=20))
    return Packet(
        f"{stage}/{draw(st.sampled_from(KINDS))}",
        draw(st.integers(0, 1 << 62)),
        first,
        last,
        draw(st.integers(0, 1 << 62)),
        body,
        draw(st.integers(0, 1 << 31)),
        draw(st.booleans()),
        Counters(draw(counts), draw(st.dictionaries(reasons, counts, max_size=5))),
    )


def resolution_of(packet):
    return SIZE if isinstance(packet.body, Events) else None


def message(packet):
    return [bytes(part) for part in wire.encode(packet)]


def assert_same(a, b):
    for name in ("stream", "seq", "t_first", "t_last", "received_ns", "epoch", "end", "counters"):
        assert getattr(a, name) == getattr(b, name), name
    body = unpack(b.body) if isinstance(b.body, PackedEvents) else b.body
    assert type(a.body) is type(body)
    for field in dataclasses.fields(body) if body is not None else ():
        there, here = getattr(a.body, field.name), getattr(body, field.name)
        if isinstance(there, np.ndarray):
            assert there.dtype == here.dtype
            np.testing.assert_array_equal(there, here)
        else:
            assert there == here


def refused(parts, resolution=SIZE):
    with pytest.raises(WireError) as caught:
        wire.decode(parts, resolution)
    assert caught.value.reason in wire.REASONS
    return caught.value.reason


def some_events(n=5, t0=EPOCH_US):
    i = np.arange(n)
    return Events(
        t0 + 10 * i, (i * 7 % 346).astype(np.uint16), (i * 5 % 260).astype(np.uint16), (i % 2).astype(np.uint8)
    )


def events_packet(n=5):
    body = some_events(n)
    return Packet("camera/events", 3, EPOCH_US, EPOCH_US + 1000, 7, body)


def reheaded(packet, **changes):
    """The message of ``packet`` with some of its header's fields overwritten."""
    parts = message(packet)
    head = msgspec.structs.replace(wire.decode_header(parts[1]), **changes)
    return [parts[0], msgspec.msgpack.encode(head), *parts[2:]]


@given(packets())
@settings(max_examples=200, deadline=None)
def test_any_packet_survives(packet):
    assert_same(packet, wire.decode(message(packet), resolution_of(packet)))


@given(packets(), st.data())
@settings(max_examples=400, deadline=None)
def test_any_mutilated_message_is_refused_by_name_or_still_valid(packet, data):
    parts = message(packet)
    for _ in range(data.draw(st.integers(1, 3))):
        if not parts:
            break
        k = data.draw(st.integers(0, len(parts) - 1))
        part = bytearray(parts[k])
        act = data.draw(st.sampled_from(["flip", "cut", "extend", "drop", "repeat", "replace", "swap"]))
        if act == "flip" and part:
            part[data.draw(st.integers(0, len(part) - 1))] = data.draw(st.integers(0, 255))
        elif act == "cut":
            part = part[: data.draw(st.integers(0, len(part)))]
        elif act == "extend":
            part += data.draw(st.binary(min_size=1, max_size=20))
        elif act == "replace":
            part = bytearray(data.draw(st.binary(max_size=40)))
        parts[k] = bytes(part)
        if act == "drop":
            del parts[k]
        elif act == "repeat":
            parts.insert(k, parts[k])
        elif act == "swap":
            parts.reverse()
    assert_named_or_valid(parts)


@given(st.lists(st.binary(max_size=200), max_size=5))
@settings(max_examples=200, deadline=None)
def test_noise_is_refused_by_name(parts):
    assert_named_or_valid(parts)
    assert_named_or_valid([b"camera/events", *parts])


def assert_named_or_valid(parts):
    try:
        packet = wire.decode(parts, SIZE)
    except WireError as error:
        assert error.reason in wire.REASONS
        return
    assert packet.t_first <= packet.t_last
    body = packet.body
    if isinstance(body, PackedEvents) and len(body):
        events = unpack(body)
        assert int(events.x.max()) < SIZE[0]
        assert int(events.y.max()) < SIZE[1]
        assert int(events.p.max()) <= 1
        assert (np.diff(events.t) >= 0).all()
        assert packet.t_first <= events.t[0]
        assert events.t[-1] <= packet.t_last
    if isinstance(body, Frame):
        assert body.resolution == SIZE


scalars = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.binary(max_size=9)
values = st.recursive(
    scalars | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=14) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=25,
)


@given(values)
@settings(max_examples=200, deadline=None)
def test_any_msgpack_as_a_header_is_refused_by_name_or_valid(value):
    assert_named_or_valid([b"camera/events", msgspec.msgpack.encode(value), bytes(8)])
    assert_named_or_valid([b"camera/events", msgspec.msgpack.encode([1, "packed8", value])])


def test_a_header_nested_a_hundred_thousand_deep_is_refused():
    assert refused([b"camera/events", b"\x91" * 100_000, b""]) == "header"


def test_each_thing_wrong_has_its_name():
    good = events_packet()
    topic, header, payload = message(good)
    x_out = bytearray(payload)
    x_out[20:22] = (346).to_bytes(2, "little")
    y_out = bytearray(payload)
    y_out[30:32] = (260 | 1 << 15).to_bytes(2, "little")
    backwards = bytearray(payload)
    backwards[0:4] = (11).to_bytes(4, "little")
    frame = Packet("camera/frames", 0, 0, 9, 0, Frame(np.zeros((260, 346), np.uint8), 5, 1, 9))

    def picture(**changes):
        return msgspec.structs.replace(wire.decode_header(message(frame)[1]).frame, **changes)

    trigger = Packet("camera/triggers", 0, 0, 9, 0, Trigger(np.array([5]), np.uint8([0]), np.uint8([3])))
    backwards_imu = Imu(np.array([2, 1]), *(np.zeros((2, 3), np.float32),) * 2, np.zeros(2, np.float32))
    imu = Packet("camera/imu", 0, 0, 9, 0, backwards_imu)
    assert {
        "alone": refused([topic]),
        "four parts": refused([topic, header, payload, b""]),
        "no payload": refused([topic, header]),
        "not text": refused([b"\xff/events", header, payload]),
        "unknown kind": refused([b"camera/smells", header, payload]),
        "version": refused(reheaded(good, version=2)),
        "next version": refused([topic, msgspec.msgpack.encode([2, {"all": "different"}]), payload]),
        "not msgpack": refused([topic, b"\xc1", payload]),
        "one field more": refused([topic, b"\x9e" + header[1:] + b"\x00", payload]),
        "negative seq": refused(reheaded(good, seq=-1)),
        "encoding": refused(reheaded(good, encoding="evt4")),
        "one byte less": refused([topic, header, payload[:-1]]),
        "one event more": refused([topic, header, payload + bytes(8)]),
        "n": refused(reheaded(good, n=4)),
        "too many": refused(reheaded(good, n=wire.MAX_EVENTS + 1)),
        "x": refused([topic, header, bytes(x_out)]),
        "y": refused([topic, header, bytes(y_out)]),
        "order": refused([topic, header, bytes(backwards)]),
        "late": refused(reheaded(good, t_last=EPOCH_US + 39)),
        "early": refused(reheaded(good, t_first=EPOCH_US + 1)),
        "ends before": refused(reheaded(good, t_first=EPOCH_US + 2000)),
        "sizeless": refused(message(good), None),
        "smaller sensor": refused(message(good), (28, 260)),
        "frame size": refused(message(frame), (345, 260)),
        "frame shape": refused(reheaded(frame, frame=picture(channels=2))),
        "frame bytes": refused(reheaded(frame, frame=picture(bits=16))),
        "frame exposure": refused(reheaded(frame, frame=picture(exposure_end=0))),
        "frame window": refused(reheaded(frame, frame=picture(window_start=8, window_end=7))),
        "frame of events": refused(reheaded(good, frame=picture())),
        "state of events": refused(reheaded(good, state=b"1")),
        "trigger": refused(message(trigger), None),
        "imu": refused(message(imu), None),
    } == {
        "alone": "parts", "four parts": "parts", "no payload": "parts", "not text": "topic", "unknown kind": "topic",
        "version": "version", "next version": "version", "not msgpack": "header", "one field more": "header",
        "negative seq": "header", "encoding": "encoding", "one byte less": "length", "one event more": "length",
        "n": "length", "too many": "header", "x": "coordinates", "y": "coordinates", "order": "order", "late": "times",
        "early": "times", "ends before": "times", "sizeless": "resolution", "smaller sensor": "coordinates",
        "frame size": "resolution", "frame shape": "header", "frame bytes": "length", "frame exposure": "times",
        "frame window": "times", "frame of events": "header", "state of events": "header", "trigger": "edge",
        "imu": "order",
    }  # fmt: skip


def test_events_arrive_without_a_copy_where_the_message_allows():
    payload = np.frombuffer(bytearray(message(events_packet(100))[2]), np.uint8)
    topic, header, _ = message(events_packet(100))
    body = wire.decode([topic, header, payload], SIZE).body
    assert all(np.shares_memory(column, payload) for column in (body.dt, body.x, body.yp))


@pytest.mark.parametrize("offset", range(8))
def test_kernels_meet_one_array_type_wherever_the_bytes_lie(offset):
    parts = message(events_packet(100))
    for holder in (bytes, bytearray):
        shifted = memoryview(holder(bytes(offset) + parts[2]))[offset:]
        body = wire.decode([*parts[:2], shifted], SIZE).body
        for column in (body.dt, body.x, body.yp):
            assert column.flags.aligned
            assert column.flags.writeable
            assert column.flags.c_contiguous
        assert_same(events_packet(100), wire.decode([*parts[:2], shifted], SIZE))


def test_a_slice_of_packed_events_travels_as_it_is():
    whole = wire.decode(message(events_packet(50)), SIZE).body
    part = Packet("camera/events", 0, EPOCH_US + 100, EPOCH_US + 290, 0, whole[10:30])
    again = wire.decode(message(part), SIZE)
    np.testing.assert_array_equal(unpack(again.body).t, some_events(50).t[10:30])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (Window(0, 1, 0), "body"),
        (Frame(np.zeros((2, 2, 4), np.uint8), 0), "body"),
        (Frame(np.zeros((2, 2), np.float32), 0), "body"),
        (Frame(np.zeros((0, 2), np.uint8), 0), "body"),
        (Events(np.array([1, 0]), np.uint16([0, 0]), np.uint16([0, 0]), np.uint8([0, 0])), "order"),
        (Events(np.array([0]), np.uint16([1 << 15]), np.uint16([0]), np.uint8([0])), "coordinates"),
        (Events(np.array([0]), np.uint16([0]), np.uint16([0]), np.uint8([2])), "polarity"),
        (Events(np.array([0, 1 << 32]), np.uint16([0, 0]), np.uint16([0, 0]), np.uint8([0, 0])), "size"),
        (Imu(np.zeros(2, np.int64), *(np.zeros((2, 2), np.float32),) * 2, np.zeros(2, np.float32)), "length"),
    ],
)
def test_what_cannot_travel_is_refused_where_it_is_sent(body, reason):
    with pytest.raises(WireError) as caught:
        wire.encode(Packet("camera/events", 0, 0, 1 << 33, 0, body))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "stream", ["events", "/events", "camera/", "camera/nothing", "a" * 130 + "/events", "a\n/events"]
)
def test_a_stream_without_a_proper_name_is_refused_where_it_is_sent(stream):
    with pytest.raises(WireError) as caught:
        wire.encode(Packet(stream, 0, 0, 0, 0))
    assert caught.value.reason == "topic"


@given(st.integers(1, 40), st.integers(0, 1 << 32))
@settings(deadline=None)
def test_pictures_and_strided_columns_are_packed_as_they_look(n, t0):
    rows = np.arange(4 * n, dtype=np.uint16).reshape(n, 4)[:, ::2] % 256
    image = rows.astype(np.uint8)[::-1, ::-1]
    packet = Packet("engine/output", 0, t0, t0, 0, Frame(image, t0, source="edi"))
    np.testing.assert_array_equal(wire.decode(message(packet), None).body.image, image)
    events = Events(t0 + np.arange(2 * n)[::2], *(np.zeros((n, 2), d)[:, 0] for d in (np.uint16, np.uint16, np.uint8)))
    packet = Packet("camera/events", 0, t0, t0 + 2 * n, 0, events)
    assert_same(packet, wire.decode(message(packet), SIZE))
