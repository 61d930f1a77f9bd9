"""A camera's own bytes as they lie in a recording: as they came, each run with what it takes to decode it alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rtpipe import raw
from rtpipe.errors import InputError
from rtpipe.formats.mcap.messages import RAW
from rtpipe.formats.mcap.read import Messages
from rtpipe.formats.mcap.records import Damaged
from rtpipe.formats.mcap.totals import counters_json
from rtpipe.types import Events, Packet, RawEvents, Resolution


def is_raw(fields: Mapping[str, Any]) -> bool:
    """Whether a decoded message of a stream of events is a :data:`RAW` one."""
    return "state" in fields


def span_of(packet: Packet) -> tuple[int, int] | None:
    """First and last instant (µs) that a raw packet's events may have, as it says; None where it has none.
    ``ValueError`` for a run that does not hold as many events as it says."""
    body = packet.body
    if not isinstance(body, RawEvents):
        return None
    try:
        wrong = raw.fault(body) or ("" if raw.count(body) == body.n else "count")
    except InputError as error:
        raise ValueError(str(error)) from None
    if wrong:
        raise ValueError(f"a run of a camera's own bytes with a bad {wrong}")
    return (packet.t_first, packet.t_last) if body.n else None


def encode_raw(packet: Packet, epoch: int) -> bytes:
    """The :data:`RAW` message of a packet with raw events, or without a body."""
    body = packet.body
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
    """The events in a decoded :data:`RAW` message, in order, on the sensor and in the time that their packet said, and
    how many were refused, by reason."""
    return raw.opened(raw_of(fields), resolution, fields["t_first"], fields["t_last"])


def last_event(messages: Messages, channel: int, t_last: int) -> int:
    """When the last event was (µs) of a stream whose last packet, among ``messages``, says that until ``t_last``
    nothing more happened; ``t_last`` where it cannot be found."""
    try:
        found = [RAW.decode(data) for number, data in messages if number == channel]
        for fields in reversed(found):
            if fields["n"] and fields["t_last"] == t_last:
                span = raw.span(raw_of(fields))
                return min(span[1], t_last) if span is not None and span[0] >= fields["t_first"] else t_last
    except (Damaged, InputError):
        pass
    return t_last
