import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rtpipe
from rtpipe.errors import InputError
from rtpipe.packing import pack
from rtpipe.window import count, time_surface
from tests.window import slow


@pytest.mark.parametrize("name", list(slow.extreme()))
@pytest.mark.parametrize("form", [lambda events: events, pack], ids=["columns", "packed"])
def test_counts_equal_the_slow_version(name, form):
    events = slow.extreme()[name]
    counts = rtpipe.event_count(form(events), resolution=slow.SMALL)
    np.testing.assert_array_equal(counts, slow.count(events, slow.SMALL))


@pytest.mark.parametrize("name", list(slow.extreme()))
@pytest.mark.parametrize("form", [lambda events: events, pack], ids=["columns", "packed"])
def test_surfaces_equal_the_slow_version(name, form):
    events = slow.extreme()[name]
    if name == "an hour":
        events = events[:4]
    t1 = int(events.t[-1]) if len(events) else 0
    surface = rtpipe.time_surface(form(events), resolution=slow.SMALL, tau_us=150.0)
    np.testing.assert_allclose(surface, slow.time_surface(events, slow.SMALL, t1, 150.0), rtol=1e-6)


@given(slow.events(), st.integers(-50, 550), st.integers(0, 600))
def test_between_fixed_edges_counts_what_lies_between(events, first, length):
    t0 = first + (int(events.t[0]) if len(events) else 0)
    inside = events.between(t0, t0 + length)
    edges = {"t0": t0, "t1": t0 + length}
    np.testing.assert_array_equal(
        rtpipe.event_count(events, resolution=slow.SMALL, **edges), slow.count(inside, slow.SMALL)
    )
    np.testing.assert_allclose(
        rtpipe.time_surface(events, resolution=slow.SMALL, tau_us=99, **edges),
        slow.time_surface(inside, slow.SMALL, t0 + length, 99),
        rtol=1e-6,
    )


@pytest.mark.parametrize("kind", [count, time_surface])
@given(events=slow.events(), places=st.lists(st.integers(0, 60), max_size=8), later=st.integers(0, 90))
def test_same_bits_however_the_packets_are_cut(kind, events, places, later):
    t0 = int(events.t[0]) - later if len(events) else 0
    t1 = int(events.t[-1]) + later if len(events) else 100
    whole, pieces = np.full((2, 2, 5, 7), np.nan, np.float32)
    filler = kind.Filler(slow.SMALL)
    for out, packets in ((whole, [events]), (pieces, slow.cut(events, places))):
        filler.open(out, t0, t1)
        for packet in packets:
            filler.add(packet)
        filler.close()
    assert whole.tobytes() == pieces.tobytes()


@pytest.mark.parametrize(("x", "y"), [(7, 0), (0, 5), (65535, 0), (0, 32768), (0, 65535)])
def test_events_outside_the_sensor_are_refused(x, y):
    outside = slow.make([1, 2], [0, x], [0, y], [0, 1])
    for function in (rtpipe.event_count, rtpipe.time_surface, rtpipe.scer, rtpipe.voxel_grid):
        with pytest.raises(InputError, match="do not fit 7x5"):
            function(outside, resolution=slow.SMALL)


def test_what_does_not_fit_is_refused():
    outside = slow.make([1], [0], [5], [0])
    with pytest.raises(InputError, match="do not fit 7x5"):
        rtpipe.event_count(outside, resolution=slow.SMALL)
    with pytest.raises(InputError, match="do not fit 7x5"):
        rtpipe.time_surface(outside, resolution=slow.SMALL)
    with pytest.raises(InputError, match="polarity"):
        rtpipe.event_count(slow.make([1], [0], [0], [2]), resolution=slow.SMALL)
    with pytest.raises(InputError, match="tau_us"):
        rtpipe.time_surface(outside, resolution=(7, 6), tau_us=0)
    with pytest.raises(InputError, match="spans at most"):
        rtpipe.time_surface(outside, resolution=(7, 6), t0=0, t1=1 << 32)
