"""Windows of equally many events, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from rtpipe.packing import LONGEST_US
from rtpipe.types import PackedEvents
from rtpipe.window.columns import index_at, t_first, t_last
from rtpipe.window.cut import DISCONTINUITY, STREAM_ENDED, Cut, Do, Step, Unframed


class Slicer(Unframed):
    """A window closes with its last event: ``t_start`` is the first event's time, ``t_end`` one µs after the last's.

    Events of one instant may fall on both sides of a cut: counting goes before time. A window that is not full after
    ``LONGEST_US`` is abandoned.
    """

    def __init__(self, events: int, holding: bool, limit_bytes: int) -> None:
        super().__init__(holding, limit_bytes)
        self._wanted = events
        self._taken = 0
        self._cut: Cut | None = None

    def events(self, events: PackedEvents) -> Sequence[Step]:
        """Cut after every so many events."""
        steps: list[Step] = []
        self._events.taken += len(events)
        first = 0
        while first < len(events):
            run = events[first : first + self._wanted - self._taken]
            if self._cut is None:
                self._cut = Cut(t_first(run), t_first(run))
                steps.append(Step(Do.OPEN, self._cut))
            run = run[: index_at(run, self._cut.t_start + LONGEST_US + 1)]
            if not len(run):
                self._abandon(self._cut, DISCONTINUITY, steps)
                self._cut, self._taken = None, 0
                continue
            self._add((self._cut,), run, steps)
            self._taken += len(run)
            first += len(run)
            if self._taken == self._wanted:
                self._cut.t_end = t_last(run) + 1
                self._close(self._cut, steps)
                self._cut, self._taken = None, 0
        return steps

    def reach(self, t: int) -> Sequence[Step]:
        """Time alone closes no window here."""
        del t
        return ()

    def jump(self) -> Sequence[Step]:
        """Abandon what is open."""
        return self._void(DISCONTINUITY)

    def end(self) -> Sequence[Step]:
        """Abandon what is open."""
        return self._void(STREAM_ENDED)

    def _void(self, reason: str) -> Sequence[Step]:
        steps: list[Step] = []
        if self._cut is not None:
            self._abandon(self._cut, reason, steps)
        self._cut, self._taken = None, 0
        self._gaps.clear()
        return steps
