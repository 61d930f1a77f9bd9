"""Events in 8 bytes and back, and the one check that stands before every kernel."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtpipe import packing
from rtpipe.types import MAX_SIDE, Events, PackedEvents

EPOCH_US = 1_700_000_000_000_000
rows = st.lists(
    st.tuples(st.integers(0, 1 << 31), st.integers(0, MAX_SIDE - 1), st.integers(0, MAX_SIDE - 1), st.integers(0, 1)),
    max_size=60,
)


def events(listed, t0=EPOCH_US):
    columns = np.array(sorted(listed), np.int64).reshape(-1, 4).T
    return Events(columns[0] + t0, *(c.astype(d) for c, d in zip(columns[1:], ("u2", "u2", "u1"), strict=True)))


def same(a, b):
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("t", "x", "y", "p"))


@given(rows, st.integers(-(1 << 61), 1 << 61))
@settings(deadline=None)
def test_events_come_back_as_they_were(listed, t0):
    made = events(listed, t0)
    packed = packing.pack(made)
    assert packed.dt.nbytes + packed.x.nbytes + packed.yp.nbytes == 8 * len(made)
    assert same(packing.unpack(packed), made)


@given(rows.filter(bool), st.integers(1, 400), st.integers(1, 400))
@settings(deadline=None)
def test_a_fault_is_what_the_slow_obvious_check_says(listed, width, height):
    columns = np.array(listed, np.int64).T
    t, x, y = columns[0], columns[1] % 401, columns[2] % 401
    unordered = Events(t, x.astype(np.uint16), y.astype(np.uint16), columns[3].astype(np.uint8))
    packed = PackedEvents(0, t.astype(np.uint32), unordered.x, unordered.y | unordered.p.astype(np.uint16) << 15)
    wanted = ""
    if any(a > b for a, b in pairwise(t)):
        wanted = packing.ORDER
    elif any(x >= width) or any(y >= height):
        wanted = packing.COORDINATES
    assert packing.fault(unordered, (width, height)) == wanted == packing.fault(packed, (width, height))


@pytest.mark.parametrize("where", [0, 1, 7, 8, 31, 32, 99])
@pytest.mark.parametrize("column", ["x", "y", "p"])
def test_one_bad_value_anywhere_is_found(column, where):
    n = 100
    made = Events(np.arange(n), *(np.zeros(n, d) for d in ("u2", "u2", "u1")))
    getattr(made, column)[where] = {"x": 346, "y": 260, "p": 2}[column]
    assert packing.fault(made, (346, 260)) == (packing.POLARITY if column == "p" else packing.COORDINATES)


@pytest.mark.parametrize(
    ("t", "x", "says"),
    [([1, 0], 0, "order"), ([0, 1], MAX_SIDE, "coordinates"), ([0, 1 << 32], 0, "span more than")],
)
def test_what_does_not_fit_into_8_bytes_is_refused(t, x, says):
    made = Events(np.array(t), np.full(2, x, np.uint16), np.zeros(2, np.uint16), np.zeros(2, np.uint8))
    with pytest.raises(ValueError, match=says):
        packing.pack(made)


def test_no_mixture_of_columns_is_compiled_anew_in_the_middle_of_a_stream():
    packing.warm()
    kernels = (packing._pack, packing._fault, packing._packed_fault, packing._unpack)
    before = [len(kernel.signatures) for kernel in kernels]
    made = events([(k, k, k, k % 2) for k in range(50)])
    strided = np.zeros(50, [("t", "i8"), ("x", "u2"), ("y", "u2"), ("p", "u1")])
    for name in ("t", "x", "y", "p"):
        strided[name] = getattr(made, name)
    for mixture in range(16):
        columns = []
        for bit, name in enumerate(("t", "x", "y", "p")):
            column = getattr(made, name).copy()
            column.flags.writeable = not mixture >> bit & 1
            columns.append(column)
        packed = packing.pack(Events(*columns))
        packed.dt.flags.writeable = bool(mixture & 1)
        assert packing.fault(packed, (50, 50)) == ""
        assert same(packing.unpack(packed), made)
    assert same(packing.unpack(packing.pack(Events(*(strided[name] for name in ("t", "x", "y", "p"))))), made)
    assert [len(kernel.signatures) for kernel in kernels] == before
