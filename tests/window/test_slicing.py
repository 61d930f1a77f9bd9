"""Slicers against the obvious: all events in one array, and windows looked up in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtpipe.types import Frame, FrameFlag
from rtpipe.window import by_count, by_exposure, by_time
from tests.window.watched import IMAGE, PLENTY, Watched, anywhere, frame, hashed, in_any, play, ramp, streams


@given(streams(), st.integers(1, 300), st.integers(1, 300))
def test_by_time_equals_looking_up(stream, length, hop):
    events, steps, end = stream
    watched = Watched(by_time.Slicer(length, hop, False, PLENTY))
    for what, value in steps:
        getattr(watched, what)(value)
    watched.end()
    wanted = []
    if len(events):
        start = int(events.t[0])
        while start + length <= end:
            wanted.append((start, start + length, hashed(events.between(start, start + length))))
            start += hop
    assert watched.spans == wanted
    flow = watched.slicer.flows["events"]
    assert (flow.taken, flow.passed) == (len(events), in_any(events, wanted))


@given(streams(), st.integers(1, 30))
def test_by_count_equals_looking_up(stream, n):
    events, steps, _ = stream
    watched = Watched(by_count.Slicer(n, False, PLENTY))
    for what, value in steps:
        getattr(watched, what)(value)
    watched.end()
    parts = [events[i : i + n] for i in range(0, len(events) - n + 1, n)]
    assert watched.spans == [(int(part.t[0]), int(part.t[-1]) + 1, hashed(part)) for part in parts]
    assert watched.slicer.flows["events"].passed == len(parts) * n


@st.composite
def exposures(draw, start):
    """Frames in order of their exposures' starts; some overlap, some touch, some have no exposure."""
    frames, t0 = [], start - 50
    for _ in range(draw(st.integers(0, 6))):
        t0 += draw(st.integers(0, 150))
        if draw(st.integers(0, 5)) == 0:
            frames.append(Frame(IMAGE, t0))
        else:
            frames.append(frame(t0, t0 + draw(st.integers(1, 200))))
    return sorted(frames, key=lambda each: (each.exposure_end or each.t, each.t)) if draw(st.booleans()) else frames


@given(st.data(), st.booleans())
def test_by_exposure_equals_looking_up_however_frames_and_events_interleave(data, holding):
    events, steps, end = data.draw(streams())
    frames = data.draw(exposures(int(events.t[0]) if len(events) else 0))
    starts = [f.exposure_start for f in frames if f.exposure_start is not None]
    watched = Watched(by_exposure.Slicer(holding, PLENTY))
    play(watched, steps, frames, data.draw(anywhere(steps, len(frames))), "frame")
    wanted = []
    for each in frames:
        if each.exposure_start is None:
            wanted.append((each.t, each.t, ()))
        elif each.exposure_end <= end:
            inside = events.between(each.exposure_start, each.exposure_end)
            wanted.append((each.exposure_start, each.exposure_end, hashed(inside)))
    if starts == sorted(starts):
        assert watched.spans == wanted
        assert watched.slicer.flows["events"].passed == in_any(events, wanted)
        assert not any(cut.flags & FrameFlag.INCOMPLETE for cut, _ in watched.closed)
    flow = watched.slicer.flows["frames"]
    assert (flow.taken, flow.passed) == (len(frames), len(watched.closed))
    assert flow.dropped.get("stream_ended", 0) == len(frames) - len(wanted)


def test_a_window_closes_when_stream_time_passes_its_end_and_not_before():
    watched = Watched(by_exposure.Slicer(False, PLENTY)).events(ramp(0, 50)).frame(frame(10, 60))
    assert watched.reach(59).closed == []
    assert len(watched.reach(60).closed) == 1
    timed = Watched(by_time.Slicer(10, 10, False, PLENTY)).events(ramp(0, 10))
    assert timed.closed == []
    assert len(timed.reach(10).closed) == 1


def test_silence_gives_empty_windows_at_the_same_cadence():
    watched = Watched(by_time.Slicer(10, 20, False, PLENTY)).events(ramp(5, 6)).reach(100)
    assert [(cut.t_start, cut.t_end, cut.n_events) for cut, _ in watched.closed] == [
        (5, 15, 1), (25, 35, 0), (45, 55, 0), (65, 75, 0), (85, 95, 0),
    ]  # fmt: skip


def test_a_frame_without_exposure_passes_in_its_turn_or_is_dropped():
    bare = Frame(IMAGE, 25)
    watched = Watched(by_exposure.Slicer(False, PLENTY)).frame(frame(0, 20)).frame(bare)
    assert watched.closed == []
    watched.events(ramp(0, 30))
    assert [cut.flags for cut, _ in watched.closed] == [FrameFlag.NONE, FrameFlag.PASSED_THROUGH]
    assert watched.closed[1][0].n_events == 0
    dropping = Watched(by_exposure.Slicer(False, PLENTY, pass_without_exposure=False)).frame(bare).end()
    assert dropping.closed == []
    assert dropping.slicer.flows["frames"].dropped == {"no_exposure": 1}


