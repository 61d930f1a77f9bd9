"""Buffers that payloads are packed into, used again once nobody reads them: new memory costs a fault per 4 kB."""

from __future__ import annotations

import numpy as np

from rtpipe.types import Array

SMALLEST = 1 << 13
KEPT_BYTES = 64 << 20


class Buffers:
    """A pool of uint8 arrays in sizes that are powers of two; at most 64 MiB lie idle."""

    def __init__(self) -> None:
        self._idle: dict[int, list[Array]] = {}
        self._idle_bytes = 0

    def take(self, size: int) -> Array:
        """``size`` bytes, 8-byte aligned, with anything in them."""
        rounded = max(SMALLEST, 1 << (size - 1).bit_length()) if size else SMALLEST
        idle = self._idle.get(rounded)
        if idle:
            self._idle_bytes -= rounded
            return idle.pop()[:size]
        return np.empty(rounded, np.uint8)[:size]

    def give_back(self, taken: Array) -> None:
        """Nobody reads this any more. It must have come from :meth:`take`."""
        whole = taken.base
        assert isinstance(whole, np.ndarray)
        if self._idle_bytes + len(whole) <= KEPT_BYTES:
            self._idle_bytes += len(whole)
            self._idle.setdefault(len(whole), []).append(whole)
