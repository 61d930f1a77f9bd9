"""How much later a camera's pictures seem to be than an event camera's events, from what both see.

Between two pictures the logarithm of the brightness changes, and the events between the same two instants say the same
change. For each pair of pictures the change of every pixel is its events' weight; summed over the events of
``[t_a - delay, t_b - delay)`` it is greatest where the delay is the true one. An event says that the brightness has
changed since the pixel's event before it, so it counts in the middle between the two: counted at its own instant it
would pull the estimate by half a contrast threshold, 3 to 9 ms on real recordings (in the middle: up to 2 ms).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np

from rtpipe.kernels import kernel
from rtpipe.packing import fault
from rtpipe.types import Array, Frame, PackedEvents, Resolution

STEP_US = 500
"""Delays are tried in these steps."""
LONGEST_GAP_US = 80_000
"""A pixel's event says nothing of when the change began if the one before it is longer ago."""
PAIR_US, MOST_PAIR_US = 15_000, 250_000
"""Pictures closer than this are not compared with one another; nor are those further apart."""
PAIRS, FEWEST = 64, 6
"""Pairs that are remembered; and without which nothing is said."""
GROUPS = 8
ROOM = 1 << 19
"""Events remembered (those beyond it are thinned out evenly)."""
SYSTEMATIC_US = 2_000.0
"""What the estimate was off on real recordings whose true delay is known."""
DARK = 8.0
"""Added to grey values before their logarithm."""
OUTLIER = 4.0
_NEVER = -(1 << 62)


@kernel()
def _middles(
    t0: int, dt: Array, x: Array, yp: Array, stride: int, last: Array, t_out: Array, x_out: Array, yp_out: Array
) -> int:
    kept = 0
    for i in range(dt.size):
        t = t0 + np.int64(dt[i])
        row, column = yp[i] & np.uint16(0x7FFF), x[i]
        gap = t - last[row, column]
        last[row, column] = t
        if gap < LONGEST_GAP_US and i % stride == 0:
            t_out[kept], x_out[kept], yp_out[kept] = t - gap // 2, column, yp[i]
            kept += 1
    return kept


@kernel()
def _weigh(t: Array, x: Array, yp: Array, change: Array, first: int, step: int, out: Array) -> int:
    """Add each event's weight to its bin of ``out``; returns how many fell into one."""
    n = 0
    for i in range(t.size):
        place = (t[i] - first) // step
        if 0 <= place < out.size:
            weight = change[yp[i] & np.uint16(0x7FFF), x[i]]
            out[place] += weight if yp[i] >> np.uint16(15) else -weight
            n += 1
    return n


@dataclass(frozen=True, slots=True)
class Delay:
    """``us``: so much earlier than its time (on the events' clock) a picture was taken; ``uncertainty_us``: twice the
    standard error over the ``pairs`` of pictures, and what is systematic."""

    us: float
    uncertainty_us: float
    pairs: int


