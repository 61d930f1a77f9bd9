"""The consumer's account of what should have come: every gap in the sequence, with the reason the producer gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rtpipe.ledger import ReceivedLedger, Tally
from rtpipe.sockets.messages import Offer
from rtpipe.types import Count, Packet

PRODUCER_DIED = "producer_died"
"""Why packets are missing that a producer took to its grave."""


@dataclass
class _Stream:
    last: int
    sent: Count
    dropped: Mapping[str, Count]
    ended: bool = False
    fresh: bool = True
    """No packet of this producer instance has come yet."""


class Continuity:
    """Compares each packet's ``seq`` and counters with those before it, per stream."""

    def __init__(self, ledger: ReceivedLedger) -> None:
        self._ledger = ledger
        self._streams: dict[str, _Stream] = {}
        self._unreadable: dict[str, int] = {}

    @property
    def last(self) -> dict[str, int]:
        """The last ``seq`` of each stream that had one."""
        return {name: stream.last for name, stream in self._streams.items() if stream.last >= 0}

    @property
    def ended(self) -> bool:
        """Every stream that was announced had its end packet."""
        return all(stream.ended for stream in self._streams.values())

    def welcome(self, offer: Offer, same_instance: bool, continues: bool) -> None:
        """The producer says where it starts. What was counted before stays in force while it is the same instance."""
        sent, dropped = Count(*offer.sent), {reason: Count(*n) for reason, n in offer.dropped.items()}
        known, before = self._streams.get(offer.name), offer.start - 1
        if known is None:
            self._streams[offer.name] = _Stream(before, sent, dropped)
        elif same_instance:
            if known.fresh:
                known.last, known.sent, known.dropped = max(known.last, before), sent, dropped
        elif continues:
            if before > known.last:
                self._ledger.missed.setdefault(PRODUCER_DIED, Tally()).packets += before - known.last
            self._streams[offer.name] = _Stream(max(known.last, before), sent, dropped, known.ended)
        else:
            self._streams[offer.name] = _Stream(before, sent, dropped)

    def unreadable(self, topic: str) -> None:
        """A message was refused, of this stream or one that is not known: it will look like a gap."""
        name = topic if topic in self._streams else ""
        self._unreadable[name] = self._unreadable.get(name, 0) + 1

    def _forgive(self, name: str, gaps: int) -> int:
        forgiven = min(gaps, self._unreadable.get(name, 0))
        if forgiven:
            self._unreadable[name] -= forgiven
        return forgiven

    def duplicate(self, packet: Packet) -> bool:
        """True for a packet that is here already (its counters are noted)."""
        stream = self._streams[packet.stream]
        if packet.seq > stream.last:
            return False
        stream.sent, stream.dropped = packet.counters.sent, packet.counters.dropped
        return True

    def arrived(self, packet: Packet) -> None:
        """Account for the gap before a packet that is not a duplicate."""
        stream = self._streams[packet.stream]
        counters = packet.counters
        gap = packet.seq - stream.last - 1
        explained = 0
        for reason, count in counters.dropped.items():
            before = stream.dropped.get(reason, Count())
            packets, events = count.packets - before.packets, count.events - before.events
            if packets > 0:
                self._ledger.missed.setdefault(reason, Tally()).add(Count(packets, max(events, 0)))
                explained += packets
        swallowed = counters.sent.packets - stream.sent.packets - 1
        unexplained = max(gap - explained, swallowed, 0)
        for name in (packet.stream, "") if unexplained else ():
            unexplained -= self._forgive(name, unexplained)
        if unexplained:
            events = counters.sent.events - stream.sent.events - packet.n_events
            self._ledger.unexplained.add(Count(unexplained, max(events, 0)))
        stream.last, stream.sent, stream.dropped = packet.seq, counters.sent, counters.dropped
        stream.ended |= packet.end
        stream.fresh = False
