"""Hot pixels: against the slow version, planted into real recordings, and those that a real DAVIS346 has."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rtpipe
from rtpipe.packing import pack, unpack
from rtpipe.types import Events
from rtpipe.window.filters.hot_pixels import Filter, Settings
from tests.window.filters import slow

QUICK = {"period_us": 1000, "rate_hz": 5000, "factor": 3, "confirm": 2, "forget_us": 3000}


def through(events, resolution, at=(), **given):
    filter_ = Filter(Settings(**given))
    filter_.open(resolution)
    packed = pack(events)
    bounds = [0, *sorted(at), len(packed)]
    kept = [unpack(filter_.apply(packed[i:j])) for i, j in pairwise(bounds)]
    return Events.concatenate(kept), filter_


@given(
    seed=st.integers(0, 1000),
    at=st.lists(st.integers(0, 600), max_size=4),
    gap=st.sampled_from([0, 0, 1500, 9000]),
    pixels=st.sampled_from([(), ((2, 1), (8, 5))]),
)
@settings(max_examples=80)
def test_learning_is_that_of_the_slow_version(seed, at, gap, pixels):
    """Noise, a few pixels that fire and then fall silent, a pause: listed, removed and forgotten at the same events."""
    rng = np.random.default_rng(seed)
    width, height = 9, 6
    t = np.sort(rng.integers(0, 9000, 600))
    busy = rng.integers(0, [width, height], (3, 2))
    place = rng.integers(0, [width, height], (600, 2))
    choose = (rng.random(600) < 0.4) & (t < rng.integers(3000, 9000))
    place[choose] = busy[rng.integers(0, 3, choose.sum())]
    t[t > 4500] += gap
    events = Events(t, place[:, 0].astype(np.uint16), place[:, 1].astype(np.uint16), np.ones(600, np.uint8))
    kept, filter_ = through(events, (width, height), at, pixels=pixels, **QUICK)
    wanted, listed = slow.hot(slow.rows(events), (width, height), pixels=pixels, **QUICK)
    assert slow.rows(kept) == wanted
    assert [tuple(pixel) for pixel in filter_.pixels.tolist()] == listed
    assert filter_.flow.dropped.get("hot_pixels", 0) == 600 - len(wanted)


def test_pixels_that_are_given_never_pass_and_are_never_forgotten():
    events = slow.events_of([(k * 1000, 4, 3, 1) for k in range(10)] + [(50_000_000, 4, 3, 0), (50_000_001, 5, 3, 0)])
    kept, filter_ = through(events, (9, 6), pixels=((4, 3),), **QUICK)
    assert slow.rows(kept) == [(50_000_001, 5, 3, 0)]
    assert "(4,3) 11" in filter_.facts["hot pixels"]
    assert through(events, (9, 6), pixels=((4, 3),), learn=False)[1].flow.passed == 1


def test_silence_between_two_busy_periods_makes_no_pixel_hot():
    """Two periods running are asked for: two with a pause between them are not that."""
    busy = slow.events_of([(start + k * 50, 4, 3, 1) for start in (0, 3000, 4000, 5000) for k in range(20)])
    kept, _ = through(busy, (9, 6), **QUICK)
    assert len(kept) == 60
    assert slow.rows(kept) == slow.hot(slow.rows(busy), (9, 6), **QUICK)[0]


def test_what_was_learned_outlives_a_jump_of_time():
    busy = slow.events_of([(k * 50, 4, 3, 1) for k in range(100)])
    kept, filter_ = through(busy, (9, 6), **QUICK)
    assert len(kept) == 40  # two periods of 20 events
    filter_.reset()
    assert len(filter_.apply(pack(busy))) == 0
    assert "(4,3) 160" in filter_.facts["hot pixels"]


def test_a_bar_that_passes_makes_no_pixel_hot():
    """A bar of 3 columns flickers over a sensor, each of its pixels 40 times per period: busy, and not alone."""
    rows = [
        (period * 100_000 + k * 2000 + y, 10 + period + column, y, k % 2)
        for period in range(8)
        for k in range(40)
        for y in range(20)
        for column in range(3)
    ]
    kept, filter_ = through(slow.events_of(sorted(rows)), (32, 20))
    assert len(kept) == len(rows)
    assert filter_.facts == {"hot pixels": "none"}


def recording(shared, name):
    with rtpipe.open(shared(f"recordings/aedat4/{name}.aedat4")) as opened:
        return opened.events(), opened.resolution


def test_the_hot_pixels_of_a_davis346_are_listed(shared):
    """The five busiest pixels of the dark half of the picture fire 8 to 900 times as often as anything around them."""
    events, resolution = recording(shared, "davis346_ball_throw")
    _, filter_ = through(events, resolution)
    assert filter_.pixels.tolist() == [
        [147, 43],
        [214, 66],
        [86, 82],
        [226, 127],
        [84, 145],
        *filter_.pixels[5:].tolist(),
    ]
    assert len(filter_.pixels) <= 7
    assert filter_.facts["hot pixels"].startswith(f"{len(filter_.pixels)} (column,row) removed: (226,127) 4,0")


def test_a_road_without_hot_pixels_keeps_every_event(shared):
    events, resolution = recording(shared, "davis346_highway")
    kept, filter_ = through(events, resolution)
    assert len(kept) == len(events)
    assert filter_.facts == {"hot pixels": "none"}


@pytest.mark.parametrize("name", ["davis346_ball_throw", "davis346_highway"])
def test_planted_hot_pixels_are_found_and_little_else_is_taken(shared, name):
    events, (width, height) = recording(shared, name)
    own = {tuple(pixel) for pixel in through(events, (width, height))[1].pixels.tolist()}
    rng = np.random.default_rng(7)
    quiet = [(int(x), int(y)) for x, y in rng.integers(0, [width, height], (30, 2))]
    planted = [*quiet, (50, 50), (51, 50), (52, 51), (0, 0), (width - 1, height - 1)]  # a cluster, and corners
    span = int(events.t[-1] - events.t[0])
    times = [np.sort(rng.integers(0, span, int(span * 1e-6 * 1000))) + events.t[0] for _ in planted]
    t = np.concatenate([events.t, *times])
    order = np.argsort(t, kind="stable")
    x = np.concatenate([events.x, *(np.full(len(part), place[0]) for part, place in zip(times, planted, strict=True))])
    y = np.concatenate([events.y, *(np.full(len(part), place[1]) for part, place in zip(times, planted, strict=True))])
    p = np.concatenate([events.p, rng.integers(0, 2, sum(map(len, times)))])
    mixed = Events(t[order], x[order].astype(np.uint16), y[order].astype(np.uint16), p[order].astype(np.uint8))
    kept, filter_ = through(mixed, (width, height), at=(1000, 50_000))
    found = {tuple(pixel) for pixel in filter_.pixels.tolist()}
    counts = np.bincount(events.y.astype(int) * width + events.x, minlength=width * height)
    missed = set(planted) - found
    assert all(counts[y * width + x] > 20 for x, y in missed)  # only where the scene itself is as busy
    assert len(missed) <= 4
    assert len(found - set(planted) - own) <= 1
    late = kept.t > events.t[0] + 400_000
    assert not any(((kept.x[late] == x) & (kept.y[late] == y)).any() for x, y in found)
    others = [pixel not in found for pixel in zip(mixed.x.tolist(), mixed.y.tolist(), strict=True)]
    assert slow.rows(kept.between(kept.t[0], kept.t[0] + 1)) == slow.rows(mixed.between(kept.t[0], kept.t[0] + 1))
    assert sum(pixel not in found for pixel in zip(kept.x.tolist(), kept.y.tolist(), strict=True)) == sum(others)
