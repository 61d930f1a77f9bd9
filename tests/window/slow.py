"""The slow, obvious versions that the kernels are compared with, and events to compare them on."""

import itertools

import numpy as np
from hypothesis import strategies as st

from rtpipe.packing import pack
from rtpipe.types import Events, PackedEvents

SMALL = (7, 5)
STARTS = st.integers(-(10**6), 2 * 10**15)


def make(t, x, y, p) -> Events:
    return Events(np.asarray(t, np.int64), np.asarray(x, np.uint16), np.asarray(y, np.uint16), np.asarray(p, np.uint8))


@st.composite
def events(draw, resolution=SMALL, most=60, longest_us=500, start=STARTS) -> Events:
    """Events in order, times often equal, of a small sensor."""
    n = draw(st.integers(0, most))
    t0 = draw(start)
    t = np.sort(np.array(draw(st.lists(st.integers(0, longest_us), min_size=n, max_size=n)), np.int64)) + t0
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    width, height = resolution
    return make(t, rng.integers(0, width, n), rng.integers(0, height, n), rng.integers(0, 2, n))


def extreme() -> dict[str, Events]:
    """What breaks careless kernels, for a sensor of SMALL."""
    width, height = SMALL
    n = 40
    rng = np.random.default_rng(5)
    x, y, p = rng.integers(0, width, n), rng.integers(0, height, n), rng.integers(0, 2, n)
    ramp = np.arange(n) * 7
    return {
        "none": Events.empty(),
        "one": make([123], [3], [2], [1]),
        "two": make([5, 9], [3, 3], [2, 2], [1, 0]),
        "all at one time": make(np.full(n, 99), x, y, p),
        "last row and column": make(ramp, np.full(n, width - 1), np.full(n, height - 1), p),
        "since 1970": make(1_680_000_000_000_000 + ramp, x, y, p),
        "before zero": make(ramp - 1000, x, y, p),
        "an hour": make(ramp * 12_000_000, x, y, p),
        "one µs": make(np.arange(n) // 20, x, y, p),
        "random": make(np.sort(rng.integers(0, 10_000, n)), x, y, p),
    }


def cut(events: Events, places: list[int]) -> list[PackedEvents]:
    """The events in packets, cut before these indices (taken modulo their number)."""
    edges = sorted({0, len(events), *(place % (len(events) + 1) for place in places)})
    return [pack(events[a:b]) for a, b in itertools.pairwise(edges)]


def voxel(ev: Events, bins: int, resolution, t0: int, t1: int) -> np.ndarray:
    """Every event, every bin, in float64."""
    width, height = resolution
    grid = np.zeros((bins, height, width))
    for t, x, y, p in zip(ev.t.tolist(), ev.x.tolist(), ev.y.tolist(), ev.p.tolist(), strict=True):
        tau = (bins - 1) * (t - t0) / max(t1 - t0, 1)
        for b in range(bins):
            grid[b, y, x] += (1 if p else -1) * max(0.0, 1.0 - abs(tau - b))
    return grid


def scer(ev: Events, resolution, t0: int, t1: int) -> np.ndarray:
    """Whole segments by comparing integers, then the sums as they are written in the paper."""
    width, height = resolution
    h = np.zeros((6, height, width))
    for t, x, y, p in zip(ev.t.tolist(), ev.x.tolist(), ev.y.tolist(), ev.p.tolist(), strict=True):
        for s in range(6):
            if s * (t1 - t0) <= 6 * (t - t0) < (s + 1) * (t1 - t0):
                h[s, y, x] += 1 if p else -1
    return np.stack([-h[2] - h[1] - h[0], -h[2] - h[1], -h[2], h[3], h[3] + h[4], h[3] + h[4] + h[5]])


def two_polarity(ev: Events, bins: int, resolution, t0: int, t1: int) -> np.ndarray:
    """Each polarity's own grid of counts, in float64; nothing of fewer than three events or of no time at all."""
    width, height = resolution
    if len(ev) < 3 or t1 <= t0:
        return np.zeros((2 * bins, height, width))
    on, off = ev.p == 1, ev.p == 0
    grids = [voxel(make(ev.t[which], ev.x[which], ev.y[which], np.ones(which.sum())), bins, resolution, t0, t1)
             for which in (on, off)]  # fmt: skip
    return np.concatenate(grids)


def stack(ev: Events, chunks: int, resolution, t0: int, t1: int) -> tuple[np.ndarray, np.ndarray]:
    """NumPy's own way to cut in equal parts, each added up."""
    width, height = resolution
    frames, times = np.zeros((chunks, height, width)), []
    scaled = 2 * (ev.t - t0) / max(t1 - t0, 1) - 1
    for k, part in enumerate(np.array_split(np.arange(len(ev)), chunks)):
        np.add.at(frames[k], (ev.y[part], ev.x[part]), np.where(ev.p[part] == 1, 1.0, -1.0))
        times.append((scaled[part[0]] + scaled[part[-1]]) / 2)
    return frames, np.array(times)


def count(ev: Events, resolution) -> np.ndarray:
    width, height = resolution
    counts = np.zeros((2, height, width))
    np.add.at(counts, (ev.p, ev.y, ev.x), 1)
    return counts


def time_surface(ev: Events, resolution, t1: int, tau_us: float) -> np.ndarray:
    width, height = resolution
    surface = np.zeros((2, height, width))
    for t, x, y, p in zip(ev.t.tolist(), ev.x.tolist(), ev.y.tolist(), ev.p.tolist(), strict=True):
        surface[p, y, x] = np.exp((t - t1) / tau_us)
    return surface
