"""Windows that trigger signals name: a fixed length from each, or from each to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from rtpipe.ledger import Flow
from rtpipe.packing import LONGEST_US
from rtpipe.types import Edge, Trigger
from rtpipe.window.cut import BACKWARDS, DISCONTINUITY, NOT_USED, STREAM_ENDED, Cut, Step, Unframed
from rtpipe.window.spans import Spanned

Edges: TypeAlias = Literal["rising", "falling", "any"]

_CHOSEN: Mapping[Edges, tuple[Edge, ...]] = {
    "rising": (Edge.RISING, Edge.PULSE),
    "falling": (Edge.FALLING, Edge.PULSE),
    "any": (Edge.FALLING, Edge.RISING, Edge.PULSE),
}


class Slicer(Unframed, Spanned):
    """Windows ``[t + offset_us, t + offset_us + length_us)`` for each trigger t; without a length, from each trigger
    to the next, both moved by ``offset_us`` (``LONGEST_US`` at most: of a longer one its end).

    ``channel``: the one that counts (None: all); ``edge``: the edges that do, a pulse being both. Other triggers are
    counted and left, and so are those that are earlier than the one before. Triggers may come before or after the
    events of their windows: these are kept, up to ``limit_bytes``.
    """

    def __init__(
        self, holding: bool, limit_bytes: int, length_us: int | None = None, offset_us: int = 0,
        channel: int | None = None, edge: Edges = "rising",
    ) -> None:  # fmt: skip
        super().__init__(holding, limit_bytes)
        self._length, self._offset = length_us, offset_us
        self._channel, self._edges = channel, _CHOSEN[edge]
        self._triggers = Flow()
        self._latest: int | None = None

    @property
    def flows(self) -> Mapping[str, Flow]:
        """The exact ledger of ``"events"``, ``"frames"`` and ``"triggers"``."""
        return {**super().flows, "triggers": self._triggers}

    @property
    def _origins(self) -> Flow:
        return self._triggers

    def trigger(self, trigger: Trigger) -> Sequence[Step]:
        """Queue the windows of these triggers; one opens when those before it are closed."""
        steps: list[Step] = []
        self._triggers.taken += len(trigger)
        for t, channel, edge in zip(trigger.t.tolist(), trigger.channel.tolist(), trigger.edge.tolist(), strict=True):
            if edge not in self._edges or self._channel not in (None, channel):
                self._triggers.drop(NOT_USED)
            elif self._latest is not None and t < self._latest:
                self._triggers.drop(BACKWARDS)
            else:
                start = t if self._length is not None else self._latest
                end = t if self._length is None else t + self._length
                self._latest = t
                if start is not None:
                    self._ask(Cut(max(start, end - LONGEST_US) + self._offset, end + self._offset), steps)
        return steps

    def jump(self) -> Sequence[Step]:
        """Abandon the open window and those that wait; forget what is kept."""
        return [*super().jump(), *self._leave(DISCONTINUITY)]

    def end(self) -> Sequence[Step]:
        """Abandon the windows whose end was not reached."""
        return [*super().end(), *self._leave(STREAM_ENDED)]

    def _leave(self, reason: str) -> Sequence[Step]:
        if self._length is None and self._latest is not None:  # the last one, which no other followed
            self._triggers.drop(reason)
        self._latest = None
        return ()
