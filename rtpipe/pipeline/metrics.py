"""Latency in fixed memory: a histogram with logarithmic buckets, good to 5 %."""

from __future__ import annotations

import math

import numpy as np

from rtpipe.pipeline.messages import Latency

_LOWEST_NS = 1_000.0
_RATIO = 1.05
_BUCKETS = 400  # 1 µs * 1.05**400 is about 5 minutes


class Histogram:
    """Durations in ns; ``add`` costs well under a microsecond and allocates nothing."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BUCKETS, np.int64)
        self._n = 0

    def add(self, duration_ns: float) -> None:
        """Count one duration; what lies outside 1 µs to 5 min goes to the first or last bucket."""
        bucket = int(math.log(duration_ns / _LOWEST_NS) / math.log(_RATIO)) if duration_ns > _LOWEST_NS else 0
        self._counts[min(bucket, _BUCKETS - 1)] += 1
        self._n += 1

    def quantile_us(self, q: float) -> float:
        """The duration (µs) below which a share ``q`` of all lies; 0 before the first."""
        if self._n == 0:
            return 0.0
        bucket = int(np.searchsorted(np.cumsum(self._counts), q * self._n))
        return float(_LOWEST_NS * _RATIO ** (bucket + 0.5) / 1e3)

    def summary(self) -> Latency:
        """Number, p50 and p99."""
        return Latency(self._n, round(self.quantile_us(0.5), 1), round(self.quantile_us(0.99), 1))
