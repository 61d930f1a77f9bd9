"""Recordings in which time jumped, as packets: cut epoch by epoch, and never back in time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from rtpipe.formats.later import later
from rtpipe.formats.mcap.totals import Span
from rtpipe.formats.packets import Piece, cut_packets
from rtpipe.types import Packet


class Feed:
    """A stream of (epoch, piece), given out epoch by epoch."""

    def __init__(self, pieces: Iterator[tuple[int, Piece]]) -> None:
        self._pieces = pieces
        self._next = next(pieces, None)

    def run(self, epoch: int) -> Iterator[Piece]:
        """The pieces up to and including ``epoch``."""
        while self._next is not None and self._next[0] <= epoch:
            piece = self._next[1]
            self._next = next(self._pieces, None)
            yield piece


def cut_epochs(
    streams: Mapping[str, Iterator[tuple[int, Piece]]],
    spans: Sequence[Span],
    packet_us: int,
    packet_events: int,
    t0: int | None = None,
    raw: bool = False,
) -> Iterator[Packet]:
    """The packets of every span as :func:`rtpipe.formats.packets.cut_packets` cuts them, from ``t0`` (µs) on in the
    first one; ``seq`` goes on, ``epoch`` counts the spans from 0. Where a span begins before the one before it has
    ended, its times are moved to that end, so that time never goes back."""
    feeds = {name: Feed(pieces) for name, pieces in streams.items()}
    seqs = dict.fromkeys(feeds, 0)
    newest: int | None = None
    for number, span in enumerate(spans):
        runs = {name: feed.run(span.epoch) for name, feed in feeds.items()}
        by = 0 if newest is None else max(newest - span.t_first, 0)
        begin = t0 if number == 0 else None
        for packet in cut_packets(runs, span.t_first, span.t_last, packet_us, packet_events, begin, raw):
            if packet.end and number + 1 < len(spans):
                continue
            made = replace(packet, seq=seqs[packet.stream], epoch=number) if number else packet
            made = _later(made, by) if by else made
            seqs[packet.stream] += 1
            newest = made.t_last if newest is None else max(newest, made.t_last)
            yield made


def _later(packet: Packet, by: int) -> Packet:
    return replace(packet, t_first=packet.t_first + by, t_last=packet.t_last + by, body=later(packet.body, by))
