"""Windows that close with so many events or after so long, whichever comes first; silence gives empty windows."""

from __future__ import annotations

from collections.abc import Sequence

from rtpipe.types import PackedEvents
from rtpipe.window import by_count
from rtpipe.window.columns import index_at, t_first, t_last
from rtpipe.window.cut import Cut, Do, Step


class Slicer(by_count.Slicer):
    """The first window opens with the first event after start or jump, each other one when that before it closes.

    A window closes with its event number ``events``, at the instant t of that event: its ``t_end`` is then t + 1, and
    the next one begins at t, since events of one instant may fall on both sides (counting goes before time). Or it
    closes ``length_us`` after it opened: that edge belongs to the next.
    """

    def __init__(self, events: int, length_us: int, holding: bool, limit_bytes: int) -> None:
        super().__init__(events, holding, limit_bytes)
        self._length = length_us

    def events(self, events: PackedEvents) -> Sequence[Step]:
        """Cut where a window is full, and at every edge that lies among these events."""
        steps: list[Step] = []
        self._events.taken += len(events)
        if self._cut is None:
            self._open(t_first(events), steps)
        first = 0
        while first < len(events):
            cut = self._pass(t_first(events[first:]), steps)
            run = events[first : first + self._wanted - self._taken]
            run = run[: index_at(run, cut.t_end)]
            self._add((cut,), run, steps)
            self._taken += len(run)
            first += len(run)
            if self._taken == self._wanted:
                cut.t_end = t_last(run) + 1
                self._close(cut, steps)
                self._open(t_last(run), steps)
        return steps

    def reach(self, t: int) -> Sequence[Step]:
        """Close what has been open for too long."""
        steps: list[Step] = []
        if self._cut is not None:
            self._pass(t, steps)
        return steps

    def _open(self, t: int, steps: list[Step]) -> None:
        self._cut, self._taken = Cut(t, t + self._length), 0
        steps.append(Step(Do.OPEN, self._cut))

    def _pass(self, t: int, steps: list[Step]) -> Cut:
        """The window that is open at ``t``; those that end by then are closed."""
        assert self._cut is not None
        while self._cut.t_end <= t:
            self._close(self._cut, steps)
            self._open(self._cut.t_end, steps)
        return self._cut
