"""A recording is cut into the same packets however its file is chunked, and nothing is lost or out of order."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtpipe.errors import InputError
from rtpipe.formats.packets import cut_packets, frame_end
from rtpipe.types import Edge, Events, Frame, Imu, Packet, Trigger

T0 = 1_610_696_585_220_661  # an epoch-sized start: float arithmetic anywhere would show


def events_at(times: list[int]) -> Events:
    n = len(times)
    t = np.sort(np.array(times, np.int64)) + T0
    return Events(t, np.arange(n) % 346, np.arange(n) % 260, np.arange(n) % 2)


def chunked(events: Events, cuts: list[int]) -> Iterator[Events]:
    edges = [0, *sorted(c % (len(events) + 1) for c in cuts), len(events)]
    for a, b in pairwise(edges):
        yield events[a:b]  # empty runs included


def frame(end: int, exposure: int | None = 5000) -> Frame:
    image = np.zeros((2, 2), np.uint8)
    if exposure is None:
        return Frame(image, T0 + end)
    return Frame(image, T0 + end - exposure // 2, T0 + end - exposure, T0 + end)


def imu_at(times: list[int]) -> Imu:
    t = np.array(times, np.int64) + T0
    return Imu(t, np.ones((len(t), 3), np.float32), np.ones((len(t), 3), np.float32), np.ones(len(t), np.float32))


def triggers_at(times: list[int]) -> Trigger:
    t = np.array(times, np.int64) + T0
    return Trigger(t, np.zeros(len(t), np.uint8), np.full(len(t), Edge.RISING, np.uint8))


def describe(packet: Packet) -> tuple[object, ...]:
    body = packet.body
    what = None if body is None else (type(body).__name__, np.asarray(body.t).tobytes())
    return (packet.stream, packet.seq, packet.t_first, packet.t_last, packet.end, what)


times = st.lists(st.integers(0, 20_000), max_size=80)
bursts = st.lists(st.sampled_from([0, 1999, 2000, 2001, 4000, 7000]), max_size=60)  # ties, and the edges of cells


@given(st.one_of(times, bursts), st.lists(st.integers(0, 200), max_size=6), st.integers(1, 9), st.integers(0, 30_000))
def test_events_survive_the_cut_in_order(at: list[int], cuts: list[int], most: int, t_end: int) -> None:
    events = events_at(at)
    packets = list(cut_packets({"camera/events": chunked(events, cuts)}, T0, T0 + t_end, 2000, most))
    bodies = [p.body for p in packets if isinstance(p.body, Events)]
    again = Events.concatenate(bodies)
    for column in ("t", "x", "y", "p"):
        assert np.array_equal(getattr(again, column), getattr(events, column))

    assert [p.seq for p in packets] == list(range(len(packets)))
    assert [p.end for p in packets] == [False] * (len(packets) - 1) + [True]
    for p, following in pairwise(packets):
        assert p.t_first <= p.t_last <= following.t_last
        if following.body is not None:
            assert p.t_last <= following.body.t[0]  # nothing later is earlier than t_last
    for p in packets[:-1]:
        cell = (p.t_first - T0) // 2000
        if p.body is None:
            assert (p.t_first, p.t_last) == (T0 + cell * 2000, T0 + (cell + 1) * 2000)
            continue
        assert 1 <= len(p.body) <= most
        assert (p.body.t[-1] - T0) // 2000 == cell  # one packet never spans two cells
        assert p.t_last in (int(p.body.t[-1]), T0 + (cell + 1) * 2000)
    covered = T0 + max(t_end, int(events.t[-1] - T0) if len(events) else 0)
    assert packets[-1].t_last > covered  # the last cell is complete, watermarks included
    assert packets[-1].t_last - covered <= 2000


@given(st.one_of(times, bursts), st.lists(st.integers(0, 200), max_size=6), st.integers(1, 9))
def test_the_cut_does_not_depend_on_the_files_chunks(at: list[int], cuts: list[int], most: int) -> None:
    events, imu = events_at(at), imu_at(list(range(0, 20_000, 700)))
    halves = [Imu(*(getattr(imu, c)[part] for c in ("t", "acceleration", "rotation", "temperature")))
              for part in (slice(0, 11), slice(11, None))]  # fmt: skip

    def cut(runs: Iterator[Events], samples: list[Imu]) -> list[tuple[object, ...]]:
        frames = iter([frame(5000), frame(12_000)])
        streams = {"camera/events": runs, "camera/imu": iter(samples), "camera/frames": frames}
        return [describe(p) for p in cut_packets(streams, T0, T0 + 20_000, 2000, most)]

    assert cut(iter([events]), [imu]) == cut(chunked(events, cuts), halves)


def test_a_frame_follows_the_packet_in_whose_cell_its_exposure_ends() -> None:
    streams = {
        "camera/events": iter([events_at([100, 2500, 3999, 4000, 9000])]),
        "camera/frames": iter([frame(3000), frame(4000), frame(4001), frame(7000, None)]),
        "camera/triggers": iter([triggers_at([2600, 4100])]),
    }
    seen = [(p.stream[7:], p.t_last - T0, p.body is None) for p in cut_packets(streams, T0, T0 + 9000)]
    assert seen == [
        ("events", 2000, False),
        ("events", 4000, False),
        ("triggers", 4000, False),
        ("frames", 3000, False),
        ("frames", 4000, False),  # exposed until the cell's very end: every event of it has been sent
        ("events", 6000, False),
        ("triggers", 6000, False),
        ("frames", 4001, False),
        ("events", 8000, True),
        ("frames", 7000, False),
        ("events", 10_000, False),
        ("events", 10_000, True),
        ("frames", 10_000, True),
        ("triggers", 10_000, True),
    ]


@given(st.lists(st.integers(1, 20_000), max_size=20), times)
def test_every_event_of_an_exposure_comes_before_its_frame(ends: list[int], at: list[int]) -> None:
    streams = {"camera/frames": iter([frame(e) for e in sorted(ends)]), "camera/events": iter([events_at(at)])}
    newest = T0
    taken = 0
    for p in cut_packets(streams, T0, T0 + 20_000):
        if p.stream == "camera/events":
            newest = p.t_last
        elif isinstance(p.body, Frame):
            taken += 1
            assert frame_end(p.body) <= newest < frame_end(p.body) + 2000
    assert taken == len(ends)


def test_from_the_middle_the_grid_stays() -> None:
    events = events_at(list(range(0, 10_000, 100)))
    whole = list(cut_packets({"camera/events": iter([events])}, T0, T0 + 9_900))
    tail = list(
        cut_packets({"camera/events": iter([events.between(T0 + 4300, T0 + 10**9)])}, T0, T0 + 9_900, t0=T0 + 4300)
    )
    assert tail[0].t_first == T0 + 4300
    assert tail[0].t_last == whole[2].t_last
    assert [(p.t_first, p.t_last) for p in tail[1:]] == [(p.t_first, p.t_last) for p in whole[3:]]
    late = list(cut_packets({"camera/events": iter(())}, T0, T0 + 9_900, t0=T0 + 50_000))
    assert [(p.end, p.t_last) for p in late] == [(True, T0 + 50_000)]


def test_one_packet_in_one_run_is_a_view() -> None:
    events = events_at([1, 2, 3, 2500])
    first = next(cut_packets({"camera/events": iter([events])}, T0, T0 + 2500))
    assert np.shares_memory(first.body.x, events.x)


def test_without_events_frames_come_as_they_are() -> None:
    frames = iter([frame(40_000, None), frame(10**9, None)])
    packets = list(cut_packets({"camera/frames": frames}, T0, T0 + 10**9))
    assert [(p.t_last - T0, p.end) for p in packets[:-1]] == [(40_000, False), (10**9, False)]
    assert packets[-1].end


def test_a_packet_length_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="packet_us"):
        next(cut_packets({}, 0, 0, packet_us=0))
