"""Events that cannot be believed are refused one by one."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.camera.sift import segments, sifted
from rtpipe.packing import fault
from rtpipe.types import Events

WIDTH, HEIGHT = 9, 7


def slowly(events, newest, mark):
    """One event after the other, in plain Python."""
    kept, why = [], {}
    for i in range(len(events)):
        t, x, y, p = (int(column[i]) for column in (events.t, events.x, events.y, events.p))
        if t < newest:
            reason = "order"
        elif t < mark:
            reason = "late"
        elif x >= WIDTH or y >= HEIGHT:
            reason = "coordinates"
        elif p > 1:
            reason = "polarity"
        else:
            kept.append(i)
            newest = t
            continue
        why[reason] = why.get(reason, 0) + 1
    return kept, why


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-50, 50), st.integers(0, 11), st.integers(0, 9), st.integers(0, 3)), max_size=40),
    st.integers(-60, 40),
    st.integers(-60, 40),
)
def test_what_is_kept_is_what_one_by_one_would_be(rows, newest, mark):
    t, x, y, p = (np.array([row[i] for row in rows], np.int64) for i in range(4))
    events = Events(t, x, y, p)
    kept, refused = sifted(events, (WIDTH, HEIGHT), newest, mark)
    wanted, why = slowly(events, newest, mark)
    for name in ("t", "x", "y", "p"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(events, name)[wanted])
    assert refused == why
    assert not fault(kept, (WIDTH, HEIGHT))


def test_events_in_order_are_not_copied():
    events = Events(np.arange(5), np.zeros(5), np.zeros(5), np.zeros(5))
    assert sifted(events, (WIDTH, HEIGHT), 0, 0)[0] is events


def test_a_run_is_cut_where_its_times_step():
    t = np.array([0, 5, 3, 900, 901, 100, 101])
    assert [list(t[part]) for part in segments(t, 50, 500)] == [[0, 5, 3], [900, 901], [100, 101]]
