"""From one recording format to another: what the target can hold, event by event, and nothing left out in silence."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import msgspec
import numpy as np

from rtpipe.errors import InputError
from rtpipe.formats import writable
from rtpipe.formats.later import later
from rtpipe.formats.packets import cut
from rtpipe.formats.recording import Recording
from rtpipe.packing import unpack
from rtpipe.types import Events, Frame, Imu, PackedEvents, Packet, StreamInfo, Trigger

TRUTH = "truth"
PACKET_US, PACKET_EVENTS = 20_000, 100_000
"""How a recording is cut on its way; formats that are cut into packets themselves keep that."""


@dataclass(frozen=True)
class Converted:
    """What a conversion did. ``counts`` and ``left_out``: elements by stream (``"truth"`` too); ``digest``: the first
    16 hex digits of sha256 over each event's column, in the order t (int64), x, y (uint16), p (uint8)."""

    format: str
    path: str
    counts: Mapping[str, int]
    left_out: Mapping[str, int]
    digest: str


class Digest:
    """Four columns hashed as they pass, then one after the other: the digest does not depend on how they were cut."""

    def __init__(self) -> None:
        self._columns = [hashlib.sha256() for _ in range(4)]
        self.n = 0

    def add(self, events: Events) -> None:
        """Take the next events."""
        for column, values in zip(self._columns, (events.t, events.x, events.y, events.p), strict=True):
            column.update(np.ascontiguousarray(values).data)
        self.n += len(events)

    def hex(self) -> str:
        """The first 16 hex digits."""
        return hashlib.sha256(b"".join(column.digest() for column in self._columns)).hexdigest()[:16]


def target_format(out: Path, name: str | None) -> tuple[str, ModuleType]:
    """The format to write: ``name``, or what the ending of ``out`` says. Raises ``InputError`` that lists them."""
    formats = writable()
    offered = ", ".join(f"{key} ({', '.join(module.SUFFIXES) or 'by name only'})" for key, module in formats.items())
    if name is not None:
        if name not in formats:
            raise InputError(f"no format {name!r} can be written; there are {offered}")
        return name, formats[name]
    ending = "/" if out.is_dir() or str(out).endswith(os.sep) or not out.suffix else out.suffix.lower()
    found = [key for key, module in formats.items() if ending in module.SUFFIXES]
    if len(found) != 1:
        said = f"means {' or '.join(found)}" if found else "means no format that can be written"
        raise InputError(f"{out}: its ending {said}; say which with --to; there are {offered}")
    return found[0], formats[found[0]]