class DelayEstimator:
    """Estimates a constant delay online from events and aligned pictures of the same size.

    ``earliest_us``, ``latest_us``: the delays that are tried. Memory is bounded (about 12 MB and a surface of 8 bytes
    per pixel). One pair costs some ms, the events about 5 ns each: a caller who has an estimate may feed it seldom.
    """

    def __init__(self, resolution: Resolution, earliest_us: int, latest_us: int) -> None:
        self._resolution = resolution
        self._range = earliest_us, latest_us
        self._delays = np.arange(earliest_us, latest_us + 1, STEP_US)
        self._rate_room = ROOM * 1_000_000 // (latest_us - earliest_us + MOST_PAIR_US + LONGEST_GAP_US)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        width, height = self._resolution
        self._last = np.full((height, width), _NEVER, np.int64)
        self._runs: deque[tuple[Array, Array, Array, int]] = deque()  # t, x, yp, latest instant (µs)
        self._reached: int | None = None
        self._since: int | None = None
        self._before: tuple[int, Array] | None = None
        self._waiting: deque[tuple[int, int, Array]] = deque()
        self._profiles: deque[Array] = deque(maxlen=PAIRS)
        self._fresh = 0

    def resume(self) -> None:
        """Events were left out since the last call: what they would have belonged to is not compared."""
        self._last.fill(_NEVER)
        self._runs.clear()
        self._waiting.clear()
        self._since = self._before = self._reached = None

    def warm(self) -> None:
        """Compile."""
        few = np.zeros(1, np.uint16)
        _middles(
            0, few.astype(np.uint32), few, few, 1, self._last.copy(), np.empty(1, np.int64), few.copy(), few.copy()
        )
        _weigh(np.zeros(1, np.int64), few, few, np.zeros((1, 1), np.float32), 0, 1, np.zeros(1))

    @property
    def news(self) -> bool:
        """Whether enough has come since :attr:`estimate` was last asked for to ask again (it takes a millisecond)."""
        return self._fresh >= 1 + len(self._profiles) // 8

    def events(self, events: PackedEvents) -> None:
        """Take events, in order, checked against the resolution (those that are not fit are left out)."""
        if not len(events) or fault(events, self._resolution):
            return
        first, last = events.t0 + int(events.dt[0]), events.t0 + int(events.dt[-1])
        if self._reached is not None and first < self._reached:
            self.reset()
        stride = max(1, -(-len(events) * 1_000_000 // (max(1_000, last - first + 1) * self._rate_room)))
        t, x, yp = np.empty(len(events), np.int64), np.empty(len(events), np.uint16), np.empty(len(events), np.uint16)
        n = _middles(events.t0, events.dt, events.x, events.yp, stride, self._last, t, x, yp)
        if n:
            self._runs.append((t[:n].copy(), x[:n].copy(), yp[:n].copy(), last))
        self._since = first if self._since is None else self._since
        self.reach(last)

    def reach(self, t: int) -> None:
        """Nothing later in the stream of events is earlier than ``t`` (µs): compare the pairs that have all theirs."""
        self._reached = t if self._reached is None else max(t, self._reached)
        while self._waiting and self._waiting[0][1] - self._range[0] + LONGEST_GAP_US <= self._reached:
            self._compare(*self._waiting.popleft())
        oldest = self._reached - self._range[1] - MOST_PAIR_US - LONGEST_GAP_US
        while self._runs and self._runs[0][3] < min(
            oldest, self._waiting[0][0] - self._range[1] if self._waiting else oldest
        ):
            self._runs.popleft()

    def frame(self, frame: Frame) -> None:
        """Take a picture whose ``t`` is on the events' clock but for the delay."""
        if frame.resolution != self._resolution:
            return
        if self._before is not None and not 0 <= frame.t - self._before[0] <= MOST_PAIR_US:
            self._before = None
        if self._before is not None and frame.t - self._before[0] < PAIR_US:
            return
        level = _level(frame.image)
        if self._before is not None and len(self._waiting) < 4:
            self._waiting.append((self._before[0], frame.t, level - self._before[1]))
        self._before = frame.t, level

    def _compare(self, t_a: int, t_b: int, change: Array) -> None:
        if self._since is None or t_a - self._range[1] < self._since:
            return  # the events before it were not seen
        change -= np.median(change)
        size = float(np.sqrt(np.mean(change * change)))
        if size < 1e-3:
            return
        np.clip(change, -OUTLIER * size, OUTLIER * size, out=change)
        change /= np.sqrt(np.sum(change * change))
        first = t_a - self._range[1]
        bins = np.zeros((t_b - self._range[0] - first) // STEP_US + 2, np.float64)
        n = sum(_weigh(t, x, yp, change, first, STEP_US, bins) for t, x, yp, _ in self._runs)
        if n < 100:
            return
        total = np.concatenate([[0.0], np.cumsum(bins)])
        at = np.arange(len(total)) * STEP_US
        profile = np.interp(t_b - self._delays - first, at, total) - np.interp(t_a - self._delays - first, at, total)
        self._profiles.append(profile / np.sqrt(n))
        self._fresh += 1

    @property
    def estimate(self) -> Delay | None:
        """What all pairs say together; None where they are too few, contradict each other, or say nothing clear."""
        self._fresh = 0
        if len(self._profiles) < FEWEST:
            return None
        profiles = np.array(self._profiles)
        total = profiles.sum(axis=0)
        best = self._peak(total)
        if best is None:
            return None
        groups = min(GROUPS, len(profiles))
        without = [self._peak(total - profiles[k::groups].sum(axis=0)) for k in range(groups)]
        apart = np.array([peak for peak in without if peak is not None])
        if len(apart) < groups:
            return None
        error = float(np.sqrt((groups - 1) / groups * np.sum((apart - apart.mean()) ** 2)))
        return Delay(best, 2 * error + SYSTEMATIC_US, len(profiles))

    def _peak(self, profile: Array) -> float | None:
        """The delay (µs) at the highest point, between steps; None where it is at the rim or another is as high."""
        k = int(np.argmax(profile))
        if not 2 <= k < len(profile) - 2 or profile[k] <= 0:
            return None
        low = np.flatnonzero(profile < 0.6 * profile[k])
        left, right = low[low < k], low[low > k]
        elsewhere = max(
            profile[: left[-1]].max(initial=-np.inf) if len(left) else -np.inf,
            profile[right[0] :].max(initial=-np.inf) if len(right) else -np.inf,
        )
        if elsewhere > 0.8 * profile[k] or not (len(left) or len(right)):
            return None
        near = slice(max(0, k - 6), k + 7)
        curve, slope, _ = np.polyfit(self._delays[near] - self._delays[k], profile[near], 2)
        shift = float(np.clip(-slope / (2 * curve), -3 * STEP_US, 3 * STEP_US)) if curve < 0 else 0.0
        return float(self._delays[k]) + shift


def _level(image: Array) -> Array:
    """The logarithm of brightness, float32 (H, W), of a picture of 8 or 16 bits, grey or BGR."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) if image.ndim == 3 else image
    scale = 1.0 if image.dtype == np.uint8 else 255.0 / max(255.0, float(grey.max()))
    return np.asarray(np.log(grey.astype(np.float32) * np.float32(scale) + np.float32(DARK)), np.float32)
