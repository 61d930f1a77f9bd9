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


def test_a_surface_of_hours_forgets_what_is_older_than_it_can_look_back():
    hour = 3_600_000_000
    events = slow.make([0, hour, 2 * hour, 2 * hour + 5], [1, 2, 3, 4], [0, 0, 0, 0], [1, 1, 1, 0])
    surface = rtpipe.time_surface(events, resolution=slow.SMALL, tau_us=50.0, t0=0, t1=2 * hour + 10)
    np.testing.assert_allclose(surface, slow.time_surface(events, slow.SMALL, 2 * hour + 10, 50.0), rtol=1e-6)
    assert np.count_nonzero(surface) == 2


def test_times_of_a_surface_are_those_that_dv_processing_keeps(shared):
    dv = pytest.importorskip("dv_processing")
    with np.load(shared("recordings/ijrr_slider_depth/events.npz"), allow_pickle=False) as data:
        events = slow.make(*(data[column][300_000:320_000] for column in ("t_us", "x", "y", "p")))
    theirs, store = dv.TimeSurface((240, 180)), dv.EventStore()
    for t, x, y, p in zip(*(getattr(events, column).tolist() for column in "txyp"), strict=True):
        store.push_back(t, x, y, p)
    theirs.accept(store)
    end, tau = int(events.t[-1]), 30_000.0
    latest = rtpipe.time_surface(events, resolution=(240, 180), tau_us=tau).max(axis=0)  # of both polarities, as theirs
    kept = np.array([[theirs.at(y, x) for x in range(240)] for y in range(180)])
    assert np.count_nonzero(kept) > 5000
    np.testing.assert_array_equal(latest > 0, kept > 0)
    ages = -tau * np.log(latest[kept > 0].astype(np.float64))
    np.testing.assert_allclose(ages, end - kept[kept > 0], atol=0.01)
