"""Windows that carry a frame, against looking them up; whatever the order in which frames and events come."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rtpipe
from rtpipe.types import Frame, FrameFlag
from rtpipe.window import between_frames, by_frame, by_mid_exposure
from rtpipe.window.cut import Do
from tests.window.watched import IMAGE, PLENTY, Watched, anywhere, frame, hashed, in_any, play, ramp, streams


@st.composite
def camera(draw, start):
    """Frames in order of time; exposures that overlap, windows of their own, and frames that know nothing."""
    frames, t0 = [], start - 60
    for _ in range(draw(st.integers(0, 6))):
        t0 += draw(st.integers(0, 150))
        kind = draw(st.integers(0, 3))
        made = Frame(IMAGE, t0) if kind == 0 else frame(t0, t0 + draw(st.integers(0, 80)))
        if kind == 3:
            made = replace(made, window_start=t0 - 7, window_end=t0 - 7 + draw(st.integers(1, 200)))
        frames.append(made)
    return frames


@given(st.data(), st.booleans(), st.integers(1, 120))
def test_about_mid_exposure_equals_looking_up(data, holding, length):
    events, steps, end = data.draw(streams())
    frames, spans = data.draw(camera(int(events.t[0]) if len(events) else 0)), []
    for each in frames:
        middle = each.t  # frame() puts t into the middle
        span = (middle - length // 2, middle - length // 2 + length) if each.exposure_start is not None else None
        spans.append((each.window_start, each.window_end) if each.window_start is not None else span)
    order = sorted(range(len(frames)), key=lambda k: (spans[k] or (frames[k].t,))[0])
    frames, spans = [frames[k] for k in order], [spans[k] for k in order]
    watched = Watched(by_mid_exposure.Slicer(holding, PLENTY, length_us=length))
    play(watched, steps, frames, data.draw(anywhere(steps, len(frames))), "frame")
    wanted = []
    for each, span in zip(frames, spans, strict=True):
        if span is None:
            wanted.append((each.t, each.t, ()))
        elif span[1] <= end:
            wanted.append((*span, hashed(events.between(*span))))
    assert watched.spans == wanted
    assert not any(cut.flags & FrameFlag.INCOMPLETE for cut, _ in watched.closed)
    assert watched.slicer.flows["events"].passed == in_any(events, wanted)
    assert watched.slicer.flows["frames"].passed == len(wanted)
    assert watched.slicer.flows["frames"].dropped.get("stream_ended", 0) == len(frames) - len(wanted)


@given(st.data(), st.booleans())
def test_between_frames_equals_looking_up(data, holding):
    events, steps, end = data.draw(streams())
    begun = int(events.t[0]) if len(events) else None
    times = sorted((begun or 0) + t for t in data.draw(st.lists(st.integers(-60, 700), max_size=6)))
    frames = [Frame(np.full_like(IMAGE, k), t) for k, t in enumerate(times)]
    watched = Watched(between_frames.Slicer(holding, PLENTY))
    play(watched, steps, frames, data.draw(anywhere(steps, len(frames))), "frame")
    wanted = []
    for t in times:
        start = t if begun is None else min(begun, t)
        begun = t if begun is None else max(begun, t)
        if t <= end:
            wanted.append((start, t, hashed(events.between(start, t))))
    assert watched.spans == wanted
    assert [int(cut.frame.image[0, 0]) for cut, _ in watched.closed] == list(range(len(wanted)))
    assert watched.slicer.flows["events"].passed == in_any(events, wanted)
    assert watched.slicer.flows["frames"].dropped.get("stream_ended", 0) == len(frames) - len(wanted)


def test_every_event_up_to_the_last_frame_is_in_one_window_between_frames():
    watched = Watched(between_frames.Slicer(True, PLENTY))
    for t in range(0, 200, 20):
        watched.events(ramp(t, t + 20)).frame(Frame(IMAGE, t + 13))
    watched.reach(200).end()
    assert np.concatenate([got.t for _, got in watched.closed]).tolist() == list(range(193))
    assert watched.slicer.flows["events"].dropped == {"stream_ended": 7}


def test_the_first_frame_waits_for_the_first_event_or_for_its_own_time():
    early = Watched(between_frames.Slicer(False, PLENTY)).frame(Frame(IMAGE, 50)).reach(30)
    assert not early.open
    assert [span[:2] for span in early.events(ramp(40, 60)).spans] == [(40, 50)]
    silent = Watched(between_frames.Slicer(False, PLENTY)).frame(Frame(IMAGE, 50)).reach(50)
    assert silent.spans == [(50, 50, ())]


def test_frames_that_wait_for_a_first_event_are_counted_when_none_comes():
    watched = Watched(between_frames.Slicer(False, PLENTY)).frame(Frame(IMAGE, 50)).reach(30).jump()
    watched.frame(Frame(IMAGE, 60)).frame(Frame(IMAGE, 70)).end()
    assert watched.slicer.flows["frames"].dropped == {"discontinuity": 1, "stream_ended": 2}


def test_after_a_jump_the_first_event_begins_the_first_window_again():
    watched = Watched(between_frames.Slicer(False, PLENTY)).events(ramp(0, 30)).frame(Frame(IMAGE, 20))
    watched.frame(Frame(IMAGE, 40)).jump()
    watched.frame(Frame(IMAGE, 9)).events(ramp(3, 14)).end()
    assert [span[:2] for span in watched.spans] == [(0, 20), (3, 9)]
    assert watched.slicer.flows["frames"].dropped == {"discontinuity": 1}
    assert watched.slicer.flows["events"].dropped == {"discontinuity": 10, "stream_ended": 5}


def test_frames_that_go_back_get_nothing_and_take_nothing():
    watched = Watched(between_frames.Slicer(False, PLENTY)).events(ramp(0, 100))
    for t in (40, 30, 60):
        watched.frame(Frame(IMAGE, t))
    assert [span[:2] for span in watched.end().spans] == [(0, 40), (30, 30), (40, 60)]


def test_a_gap_of_hours_between_frames_is_cut_short():
    watched = Watched(between_frames.Slicer(False, PLENTY)).events(ramp(0, 10)).frame(Frame(IMAGE, 5))
    watched.frame(Frame(IMAGE, 1 << 34)).reach(1 << 34).end()
    assert [span[:2] for span in watched.spans] == [(0, 5), ((1 << 34) - (1 << 32) + 1, 1 << 34)]


def test_a_frame_without_exposure_or_window_passes_or_is_dropped_about_mid_exposure():
    watched = Watched(by_mid_exposure.Slicer(False, PLENTY)).frame(Frame(IMAGE, 25))
    assert [cut.flags for cut, _ in watched.closed] == [FrameFlag.PASSED_THROUGH]
    dropping = Watched(by_mid_exposure.Slicer(False, PLENTY, pass_without_exposure=False)).frame(Frame(IMAGE, 25))
    assert dropping.end().slicer.flows["frames"].dropped == {"no_exposure": 1}


def test_the_windows_that_a_recording_names_are_taken_as_they_are(shared):
    with rtpipe.open(shared("recordings/layouts/rled_slider_0000_25fps.h5")) as recording:
        events, frames = recording.events(), list(recording.frames())
    assert all(each.window_start is not None and each.window_end is not None for each in frames)
    watched = Watched(by_mid_exposure.Slicer(False, PLENTY))
    for each in frames:
        watched.frame(each)
    watched.events(events).reach(max(each.window_end for each in frames)).end()
    assert len(watched.closed) == len(frames) > 80
    for (cut, got), each in zip(watched.closed, frames, strict=True):
        assert (cut.t_start, cut.t_end) == (each.window_start, each.window_end)
        np.testing.assert_array_equal(got.t, events.between(each.window_start, each.window_end).t)


def test_rled_windows_hold_the_events_that_its_indices_say(shared):
    import h5py

    path = shared("recordings/layouts/rled_slider_0000_25fps.h5")
    with h5py.File(path) as file:
        indices = np.asarray(file["event_indices"])
    with rtpipe.open(path) as recording:
        events, frames = recording.events(), list(recording.frames())
    watched = Watched(by_mid_exposure.Slicer(False, PLENTY)).events(events)
    for each in frames:
        watched.frame(each)
    watched.reach(int(events.t[-1]) + 10**6).end()
    for (_, got), (start, stop) in zip(watched.closed, indices, strict=True):
        assert hashed(got) == hashed(events[int(start) : int(stop)])


@pytest.mark.parametrize("exposure", [(None, None), (30, 30), (10, 40)])
def test_by_frame_each_frame_is_a_window_at_once(exposure):
    slicer = by_frame.Slicer(False, PLENTY)
    watched = Watched(slicer)
    ((do, cut, _), (then, same, _)) = slicer.frame(Frame(IMAGE, 25, *exposure))
    assert (do, then, cut is same) == (Do.OPEN, Do.CLOSE, True)
    assert (cut.t_start, cut.t_end) == ((10, 40) if exposure == (10, 40) else (25, 25))
    watched.events(ramp(0, 10)).reach(50).jump().end()
    assert slicer.flows["events"].dropped == {"not_used": 10}
    assert slicer.flows["frames"].passed == 1
