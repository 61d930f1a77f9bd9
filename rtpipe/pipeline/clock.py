"""The camera's clock on the host's: an online estimate of offset and drift, so that latency starts where light fell.

Packets arrive late by a varying amount, never early: the best ones touch a line from above,
``host = offset + (1 + drift) * camera``. Every interval keeps its earliest arrival; the drift is the median slope
between those (Theil-Sen), the offset the lowest of them. The constant part of the delay (USB, the camera's own) cannot
be seen from here.
"""

from __future__ import annotations

import numpy as np

INTERVAL_NS = 250_000_000
KEPT = 40
"""Intervals remembered: ten seconds."""
MOST_DRIFT = 500e-6
"""Crystals are good to 100 ppm; a steeper slope means that this is no steady clock (a replay at another speed)."""
JUMP_NS = 100_000_000
"""An offset that differs from the last interval's by this much and a whole interval: the clock was reset."""


class CameraClock:
    """One stream's clock. Times in: camera µs and host ns (CLOCK_MONOTONIC). Fixed memory."""

    def __init__(self) -> None:
        self._points: list[tuple[int, int]] = []  # (camera ns, offset ns) of each interval's earliest arrival
        self._drift = 0.0
        self._offset = 0.0
        self._reference = 0
        self._stale = False

    def add(self, t_us: int, host_ns: int) -> None:
        """A packet whose last instant is ``t_us`` reached the host at ``host_ns``."""
        camera_ns = t_us * 1000
        offset = host_ns - camera_ns
        if self._points and abs(offset - self._points[-1][1]) > JUMP_NS + INTERVAL_NS:
            self._points.clear()
        if self._points and camera_ns - self._points[-1][0] < INTERVAL_NS and camera_ns >= self._points[-1][0]:
            if offset < self._points[-1][1]:
                self._points[-1] = (self._points[-1][0], offset)
                self._stale = True
        else:
            if self._points and camera_ns < self._points[-1][0]:
                self._points.clear()
            self._points = [*self._points[-KEPT + 1 :], (camera_ns, offset)]
            self._stale = True

    def _fit(self) -> None:
        if not self._stale:
            return
        self._stale = False
        camera = np.array([point[0] for point in self._points], np.float64)
        self._reference = self._points[0][0]
        camera -= self._reference
        offsets = np.array([point[1] - self._points[0][1] for point in self._points], np.float64)
        self._drift = 0.0
        if len(camera) >= 8:
            i, j = np.triu_indices(len(camera), 4)
            self._drift = float(np.median((offsets[j] - offsets[i]) / (camera[j] - camera[i])))
        self._offset = float(np.min(offsets - self._drift * camera)) + self._points[0][1]

    @property
    def steady(self) -> bool:
        """True when there is an estimate and its drift is one that a crystal can have."""
        self._fit()
        return bool(self._points) and abs(self._drift) <= MOST_DRIFT

    @property
    def drift(self) -> float:
        """Host time per camera time, less one."""
        self._fit()
        return self._drift

    def host_ns(self, t_us: int) -> int:
        """When, on the host's clock, the camera's instant ``t_us`` was. Only meaningful while :attr:`steady`."""
        self._fit()
        camera_ns = t_us * 1000
        return round(camera_ns + self._offset + self._drift * (camera_ns - self._reference))
