"""Windows of both a number and a length, and those that triggers name, against the obvious."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtpipe.types import Edge, FrameFlag, Trigger
from rtpipe.window import by_mixed, by_trigger
from tests.window.watched import PLENTY, Watched, anywhere, frame, hashed, in_any, play, ramp, streams


def mixed(events, n, length, end):
    """Event after event."""
    windows, held = [], []
    start = int(events.t[0]) if len(events) else None
    for event in hashed(events):
        while event[0] >= start + length:
            windows.append((start, start + length, tuple(held)))
            start, held = start + length, []
        held.append(event)
        if len(held) == n:
            windows.append((start, event[0] + 1, tuple(held)))
            start, held = event[0], []
    while start is not None and end >= start + length:
        windows.append((start, start + length, tuple(held)))
        start, held = start + length, []
    return windows


@given(streams(), st.integers(1, 20), st.integers(1, 120))
def test_mixed_equals_event_after_event(stream, n, length):
    events, steps, end = stream
    watched = Watched(by_mixed.Slicer(n, length, False, PLENTY))
    for what, value in steps:
        getattr(watched, what)(value)
    watched.end()
    wanted = mixed(events, n, length, end)
    assert watched.spans == wanted
    flow = watched.slicer.flows["events"]
    assert (flow.taken, flow.passed) == (len(events), sum(len(held) for *_, held in wanted))
    for cut, got in watched.closed:
        assert not len(got) or cut.t_start <= got.t[0] <= got.t[-1] < cut.t_end


def test_mixed_closes_by_number_in_bursts_and_by_time_in_silence():
    watched = Watched(by_mixed.Slicer(10, 50, False, PLENTY)).events(ramp(0, 25)).reach(200).end()
    assert [(start, end, len(held)) for start, end, held in watched.spans] == [
        (0, 10, 10), (9, 20, 10), (19, 69, 5), (69, 119, 0), (119, 169, 0),
    ]  # fmt: skip


def test_mixed_starts_anew_after_a_jump_and_marks_what_is_incomplete():
    watched = Watched(by_mixed.Slicer(10, 50, False, PLENTY)).events(ramp(0, 14)).jump().events(ramp(3, 8))
    watched.slicer.lost(60, 70)
    watched.frame(frame(0, 5)).reach(110).end()
    assert [(cut.t_start, bool(cut.flags & FrameFlag.INCOMPLETE)) for cut, _ in watched.closed] == [
        (0, False), (3, False), (53, True),
    ]  # fmt: skip
    assert watched.slicer.flows["events"].dropped == {"discontinuity": 4}
    assert watched.slicer.flows["frames"].dropped == {"not_used": 1}


def signals(times, channels=None, edges=None):
    n = len(times)
    return Trigger(
        np.array(times, np.int64),
        np.zeros(n, np.uint8) if channels is None else np.array(channels, np.uint8),
        np.full(n, Edge.RISING, np.uint8) if edges is None else np.array(edges, np.uint8),
    )


@given(st.data(), st.booleans(), st.integers(-80, 80), st.one_of(st.none(), st.integers(1, 200)))
def test_by_trigger_equals_looking_up(data, holding, offset, length):
    events, steps, end = data.draw(streams())
    begun = int(events.t[0]) if len(events) else 0
    times = sorted(begun + t for t in data.draw(st.lists(st.integers(-60, 700), max_size=7)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(times)), max_size=3)))
    packets = [signals(part) for part in np.split(np.array(times, np.int64), cuts)]
    watched = Watched(by_trigger.Slicer(holding, PLENTY, length, offset))
    play(watched, steps, packets, data.draw(anywhere(steps, len(packets))), "trigger")
    spans = [(t, t + length) for t in times] if length else list(itertools.pairwise(times))
    wanted = [
        (start + offset, stop + offset, hashed(events.between(start + offset, stop + offset)))
        for start, stop in spans
        if stop + offset <= end
    ]
    assert watched.spans == wanted
    assert not any(cut.flags & FrameFlag.INCOMPLETE for cut, _ in watched.closed)
    assert watched.slicer.flows["events"].passed == in_any(events, wanted)
    flow = watched.slicer.flows["triggers"]
    assert (flow.taken, flow.passed) == (len(times), len(wanted))
    assert flow.dropped == ({"stream_ended": len(times) - len(wanted)} if len(times) > len(wanted) else {})


@pytest.mark.parametrize(
    ("chosen", "taken"),
    [({}, [10, 30, 40]), ({"edge": "falling"}, [20, 40]), ({"edge": "any"}, [10, 20, 30, 40]), ({"channel": 2}, [30])],
)
def test_only_the_chosen_channel_and_edges_count(chosen, taken):
    some = signals([10, 20, 30, 40], [1, 1, 2, 1], [Edge.RISING, Edge.FALLING, Edge.RISING, Edge.PULSE])
    watched = Watched(by_trigger.Slicer(False, PLENTY, 5, **chosen)).trigger(some).reach(100).end()
    assert [cut.t_start for cut, _ in watched.closed] == taken
    assert watched.slicer.flows["triggers"].dropped.get("not_used", 0) == 4 - len(taken)


def test_triggers_that_go_back_are_counted_and_left():
    watched = Watched(by_trigger.Slicer(False, PLENTY)).events(ramp(0, 60)).trigger(signals([10, 5, 20, 40])).end()
    assert [cut.t_start for cut, _ in watched.closed] == [10, 20]
    assert watched.slicer.flows["triggers"].dropped == {"order": 1, "stream_ended": 1}


def test_a_jump_forgets_the_trigger_that_had_no_next():
    watched = Watched(by_trigger.Slicer(False, PLENTY)).trigger(signals([10, 20])).events(ramp(0, 18)).jump()
    watched.trigger(signals([5, 9])).events(ramp(0, 18)).end()
    assert [span[:2] for span in watched.spans] == [(5, 9)]
    assert watched.slicer.flows["triggers"].dropped == {"discontinuity": 2, "stream_ended": 1}


def test_hours_between_triggers_are_cut_short():
    watched = Watched(by_trigger.Slicer(False, PLENTY, offset_us=7)).trigger(signals([0, 1 << 34])).reach(1 << 35)
    assert [span[:2] for span in watched.spans] == [((1 << 34) - (1 << 32) + 8, (1 << 34) + 7)]
