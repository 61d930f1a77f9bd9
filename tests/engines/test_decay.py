"""Levels that events step and time decays: against the filter's own definition, event by event."""

import itertools
import math

import numpy as np
import pytest

from engines.decay import LIMIT, Levels, split, tally
from rtpipe.errors import InputError
from rtpipe.packing import pack
from rtpipe.types import Events, Window

SIZE = (7, 5)
RATE = 2e-5


def stream(n=3000, seed=0, span=300_000, t0=1_700_000_000_000_000, size=SIZE):
    random = np.random.default_rng(seed)
    t = np.sort(random.integers(0, span, n)) + t0
    return Events(t, random.integers(0, size[0], n), random.integers(0, size[1], n), random.integers(0, 2, n))


def window(events, t_start, t_end):
    inside = events.between(t_start, t_end)
    return Window(t_start, t_end, len(inside), events=pack(inside))


def slow(events, until, on, off, keep, rate=lambda q: RATE):
    """Each pixel's level as the paper has it: it decays from event to event, and is looked at in the end."""
    width, height = SIZE
    level, since = np.zeros(width * height), np.zeros(width * height)
    for t, x, y, p in zip(events.t, events.x, events.y, events.p, strict=True):
        q = int(y) * width + int(x)
        level[q] *= math.exp(-rate(q) * (t - since[q]))
        level[q] = min(max(level[q] * keep + (on if p else -off), -LIMIT), LIMIT)
        since[q] = t
    return [each * math.exp(-rate(q) * (until - since[q])) for q, each in enumerate(level)]


def run(events, edges, on, off, keep, levels=None):
    levels = levels or Levels("test", SIZE, RATE)
    for t_start, t_end in itertools.pairwise(edges):
        levels.advance(levels.begin(window(events, t_start, t_end)), t_end, on, off, keep)
    return levels


@pytest.mark.parametrize(("on", "off", "keep"), [(0.2, 0.3, 1.0), (0.25, 0.25, 0.9), (2.0, 0.1, 1.0)])
@pytest.mark.parametrize("pieces", [1, 7, 200])
def test_levels_are_those_of_the_event_by_event_filter(on, off, keep, pieces):
    events = stream()
    t0, t1 = int(events.t[0]), int(events.t[-1]) + 20_001
    edges = np.linspace(t0, t1, pieces + 1).astype(np.int64).tolist()
    np.testing.assert_allclose(run(events, edges, on, off, keep).values, slow(events, t1, on, off, keep), atol=2e-4)


def test_pixels_may_decay_at_rates_of_their_own():
    events = stream(seed=1)
    t0, t1 = int(events.t[0]), int(events.t[-1]) + 1
    levels = Levels("test", SIZE, RATE)
    levels.rates[:] = RATE * (1 + np.arange(levels.rates.size) % 5)
    levels.even = False
    run(events, [t0, t0 + 100_000, t1], 0.2, 0.2, 1.0, levels)
    np.testing.assert_allclose(levels.values, slow(events, t1, 0.2, 0.2, 1.0, lambda q: RATE * (1 + q % 5)), atol=2e-4)


def test_a_step_falls_exponentially_and_by_nothing_else():
    step = Events([1000], [3], [2], [1])
    levels = Levels("test", SIZE, RATE)
    levels.advance(levels.begin(window(step, 0, 2000)), 2000, 0.4, 0.4, 1.0)
    for k in range(1, 10):
        levels.advance(levels.begin(window(step, 2000 * k, 2000 * k + 2000)), 2000 * k + 2000, 0.4, 0.4, 1.0)
        assert levels.plane[2, 3] == pytest.approx(0.4 * math.exp(-RATE * (2000 * k + 1000)), rel=1e-5)
    assert np.count_nonzero(levels.values) == 1


def test_a_long_silence_neither_overflows_nor_leaves_anything():
    levels = run(stream(200), [1_700_000_000_000_000, 1_700_000_000_400_000, 1_700_003_000_000_000], 0.2, 0.2, 1.0)
    assert np.array_equal(levels.values, np.zeros_like(levels.values))


def test_a_pixel_that_fires_one_way_only_stays_within_the_limit():
    n = 5000
    hot = Events(np.arange(n) * 20, np.full(n, 3), np.full(n, 2), np.ones(n))
    levels = run(hot, [0, n * 20], 0.3, 0.3, 1.0)
    assert 0.9 * LIMIT < levels.plane[2, 3] <= LIMIT


def test_overlapping_windows_do_not_count_an_event_twice():
    events = stream(seed=2)
    t0 = int(events.t[0])
    levels, once = Levels("test", SIZE, RATE), run(events, [t0, t0 + 240_000], 0.2, 0.2, 1.0)
    for start in range(0, 200_001, 40_000):
        levels.advance(levels.begin(window(events, t0 + start, t0 + start + 40_000)), t0 + start + 40_000, 0.2, 0.2, 1)
        late = window(events, t0 + start + 10_000, t0 + start + 40_000)
        levels.advance(levels.begin(late), t0 + start + 40_000, 0.2, 0.2, 1.0)
    np.testing.assert_allclose(levels.values, once.values, atol=1e-5)


def test_windows_by_count_that_share_an_instant_lose_none_of_its_events():
    """Such windows end one µs after their last event, and the next begins with it."""
    same = Events([5, 9, 9, 9, 12], [1, 1, 2, 3, 4], [0] * 5, [1] * 5)
    levels = Levels("test", SIZE, 0.0)
    levels.advance(levels.begin(Window(5, 10, 3, events=pack(same[:3]))), 10, 1.0, 1.0, 1.0)
    levels.advance(levels.begin(Window(9, 13, 2, events=pack(same[3:]))), 13, 1.0, 1.0, 1.0)
    assert levels.plane[0].tolist() == [0, 2, 1, 1, 1, 0, 0]


def test_events_outside_the_sensor_are_refused_before_anything_changes():
    levels = Levels("test", SIZE, RATE)
    bad = Events([10], [7], [0], [1])
    with pytest.raises(InputError, match="7x5"):
        levels.begin(Window(0, 100, 1, events=pack(bad)))
    assert not levels.values.any()


def test_windows_are_split_evenly_and_no_event_is_lost_or_doubled():
    events = stream(seed=3, t0=0)
    parts = split(pack(events), 0, 300_000, 7)
    assert [until for _, until in parts] == [300_000 * k // 7 for k in range(1, 8)]
    assert sum(len(part) for part, _ in parts) == len(events)
    for part, until in parts[:-1]:
        assert (part.t0 + part.dt.astype(np.int64) < until).all()


def test_a_tally_caps_hot_pixels_and_starts_again():
    counts = np.array([[0, 2], [9, 1], [0, 700]], np.uint16)
    assert tally(counts, 4) == (4, 7)
    assert not counts.any()
