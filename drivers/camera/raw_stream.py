"""A camera's own bytes as they come over the USB, transfer by transfer, to readings: decoded, or as runs that travel.

Transfers end anywhere, in the middle of a word too. Where one is lost nothing is invented: what follows is left out,
and counted, until time and row have been said again (:mod:`rtpipe.encodings.resume`). Where the camera's clock falls
back the decoder follows. Pure: the same bytes give the same readings, from a camera, a file or a test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from drivers.camera.contract import Reading
from rtpipe import encodings
from rtpipe.encodings import Decoded, resume
from rtpipe.types import Array, Events, RawEvents, Resolution, Trigger

MOST_BYTES = 1 << 18
"""Of one reading: some 100,000 events."""
HELD_BYTES = 1 << 20
"""So much is held back at the most until the stream shows its time; beyond, the older half is left out."""

AFTER_A_GAP = "after a gap"
"""Why events are left out whose time or row was said in what was lost."""
NO_TIME = "no_time"
"""Why events are left out that came before the stream's first time."""


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """What some bytes gave. ``refused`` events that are in no reading, by reason (see
    :class:`~drivers.camera.contract.Batch`)."""

    readings: tuple[Reading, ...] = ()
    refused: Mapping[str, int] = field(default_factory=dict)


class RawStream:
    """A stream of ``encoding`` (a name of :data:`rtpipe.encodings.NAMES`) of a sensor of ``resolution``.

    ``raw``: runs as they came, each with its decoder's state; else events. ``triggers``: whether signals at the trigger
    input are readings of their own. ``state`` the decoder's before the first byte. Not thread-safe. Raises
    ``InputError`` for an unknown encoding or a state that is none.
    """

    def __init__(
        self, encoding: str, resolution: Resolution, *, raw: bool = False, triggers: bool = True, state: bytes = b""
    ) -> None:
        self._name = encoding
        self._module = encodings.load(encoding)
        self._size = resolution
        self._raw, self._triggers = raw, triggers
        self._state: bytes = state or self._module.INITIAL
        self._coding = self._module.Decoder.coding
        self._coding.numbers(self._state)
        self._rest = np.empty(0, np.uint8)
        self._timed = self._coding.numbers(self._state)[0] >= 0
        self._lost = False
        self._elapsed: int | None = None
        self._readings: list[Reading] = []
        self._refused: Counter[str] = Counter()

    @property
    def state(self) -> bytes:
        """The decoder's after the last byte that was used."""
        return self._state

    def warm(self) -> None:
        """Compile, or load, every kernel, so that no transfer waits for it."""
        encodings.warm(self._name)
        resume.warm(self._name)

    def push(self, data: bytes | Array) -> Taken:
        """What the next bytes give. ``data`` is not kept beyond what the readings hold: it may be a buffer of its own
        (``bytes``, or uint8 that nobody writes to again). Raises nothing, whatever the bytes are."""
        new = np.frombuffer(data, np.uint8) if isinstance(data, bytes | bytearray | memoryview) else data
        held = np.concatenate((self._rest, new)) if len(self._rest) else new
        whole = len(held) // self._module.WORD * self._module.WORD
        half, held = held[whole:], held[:whole]
        if self._lost:
            held = self._find(held)
        elif not self._timed:
            held = self._await_time(held)
        if not self._lost and self._timed:
            while len(held):
                held = self._take(held[:MOST_BYTES], held[MOST_BYTES:])
        self._rest = np.concatenate((held, half)) if len(held) else half.copy()
        return self._give()

    def gap(self, elapsed_us: int | None = None) -> Taken:
        """What comes next does not follow on what came: transfers were lost. ``elapsed_us`` by the host's clock between
        the last that came and the next, as far as known. Gives what was held back: its events, refused."""
        whole = len(self._rest) // self._module.WORD * self._module.WORD
        self._count(self._rest[:whole], AFTER_A_GAP if self._lost else NO_TIME)
        self._rest = np.empty(0, np.uint8)
        before = self._elapsed if self._lost else 0
        self._elapsed = None if elapsed_us is None or before is None else before + elapsed_us
        self._lost = True
        return self._give()

    def _give(self) -> Taken:
        taken = Taken(tuple(self._readings), dict(self._refused))
        self._readings.clear()
        self._refused.clear()
        return taken

    def _count(self, data: Array, reason: str) -> None:
        if len(data):
            n, _ = self._coding.count(self._coding.words(data), self._coding.numbers(self._state))
            if n:
                self._refused[reason] += n

    def _find(self, data: Array) -> Array:
        """Leave out what cannot be placed after a gap; what is left."""
        found = resume.resume(self._name, data, self._state, self._elapsed)
        if found.events:
            self._refused[AFTER_A_GAP] += found.events
        data = data[found.skip :]
        if found.state is None:
            return self._hold(data, AFTER_A_GAP)
        self._state, self._lost, self._timed = found.state, False, True
        return data

    def _await_time(self, data: Array) -> Array:
        """At the start: nothing can be said of bytes before the stream's first time."""
        self._timed = self._module.scan(data, self._state).t_reached is not None
        return data if self._timed else self._hold(data, NO_TIME)

    def _hold(self, data: Array, reason: str) -> Array:
        if len(data) <= HELD_BYTES:
            return data
        half = HELD_BYTES // 2
        self._count(data[:-half], reason)
        return data[-half:]

    def _take(self, data: Array, after: Array) -> Array:
        """Make readings of ``data``; returns what is left to be taken."""
        if self._raw:
            scan = self._module.scan(data, self._state)
            back = scan.refused.order
        else:
            decoder = self._module.Decoder(self._size, self._state)
            decoded: Decoded = decoder.decode(data)
            back = decoded.refused.order
        if back:
            cut = resume.falls(self._name, data, self._state)
            if cut == 0:
                self._state = resume.fallen(self._name, data, self._state)
                return np.concatenate((data, after)) if len(after) else data
            if cut < len(data):
                rest = self._take(data[:cut], data[cut:])
                return np.concatenate((rest, after)) if len(after) else rest
        if self._raw:
            first = scan.t_reached if scan.t_first is None else scan.t_first
            run = RawEvents(self._name, self._state, data, scan.n)
            self._readings.append(Reading("events", first, scan.t_reached, run))
            self._signal(scan.triggers)
            self._state = scan.state
            return after
        self._state = decoder.state
        self._refused.update(decoded.refused.reasons())
        self._events(decoded.events)
        self._signal(decoded.triggers)
        return after

    def _events(self, events: Events) -> None:
        reached = int(self._coding.numbers(self._state)[1])
        if len(events):
            first, last = int(events.t[0]), int(events.t[-1])
            self._readings.append(Reading("events", first, max(last, reached), events))
        else:
            self._readings.append(Reading("events", reached, reached, None))

    def _signal(self, triggers: Trigger) -> None:
        if self._triggers and len(triggers):
            first, last = int(triggers.t[0]), int(triggers.t[-1])
            self._readings.append(Reading("triggers", first, last, triggers))
