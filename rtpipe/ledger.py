"""The ledger: for every edge and every stage, in = out + dropped (by reason).

Each side counts what it saw. Nothing is computed as a difference; the checks compare.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from rtpipe.types import Count


class Flow(msgspec.Struct, forbid_unknown_fields=True):
    """One kind of thing through one stage: events, frames or windows taken, passed on, dropped by reason."""

    taken: int = 0
    passed: int = 0
    dropped: dict[str, int] = {}

    def drop(self, reason: str, n: int = 1) -> None:
        """Count ``n`` dropped for ``reason``."""
        if n:
            self.dropped[reason] = self.dropped.get(reason, 0) + n

    @property
    def balanced(self) -> bool:
        """taken = passed + everything dropped."""
        return self.taken == self.passed + sum(self.dropped.values())


class Tally(msgspec.Struct, forbid_unknown_fields=True):
    """A running count of packets and events."""

    packets: int = 0
    events: int = 0

    def add(self, count: Count) -> None:
        """Count one more packet (or several)."""
        self.packets += count.packets
        self.events += count.events

    @property
    def count(self) -> Count:
        """The same as an immutable :class:`~rtpipe.types.Count`."""
        return Count(self.packets, self.events)


class Exchange(msgspec.Struct, forbid_unknown_fields=True):
    """One producer instance and one consumer instance, as either side saw it: ``passed`` was sent or received,
    ``acknowledged`` the consumer was done with, ``lost`` was sent but will not be acknowledged (the producer's side:
    the consumer died or left; the consumer's side: taken but not processed when it closed)."""

    passed: Tally = msgspec.field(default_factory=Tally)
    acknowledged: Tally = msgspec.field(default_factory=Tally)
    lost: Tally = msgspec.field(default_factory=Tally)


class SentLedger(msgspec.Struct, forbid_unknown_fields=True):
    """The producer's side of one edge, all streams together.

    ``offered`` = ``acknowledged`` + ``dropped`` once the edge is drained; ``sent`` is what was handed to ZeroMQ.
    """

    edge: str
    offered: Tally = msgspec.field(default_factory=Tally)
    sent: Tally = msgspec.field(default_factory=Tally)
    acknowledged: Tally = msgspec.field(default_factory=Tally)
    dropped: dict[str, Tally] = {}
    sessions: dict[str, Exchange] = {}

    def drop(self, reason: str, count: Count) -> None:
        """Count packets of this edge that will not arrive, and why."""
        self.dropped.setdefault(reason, Tally()).add(count)


class ReceivedLedger(msgspec.Struct, forbid_unknown_fields=True):
    """The consumer's side of one edge: ``received`` = ``processed`` + ``refused``; ``missed`` is what it knows to be
    missing from sequence numbers and the producer's counters; ``unexplained``: gaps that nobody gave a reason for."""

    edge: str
    received: Tally = msgspec.field(default_factory=Tally)
    processed: Tally = msgspec.field(default_factory=Tally)
    refused: dict[str, Tally] = {}
    missed: dict[str, Tally] = {}
    unexplained: Tally = msgspec.field(default_factory=Tally)
    sessions: dict[str, Exchange] = {}


DUPLICATE = "duplicate"
"""Refused because the consumer has it already: a restarted replay sends some packets again."""


def _total(tallies: Iterable[Tally]) -> Count:
    return sum((tally.count for tally in tallies), Count())


def check(sent: SentLedger, received: ReceivedLedger) -> str | None:
    """What does not balance between the two sides of a drained edge, in one line that names it; None when every packet
    and every event is accounted for. Sessions that only one side still knows (the other process was killed) are held
    to that side's own account."""
    edge = f"edge {sent.edge}"
    if sent.edge != received.edge:
        return f"{edge}: compared with the ledger of {received.edge}"
    out = sent.acknowledged.count + _total(sent.dropped.values())
    if sent.offered.count != out:
        return f"{edge}: {_say(sent.offered.count)} offered, {_say(out)} acknowledged or dropped"
    inside = received.processed.count + _total(received.refused.values())
    if received.received.count != inside:
        return f"{edge}: {_say(received.received.count)} received, {_say(inside)} processed or refused"
    if received.unexplained.packets:
        return f"{edge}: {_say(received.unexplained.count)} missing and nobody counted them"
    shared = sent.sessions.keys() & received.sessions.keys()
    if not shared and (sent.sessions or received.sessions):
        return f"{edge}: its two ledgers are not of the same run"
    malformed = received.refused.keys() - {DUPLICATE}
    for session in sorted(shared):
        there, here = sent.sessions[session], received.sessions[session]
        if there.passed.count != there.acknowledged.count + there.lost.count:
            return f"{edge}: {_say(there.passed.count)} sent, {_say(there.acknowledged.count)} acknowledged"
        wrong = _differ(there.acknowledged.count, here.acknowledged.count, bool(malformed))
        if not there.lost.packets:
            wrong = wrong or _differ(there.passed.count, here.passed.count, bool(malformed))
        if wrong:
            return f"{edge}: {_say(there.passed.count)} sent, {_say(here.passed.count)} received, no reason given"
    return None


def _differ(there: Count, here: Count, malformed: bool) -> bool:
    """A malformed message may not say how many events it held: then only the packets can be compared."""
    return there.packets != here.packets or (there.events != here.events and not malformed)


def _say(count: Count) -> str:
    return f"{count.packets:,} packets ({count.events:,} events)"
