"""Windows whose edges someone else names (a frame, a trigger), before or after their events come."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from rtpipe.ledger import Flow
from rtpipe.types import FrameFlag, PackedEvents
from rtpipe.window.columns import index_at, t_last
from rtpipe.window.cut import BETWEEN_WINDOWS, DISCONTINUITY, HISTORY_FULL, STREAM_ENDED, Base, Cut, Do, Step


@dataclass(slots=True, eq=False)
class _Kept:
    """A run of events. What became of the first ``settled`` of them is in the ledger; those from there to ``given``
    are in the open window and no other, and their fate is its."""

    events: PackedEvents
    settled: int = 0
    given: int = 0


class Spanned(Base):
    """Windows ``[t_start, t_end)`` in the order in which they are asked for; they may overlap.

    Events are kept, up to ``limit_bytes``, until a window has been asked for that begins later: windows are asked for
    in order of their starts, and one that comes too late is ``INCOMPLETE``. A cut that is flagged ``PASSED_THROUGH``
    has no span: it opens and closes in its turn, empty.
    """

    def __init__(self, holding: bool, limit_bytes: int) -> None:
        super().__init__(holding, limit_bytes)
        self._limit = limit_bytes
        self._kept: deque[_Kept] = deque()
        self._kept_bytes = 0
        self._queue: deque[Cut] = deque()
        self._cut: Cut | None = None
        self._reached: int | None = None
        self._gone: int | None = None

    @property
    def _origins(self) -> Flow:
        """The ledger of what windows are cut for."""
        return self._frames

    def _ask(self, cut: Cut, steps: list[Step]) -> None:
        """Queue a window; it opens when those before it are closed."""
        self._queue.append(cut)
        self._settle(steps)

    def events(self, events: PackedEvents) -> Sequence[Step]:
        """Keep events, and give the open window its part."""
        steps: list[Step] = []
        self._events.taken += len(events)
        kept = _Kept(events)
        self._kept.append(kept)
        self._kept_bytes += 8 * len(events)
        if self._cut is not None:
            self._give(kept, self._cut, steps)
        while self._kept_bytes > self._limit:
            self._gone = t_last(self._kept[0].events) + 1
            self._forget(HISTORY_FULL)
        steps.extend(self.reach(t_last(events)))
        return steps

    def reach(self, t: int) -> Sequence[Step]:
        """Close the windows whose end stream time has passed."""
        steps: list[Step] = []
        self._reached = t if self._reached is None else max(t, self._reached)
        self._settle(steps)
        return steps

    def _settle(self, steps: list[Step]) -> None:
        while True:
            if self._cut is None:
                if not self._queue:
                    return
                self._begin(self._queue.popleft(), steps)
            elif self._reached is not None and self._reached >= self._cut.t_end:
                self._origins.passed += 1
                self._close(self._cut, steps)
                self._cut = None
                for kept in self._kept:
                    kept.settled = kept.given
            else:
                return

    def _begin(self, cut: Cut, steps: list[Step]) -> None:
        steps.append(Step(Do.OPEN, cut))
        if cut.flags & FrameFlag.PASSED_THROUGH:
            self._origins.passed += 1
            steps.append(Step(Do.CLOSE, cut))
            return
        self._cut = cut
        if self._gone is not None and cut.t_start < self._gone:
            cut.flags |= FrameFlag.INCOMPLETE
        while self._kept and t_last(self._kept[0].events) < cut.t_start:
            self._forget(BETWEEN_WINDOWS)
            self._gone = cut.t_start
        for kept in self._kept:
            self._give(kept, cut, steps)

    def _give(self, kept: _Kept, cut: Cut, steps: list[Step]) -> None:
        """Give ``cut`` its part of these events; those before it are in no window."""
        first, last = index_at(kept.events, cut.t_start), index_at(kept.events, cut.t_end)
        if first > kept.given:
            self._events.drop(BETWEEN_WINDOWS, first - kept.given)
            kept.settled = kept.given = first
        if last > first:
            refused = self._add((cut,), kept.events[first:last], steps, max(0, last - kept.given))
            kept.given = max(kept.given, last)
            if refused:  # these are in the ledger already
                kept.settled = kept.given

    def _forget(self, reason: str) -> None:
        kept = self._kept.popleft()
        self._kept_bytes -= 8 * len(kept.events)
        self._events.drop(reason, len(kept.events) - kept.given)

    def jump(self) -> Sequence[Step]:
        """Abandon the open window and those that wait; forget what is kept."""
        steps: list[Step] = []
        if self._cut is not None:
            self._origins.drop(DISCONTINUITY)
            self._abandon(self._cut, DISCONTINUITY, steps)
        self._origins.drop(DISCONTINUITY, len(self._queue))
        self._queue.clear()
        self._void(DISCONTINUITY)
        return steps

    def end(self) -> Sequence[Step]:
        """Abandon the windows whose end was not reached; close what waits behind them and is complete."""
        steps: list[Step] = []
        while self._cut is not None:
            cut, self._cut = self._cut, None
            for kept in self._kept:  # the next window may own what this one gives up
                cut.owned -= kept.given - kept.settled
                self._held -= kept.given - kept.settled
                kept.given = kept.settled
            self._origins.drop(STREAM_ENDED)
            self._abandon(cut, STREAM_ENDED, steps)
            self._settle(steps)
        self._void(STREAM_ENDED)
        return steps

    def _void(self, reason: str) -> None:
        while self._kept:
            self._forget(reason)
        self._cut = self._reached = self._gone = None
        self._gaps.clear()
