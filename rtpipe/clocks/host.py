"""The camera's clock on the host's: an online estimate of offset and drift, so that latency starts where light fell.

Packets arrive late by a varying amount, never early: the best ones touch a line from above,
``host = offset + (1 + drift) * camera``. Of every interval the earliest arrival is kept; the drift is the median slope
between those, the offset lies where one in ten of them is below the line. The constant part of the delay (USB, the
camera's own) cannot be seen from here.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from rtpipe.types import Array

INTERVAL_NS = 500_000_000
KEPT = 120
"""Intervals remembered: a minute. A crystal that warms up bends less than 10 µs away from a line in that."""
SETTLED = 12
FEWEST = 3
"""Intervals before anything is believed."""
DRIFT_SPAN_NS = 5_000_000_000
"""A drift is estimated from so long a time on; before that it is the last one known, or none."""
MOST_DRIFT = 500e-6
"""Crystals are good to 100 ppm; a steeper slope means that this is no steady clock (a replay at another speed)."""
UNKNOWN_DRIFT = 50e-6
"""What a crystal may well drift, while it is not yet known."""
EARLY_NS = 2_000_000
"""No packet comes so much earlier than the line allows, unless the clock was stepped forward."""
LATE_NS = 5_000_000
"""Delays that all grow by so much at once, and stay there, are a clock that was stepped back."""
STEP_NS = 500_000_000
"""A step forward is believed when it has lasted so long."""
STEP_INTERVALS = 4
"""A step back is believed after so many intervals, all alike."""
FLOOR = 0.1
"""The part of intervals whose earliest arrivals may lie below the line: one alone does not move it."""
LEAST_NS = 1_000.0


class CameraClock:
    """One stream's clock. Times in: camera µs and host ns (CLOCK_MONOTONIC). Fixed memory; one :meth:`add` takes about
    a microsecond, a fit about a tenth of a millisecond, at most once for each new interval or earlier arrival.

    Steps and resets of the camera's clock are found and taken up anew (:attr:`steps` counts them); what is known of the
    crystal's drift is kept over them.
    """

    def __init__(self) -> None:
        self.steps = 0
        self._points: list[tuple[int, int]] = []  # (camera ns, offset ns) of each interval's earliest arrival
        self._begun = 0  # camera ns at which the newest interval began
        self._early: tuple[int, int] | None = None  # since when (camera ns) packets are impossibly early, and the least
        self._stale = False
        self._known_drift = 0.0
        self._drift = self._offset = self._spread = 0.0
        self._reference = self._base = 0

    def add(self, t_us: int, host_ns: int) -> None:
        """A packet whose last instant is ``t_us`` reached the host at ``host_ns``."""
        camera_ns = t_us * 1000
        offset = host_ns - camera_ns
        points = self._points
        if points and camera_ns < self._begun:
            self._restart()
        elif len(points) >= FEWEST and self._too_early(camera_ns, offset):
            return
        points = self._points
        if points and camera_ns - self._begun < INTERVAL_NS:
            if offset < points[-1][1]:
                points[-1] = (camera_ns, offset)
                self._stale |= len(points) < SETTLED  # later on, each of many moves little: the next interval will do
            return
        self._step_back()
        points = self._points
        points.append((camera_ns, offset))
        del points[:-KEPT]
        self._begun = camera_ns
        self._stale = True

    def _too_early(self, camera_ns: int, offset: int) -> bool:
        """Whether this packet contradicts the line: it is left out; where it goes on so, the clock was stepped."""
        self._fit()
        ahead = self._line(camera_ns) - offset
        allowed = EARLY_NS + UNKNOWN_DRIFT * max(0, camera_ns - self._begun)
        if ahead <= max(allowed, 3 * self._spread):
            self._early = None
            return False
        if self._early is None:
            self._early = camera_ns, offset
        since, least = self._early
        self._early = since, min(least, offset)
        if camera_ns - since < STEP_NS:
            return True
        self._restart()
        return False

    def _step_back(self) -> None:
        """Called when an interval is complete: where the last few all came equally late, the clock was stepped."""
        points = self._points
        if len(points) < STEP_INTERVALS + FEWEST:
            return
        last = points[-STEP_INTERVALS:]
        self._fit()
        late = [offset - self._line(camera_ns) for camera_ns, offset in last]
        if min(late) > max(LATE_NS, 10 * self._spread) and max(late) - min(late) < 0.2 * min(late):
            self._restart()
            self._points, self._stale = last, True

    def _restart(self) -> None:
        self._fit()
        if self._points and self._points[-1][0] - self._points[0][0] >= DRIFT_SPAN_NS and self.steady:
            self._known_drift = self._drift
        self._points, self._early, self._stale = [], None, True
        self.steps += 1

    def _fit(self) -> None:
        if not self._stale:
            return
        self._stale = False
        if not self._points:
            self._drift = self._offset = self._spread = 0.0
            return
        self._reference, self._base = self._points[-1]
        camera = np.array([point[0] - self._reference for point in self._points], np.float64)
        offsets = np.array([point[1] - self._base for point in self._points], np.float64)
        span = float(camera[-1] - camera[0])
        if span >= DRIFT_SPAN_NS:
            self._drift = self._weighed(_slope(camera, offsets), camera, offsets)
            self._known_drift = self._drift if abs(self._drift) <= MOST_DRIFT else 0.0
        else:
            self._drift = self._known_drift
        above = offsets - self._drift * camera
        low, middle = np.quantile(above, [FLOOR, 0.5])
        self._offset = float(low)
        # how thinly arrivals lie on the line says how far it may be off; and the drift, while it is a guess
        self._spread = float(middle - low)
        if span < DRIFT_SPAN_NS and not self._known_drift:
            self._spread += UNKNOWN_DRIFT * span

    @staticmethod
    def _weighed(slope: float, camera: Array, offsets: Array) -> float:
        """A slope that noise alone may have made counts for less, next to what is known of crystals."""
        above = offsets - slope * camera
        low, middle = np.quantile(above, [FLOOR, 0.5])
        doubt = 3.5 * float(middle - low) / (float(camera[-1] - camera[0]) * len(camera) ** 0.5)
        return float(slope / (1 + (doubt / UNKNOWN_DRIFT) ** 2))

    def _line(self, camera_ns: int) -> float:
        return self._base + self._offset + self._drift * (camera_ns - self._reference)

    @property
    def steady(self) -> bool:
        """True when there is an estimate and its drift is one that a crystal can have."""
        self._fit()
        return len(self._points) >= FEWEST and abs(self._drift) <= MOST_DRIFT

    @property
    def drift(self) -> float:
        """Host time per camera time, less one."""
        self._fit()
        return self._drift

    @property
    def uncertainty_ns(self) -> float:
        """How far :meth:`host_ns` may be off at the newest instant, beside the constant part of the delay (ns)."""
        self._fit()
        return max(LEAST_NS, self._spread)

    @property
    def newest_us(self) -> int:
        """About the newest instant seen (µs of the camera), 0 before the first."""
        return self._points[-1][0] // 1000 if self._points else 0

    def host_ns(self, t_us: int) -> int:
        """When, on the host's clock, the camera's instant ``t_us`` was. Only meaningful while :attr:`steady`."""
        self._fit()
        return t_us * 1000 + round(self._line(t_us * 1000))

    def camera_us(self, host_ns: int) -> int:
        """The camera's instant (µs) at ``host_ns`` on the host's clock. Only meaningful while :attr:`steady`."""
        self._fit()
        since = host_ns - self._reference - self._base - self._offset
        return round((self._reference + since / (1 + self._drift)) / 1000)


@lru_cache(maxsize=KEPT)
def _pairs(n: int) -> tuple[Array, Array]:
    return np.triu_indices(n, max(1, n // 3))


def _slope(x: Array, y: Array) -> float:
    """The median slope between points that lie at least a third of all apart (Theil and Sen)."""
    i, j = _pairs(len(x))
    return float(np.median((y[j] - y[i]) / (x[j] - x[i])))
