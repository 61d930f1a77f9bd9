import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rtpipe
from rtpipe.errors import InputError
from rtpipe.packing import pack
from rtpipe.window.mask import closed_mask, davis_mask
from rtpipe.window.scer import Filler
from tests.window import slow

GOLDEN = ["allsame", "dense", "edge-exact", "edge-ties", "empty", "epoch"]
GOLDEN += ["halfdense", "lastrowcol", "one", "random", "sparse", "two"]


def golden(shared, name):
    with np.load(shared(f"networks/golden/rep-scer-{name}.npz"), allow_pickle=False) as data:
        events = rtpipe.Events(*(data[column] for column in "txyp"))
        return dict(data), events, (int(data["W"]), int(data["H"]))


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("form", ["columns", "packed"])
def test_equals_the_published_definition_exactly(shared, name, form):
    data, events, resolution = golden(shared, name)
    tensor = rtpipe.scer(pack(events) if form == "packed" else events, resolution=resolution)
    assert tensor.dtype == np.float32
    np.testing.assert_array_equal(tensor, data["expected_f64"])


@pytest.mark.parametrize("name", GOLDEN)
def test_masks_equal_those_that_the_network_was_trained_with(shared, name):
    data, events, resolution = golden(shared, name)
    tensor = rtpipe.scer(events, resolution=resolution)
    np.testing.assert_array_equal(closed_mask(tensor) * 255, data["expected_mask_close"].reshape(tensor.shape[1:]))
    bounds = tuple(data["robust_bounds"].tolist())
    np.testing.assert_array_equal(davis_mask(tensor, bounds), data["expected_mask_davis"].reshape(tensor.shape[1:]))


@pytest.mark.parametrize("name", list(slow.extreme()))
def test_equals_the_slow_version_on_what_breaks_careless_kernels(name):
    events = slow.extreme()[name]
    t0, t1 = (int(events.t[0]), int(events.t[-1])) if len(events) else (0, 0)
    tensor = rtpipe.scer(events, resolution=slow.SMALL)
    np.testing.assert_array_equal(tensor, slow.scer(events, slow.SMALL, t0, t1))


@given(slow.events(), st.integers(-50, 550), st.integers(0, 600))
def test_between_fixed_edges_counts_what_lies_between(events, first, length):
    t0 = first + (int(events.t[0]) if len(events) else 0)
    tensor = rtpipe.scer(events, resolution=slow.SMALL, t0=t0, t1=t0 + length)
    np.testing.assert_array_equal(tensor, slow.scer(events, slow.SMALL, t0, t0 + length))


@given(slow.events(), st.lists(st.integers(0, 60), max_size=8), st.integers(0, 90))
def test_same_bits_however_the_packets_are_cut(events, places, later):
    t0 = int(events.t[0]) - later if len(events) else 0
    t1 = int(events.t[-1]) + later if len(events) else 100
    whole, pieces = np.full((2, 6, 5, 7), np.nan, np.float32)
    filler = Filler(slow.SMALL)
    for out, packets in ((whole, [events]), (pieces, slow.cut(events, places))):
        filler.open(out, t0, t1)
        for packet in packets:
            filler.add(packet)
        filler.close()
    assert whole.tobytes() == pieces.tobytes()


@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.6), st.integers(1, 12), st.integers(1, 12))
def test_closing_equals_the_textbook(seed, density, height, width):
    rng = np.random.default_rng(seed)
    tensor = (rng.random((6, height, width)) < density / 6).astype(np.float32)
    active = tensor.any(axis=0)
    shifts = [(dy, dx) for dy in range(3) for dx in range(3)]
    padded = np.pad(active, 1, constant_values=False)
    dilated = np.any([padded[dy : dy + height, dx : dx + width] for dy, dx in shifts], axis=0)
    padded = np.pad(dilated, 1, constant_values=True)
    closed = np.all([padded[dy : dy + height, dx : dx + width] for dy, dx in shifts], axis=0)
    np.testing.assert_array_equal(closed_mask(tensor), closed)


def test_other_numbers_of_channels_are_refused():
    with pytest.raises(InputError, match="SCER has 6"):
        Filler(slow.SMALL, 5)
    with pytest.raises(InputError, match="do not fit 7x5"):
        rtpipe.scer(slow.make([1], [7], [0], [0]), resolution=slow.SMALL)
