"""Reading rtpipe's own recordings: finished or cut off, in constant memory, nothing believed unchecked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np

from rtpipe.clocks.relation import words_of
from rtpipe.errors import FormatError, InputError
from rtpipe.formats.mcap.epochs import cut_epochs
from rtpipe.formats.mcap.events import restore
from rtpipe.formats.mcap.index import PREFIX, Decoded, Index, StreamIndex, elements, packet_rows, span_of
from rtpipe.formats.mcap.pictures import decode_frame
from rtpipe.formats.mcap.raw import is_raw, last_event, raw_of, restore_raw
from rtpipe.formats.mcap.read import ContainerFile, Messages
from rtpipe.formats.mcap.records import Damaged
from rtpipe.formats.mcap.totals import LONGEST_US, Span
from rtpipe.formats.mcap.write import clamp_ns
from rtpipe.formats.packets import Piece, RawRun
from rtpipe.formats.recording import Recording
from rtpipe.types import Array, Events, Frame, Imu, Packet, StreamInfo, Trigger

CAMERA_KINDS = ("events", "frames", "imu", "triggers")
TRUTH = "truth"
"""The stage whose frames are sharp pictures for scores: no part of ``streams`` or ``packets``."""
_CACHED = 4
"""Chunks kept in memory: the streams of a recording are read side by side."""

_P = TypeVar("_P", Events, Imu, Trigger, Frame, RawRun)
_Found = tuple[int, Decoded, memoryview | None]


class Reader(Recording):
    """An rtpipe recording (see :class:`rtpipe.formats.contract.Reader`), also one that was cut off by a crash.

    A finished file is read by its index and seeks; an unfinished one is scanned once when it is opened. ``streams``
    and :meth:`packets` are the camera's streams of one ``source`` (the stage that made them; the first one unless
    given); ``recorded`` lists everything in the file, and :meth:`pictures` gives the frames of any stream, engines'
    included. Where time jumped, events and the rest go on in the order of recording, and packets carry the epoch.
    """

    def __init__(self, path: Path, *, source: str = "") -> None:
        self.path = Path(path)
        self._file = ContainerFile(self.path)
        self._cache: dict[int, Messages] = {}
        self._noise: dict[tuple[int, int], int] = {}
        try:
            self._index = Index(self._file)
            self._describe(source)
        except Damaged as error:
            self._file.close()
            raise FormatError(f"{self.path}: damaged: {error}") from None
        except BaseException:
            self._file.close()
            raise

    def _describe(self, source: str) -> None:
        held = self._index.streams
        if not held:
            missing = f": {self._index.notes[-1]}" if self._index.notes else ""
            raise FormatError(f"{self.path}: an MCAP file, but not a recording of rtpipe's{missing}")
        self.recorded: tuple[StreamInfo, ...] = tuple(stream.info for stream in held.values())
        camera = [i for i in self.recorded if i.kind in CAMERA_KINDS and _stage(i) != TRUTH]
        stages = sorted({_stage(info) for info in camera}, key=lambda s: (f"{s}/events" not in held, s))
        if source and source not in stages:
            raise InputError(f"{self.path}: holds nothing of {source!r}; there is {', '.join(stages) or 'no camera'}")
        chosen = source or (stages[0] if stages else "")
        self.streams = tuple(info for info in camera if _stage(info) == chosen)
        notes = list(self._index.notes)
        if len(stages) > 1 and not source:
            notes.append(f"holds several cameras ({', '.join(stages)}): {chosen} is read")
            notes += [f"clocks at the end: {words}" for words in words_of(self.metadata.get("clocks", ""))]
        notes += [f"{name}: {stream.total.gap}" for name, stream in held.items() if stream.total.gap]
        self._spans = self._united([held[i.name] for i in self.streams or self.recorded])
        if len(self._spans) > 1:
            notes.append(f"time jumped {len(self._spans) - 1} times (a loop, a seek or a camera that came back)")
        if not self._spans:
            notes.append("holds nothing: no event, frame or sample was recorded")
        self.notes = self._told = tuple(notes)
        self.t_start = min((span.t_first for span in self._spans), default=0)
        self.t_end = max((span.t_last for span in self._spans), default=0)
        sizes = [i.resolution for i in (*self.streams, *self.recorded) if i.resolution is not None]
        self.resolution = sizes[0] if sizes else (0, 0)

    def _spans_of(self, stream: StreamIndex) -> list[Span]:
        """A stream's spans; a raw one's end before the instant until which its last packet promised silence, the last
        one with its last event."""
        early = 1 if stream.raw >= 0 else 0
        spans = [Span(s.epoch, s.t_first, max(s.t_first, s.t_last - early)) for s in stream.total.spans]
        places = [place for place in self._index.chunks if place.channels is None or stream.raw in place.channels]
        if spans and places and stream.raw >= 0:
            with suppress(FormatError):
                until = stream.total.spans[-1].t_last
                spans[-1].t_last = last_event(self._file.messages(places[-1]), stream.raw, until)
        return spans

    def _united(self, streams: list[StreamIndex]) -> list[Span]:
        """The span of every epoch over several streams."""
        united: dict[int, Span] = {}
        for span in (span for stream in streams for span in self._spans_of(stream)):
            one = united.setdefault(span.epoch, Span(span.epoch, span.t_first, span.t_last))
            one.t_first, one.t_last = min(one.t_first, span.t_first), max(one.t_last, span.t_last)
        return [united[epoch] for epoch in sorted(united)]

    @property
    def metadata(self) -> Mapping[str, str]:
        """What was noted with the recording (``settings``, ``ledger`` …), JSON by name."""
        found = {name[len(PREFIX) :]: m for name, m in self._index.metadata.items() if name.startswith(PREFIX)}
        return {name: mapping["json"] for name, mapping in found.items() if "json" in mapping}

    def counts(self) -> Mapping[str, int]:
        """Elements per stream name, of everything recorded."""
        told = {name: stream.total.elements for name, stream in self._index.streams.items()}
        return {TRUTH if name == f"{TRUTH}/frames" else name: n for name, n in told.items()}

    def event_chunks(self, t0: int | None = None, t1: int | None = None) -> Iterator[Events]:
        """Events with ``t0 <= t < t1`` (µs), in runs of at most 64k (1M in a file made otherwise)."""
        return (run for _, run in self._pieces("events", self._events, t0, t1))

    def imu(self, t0: int | None = None, t1: int | None = None) -> Iterator[Imu]:
        """IMU samples with ``t0 <= t < t1`` (µs)."""
        return (run for _, run in self._pieces("imu", self._imu, t0, t1))

    def triggers(self, t0: int | None = None, t1: int | None = None) -> Iterator[Trigger]:
        """Trigger signals with ``t0 <= t < t1`` (µs)."""
        return (run for _, run in self._pieces("triggers", self._triggers, t0, t1))

    def frames(self, t0: int | None = None, t1: int | None = None) -> Iterator[Frame]:
        """The camera's frames with ``t0 <= t < t1`` (µs), in the order in which they came."""
        return (frame for _, frame in self._pieces("frames", self._frame, t0, t1))

    def truth(self, t0: int | None = None, t1: int | None = None) -> Iterator[Frame]:
        """Sharp pictures that came with the recording."""
        return self.pictures(f"{TRUTH}/frames", t0, t1) if f"{TRUTH}/frames" in self._index.streams else iter(())

    def pictures(self, stream: str, t0: int | None = None, t1: int | None = None) -> Iterator[Frame]:
        """Frames with ``t0 <= t < t1`` (µs) of any stream by its name (``engine/output``). Raises ``InputError``."""
        found = self._index.streams.get(stream)
        if found is None or found.picture < 0:
            there = ", ".join(name for name, s in self._index.streams.items() if s.picture >= 0)
            raise InputError(f"{self.path}: has no frames {stream!r}; there is {there or 'none'}")
        return (frame for _, frame in self._read(found, self._frame, t0, t1))

    def packet_table(self, stream: str) -> Iterator[tuple[int, Array]]:
        """The packets in which a stream was recorded: per message its epoch and int64 rows ``seq, t_first, t_last,
        received_ns, elements, flags`` (1: the stream's last, 2: goes on in the next message)."""
        for _, fields, _ in self._messages(self._index.streams[stream], None):
            with _Named(self.path):
                yield fields["epoch"], packet_rows(self._index.streams[stream], fields)

    def packets(
        self, packet_us: int = 2000, packet_events: int = 100_000, t0: int | None = None, *, raw: bool = False
    ) -> Iterator[Packet]:
        """As :func:`rtpipe.formats.packets.cut_packets` cuts them, epoch by epoch where time jumped, never back in
        time (:func:`rtpipe.formats.mcap.epochs.cut_epochs`); with ``t0`` from the first epoch on that reaches it."""
        spans = [span for span in self._spans if t0 is None or span.t_last >= t0] or self._spans[-1:]
        for span in spans:
            if span.t_last - span.t_first > LONGEST_US:
                raise FormatError(f"{self.path}: its streams lie more than {LONGEST_US // 86_400_000_000} days apart")
        streams = {info.name: self._by_epoch(info, t0, raw) for info in self.streams}
        return cut_epochs(streams, spans, packet_us, packet_events, t0, raw)

    def raw_runs(self, packet_us: int, t0: int | None = None) -> Iterator[RawRun]:  # noqa: ARG002
        """The camera's own bytes in the packets in which they were recorded, those that begin at ``t0`` (µs) or later.
        ``InputError`` where events were recorded otherwise."""
        return (run for info in self.streams if info.kind == "events" for _, run in self._raw_by_epoch(info, t0))

    def close(self) -> None:
        """Let the file go. May be called twice."""
        self._cache.clear()
        self._file.close()

    def _raw_by_epoch(self, info: StreamInfo, t0: int | None) -> Iterator[tuple[int, RawRun]]:
        stream = self._index.streams[info.name]
        if stream.raw < 0:
            super().raw_runs(0)  # says that there are none
        return self._read(stream, self._raw_run, t0, None)

    def _by_epoch(self, info: StreamInfo, t0: int | None, raw: bool) -> Iterator[tuple[int, Piece]]:
        stream = self._index.streams[info.name]
        if info.kind == "events":
            return self._raw_by_epoch(info, t0) if raw else self._read(stream, self._events, t0, None)
        if info.kind == "imu":
            return iter(self._read(stream, self._imu, t0, None))
        if info.kind == "triggers":
            return iter(self._read(stream, self._triggers, t0, None))
        frames = self._read(stream, self._frame, t0, None)
        return ((e, f) for e, f in frames if t0 is None or f.exposure_start is None or f.exposure_start >= t0)

    def _pieces(
        self, kind: str, decode: Callable[[_Found, StreamIndex], _P], t0: int | None, t1: int | None
    ) -> Iterator[tuple[int, _P]]:
        for info in self.streams:
            if info.kind == kind:
                yield from self._read(self._index.streams[info.name], decode, t0, t1)

    def _read(
        self, stream: StreamIndex, decode: Callable[[_Found, StreamIndex], _P], t0: int | None, t1: int | None
    ) -> Iterator[tuple[int, _P]]:
        """Epoch and piece, cut to ``t0 <= t < t1``, checked against what the file says it holds."""
        spans = {span.epoch: span for span in stream.total.spans}
        at: tuple[int, int] | None = None
        for found in self._messages(stream, t0):
            with _Named(self.path):
                if not elements(stream, found[1]):
                    continue
                epoch, (first, last) = found[1]["epoch"], span_of(stream, found[1])
                span = spans.get(epoch)
                if span is None or not span.t_first <= first <= last <= span.t_last:
                    raise Damaged("a message lies outside the times that the recording holds")
                if at is not None and (epoch < at[0] or (stream.info.kind == "events" and (epoch, first) < at)):
                    raise Damaged("time goes back between messages")
                at = (epoch, last)
                if t1 is not None and first >= t1:
                    if len(spans) == 1:
                        return
                    continue
                if t0 is not None and last < t0:
                    continue
                piece = _between(decode(found, stream), t0, t1)
            if piece is not None:
                yield epoch, piece

    def _messages(self, stream: StreamIndex, t0: int | None) -> Iterator[_Found]:
        """Chunk's byte, decoded message and picture, of the chunks that may reach ``t0`` (µs)."""
        start = -1 if t0 is None else clamp_ns(t0)
        reading = StreamIndex(stream.info, stream.channel, stream.picture, stream.raw)
        for place in self._index.chunks:
            if place.end < start or (place.channels is not None and not place.channels & stream.channels):
                continue
            if place.offset not in self._cache:
                while len(self._cache) >= _CACHED:
                    self._cache.pop(next(iter(self._cache)))
                self._cache[place.offset] = self._file.messages(place)
            with _Named(self.path):
                yield from ((place.offset, *found) for found in reading.whole(self._cache[place.offset]))

    def _events(self, found: _Found, stream: StreamIndex) -> Events:
        size = stream.info.resolution or (0, 0)
        if not is_raw(found[1]):
            return restore(found[1], size)
        events, refused = restore_raw(found[1], size)
        if refused:
            self._noise[found[1]["epoch"], found[1]["seq"]] = sum(refused.values())
            noise = f"{sum(self._noise.values()):,} events off the sensor, out of order or not in their packet's time"
            self.notes = (*self._told, f"{noise} were left out so far")
        return events

    def _raw_run(self, found: _Found, stream: StreamIndex) -> RawRun:
        if not is_raw(found[1]):
            raise InputError(f"{self.path}: not all of its events are a camera's own bytes: leave raw out")
        return RawRun(raw_of(found[1]), *span_of(stream, found[1]))

    @staticmethod
    def _imu(found: _Found, _: StreamIndex) -> Imu:
        f = found[1]
        n = len(f["t"])
        if not len(f["acceleration"]) == len(f["rotation"]) == 3 * n or len(f["temperature"]) != n:
            raise Damaged("IMU columns differ in length")
        return Imu(f["t"], f["acceleration"].reshape(n, 3), f["rotation"].reshape(n, 3), f["temperature"])

    @staticmethod
    def _triggers(found: _Found, _: StreamIndex) -> Trigger:
        f = found[1]
        if not len(f["t"]) == len(f["channel"]) == len(f["edge"]):
            raise Damaged("trigger columns differ in length")
        return Trigger(f["t"], f["channel"], f["edge"])

    @staticmethod
    def _frame(found: _Found, _: StreamIndex) -> Frame:
        return decode_frame(found[1], found[2] or memoryview(b""))