def writer_options(module: ModuleType, given: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` as the target's ``Writer.for_streams`` wants them. Raises ``InputError`` that lists what it knows."""
    make = module.Writer.for_streams
    types = get_type_hints(make)
    parameters = inspect.signature(make).parameters.values()
    allowed = {p.name: types[p.name] for p in parameters if p.kind is p.KEYWORD_ONLY}
    checked: dict[str, Any] = {}
    for key, value in given.items():
        if key not in allowed:
            offered = f"its options are {', '.join(allowed)}" if allowed else "it has none"
            raise InputError(f"the format to write knows no option {key!r}; {offered}")
        try:
            checked[key] = msgspec.convert(value, allowed[key])
        except msgspec.ValidationError as error:
            raise InputError(f"option {key} of the format to write: {error}") from error
    return checked


def convert(
    reader: Recording,
    out: Path,
    *,
    to: str | None = None,
    only: Sequence[str] | None = None,
    t0: int | None = None,
    t1: int | None = None,
    shift: int = 0,
    options: Mapping[str, Any] | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> Converted:
    """Write ``reader``'s streams to ``out``, in constant memory.

    ``only``: the kinds to keep (``"events"``, ``"frames"`` …, ``"truth"``); without it everything must find its place
    in the target. ``t0``, ``t1``: the piece ``t0 <= t < t1`` (µs); ``shift`` µs are added to all times. ``progress`` is
    told the share that is done. Raises ``InputError`` for what the target cannot hold and an ``out`` that is there
    already; nothing is left under that name then, nor after any other error.
    """
    name, module = target_format(out, to)
    if os.path.lexists(out) and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"{out}: there is something of that name (--overwrite replaces a file)")
    kept, left_out = _share(reader, module, name, only)
    streams = [stream for stream in reader.streams if stream.kind in kept]
    if not streams:
        raise InputError(f"{reader.path}: nothing in it that {name} can hold ({', '.join(module.Writer.HOLDS)})")
    counts: dict[str, int] = {stream.name: 0 for stream in streams}
    digest = Digest()
    begin, end = reader.t_start if t0 is None else t0, reader.t_end + 1 if t1 is None else t1
    with ExitStack() as stack:
        writer = stack.enter_context(
            module.Writer.for_streams(out, streams, **writer_options(module, dict(options or {})))
        )
        for packet in _between(reader, t0, t1):
            if packet.stream not in counts:
                continue
            packet = _plain(packet, shift)
            if isinstance(packet.body, Events):
                digest.add(packet.body)
            counts[packet.stream] += _elements(packet)
            writer.write(packet)
            progress(min(1.0, max(0.0, (packet.t_last - shift - begin) / max(1, end - begin))))
        if TRUTH in kept:
            counts[TRUTH] = 0
            for frame in reader.truth(t0, t1):
                writer.add_truth(later(frame, shift))
                counts[TRUTH] += 1
            if not counts[TRUTH]:
                del counts[TRUTH]
        progress(1.0)
    return Converted(name, str(out), counts, left_out, digest.hex() if digest.n else "")


def _share(
    reader: Recording, module: ModuleType, name: str, only: Sequence[str] | None
) -> tuple[set[str], dict[str, int]]:
    """The kinds to write, and how much of which stream is left out because nobody asked for it."""
    holds: tuple[str, ...] = module.Writer.HOLDS
    recorded: Sequence[StreamInfo] = getattr(reader, "recorded", reader.streams)
    there = {stream.kind for stream in recorded}
    counts: Mapping[str, int] = {}
    if only is not None or not there <= set(holds) or "truth" not in holds:
        counts = reader.counts()
    if counts.get(TRUTH) or (not counts and TRUTH in holds):
        there.add(TRUTH)
    if only is not None:
        wrong = [kind for kind in only if kind not in there]
        if wrong:
            raise InputError(f"{reader.path}: no {', '.join(wrong)} in it; there are {', '.join(sorted(there))}")
        impossible = [kind for kind in only if kind not in holds]
        if impossible:
            raise InputError(f"{name} cannot hold {', '.join(impossible)}; it holds {', '.join(holds)}")
        kept = set(only)
    else:
        kept = there & set(holds)
        lost = {s.name: counts.get(s.name, 0) for s in recorded if s.kind not in holds}
        lost |= {TRUTH: counts[TRUTH]} if counts.get(TRUTH) and TRUTH not in holds else {}
        said = [f"{stream} ({n:,})" for stream, n in lost.items() if n]
        if said:
            raise InputError(
                f"{reader.path}: {name} cannot hold {', '.join(said)}; "
                f"leave them out with --only {','.join(kind for kind in holds if kind in kept) or holds[0]}"
            )
    playable = {stream.name for stream in reader.streams if stream.kind in kept}
    left_out = {s.name: counts.get(s.name, 0) for s in recorded if s.name not in playable and counts.get(s.name)}
    if TRUTH not in kept and counts.get(TRUTH):
        left_out[TRUTH] = counts[TRUTH]
    return kept, left_out


def _between(reader: Recording, t0: int | None, t1: int | None) -> Iterator[Packet]:
    for packet in reader.packets(PACKET_US, PACKET_EVENTS, t0):
        if t1 is not None and packet.t_last >= t1:
            packet = _before(packet, t1)
        yield packet
        if t1 is not None and packet.t_first >= t1 and not isinstance(packet.body, Frame):
            return


def _before(packet: Packet, t1: int) -> Packet:
    """What of a packet is earlier than ``t1`` (µs)."""
    body = packet.body
    if isinstance(body, Frame):
        return packet if body.t < t1 else replace(packet, body=None)
    if isinstance(body, Events | Imu | Trigger):
        n = int(np.searchsorted(body.t, t1))
        return replace(packet, body=cut(body, 0, n) if n else None)
    return packet


def _plain(packet: Packet, shift: int) -> Packet:
    """The packet with events in columns, ``shift`` µs later."""
    body = unpack(packet.body) if isinstance(packet.body, PackedEvents) else packet.body
    if not shift:
        return replace(packet, body=body)
    t_first, t_last = packet.t_first + shift, packet.t_last + shift
    return replace(packet, body=later(body, shift), t_first=t_first, t_last=t_last)


def _elements(packet: Packet) -> int:
    if isinstance(packet.body, Frame):
        return 1
    return len(packet.body) if isinstance(packet.body, Events | Imu | Trigger) else 0
