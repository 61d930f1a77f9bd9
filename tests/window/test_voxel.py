import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rtpipe
from rtpipe.errors import InputError
from rtpipe.packing import pack
from rtpipe.window.voxel import Filler
from tests.window import slow

CASES = ("allsame", "empty", "epoch", "lastrowcol", "one", "random", "sparse", "two")
GOLDEN = [f"rep-{family}-{case}" for family in ("voxel", "e2vid") for case in CASES]
GOLDEN += ["rep-voxel-offset60s", "rep-e2vid-cancel"]


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("form", ["columns", "packed"])
def test_equals_the_published_definition(shared, name, form):
    with np.load(shared(f"networks/golden/{name}.npz"), allow_pickle=False) as data:
        prefix = "in_" if "in_t" in data else ""
        wanted = data["out_vox64"] if prefix else data["expected_f64"]
        events = rtpipe.Events(*(data[prefix + column] for column in "txyp"))
        resolution = int(data["W"]), int(data["H"])
    grid = rtpipe.voxel_grid(pack(events) if form == "packed" else events, bins=len(wanted), resolution=resolution)
    assert grid.dtype == np.float32
    assert np.abs(grid - wanted).max() <= 1e-6 * max(1.0, np.abs(wanted).max())


@pytest.mark.parametrize("name", list(slow.extreme()))
@pytest.mark.parametrize("bins", [2, 3, 5, 10])
def test_equals_the_slow_version_on_what_breaks_careless_kernels(name, bins):
    events = slow.extreme()[name]
    t0, t1 = (int(events.t[0]), int(events.t[-1])) if len(events) else (0, 0)
    grid = rtpipe.voxel_grid(events, bins=bins, resolution=slow.SMALL)
    np.testing.assert_allclose(grid, slow.voxel(events, bins, slow.SMALL, t0, t1), atol=2e-6, rtol=1e-6)


@given(slow.events(), st.integers(2, 7), st.integers(-50, 550), st.integers(0, 600))
def test_between_fixed_edges_counts_what_lies_between(events, bins, first, length):
    t0 = first + (int(events.t[0]) if len(events) else 0)
    grid = rtpipe.voxel_grid(events, bins=bins, resolution=slow.SMALL, t0=t0, t1=t0 + length)
    wanted = slow.voxel(events.between(t0, t0 + length), bins, slow.SMALL, t0, t0 + length)
    np.testing.assert_allclose(grid, wanted, atol=3e-6)


@given(slow.events(), st.lists(st.integers(0, 60), max_size=8), st.integers(0, 90), st.integers(2, 6))
def test_same_bits_however_the_packets_are_cut(events, places, later, bins):
    t0 = int(events.t[0]) - later if len(events) else 0
    t1 = int(events.t[-1]) + later if len(events) else 100
    whole, pieces = np.full((2, bins, 5, 7), np.nan, np.float32)
    filler = Filler(slow.SMALL, bins)
    for out, packets in ((whole, [events]), (pieces, slow.cut(events, places))):
        filler.open(out, t0, t1)
        for packet in packets:
            filler.add(packet)
        filler.close()
    assert whole.tobytes() == pieces.tobytes()


@given(slow.events(), st.lists(st.integers(0, 60), max_size=4), st.integers(0, 90), st.integers(2, 6))
def test_both_ways_give_the_same_bits(events, places, later, bins):
    t0 = int(events.t[0]) - later if len(events) else 0
    t1 = int(events.t[-1]) + later if len(events) else 100
    grids = np.full((2, bins, 5, 7), np.nan, np.float32)
    for out, in_pairs in zip(grids, (False, True), strict=True):
        filler = Filler(slow.SMALL, bins, in_pairs)
        filler.open(np.empty_like(out), t0, t1)  # begun and never closed: the next one must not see it
        filler.add(events)
        filler.open(out, t0, t1)
        for packet in slow.cut(events, places):
            filler.add(packet)
        filler.close()
    assert grids[0].tobytes() == grids[1].tobytes()
    assert np.isfinite(grids).all()


