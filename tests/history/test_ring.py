"""The ring against a list that forgets: what is kept, what is held, and that its memory never exceeds the bound."""

import tracemalloc

import numpy as np
import pytest

from rtpipe.history.ring import PACKET_BYTES, SMALLEST_SEGMENT, Ring
from rtpipe.packing import pack
from rtpipe.types import Events, Frame, Imu, Packet, RawEvents, Trigger

LIMIT = 1 << 20


def events_packet(number, n, at=None):
    at = number * 1000 if at is None else at
    rng = np.random.default_rng(number)
    t = np.sort(rng.integers(at, at + 1000, n))
    x, y = rng.integers(0, 300, (2, n)).astype(np.uint16)
    body = pack(Events(t, x, y, rng.integers(0, 2, n).astype(np.uint8)))
    return Packet("camera/events", number, at, at + 1000, 0, body if n else None)


def same(one, other):
    assert (one is None) == (other is None)
    if one is not None:
        assert type(one) is type(other)
        for name in one.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


BODIES = [
    events_packet(3, 100).body,
    Events([5, 6, 9], [1, 2, 3], [4, 5, 6], [0, 1, 0]),
    RawEvents("evt3", b"\x01\x02", np.arange(7, dtype=np.uint8), 2),
    Frame(np.arange(7 * 5 * 3, dtype=np.uint16).reshape(7, 5, 3), 4, 1, 7, window_start=2, window_end=6),
    Imu(np.array([1, 2]), np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32), np.full(2, 3.5, np.float32)),
    Trigger(np.array([3]), np.array([1], np.uint8), np.array([1], np.uint8)),
    None,
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: type(body).__name__)
def test_what_comes_out_is_what_went_in_and_the_rings_own(body):
    ring = Ring(LIMIT, 1_000_000)
    assert ring.add(0, 5, Packet("camera/events", 0, 1, 7, 99, body))
    before = {name: np.array(getattr(body, name)) for name in getattr(body, "__dataclass_fields__", {})}
    for values in before:
        array = getattr(body, values)
        if isinstance(array, np.ndarray):
            array[...] = 0  # whoever it came from uses its memory again
    kept = ring.from_number(0).packet
    assert (kept.t_first, kept.t_last, kept.received_ns) == (1, 7, 99)
    for name, values in before.items():
        np.testing.assert_array_equal(getattr(kept.body, name), values)


@pytest.mark.parametrize("seed", range(40))
def test_the_newest_are_kept_and_what_is_held_stays(seed):
    """Packets of any size; now and then everything from some packet on is held, or a reader pins it."""
    rng = np.random.default_rng(seed)
    ring, came, kept, pins = Ring(LIMIT, int(rng.choice([50_000, 10_000_000]))), {}, [], []
    for number in range(150):
        n = int(rng.choice([0, 10, 900, 9_000, 40_000, 200_000], p=[0.2, 0.2, 0.3, 0.2, 0.08, 0.02]))
        came[number] = events_packet(number, n)
        if rng.random() < 0.1:
            ring.hold = None if not kept or rng.random() < 0.5 else int(rng.choice(kept))
        if kept and rng.random() < 0.07:
            pins += [(segment, list(packets)) for segment, packets in ring.pin(kept[-10:][0])]
        while pins and rng.random() < 0.2:
            segment, packets = pins.pop(0)
            for one in packets:
                same(one.packet.body, came[one.number].body)
            ring.release(segment)
        first = ring.oldest.number if ring.oldest else None
        added = ring.add(number, number * 1000, came[number])
        kept += [number] if added else []
        assert ring.bytes <= LIMIT
        oldest = ring.oldest.number if ring.oldest else number + 1
        if ring.hold is not None and first is not None:
            assert oldest <= max(ring.hold, first)
        kept = [k for k in kept if k >= oldest]
        assert added or ring.hold is not None or pins or 8 * n > LIMIT  # refused for a reason only
    for k in kept:
        same(ring.from_number(k).packet.body, came[k].body)
    for k in range(kept[0], kept[-1]):
        assert ring.from_number(k).number == min(other for other in kept if other >= k)


def test_what_a_reader_pinned_is_not_overwritten_nor_is_the_rest_given_up_for_nothing():
    ring, came = Ring(LIMIT, 1 << 60), [events_packet(number, 4000) for number in range(40)]
    refused = [number for number in range(20) if not ring.add(number, number, came[number])]
    pinned, first = ring.pin(0), ring.oldest.number
    refused += [number for number in range(20, 40) if not ring.add(number, number, came[number])]
    assert refused
    assert min(refused) >= 20
    assert ring.oldest.number == first
    for segment, packets in pinned:
        for one in packets:
            same(one.packet.body, came[one.number].body)
        ring.release(segment)
    assert ring.add(40, 40, came[0])


def test_what_a_reader_pinned_outlives_its_place():
    ring, came = Ring(LIMIT, 5), [events_packet(number, 4000) for number in range(40)]
    ring.add(0, 0, came[0])
    ((segment, packets),) = ring.pin(0)
    for number in range(1, 40):
        ring.add(number, number, came[number])
    assert ring.oldest.number > 1
    same(packets[0].packet.body, came[0].body)
    ring.release(segment)
    for number in range(40, 80):
        assert ring.add(number, number, came[number - 40])
        assert ring.bytes <= LIMIT


def test_a_span_is_kept_and_not_much_more():
    ring = Ring(64 << 20, 100_000)
    for number in range(3000):
        ring.add(number, number * 1000, events_packet(number, 2000))
    assert 100_000 <= 2_999_000 - ring.oldest.at < 100_000 + 1000 * (4 << 20) / (2000 * 8)
    assert ring.after(ring.newest.at - 50_000).number == 2950
    assert ring.after(ring.newest.at) is None


def test_memory_is_bounded_as_the_system_counts_it():
    """Allocations of the whole process, NumPy's among them, not the ring's own sum; tiny packets cost most."""
    limit = 4 << 20
    packets = [events_packet(number, n) for number, n in enumerate([0, 3, 20_000, 100, 0, 5000] * 5)]
    tracemalloc.start()
    try:
        ring = Ring(limit, 1 << 60)
        for number in range(20_000):
            ring.add(number, number, packets[number % len(packets)])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < limit * 1.15
    assert limit / 2 < ring.bytes <= limit
    assert ring.oldest.number > 10_000


def test_what_is_larger_than_the_ring_is_refused_and_the_rest_stays():
    ring = Ring(LIMIT, 1 << 60)
    assert ring.add(0, 0, events_packet(0, 100))
    assert not ring.add(1, 1000, events_packet(1, 200_000))
    assert ring.add(2, 2000, events_packet(2, 100_000))  # larger than a segment: it gets one of its own
    assert [ring.from_number(number).number for number in (0, 1)] == [0, 2]
    assert 100 * 8 + PACKET_BYTES < SMALLEST_SEGMENT
