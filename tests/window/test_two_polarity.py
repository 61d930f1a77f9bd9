import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rtpipe
from rtpipe.errors import InputError
from rtpipe.packing import pack
from rtpipe.window.two_polarity import Filler
from tests.window import slow

GOLDEN = ["allsame", "empty", "epoch", "lastrowcol", "random", "three", "two"]


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("form", ["columns", "packed"])
def test_equals_the_published_definition(shared, name, form):
    with np.load(shared(f"networks/golden/rep-eventhdr-{name}.npz"), allow_pickle=False) as data:
        wanted = data["out_vox64"]
        events = rtpipe.Events(*(data[f"in_{column}"] for column in "txyp"))
        resolution = int(data["W"]), int(data["H"])
    grid = rtpipe.two_polarity_voxel_grid(pack(events) if form == "packed" else events, resolution=resolution)
    assert (grid.dtype, grid.shape) == (np.float32, wanted.shape)
    assert np.abs(grid - wanted).max() <= 5e-6


@pytest.mark.parametrize("name", list(slow.extreme()))
@pytest.mark.parametrize("bins", [2, 3, 5, 10])
def test_equals_the_slow_version_on_what_breaks_careless_kernels(name, bins):
    events = slow.extreme()[name]
    t0, t1 = (int(events.t[0]), int(events.t[-1])) if len(events) else (0, 0)
    grid = rtpipe.two_polarity_voxel_grid(events, bins=bins, resolution=slow.SMALL)
    np.testing.assert_allclose(grid, slow.two_polarity(events, bins, slow.SMALL, t0, t1), atol=2e-6, rtol=1e-6)


@given(slow.events(), st.integers(2, 7), st.integers(-50, 550), st.integers(0, 600))
def test_between_fixed_edges_counts_what_lies_between(events, bins, first, length):
    t0 = first + (int(events.t[0]) if len(events) else 0)
    edges = {"t0": t0, "t1": t0 + length}
    grid = rtpipe.two_polarity_voxel_grid(events, bins=bins, resolution=slow.SMALL, **edges)
    inside = events.between(t0, t0 + length)
    np.testing.assert_allclose(grid, slow.two_polarity(inside, bins, slow.SMALL, t0, t0 + length), atol=3e-6)


@given(slow.events(), st.lists(st.integers(0, 60), max_size=8), st.integers(0, 90), st.integers(2, 6))
def test_same_bits_however_the_packets_are_cut(events, places, later, bins):
    t0 = int(events.t[0]) - later if len(events) else 0
    t1 = int(events.t[-1]) + later if len(events) else 100
    grids = np.full((2, 2 * bins, 5, 7), np.nan, np.float32)
    filler = Filler(slow.SMALL, bins)
    for out, cuts in zip(grids, ([], places), strict=True):
        filler.open(np.empty_like(out), t0, t1)  # begun and never closed: the next one must not see it
        filler.add(events)
        filler.open(out, t0, t1)
        for packet in slow.cut(events, cuts):
            filler.add(packet)
        filler.close()
    assert np.isfinite(grids).all()
    assert grids[0].tobytes() == grids[1].tobytes()


def test_too_few_events_leave_nothing_for_the_next_grid():
    filler, out = Filler(slow.SMALL, 3), np.full((6, 5, 7), np.nan, np.float32)
    events = slow.extreme()["random"]
    for part, edges in ((events[:2], (0, 10_000)), (events, (50, 50)), (events, (0, 10_000))):
        filler.open(out, *edges)
        filler.add(part)
        filler.close()
        wanted = slow.two_polarity(part, 3, slow.SMALL, *edges)
        np.testing.assert_allclose(out, wanted, atol=2e-6)


def test_a_large_sensor_equals_the_slow_version():
    resolution = (640, 480)
    rng = np.random.default_rng(3)
    n = 3000
    events = slow.make(
        np.sort(rng.integers(0, 9000, n)), rng.integers(630, 640, n), rng.integers(460, 480, n), rng.integers(0, 2, n)
    )
    wanted = slow.two_polarity(events, 5, resolution, int(events.t[0]), int(events.t[-1]))
    for _ in range(2):  # the second time with buffers that were used before
        np.testing.assert_allclose(rtpipe.two_polarity_voxel_grid(events, resolution=resolution), wanted, atol=3e-6)


def test_both_halves_of_a_real_window_add_up_to_its_events(shared):
    with np.load(shared("recordings/ijrr_slider_depth/events.npz"), allow_pickle=False) as data:
        events = slow.make(*(data[column][200_000:230_000] for column in ("t_us", "x", "y", "p")))
    grid = rtpipe.two_polarity_voxel_grid(events, resolution=(240, 180))
    assert grid.min() >= 0
    signed = grid[:5] - grid[5:]
    np.testing.assert_allclose(signed, rtpipe.voxel_grid(events, resolution=(240, 180)), atol=1e-5)
    np.testing.assert_allclose(grid[:5].sum(), events.p.sum(), rtol=1e-5)
    np.testing.assert_allclose(grid.sum(), len(events), rtol=1e-5)


def test_bad_arguments_are_refused_in_plain_words():
    events = slow.extreme()["random"]
    with pytest.raises(InputError, match="at least 2"):
        rtpipe.two_polarity_voxel_grid(events, bins=1, resolution=slow.SMALL)
    with pytest.raises(InputError, match="do not fit 6x5"):
        rtpipe.two_polarity_voxel_grid(events, resolution=(6, 5))
    with pytest.raises(InputError, match="not in order of time"):
        rtpipe.two_polarity_voxel_grid(slow.make([2, 1], [0, 0], [0, 0], [0, 0]), resolution=slow.SMALL)
    with pytest.raises(InputError, match="out:"):
        rtpipe.two_polarity_voxel_grid(events, resolution=slow.SMALL, out=np.empty((5, 5, 7), np.float32))
