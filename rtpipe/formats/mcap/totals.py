"""What a recording holds of each stream, counted while it is written, or again while an unfinished one is scanned."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from rtpipe.formats.mcap.records import Damaged
from rtpipe.formats.recording import LONGEST_S
from rtpipe.types import Count, Counters

LONGEST_US = LONGEST_S * 1_000_000
"""No epoch spans more than this."""

FURTHEST = 1 << 61
"""Times beyond this many µs are damage."""

Counted = dict[str, tuple[int, int]]
"""Packets and events by reason."""


class Span(msgspec.Struct):
    """One epoch of a stream: its number, first and last instant of an element (µs)."""

    epoch: int
    t_first: int
    t_last: int


class Total(msgspec.Struct):
    """One stream: its packets (continued ones once) and elements; ``missing``: packets that never reached the recorder,
    by their numbers; ``dropped``: what the producer says it dropped on the way, by reason, since the file began."""

    packets: int = 0
    elements: int = 0
    missing: int = 0
    next_seq: int | None = None
    spans: list[Span] = msgspec.field(default_factory=list)
    dropped: Counted = msgspec.field(default_factory=dict)
    before: Counted | None = None

    def packet(self, seq: int, epoch: int, continued: bool = False) -> None:
        """One packet of the stream, in its order."""
        if self.next_seq is not None and seq > self.next_seq:
            self.missing += seq - self.next_seq
        self.next_seq = seq if continued else seq + 1
        self.packets += not continued
        if not self.spans:
            return
        if epoch < self.spans[-1].epoch:
            raise Damaged("an epoch comes back")

    def add(self, epoch: int, n: int, t_first: int, t_last: int) -> None:
        """``n`` elements of one epoch between two instants (µs)."""
        self.elements += n
        if not self.spans or self.spans[-1].epoch != epoch:
            self.spans.append(Span(epoch, t_first, t_last))
        span = self.spans[-1]
        span.t_first, span.t_last = min(span.t_first, t_first), max(span.t_last, t_last)
        if not -FURTHEST < span.t_first <= span.t_last < FURTHEST or span.t_last - span.t_first > 2 * LONGEST_US:
            raise Damaged("times lie impossibly far apart")

    def counters(self, sent: int, dropped: Counted) -> None:
        """The producer's cumulative counts, as of the packet just added: packets sent to the recorder, and dropped by
        reason. What had been dropped before the file began is not the file's loss."""
        if self.before is None:
            self.before = dropped if sent > self.packets else {}
        for reason, (packets, events) in dropped.items():
            base = self.before.get(reason, (0, 0))
            if packets > base[0] or events > base[1]:
                self.dropped[reason] = (packets - base[0], events - base[1])

    @property
    def gap(self) -> str:
        """What is known to be missing, in words; empty where nothing is."""
        if not self.missing and not self.dropped:
            return ""
        reasons = ", ".join(f"{name}: {p:,} packets, {e:,} events" for name, (p, e) in self.dropped.items())
        return f"{self.missing:,} packets never reached the recorder" + (f" ({reasons})" if reasons else "")


def epoch_for(total: Total, epoch: int, t_first: int | None = None, *, ordered: bool = False) -> int:
    """The epoch under which a packet is kept: never lower than the stream's last, and a new one where time jumped
    without a word: absurdly far, or (``ordered``) back at all."""
    if not total.spans:
        return epoch
    last = total.spans[-1]
    if epoch > last.epoch or t_first is None:
        return max(epoch, last.epoch)
    jumped = abs(t_first - last.t_first) > LONGEST_US or (ordered and t_first < last.t_last)
    return last.epoch + jumped


def check_span(t_first: int, t_last: int) -> None:
    """``ValueError`` for a packet whose times (µs) cannot be true."""
    if not -FURTHEST < t_first <= t_last < FURTHEST or t_last - t_first > LONGEST_US:
        raise ValueError("times lie impossibly far apart, or go back")


def counters_json(counters: Counters) -> str:
    """What goes into a message's ``counters``; empty where nothing is said."""
    if counters == Counters():
        return ""
    dropped = {reason: (count.packets, count.events) for reason, count in counters.dropped.items()}
    data = {"sent": (counters.sent.packets, counters.sent.events), "dropped": dropped}
    return msgspec.json.encode(data).decode()


def note_counters(total: Total, counters: Counters) -> None:
    """Take a packet's counters into the stream's total."""
    total.counters(counters.sent.packets, {name: (c.packets, c.events) for name, c in counters.dropped.items()})


class Told(msgspec.Struct):
    """A message's ``counters``, read."""

    sent: tuple[int, int] = (0, 0)
    dropped: Counted = msgspec.field(default_factory=dict)


def counters_told(text: str) -> Told | None:
    """``counters`` of a message, None where it is empty. Raises :class:`~rtpipe.formats.mcap.records.Damaged`."""
    try:
        return msgspec.json.decode(text, type=Told) if text else None
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Damaged("a message's counters are not what they should be") from error


def as_counts(totals: Mapping[str, Total], events: frozenset[str]) -> dict[str, Count]:
    """Totals as the ledger counts: only events count as events."""
    return {name: Count(total.packets, total.elements if name in events else 0) for name, total in totals.items()}
