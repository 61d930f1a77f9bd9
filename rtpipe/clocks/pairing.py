"""Which trigger signal belongs to which picture, where a camera's shutter is wired to an event camera's input.

Both come with times of clocks of their own, and on either side some may be missing: what fits is the pattern of the
intervals. The offset between the clocks under which most pictures find a signal is looked for once and then followed.
Pictures at an even pace fit at many offsets, a period apart: then the least possible delay is assumed, and said.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from rtpipe.types import Array

FEWEST = 8
"""Pictures and signals before an offset is looked for."""
PICTURES, SIGNALS = 24, 256
"""How many are looked at; and remembered."""
NEAR = 1 / 4
"""A signal within this part of the period from where one is expected is the picture's."""
ALIKE = 1 / 16
"""Scatter of the pictures' own times that is allowed while an offset is looked for, as a part of the period."""
FOLLOW = 0.2
ALSO = 0.6
"""An offset under which this part of the most find their signals may be the right one: which are missing is chance."""
LOST = 8
"""Pictures in a row without a signal after which the offset is looked for again."""
SLACK_US = 50_000
"""Signals may come so much later than their time stamps in the stream say that they are all there."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A picture's signal on the events' clock (µs): ``t``, and ``end`` where the signal says how long it lasts."""

    t: int
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """When a picture was taken, on the events' clock. ``measured``: by its own signal; else by where it should be."""

    signal: Signal
    measured: bool


class Pairing:
    """Pairs pictures with signals, both in order of time. Fixed memory.

    ``paired``, ``unpaired`` (pictures whose signal is missing) and ``unused`` (signals whose picture is) count what was
    asked for; ``ambiguous``: other offsets fitted as well.
    """

    def __init__(self) -> None:
        self.paired = self.unpaired = self.unused = 0
        self.ambiguous = False
        self._pictures: deque[int] = deque(maxlen=PICTURES)
        self._signals: deque[Signal] = deque(maxlen=SIGNALS)
        self._reached: int | None = None
        self._offset: float | None = None
        self._period = 0.0
        self._scatter = 0.0
        self._taken: int | None = None
        self._missed = 0
        self._lasts: int | None = None
        self._fresh = 0

    @property
    def locked(self) -> bool:
        """Whether it is known how pictures and signals belong together."""
        return self._offset is not None

    @property
    def scatter_us(self) -> float:
        """By how much the pictures' own times scatter about the signals'."""
        return self._scatter

    @property
    def signals(self) -> int:
        """How many signals are remembered."""
        return len(self._signals)

    def reset(self) -> None:
        """One of the clocks jumped: everything but the counts is void."""
        counts = self.paired, self.unpaired, self.unused
        self.__init__()  # type: ignore[misc]
        self.paired, self.unpaired, self.unused = counts

    def signal(self, signal: Signal) -> None:
        """Take a signal, none earlier than those before."""
        self._signals.append(signal)
        self.reach(signal.t)

    def reach(self, t: int) -> None:
        """No signal before ``t`` is to come."""
        self._reached = t if self._reached is None else max(t, self._reached)

    def picture(self, t: int) -> None:
        """A picture came (``t`` on its own clock)."""
        self._pictures.append(t)
        self._fresh += 1

    def lock(self, lowest: float = -np.inf, highest: float = np.inf, expected: float | None = None) -> bool:
        """Look for the offset (events' clock less pictures' clock, µs) between ``lowest`` and ``highest``; of several
        that fit the one nearest to ``expected``, the highest (the least delay) where nothing is. False: none was
        found, or nothing has come since it was last looked for."""
        fresh, self._fresh = self._fresh, 0
        if not fresh or len(self._pictures) < FEWEST or len(self._signals) < FEWEST:
            return False
        pictures = np.array(self._pictures, np.float64)
        base = self._signals[0].t  # epochs of microseconds leave too little of a float
        signals = np.array([signal.t - base for signal in self._signals], np.float64)
        self._period = float(np.median(np.diff(signals)))
        offsets = (signals[:, None] - pictures[None, :]).ravel()
        offsets = np.sort(offsets[(offsets + base >= lowest) & (offsets + base <= highest)])
        if not len(offsets) or self._period <= 0:
            return False
        near = ALIKE * self._period
        candidates = offsets[np.concatenate([[True], np.diff(offsets) > near / 4])]
        scores = np.array([_score(pictures, signals, each, near) for each in candidates])
        best = scores[:, 0].max()
        if best < FEWEST - 0.5:
            return False
        fitting = candidates[scores[:, 0] >= ALSO * best]
        fitting = fitting[np.concatenate([[True], np.diff(fitting) > self._period / 2])]
        self.ambiguous = len(fitting) > 1 and expected is None
        chosen = float(fitting[-1] if expected is None else fitting[np.argmin(np.abs(fitting + base - expected))])
        self._scatter = float(scores[np.argmin(np.abs(candidates - chosen)), 1])
        self._offset = chosen + base
        self._taken = None
        self._missed = 0
        return True

    def match(self, t: int) -> Match | None:
        """When the picture ``t`` (own clock; asked for in order) was taken; None while its signal may still come, or
        nothing is known."""
        if self._offset is None:
            return None
        expected = t + self._offset
        near = NEAR * self._period
        if self._reached is None or self._reached < expected + near:
            return None
        free = [s for s in self._signals if self._taken is None or s.t > self._taken]
        found = min(free, key=lambda s: abs(s.t - expected), default=None)
        if found is None or abs(found.t - expected) > near:
            self.unpaired += 1
            self._missed += 1
            if self._missed >= LOST:
                self._offset = None
            end = None if self._lasts is None else round(expected) + self._lasts
            return Match(Signal(round(expected), end), False)
        if self._taken is not None:
            self.unused += sum(s.t < found.t for s in free)
        self._taken, self._missed = found.t, 0
        self._lasts = None if found.end is None else found.end - found.t
        self._offset += FOLLOW * (found.t - expected)
        self._scatter += 0.05 * (abs(found.t - expected) - self._scatter)
        self.paired += 1
        return Match(found, True)


def _score(pictures: Array, signals: Array, offset: float, near: float) -> tuple[float, float]:
    """How many pictures find a signal of their own at this offset, less a half for each signal passed over; and by how
    much their times scatter (µs)."""
    moved = pictures + offset
    at = np.clip(np.searchsorted(signals, moved), 1, len(signals) - 1)
    at -= moved - signals[at - 1] < signals[at] - moved
    apart = moved - signals[at]
    apart -= np.median(apart[np.abs(apart) < 2 * near]) if np.any(np.abs(apart) < 2 * near) else 0.0
    good = np.abs(apart) < near
    used = np.unique(at[good])
    if not len(used):
        return 0.0, near
    passed = used[-1] - used[0] + 1 - len(used)
    return len(used) - 0.5 * passed, float(np.mean(np.abs(apart[good])))
