"""A camera's own bytes as they lie in a recording: as they came, each run with what it takes to decode it alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rtpipe import raw
from rtpipe.errors import InputError
from rtpipe.formats.mcap.messages import RAW
from rtpipe.formats.mcap.records import Damaged
from rtpipe.formats.mcap.totals import counters_json
from rtpipe.types import Events, Packet, RawEvents, Resolution


def is_raw(fields: Mapping[str, Any]) -> bool:
    """Whether a decoded message of a stream of events is a :data:`RAW` one."""
    return "state" in fields


def span_of(packet: Packet) -> tuple[int, int] | None:
    """First and last instant (µs) of a raw packet's events; None where it has none. ``ValueError`` for a run that is
    not what it says. Scans it."""
    body = packet.body
    if not isinstance(body, RawEvents):
        return None
    try:
        found = raw.span(body)
    except InputError as error:
        raise ValueError(str(error)) from None
    return found or ((packet.t_first, packet.t_last) if body.n else None)


def encode_raw(packet: Packet, epoch: int, span: tuple[int, int] | None) -> bytes:
    """The :data:`RAW` message of a packet with raw events, or without a body."""
    body = packet.body
    t0, t1 = span or (packet.t_first, packet.t_last)
    values: dict[str, Any] = {"n": 0, "offset": 0, "encoding": "", "state": b"", "data": b""}
    if isinstance(body, RawEvents):
        values = {name: getattr(body, name) for name in ("n", "encoding", "state", "data")} | {"offset": body.t0}
    return RAW.encode(
        seq=packet.seq,
        t_first=packet.t_first,
        t_last=packet.t_last,
        received_ns=packet.received_ns,
        epoch=epoch,
        end=packet.end,
        t0=t0,
        t1=t1,
        counters=counters_json(packet.counters),
        **values,
    )


def raw_of(fields: Mapping[str, Any]) -> RawEvents:
    """The run in a decoded :data:`RAW` message, its bytes a view. Raises
    :class:`~rtpipe.formats.mcap.records.Damaged` where its sizes contradict each other."""
    body = RawEvents(fields["encoding"], fields["state"].tobytes(), fields["data"], fields["n"], fields["offset"])
    wrong = raw.fault(body)
    if wrong:
        raise Damaged(f"a run of a camera's own bytes has a bad {wrong}")
    return body


def restore_raw(fields: Mapping[str, Any], resolution: Resolution) -> tuple[Events, Mapping[str, int]]:
    """The events in a decoded :data:`RAW` message, in order and on the sensor, and how many were refused, by reason.
    Raises :class:`~rtpipe.formats.mcap.records.Damaged` where the bytes are not what was recorded."""
    events, refused = raw.opened(raw_of(fields), resolution, fields["t0"], fields["t1"])
    if refused.keys() & {raw.MISCOUNTED, raw.TIMES}:
        raise Damaged("a run of a camera's own bytes does not hold the events that it says")
    return events, refused
