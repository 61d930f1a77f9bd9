"""How long windows are and how often they come, beside how the network was trained: other rhythms work worse."""

from __future__ import annotations

from rtpipe.types import Window

TOLERANCE = 0.1
"""Windows that differ by less than this part are the trained ones."""

ANY = 8
"""Windows after which a rhythm is one."""

MEMORY = 100
"""Windows after which older ones begin to fade."""


class Cadence:
    """The mean length of windows and of the time from one to the next, µs."""

    def __init__(self, length_us: int, hop_us: int) -> None:
        self._trained = length_us, hop_us
        self.reset()

    def reset(self) -> None:
        """Forget every window seen."""
        self._length = self._hop = 0.0
        self._n = 0
        self._last: int | None = None

    def see(self, window: Window) -> None:
        """Take a window's edges."""
        length = window.t_end - window.t_start
        if self._last is not None:
            self._n += 1
            share = 1 / min(self._n, MEMORY)
            self._length += share * (length - self._length)
            self._hop += share * (window.t_start - self._last - self._hop)
        self._last = window.t_start

    @property
    def words(self) -> str:
        """What it is, and where it is not the trained one, that; empty before it is known."""
        if self._n < ANY:
            return ""
        found, trained = (self._length, self._hop), self._trained
        near = all(abs(a - b) <= TOLERANCE * b for a, b in zip(found, trained, strict=True))
        return self._say(*found) + ("" if near else f"; trained on {self._say(*trained)}, others may look worse")

    @staticmethod
    def _say(length: float, hop: float) -> str:
        return f"{length / 1000:.3g} ms every {hop / 1000:.3g} ms"
