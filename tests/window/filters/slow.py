"""Filters as one would first write them: one event after the other, dictionaries, whole numbers; nothing is shared with
the kernels."""

from fractions import Fraction

import numpy as np

from rtpipe.packing import pack
from rtpipe.types import Events


def rows(events):
    """Events as tuples (t, x, y, p)."""
    return list(zip(events.t.tolist(), events.x.tolist(), events.y.tolist(), events.p.tolist(), strict=True))


def events_of(tuples):
    t, x, y, p = zip(*tuples, strict=True) if tuples else ((), (), (), ())
    return Events(np.array(t, np.int64), np.array(x, np.uint16), np.array(y, np.uint16), np.array(p, np.uint8))


def packed(tuples):
    return pack(events_of(tuples))


def background(tuples, resolution, duration_us):
    last, kept = {}, []
    for t, x, y, p in tuples:
        around = [(x + i, y + j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
        if any(t - last[place] < duration_us for place in around if place in last):
            kept.append((t, x, y, p))
        last[x, y] = t
    return kept


def refractory(tuples, resolution, period_us, after="kept"):
    last, kept = {}, []
    for t, x, y, p in tuples:
        free = (x, y) not in last or t - last[x, y] >= period_us
        if free:
            kept.append((t, x, y, p))
        if free or after == "any":
            last[x, y] = t
    return kept


def roi(tuples, resolution, x, y, width, height, crop=True):
    shift = (x, y) if crop else (0, 0)
    return [
        (t, column - shift[0], row - shift[1], p)
        for t, column, row, p in tuples
        if x <= column < x + width and y <= row < y + height
    ]


def flip(tuples, resolution, horizontal=False, vertical=False):
    width, height = resolution
    return [(t, width - 1 - x if horizontal else x, height - 1 - y if vertical else y, p) for t, x, y, p in tuples]


def downsample(tuples, resolution, factor, events_per_event=1):
    sums, kept = {}, []
    width, height = resolution[0] // factor, resolution[1] // factor
    for t, x, y, p in tuples:
        place = x // factor, y // factor
        if place[0] >= width or place[1] >= height:
            continue
        sums[place] = sums.get(place, 0) + (1 if p else -1)
        if abs(sums[place]) == events_per_event or events_per_event == 1:
            kept.append((t, *place, p))
            sums[place] = 0
    return kept


def drawn(t, x, y, p):
    """The draw of the rate limit, in whole numbers: 32 bits."""
    key = (x | (y | p << 15) << 16 | (t & 0xFFFFFFFF) << 32) * 0x9E3779B97F4A7C15 % (1 << 64)
    return ((key ^ key >> 32) * 0xD6E8FEB86659FD93 % (1 << 64)) >> 32


def rate_limit(tuples, resolution, mev_s, slot_us):
    limit, kept, slots = int(mev_s * slot_us), [], {}
    for event in tuples:
        slots.setdefault(event[0] // slot_us, []).append(event)
    for slot, members in slots.items():
        before = len(slots.get(slot - 1, ()))
        chance = (1 << 32) if before <= limit else limit * (1 << 32) // before
        kept += [event for event in members if drawn(*event) < chance][:limit]
    return kept


def hot(
    tuples, resolution, pixels=(), learn=True, period_us=100_000, rate_hz=50, factor=5, confirm=3, forget_us=2_000_000
):
    """(kept, list of hot pixels at the end)."""
    fixed, listed, streak, quiet, kept = set(pixels), set(pixels), {}, {}, []
    least = max(2, -(-Fraction(rate_hz) * period_us // 1_000_000))
    forget = -(-forget_us // period_us)
    counts, period = {}, 0

    def stands_out(x, y):
        around = [
            counts.get((x + i, y + j), 0)
            for i in range(-2, 3)
            for j in range(-2, 3)
            if (i, j) != (0, 0) and 0 <= x + i < resolution[0] and 0 <= y + j < resolution[1]
        ]
        fourth = (sorted(around, reverse=True) + [0] * 4)[3]
        return counts[x, y] >= least and counts[x, y] > factor * fourth

    for t, x, y, p in tuples:
        while learn and (t - tuples[0][0]) // period_us > period:
            suspects = {place for place in counts if place not in listed and stands_out(*place)}
            for place in [place for place in streak if place not in suspects]:
                del streak[place]
            for place in suspects:
                streak[place] = streak.get(place, 0) + 1
            for place in set(listed):
                quiet[place] = 0 if 2 * counts.get(place, 0) >= least else quiet.get(place, 0) + 1
                if quiet[place] >= forget and place not in fixed:
                    listed.discard(place)
            for place in [place for place, n in streak.items() if n >= confirm]:
                listed.add(place)
                quiet[place] = 0
                del streak[place]
            counts, period = {}, period + 1
        counts[x, y] = counts.get((x, y), 0) + 1
        if (x, y) not in listed:
            kept.append((t, x, y, p))
    return kept, sorted(listed, key=lambda place: (place[1], place[0]))
