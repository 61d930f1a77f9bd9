"""What a slicer says: windows that open, take events and close, in the order in which stream time lets them.

A slicer knows stream time alone, no host clock and no tensor: the same windows come out however packets are cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

from rtpipe.ledger import Flow
from rtpipe.types import Frame, FrameFlag, PackedEvents, Trigger

BETWEEN_WINDOWS = "between_windows"
DISCONTINUITY = "discontinuity"
STREAM_ENDED = "stream_ended"
HISTORY_FULL = "history_full"
NO_EXPOSURE = "no_exposure"
NOT_USED = "not_used"
BACKWARDS = "order"
"""Reasons under which slicers drop events, frames or triggers."""


@dataclass(slots=True, eq=False)
class Cut:
    """A window that is being cut: ``[t_start, t_end)`` µs. By count the edges are known only when it closes.

    ``n_events`` it has taken; ``owned`` of them are in no window before it: the ledger counts each event once.
    """

    t_start: int
    t_end: int
    frame: Frame | None = None
    flags: FrameFlag = FrameFlag.NONE
    n_events: int = 0
    owned: int = 0


class Do(Enum):
    """What happens to a window."""

    OPEN = "open"
    ADD = "add"
    CLOSE = "close"
    ABANDON = "abandon"


class Step(NamedTuple):
    """One thing that happens to one window; ``events`` (never empty) come with ``ADD``."""

    do: Do
    cut: Cut
    events: PackedEvents | None = None


class Slicer(Protocol):
    """One rule of when a window opens and closes."""

    @property
    def flows(self) -> Mapping[str, Flow]:
        """The exact ledger of ``"events"``, ``"frames"`` and, where windows are cut by them, ``"triggers"``; it
        balances after :meth:`end`."""
        ...

    def events(self, events: PackedEvents) -> Sequence[Step]:
        """Take events, in order, none earlier than those before; their arrays are held as long as they are needed."""
        ...

    def reach(self, t: int) -> Sequence[Step]:
        """Nothing later in the stream of events is earlier than ``t``."""
        ...

    def frame(self, frame: Frame) -> Sequence[Step]:
        """Take a camera's frame."""
        ...

    def trigger(self, trigger: Trigger) -> Sequence[Step]:
        """Take trigger signals."""
        ...

    def lost(self, t_from: int, t_to: int) -> None:
        """Events between these instants are known to be missing: windows that need them are ``INCOMPLETE``."""
        ...

    def jump(self) -> Sequence[Step]:
        """Time jumped: what is open is abandoned, what is kept is void."""
        ...

    def end(self) -> Sequence[Step]:
        """No more events: what cannot be completed is abandoned."""
        ...


class Base:
    """What slicers share: the ledger, room for what open windows hold, and gaps in what came."""

    def __init__(self, holding: bool, limit_bytes: int) -> None:
        self._events, self._frames = Flow(), Flow()
        self._room = limit_bytes // 8 if holding else None
        self._held = 0
        self._gaps: list[tuple[int, int]] = []

    @property
    def flows(self) -> Mapping[str, Flow]:
        """The exact ledger of ``"events"`` and ``"frames"``."""
        return {"events": self._events, "frames": self._frames}

    def trigger(self, _: Trigger) -> Sequence[Step]:
        """Of no use to most."""
        return ()

    def lost(self, t_from: int, t_to: int) -> None:
        """Events between these instants are missing."""
        self._gaps.append((t_from, t_to))
        del self._gaps[:-64]

    def _add(self, cuts: Sequence[Cut], events: PackedEvents, steps: list[Step], new: int | None = None) -> int:
        """Give events to all of ``cuts``; the first owns the last ``new`` of them (all where it is left out). What
        there is no room for is counted, and returned."""
        new = len(events) if new is None else new
        refused = 0 if self._room is None else max(0, min(new, self._held + new - self._room))
        if refused:
            self._events.drop(HISTORY_FULL, refused)
            events = events[: len(events) - refused]
            for cut in cuts:
                cut.flags |= FrameFlag.INCOMPLETE
        self._held += new - refused
        cuts[0].owned += new - refused
        if len(events):
            for cut in cuts:
                cut.n_events += len(events)
                steps.append(Step(Do.ADD, cut, events))
        return refused

    def _close(self, cut: Cut, steps: list[Step]) -> None:
        if any(a < cut.t_end and b > cut.t_start for a, b in self._gaps):
            cut.flags |= FrameFlag.INCOMPLETE
        self._held -= cut.owned
        self._events.passed += cut.owned
        steps.append(Step(Do.CLOSE, cut))

    def _abandon(self, cut: Cut, reason: str, steps: list[Step]) -> None:
        self._held -= cut.owned
        self._events.drop(reason, cut.owned)
        steps.append(Step(Do.ABANDON, cut))


class Unframed(Base):
    """What slicers share that have no use for frames."""

    def frame(self, _: Frame) -> Sequence[Step]:
        """A frame is counted and left."""
        self._frames.taken += 1
        self._frames.drop(NOT_USED)
        return ()
