"""Windows of equal length at a fixed cadence, from the first event on; silence gives empty windows."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from rtpipe.types import PackedEvents
from rtpipe.window.columns import index_at, t_first, t_last
from rtpipe.window.cut import BETWEEN_WINDOWS, DISCONTINUITY, STREAM_ENDED, Cut, Do, Step, Unframed


class Slicer(Unframed):
    """Window k is ``[t + k hop, t + k hop + length)``, t the first event after start or jump.

    Windows overlap where ``hop_us < length_us``; between them events are dropped where it is longer.
    """

    def __init__(self, length_us: int, hop_us: int, holding: bool, limit_bytes: int) -> None:
        super().__init__(holding, limit_bytes)
        self._length, self._hop = length_us, hop_us
        self._next: int | None = None
        self._open: deque[Cut] = deque()

    def events(self, events: PackedEvents) -> Sequence[Step]:
        """Cut at every edge that lies among these events."""
        steps: list[Step] = []
        self._events.taken += len(events)
        if self._next is None:
            self._next = t_first(events)
        first, last = 0, t_last(events)
        while first < len(events):
            self._move(events.t0 + int(events.dt[first]), steps)
            edge = min(self._next, self._open[0].t_end) if self._open else self._next
            until = len(events) if edge > last else index_at(events, edge)
            run = events[first:until]
            if self._open:
                self._add(self._open, run, steps)
            else:
                self._events.drop(BETWEEN_WINDOWS, len(run))
            first = until
        return steps

    def reach(self, t: int) -> Sequence[Step]:
        """Close and open what stream time has passed."""
        steps: list[Step] = []
        if self._next is not None:
            self._move(t, steps)
        return steps

    def _move(self, t: int, steps: list[Step]) -> None:
        """Close windows that end, open those that begin, up to and including ``t``, in order of time."""
        assert self._next is not None
        while True:
            if self._open and self._open[0].t_end <= min(t, self._next):
                self._close(self._open.popleft(), steps)
            elif self._next <= t:
                self._open.append(Cut(self._next, self._next + self._length))
                self._next += self._hop
                steps.append(Step(Do.OPEN, self._open[-1]))
            else:
                return

    def jump(self) -> Sequence[Step]:
        """Abandon what is open; the cadence begins anew with the next event."""
        return self._void(DISCONTINUITY)

    def end(self) -> Sequence[Step]:
        """Abandon what is open."""
        return self._void(STREAM_ENDED)

    def _void(self, reason: str) -> Sequence[Step]:
        steps: list[Step] = []
        while self._open:
            self._abandon(self._open.popleft(), reason, steps)
        self._next = None
        self._gaps.clear()
        return steps
