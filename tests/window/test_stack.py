import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rtpipe
from rtpipe.errors import InputError
from rtpipe.packing import pack
from rtpipe.window.stack import Filler
from tests.window import slow

DEFINED = ["allsame", "color", "epoch", "gray", "lastrowcol", "one", "thresh"]
SKIPPED = ["empty", "few", "one-dropped"]


def golden(shared, name):
    """The recorded case, and the function's arguments for it; times of its window are seconds from the first event."""
    with np.load(shared(f"networks/golden/rep-stack-{name}.npz"), allow_pickle=False) as data:
        recorded = dict(data)
    events = rtpipe.Events(*(recorded[column] for column in "txyp"))
    first = int(events.t[0]) if len(events) else 0
    return recorded, events, {
        "chunks": int(recorded["num_frames"]),
        "resolution": (int(recorded["W"]), int(recorded["H"])),
        "t0": first + round(float(recorded["t_start"]) * 1e6),
        "t1": first + round(float(recorded["t_end"]) * 1e6),
        "color": bool(recorded["color"]),
        "threshold": float(recorded["event_thresh"]),
    }  # fmt: skip


@pytest.mark.parametrize("name", DEFINED)
@pytest.mark.parametrize("form", ["columns", "packed"])
def test_equals_the_published_definition(shared, name, form):
    recorded, events, arguments = golden(shared, name)
    stack = rtpipe.equal_count_stack(pack(events) if form == "packed" else events, **arguments)
    frames = stack.frames if arguments["color"] else stack.frames[:, None]
    assert frames.dtype == np.float32
    np.testing.assert_array_equal(np.moveaxis(frames, 1, -1), recorded["expected_frames_f64"])
    np.testing.assert_allclose(stack.times, recorded["expected_t_f64"][:, 0], atol=1e-10)


@pytest.mark.parametrize("name", SKIPPED)
def test_where_there_is_no_answer_none_is_given(shared, name):
    _, events, arguments = golden(shared, name)
    with pytest.raises(InputError, match="needs as many events"):
        rtpipe.equal_count_stack(events, **arguments)


@pytest.mark.parametrize("name", list(slow.extreme()))
@pytest.mark.parametrize("chunks", [1, 3, 7])
def test_equals_the_slow_version_on_what_breaks_careless_kernels(name, chunks):
    events = slow.extreme()[name]
    if len(events) < chunks:
        return
    frames, times = slow.stack(events, chunks, slow.SMALL, int(events.t[0]), int(events.t[-1]))
    stack = rtpipe.equal_count_stack(events, chunks=chunks, resolution=slow.SMALL)
    np.testing.assert_array_equal(stack.frames, frames)
    np.testing.assert_allclose(stack.times, times, atol=1e-10)


@given(slow.events(), st.integers(1, 20), st.integers(-50, 300), st.integers(1, 600))
def test_between_edges_only_what_lies_strictly_inside_counts(events, chunks, first, length):
    t0 = first + (int(events.t[0]) if len(events) else 0)
    inside = events.between(t0 + 1, t0 + length)
    arguments = {"chunks": chunks, "resolution": slow.SMALL, "t0": t0, "t1": t0 + length}
    if len(inside) < chunks:
        with pytest.raises(InputError, match=f"there are {len(inside)}"):
            rtpipe.equal_count_stack(events, **arguments)
        return
    frames, times = slow.stack(inside, chunks, slow.SMALL, t0, t0 + length)
    stack = rtpipe.equal_count_stack(events, **arguments)
    np.testing.assert_array_equal(stack.frames, frames)
    np.testing.assert_allclose(stack.times, times, atol=1e-10)


@given(slow.events(), st.lists(st.integers(0, 60), max_size=8), st.integers(1, 20))
def test_same_bits_however_the_packets_are_cut(events, places, chunks):
    t0, t1 = (int(events.t[0]), int(events.t[-1]) + 30) if len(events) else (0, 100)
    whole, pieces = np.full((2, chunks, 5, 7), np.nan, np.float32)
    filler, times = Filler(slow.SMALL, chunks), []
    for out, packets in ((whole, [events]), (pieces, slow.cut(events, places))):
        filler.open(np.empty_like(out), t0, t1)  # begun and never closed: the next one must not see it
        filler.add(events)
        filler.open(out, t0, t1)
        for packet in packets:
            filler.add(packet)
        filler.close()
        times.append(None if filler.times is None else filler.times.tolist())
    assert whole.tobytes() == pieces.tobytes()
    assert times[0] == times[1]
    assert (times[0] is None) == (len(events) < chunks)


def test_a_stack_of_a_real_window_adds_up(shared):
    with np.load(shared("recordings/ijrr_slider_depth/events.npz"), allow_pickle=False) as data:
        events = slow.make(*(data[column][200_000:230_011] for column in ("t_us", "x", "y", "p")))
    stack = rtpipe.equal_count_stack(events, resolution=(240, 180))
    assert stack.frames.shape == (50, 180, 240)
    counts = rtpipe.event_count(events, resolution=(240, 180))
    np.testing.assert_array_equal(stack.frames.sum(axis=0), counts[1] - counts[0])
    assert (np.diff(stack.times) > 0).all()
    assert stack.times[0] > -1
    assert stack.times[-1] < 1


def test_bad_arguments_are_refused_in_plain_words():
    events = slow.extreme()["random"]
    with pytest.raises(InputError, match="at least 1"):
        rtpipe.equal_count_stack(events, chunks=0, resolution=slow.SMALL)
    with pytest.raises(InputError, match="even sides"):
        rtpipe.equal_count_stack(events, chunks=3, resolution=slow.SMALL, color=True)
    with pytest.raises(InputError, match="do not fit 6x5"):
        rtpipe.equal_count_stack(events, chunks=3, resolution=(6, 5))
    with pytest.raises(InputError, match="before"):
        rtpipe.equal_count_stack(events, chunks=3, resolution=slow.SMALL, t0=10, t1=5)
    with pytest.raises(InputError, match="out:"):
        rtpipe.equal_count_stack(events, chunks=3, resolution=slow.SMALL, out=np.empty((3, 5, 7)))
