"""rtpipe's own recordings: MCAP, written live and append-only, readable to the last flush after a crash.

docs/recording.md describes the file byte by byte. Container, pictures and metadata open in other tools.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import ClassVar, TypeVar

import msgspec

from rtpipe.errors import InputError
from rtpipe.formats.mcap.events import CODECS
from rtpipe.formats.mcap.index import PREFIX, SUMMARY, VERSION
from rtpipe.formats.mcap.read import ContainerFile
from rtpipe.formats.mcap.reader import TRUTH, Reader
from rtpipe.formats.mcap.records import MAGIC, Damaged, Fields
from rtpipe.formats.mcap.streams import Declared, StreamWriter, stream_writer
from rtpipe.formats.mcap.totals import as_counts
from rtpipe.formats.mcap.write import Container
from rtpipe.raw import warm
from rtpipe.types import KINDS, Count, Frame, Packet, StreamInfo

__all__ = ["DESCRIPTION", "SUFFIXES", "Reader", "Writer", "probe"]

DESCRIPTION = "rtpipe's own recording (MCAP)"
SUFFIXES = (".mcap",)

FLUSH_S = 0.15
"""The open chunk is handed to the operating system when its oldest packet is this old: with the 20 ms in which a sink
is looked after, ``kill -9`` loses less than 250 ms."""
CHUNK_BYTES = 1 << 20
_FIRST, _LAST = -(1 << 62), 1 << 62
_TRUTH = f"{TRUTH}/frames"

_W = TypeVar("_W", bound="Writer")


def probe(path: Path, head: bytes) -> bool:
    """Whether ``path``, whose first bytes are ``head``, is a recording of ours, finished or not: an MCAP file that we
    wrote, or one with message types of ours. Other MCAP files (ROS 2 bags) are left to others."""
    return head[:8] == MAGIC and (_library(head).startswith("rtpipe ") or _holds_ours(path))


def _library(head: bytes) -> str:
    """What an MCAP file's header says of the program that wrote it; nothing where that cannot be read."""
    try:
        header = Fields(memoryview(head[17:]))
        header.text()
        return header.text()
    except Damaged:
        return ""


def _holds_ours(path: Path) -> bool:
    """Whether a finished MCAP file that another tool wrote anew has channels of ours."""
    try:
        file = ContainerFile(path)
    except InputError:
        return False
    contents = file.indexed()
    file.close()
    return contents is not None and any(c.schema.startswith("rtpipe_msgs/") for c in contents.channels.values())