def test_a_large_sensor_equals_the_slow_version():
    resolution = (1280, 720)
    rng = np.random.default_rng(3)
    n = 3000
    events = slow.make(
        np.sort(rng.integers(0, 9000, n)), rng.integers(1270, 1280, n), rng.integers(700, 720, n), rng.integers(0, 2, n)
    )
    wanted = slow.voxel(events, 5, resolution, int(events.t[0]), int(events.t[-1]))
    for _ in range(2):  # the second time with buffers that were used before
        np.testing.assert_allclose(rtpipe.voxel_grid(events, resolution=resolution), wanted, atol=3e-6)


@settings(max_examples=30)
@given(slow.events())
def test_packed_and_unpacked_give_the_same_bits(events):
    a = rtpipe.voxel_grid(events, resolution=slow.SMALL)
    assert a.tobytes() == rtpipe.voxel_grid(pack(events), resolution=slow.SMALL).tobytes()


def test_a_real_recording_equals_the_slow_version(shared):
    with np.load(shared("recordings/ijrr_slider_depth/events.npz"), allow_pickle=False) as data:
        events = slow.make(*(data[column][200_000:230_000] for column in ("t_us", "x", "y", "p")))
    grid = rtpipe.voxel_grid(events, resolution=(240, 180))
    wanted = slow.voxel(events, 5, (240, 180), int(events.t[0]), int(events.t[-1]))
    np.testing.assert_allclose(grid, wanted, atol=2e-6, rtol=1e-6)


def test_a_buffer_is_filled_whatever_it_held():
    events = slow.extreme()["random"]
    out = np.full((5, 5, 7), np.nan, np.float32)
    assert rtpipe.voxel_grid(events, resolution=slow.SMALL, out=out) is out
    np.testing.assert_array_equal(out, rtpipe.voxel_grid(events, resolution=slow.SMALL))


def test_strided_and_read_only_columns_are_taken():
    events = slow.extreme()["random"]
    frozen = slow.make(*(getattr(events, column).copy() for column in "txyp"))
    for column in "txyp":
        getattr(frozen, column).flags.writeable = False
    wanted = rtpipe.voxel_grid(events[::2], resolution=slow.SMALL)
    np.testing.assert_array_equal(wanted, rtpipe.voxel_grid(frozen[::2], resolution=slow.SMALL))


@pytest.mark.parametrize(
    ("x", "y", "says"), [(7, 0, "column 7 and row 0"), (0, 5, "column 0 and row 5"), (65535, 0, "column 65535")]
)
@pytest.mark.parametrize("form", ["columns", "packed"])
def test_events_outside_the_sensor_are_refused(x, y, says, form):
    events = slow.make([1, 2], [0, x], [0, y], [0, 1])
    if form == "packed":
        events = rtpipe.PackedEvents(
            1, np.array([0, 1], np.uint32), events.x, events.y | (events.p.astype(np.uint16) << 15)
        )
    with pytest.raises(InputError, match=says):
        rtpipe.voxel_grid(events, resolution=slow.SMALL)


def test_bad_arguments_are_refused_in_plain_words():
    events = slow.extreme()["random"]
    with pytest.raises(InputError, match="not in order of time"):
        rtpipe.voxel_grid(slow.make([2, 1], [0, 0], [0, 0], [0, 0]), resolution=slow.SMALL)
    with pytest.raises(InputError, match="polarity"):
        rtpipe.voxel_grid(slow.make([1], [0], [0], [2]), resolution=slow.SMALL)
    with pytest.raises(InputError, match="at least 2"):
        rtpipe.voxel_grid(events, bins=1, resolution=slow.SMALL)
    with pytest.raises(InputError, match="before"):
        rtpipe.voxel_grid(events, resolution=slow.SMALL, t0=10, t1=5)
    with pytest.raises(InputError, match="out:"):
        rtpipe.voxel_grid(events, resolution=slow.SMALL, out=np.empty((5, 7, 5), np.float32))
    with pytest.raises(InputError, match="resolution"):
        rtpipe.voxel_grid(events, resolution=(0, 5))
