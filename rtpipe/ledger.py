"""The ledger: for every edge and every stage, in = out + dropped (by reason).

Each side counts what it saw. Nothing is computed as a difference; the checks compare.
"""

from __future__ import annotations

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


class SentLedger(msgspec.Struct, forbid_unknown_fields=True):
    """The producer's side of one edge, all streams together.

    ``offered`` = ``acknowledged`` + ``dropped`` once the edge is drained; ``sent`` is what was handed to ZeroMQ.
    """

    edge: str
    offered: Tally = msgspec.field(default_factory=Tally)
    sent: Tally = msgspec.field(default_factory=Tally)
    acknowledged: Tally = msgspec.field(default_factory=Tally)
    dropped: dict[str, Tally] = {}

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