@pytest.mark.parametrize("backwards", [(30, 30), (30, 20)])
def test_an_exposure_that_ends_before_it_begins_is_none(backwards):
    watched = Watched(by_exposure.Slicer(False, PLENTY)).frame(frame(*backwards))
    assert [cut.flags for cut, _ in watched.closed] == [FrameFlag.PASSED_THROUGH]


def test_a_jump_abandons_what_is_open_and_counts_it():
    watched = Watched(by_exposure.Slicer(False, PLENTY)).events(ramp(0, 30)).frame(frame(10, 40)).frame(frame(50, 60))
    watched.jump()
    watched.events(ramp(0, 30)).frame(frame(5, 15)).end()
    assert [cut.t_start for cut, _ in watched.closed] == [5]
    flows = watched.slicer.flows
    assert flows["frames"].dropped == {"discontinuity": 2}
    assert flows["events"].passed == 10
    assert flows["events"].dropped == {"between_windows": 10 + 5, "discontinuity": 20, "stream_ended": 15}
    timed = Watched(by_time.Slicer(10, 10, False, PLENTY)).events(ramp(0, 15)).jump().events(ramp(3, 14)).end()
    assert [cut.t_start for cut, _ in timed.closed] == [0, 3]
    assert timed.slicer.flows["events"].dropped == {"discontinuity": 5, "stream_ended": 1}
    counted = Watched(by_count.Slicer(10, False, PLENTY)).events(ramp(0, 15)).jump().events(ramp(3, 14)).end()
    assert [cut.t_start for cut, _ in counted.closed] == [0, 3]
    assert counted.slicer.flows["events"].dropped == {"discontinuity": 5, "stream_ended": 1}


def test_a_count_that_is_not_full_after_an_hour_begins_anew():
    late = 1 << 33
    watched = Watched(by_count.Slicer(5, False, PLENTY)).events(ramp(0, 8)).events(ramp(late, late + 12)).end()
    assert [(cut.t_start, len(got)) for cut, got in watched.closed] == [(0, 5), (late, 5), (late + 5, 5)]
    assert watched.slicer.flows["events"].dropped == {"discontinuity": 3, "stream_ended": 2}


def test_history_is_bounded_in_bytes_and_what_falls_out_is_counted():
    watched = Watched(by_exposure.Slicer(False, 8 * 100))
    for t in range(0, 300, 20):
        watched.events(ramp(t, t + 20))
    watched.frame(frame(150, 250)).frame(frame(260, 280)).end()
    (first, got), (second, _) = watched.closed
    assert first.flags & FrameFlag.INCOMPLETE
    assert got.t.tolist() == list(range(200, 250))
    assert not second.flags & FrameFlag.INCOMPLETE
    assert watched.slicer.flows["events"].dropped["history_full"] == 200


@pytest.mark.parametrize("slicer", [by_time.Slicer(500, 500, True, 800), by_count.Slicer(500, True, 800)])
def test_what_an_open_window_may_hold_is_bounded_however_packets_are_cut(slicer):
    watched = Watched(slicer)
    for t in range(0, 500, 7):
        watched.events(ramp(t, min(t + 7, 500)))
    watched.reach(500).end()
    ((cut, got),) = watched.closed
    assert got.t.tolist() == list(range(100))
    assert cut.flags & FrameFlag.INCOMPLETE
    assert watched.slicer.flows["events"].dropped == {"history_full": 400}


def test_windows_over_a_gap_are_marked_incomplete():
    watched = Watched(by_time.Slicer(10, 10, False, PLENTY)).events(ramp(0, 15))
    watched.slicer.lost(14, 18)
    watched.events(ramp(18, 31)).end()
    assert [bool(cut.flags & FrameFlag.INCOMPLETE) for cut, _ in watched.closed] == [False, True, False]


def test_slicers_without_use_for_frames_count_them():
    watched = Watched(by_time.Slicer(10, 10, False, PLENTY)).frame(frame(0, 5)).end()
    assert watched.slicer.flows["frames"].dropped == {"not_used": 1}


def test_room_is_free_again_when_a_window_closes():
    watched = Watched(by_time.Slicer(80, 80, True, 8 * 100)).events(ramp(0, 400)).reach(400).end()
    assert [len(got) for _, got in watched.closed] == [80] * 5
    exposed = Watched(by_exposure.Slicer(True, 8 * 200))
    for start in range(0, 400, 20):
        exposed.frame(frame(start, start + 20)).events(ramp(start, start + 20)).reach(start + 20)
    assert exposed.end().slicer.flows["events"].passed == 400


def test_a_window_that_overflowed_and_never_ended_is_counted_once():
    watched = Watched(by_exposure.Slicer(True, 8 * 100)).frame(frame(0, 500)).frame(frame(10, 50))
    watched.events(ramp(0, 60)).events(ramp(60, 70)).events(ramp(70, 120)).reach(130).end()
    flow = watched.slicer.flows["events"]
    assert flow.balanced
    assert flow.dropped["history_full"] >= 20
