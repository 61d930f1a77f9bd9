"""Raw packets: what must be true of a camera's own bytes before they travel, and before their events are believed.

They are scanned once, where they enter; they travel and are recorded as they are, each run with its decoder's state;
they are decoded once, in front of the windows. Whatever then turns out to be wrong is counted there by its reason.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rtpipe import encodings
from rtpipe.encodings.stream import Coding
from rtpipe.errors import InputError
from rtpipe.types import Events, RawEvents, Resolution

MOST = {"evt2": 1, "evt21": 32, "evt3": 12}
"""The encodings that travel: how many events one word can hold at the most."""

MAX_EVENTS = 1 << 24
MAX_BYTES = 1 << 27
"""Of one run, at the most."""
FURTHEST = 1 << 62
"""No ``t0`` is further from zero (µs): sums stay far from where int64 ends."""

MISCOUNTED = "miscounted"
"""Why a run is refused whose bytes do not hold as many events as it says: it is not what the driver scanned."""
TIMES = "times"
"""Why a run is refused whose events lie outside the time that its packet gives."""


def fault(raw: RawEvents) -> str:
    """What is wrong with a run as far as its size tells: ``""``, ``"encoding"`` (not known), ``"length"`` (no whole
    words, not so many events in so many bytes, or a state of another length), ``"size"`` or ``"times"`` (an impossible
    ``t0``). Looks at no byte of it."""
    if raw.encoding not in MOST:
        return "encoding"
    if not 0 <= raw.n <= MAX_EVENTS or len(raw.data) > MAX_BYTES:
        return "size"
    if abs(raw.t0) > FURTHEST:
        return TIMES
    module, data = encodings.load(raw.encoding), raw.data
    whole = data.dtype == np.uint8 and data.ndim == 1 and len(data) % module.WORD == 0
    if not whole or raw.n > len(data) // module.WORD * MOST[raw.encoding] or len(raw.state) != len(module.INITIAL):
        return "length"
    return ""


def count(raw: RawEvents) -> int:
    """How many events are in a run that has no :func:`fault`, those included that a decoder will refuse. Much faster
    than a scan. Raises ``InputError`` for a state that is none."""
    coding: Coding = encodings.load(raw.encoding).Decoder.coding
    n, _ = coding.count(coding.words(raw.data), coding.numbers(raw.state))
    return n


def span(raw: RawEvents) -> tuple[int, int] | None:
    """Time of the first and the last event (µs), None where there is none in order. Raises ``InputError`` for a run
    that is not what it says. Scans it once, makes no events."""
    wrong = fault(raw)
    if wrong:
        raise InputError(f"a run of {raw.encoding[:20]!r} has a bad {wrong}")
    found: encodings.Scan = encodings.load(raw.encoding).scan(raw.data, raw.state)
    if found.n != raw.n:
        raise InputError(f"a run of {raw.encoding} holds {found.n} events, not {raw.n}")
    if found.t_first is None or found.t_last is None:
        return None
    return found.t_first + raw.t0, found.t_last + raw.t0


def opened(raw: RawEvents, resolution: Resolution, t_first: int, t_last: int) -> tuple[Events, Mapping[str, int]]:
    """The events of a run, in order, on the sensor and between ``t_first`` and ``t_last`` (µs, both included), and how
    many were refused by reason: together ``raw.n``. Raises nothing, whatever the bytes are.

    A run whose count or times are wrong is refused whole: it is not what was scanned. Single events off the sensor or
    out of order are not: a camera's own noise.
    """
    try:
        if fault(raw) or count(raw) != raw.n:  # before anything is allocated for them
            return Events.empty(), {MISCOUNTED: raw.n}
        decoded = encodings.decode(raw, resolution)
    except InputError:
        return Events.empty(), {MISCOUNTED: raw.n}
    events = decoded.events
    if len(events) and not t_first <= int(events.t[0]) <= int(events.t[-1]) <= t_last:
        return Events.empty(), {TIMES: raw.n}
    return events, decoded.refused.reasons()


def warm(encoding: str) -> None:
    """Compile, or load, what runs of ``encoding`` need; nothing for ``""`` or one that is not known."""
    if encoding in MOST:
        encodings.warm(encoding)