class Writer:
    """A recording being written; ``path`` must not exist.

    Packets are gathered (their arrays are copied) and handed to the operating system as one chunk at least every
    ``flush_s``, given that :meth:`write` or :meth:`flush_if_due` is called: what was flushed survives ``kill -9``.
    ``codec``: ``"lz4"``, or ``"zstd"``: a tenth smaller, a third as fast. Memory is constant.

    Raises ``InputError`` where the file cannot be made, or for a stream of events without a resolution. A context
    manager that finishes the file, or after an error removes it; a live recording, which is to outlive every error, is
    closed by :meth:`close`.
    """

    HOLDS: ClassVar[tuple[str, ...]] = (*KINDS, "truth")

    @classmethod
    def for_streams(
        cls: type[_W], path: str | os.PathLike[str], streams: Sequence[StreamInfo], *, codec: str = "lz4"
    ) -> _W:
        """A recording of these streams (see :class:`rtpipe.formats.contract.Writer`). It grows under its own name."""
        return cls(path, streams, codec=codec)

    def __init__(
        self,
        path: str | os.PathLike[str],
        streams: Sequence[StreamInfo],
        *,
        codec: str = "lz4",
        flush_s: float = FLUSH_S,
    ) -> None:
        if codec not in CODECS:
            raise InputError(f"a recording cannot be squeezed by {codec!r}; there are {', '.join(CODECS)}")
        for stream in streams:
            if stream.kind == "events" and stream.resolution is None:
                raise InputError(f"{stream.name} cannot be recorded: its resolution is not known")
        self.path = Path(path)
        self._flush_s = flush_s
        self._container = Container(self.path, "ros2", f"rtpipe {version('rtpipe')}")
        self._oldest: float | None = None
        self._open = True
        self._truths = 0
        self._declared = declared = Declared(self._container)
        for stream in streams:
            warm(stream.encoding)
        try:
            self._streams: dict[str, StreamWriter] = {
                stream.name: stream_writer(declared, stream, codec) for stream in streams
            }
            now = {"wall_ns": str(time.time_ns()), "monotonic_ns": str(time.monotonic_ns())}
            created = datetime.now(timezone.utc).isoformat(timespec="seconds")
            about = {"version": str(VERSION), "rtpipe": version("rtpipe"), "created": created, "codec": codec} | now
            self._container.metadata(PREFIX + "recording", about)
        except BaseException:
            self._container.drop()
            raise

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._container.size

    @property
    def pending(self) -> bool:
        """Whether anything that was written has not been handed to the operating system yet."""
        return self._oldest is not None

    def write(self, packet: Packet) -> None:
        """Append one packet. Raises ``WorldError`` where the disk is full or not writable (everything pending is lost
        then, what was flushed is kept), ``ValueError`` for a packet that cannot be kept (nothing of it is taken)."""
        stream = self._streams.get(packet.stream)
        if stream is None:
            raise ValueError(f"the recording has no stream {packet.stream!r}")
        numbers = (packet.seq, packet.t_first, packet.t_last, packet.received_ns)
        if not (min(numbers) > _FIRST and max(numbers) < _LAST and packet.seq >= 0 and 0 <= packet.epoch < 1 << 31):
            raise ValueError("a packet's number, times or epoch are out of range")
        stream.add(packet)
        if self._oldest is None:
            self._oldest = time.monotonic()
        if self._container.pending >= CHUNK_BYTES:
            self.flush()
        else:
            self.flush_if_due()

    def add_truth(self, frame: Frame) -> None:
        """Append a sharp picture that belongs to the recording but is no part of its packets. Raises as :meth:`write`
        does."""
        if _TRUTH not in self._streams:
            self._streams[_TRUTH] = stream_writer(self._declared, StreamInfo(_TRUTH, frame.resolution), "lz4")
        self.write(Packet(_TRUTH, self._truths, frame.t, frame.t, 0, frame))
        self._truths += 1

    def flush_if_due(self) -> None:
        """Flush where the oldest pending packet has waited for ``flush_s``. Raises ``WorldError``."""
        if self._oldest is not None and time.monotonic() - self._oldest >= self._flush_s:
            self.flush()

    def flush(self) -> None:
        """Hand everything to the operating system, as one chunk. Raises ``WorldError``."""
        self._oldest = None
        for stream in self._streams.values():
            stream.flush()
        self._container.flush()

    def metadata(self, name: str, text: str) -> None:
        """Keep ``text`` (JSON: settings, camera info, ledger) under ``name``, at once; the last of a name counts."""
        self.flush()
        self._container.metadata(PREFIX + name, {"json": text})

    def close(self) -> Mapping[str, Count]:
        """Finish the file with its index; how much of each stream was taken. Called again, only tells. Raises
        ``WorldError`` where the index finds no room: the file can still be read."""
        totals = {name: stream.total for name, stream in self._streams.items()}
        if self._open:
            self._open = False
            try:
                self.flush()
                self._container.metadata(SUMMARY, {"json": msgspec.json.encode(totals).decode()})
            finally:
                self._container.finish()
        return as_counts(totals, frozenset(name for name in totals if name.rsplit("/", 1)[-1] == "events"))

    def discard(self) -> None:
        """Close and remove the file. After :meth:`close` it does nothing."""
        if self._open:
            self._open = False
            self._container.drop()

    def __enter__(self: _W) -> _W:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()