class _Named:
    """Turns :class:`~rtpipe.formats.mcap.records.Damaged` inside it into a ``FormatError`` that names the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _at: object) -> None:
        if isinstance(error, Damaged):
            raise FormatError(f"{self._path}: damaged: {error}") from None


def _stage(info: StreamInfo) -> str:
    return info.name.rsplit("/", 1)[0]


def _between(piece: _P, t0: int | None, t1: int | None) -> _P | None:
    """``piece`` with ``t0 <= t < t1``, None where nothing is left."""
    if isinstance(piece, Frame):
        return piece if (t0 is None or piece.t >= t0) and (t1 is None or piece.t < t1) else None
    if isinstance(piece, RawRun):
        return piece if t0 is None or piece.t_first >= t0 else None
    if isinstance(piece, Events):
        low = 0 if t0 is None else int(np.searchsorted(piece.t, t0))
        high = len(piece) if t1 is None else int(np.searchsorted(piece.t, t1))
        return piece[low:high] if high > low else None
    keep = np.ones(len(piece), bool) if t0 is None else piece.t >= t0
    if t1 is not None:
        keep &= piece.t < t1
    if keep.all():
        return piece
    columns = type(piece).__dataclass_fields__
    return type(piece)(*(getattr(piece, name)[keep] for name in columns)) if keep.any() else None
