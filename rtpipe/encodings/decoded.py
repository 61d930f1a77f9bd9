"""What decoding and scanning give, the same for every encoding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rtpipe.types import Events, Trigger


@dataclass(frozen=True, slots=True)
class Refused:
    """What a decoder did not pass on, by reason.

    Events: ``coordinates`` off the sensor, ``order`` earlier than an instant the stream had already shown, ``no_time``
    before the stream showed its first time. ``triggers`` earlier or before the first time; ``words`` of a type that the
    encoding does not have.
    """

    coordinates: int = 0
    order: int = 0
    no_time: int = 0
    triggers: int = 0
    words: int = 0

    def __add__(self, other: Refused) -> Refused:
        return Refused(
            self.coordinates + other.coordinates,
            self.order + other.order,
            self.no_time + other.no_time,
            self.triggers + other.triggers,
            self.words + other.words,
        )

    @property
    def events(self) -> int:
        """How many events were refused, for whatever reason."""
        return self.coordinates + self.order + self.no_time

    def reasons(self) -> Mapping[str, int]:
        """Refused events by reason, only those that occurred."""
        named = {"coordinates": self.coordinates, "order": self.order, "no_time": self.no_time}
        return {reason: n for reason, n in named.items() if n}


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """Events and triggers, each in order of time, the events on the sensor; owned by whoever gets them.

    ``len(events) + refused.events`` is what :class:`Scan` says as ``n`` of the same bytes from the same state.
    """

    events: Events
    triggers: Trigger
    refused: Refused


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """What is in a run of bytes, without making events.

    ``n`` events, those included that a decoder will refuse. ``t_first``, ``t_last`` µs: the first and the last event
    that is in order (on a sensor or not), None where there is none. ``t_reached`` µs: nothing that a decoder will ever
    give after these bytes is earlier (a watermark), None before the stream's first time. ``triggers`` as decoded.
    ``state``: the decoder's after the last byte. ``refused``: what a decoder will refuse on any sensor, so without
    ``coordinates``.
    """

    n: int
    t_first: int | None
    t_last: int | None
    t_reached: int | None
    triggers: Trigger
    state: bytes
    refused: Refused = Refused()
