"""One window for each camera frame: the events since the frame before it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from rtpipe.packing import LONGEST_US
from rtpipe.types import Frame, PackedEvents
from rtpipe.window.columns import t_first
from rtpipe.window.cut import DISCONTINUITY, STREAM_ENDED, Cut, Step
from rtpipe.window.spans import Spanned


class Slicer(Spanned):
    """Windows ``[t of the frame before, t)`` with the frame attached (E2VID is scored so).

    The first one, and the first after a jump, begins at the first event; it is empty where that is not earlier than
    the frame, as is the window of a frame that is not later than the one before. A window reaches back ``LONGEST_US``
    at most.
    """

    def __init__(self, holding: bool, limit_bytes: int) -> None:
        super().__init__(holding, limit_bytes)
        self._begun: int | None = None
        self._waiting: deque[Frame] = deque()

    def events(self, events: PackedEvents) -> Sequence[Step]:
        """Keep events, and give the open window its part."""
        steps: list[Step] = []
        if self._begun is None:
            self._begun = t_first(events)
            self._open(steps)
        return [*steps, *super().events(events)]

    def reach(self, t: int) -> Sequence[Step]:
        """Close the windows whose end stream time has passed."""
        steps = [*super().reach(t)]
        self._open(steps)
        return steps

    def frame(self, frame: Frame) -> Sequence[Step]:
        """Queue the frame; where its window begins is known when the first event has come, or none can before it."""
        steps: list[Step] = []
        self._frames.taken += 1
        self._waiting.append(frame)
        self._open(steps)
        return steps

    def _open(self, steps: list[Step]) -> None:
        while self._waiting:
            t = self._waiting[0].t
            if self._begun is None and (self._reached is None or self._reached < t):
                return
            begun = t if self._begun is None else self._begun
            self._ask(Cut(max(min(begun, t), t - LONGEST_US), t, self._waiting.popleft()), steps)
            self._begun = max(begun, t)

    def jump(self) -> Sequence[Step]:
        """Abandon the open window and those that wait; forget what is kept."""
        return [*super().jump(), *self._leave(DISCONTINUITY)]

    def end(self) -> Sequence[Step]:
        """Abandon the windows whose end was not reached."""
        return [*super().end(), *self._leave(STREAM_ENDED)]

    def _leave(self, reason: str) -> Sequence[Step]:
        self._frames.drop(reason, len(self._waiting))
        self._waiting.clear()
        self._begun = None
        return ()
