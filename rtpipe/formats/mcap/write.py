"""The MCAP container, written: append-only, whole chunks handed to the operating system, an index at the end.

The file format is MCAP version 0 (mcap.dev/spec). Chunks are not compressed as a whole: what is in them is already.
Nothing is buffered in the process but the open chunk, so that what :meth:`Container.flush` wrote survives ``kill -9``.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rtpipe.errors import InputError, RtpipeError, WorldError
from rtpipe.formats.mcap.records import (
    CHANNEL,
    CHUNK,
    CHUNK_INDEX,
    DATA_END,
    FOOTER,
    HEADER,
    MAGIC,
    MAX_RECORD,
    MESSAGE,
    MESSAGE_INDEX,
    METADATA,
    METADATA_INDEX,
    SCHEMA,
    STATISTICS,
    SUMMARY_OFFSET,
)

LAST_TIME = (1 << 64) - 1


def clamp_ns(t: int) -> int:
    """Camera time ``t`` (µs) as MCAP's unsigned ns; times that do not fit become the nearest that does."""
    return min(max(t * 1000, 0), LAST_TIME)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<I", len(data)) + data


def _map(mapping: Mapping[str, str]) -> bytes:
    data = b"".join(_text(key) + _text(value) for key, value in mapping.items())
    return struct.pack("<I", len(data)) + data


def _record(opcode: int, body: bytes) -> bytes:
    return struct.pack("<BQ", opcode, len(body)) + body


class Container:
    """An MCAP file being written, made anew: an existing file is never touched.

    Raises ``InputError`` where the file cannot be made and ``WorldError``, naming the file, where a write fails; the
    file then ends after the last whole chunk and takes no more.
    """

    def __init__(self, path: Path, profile: str, library: str) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            raise InputError(f"{path} exists already and is not overwritten; choose another name") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
        self.size = 0
        """Bytes in the file so far; the open chunk is not among them."""
        self.pending = 0
        """Bytes in the open chunk."""
        self._broken = False
        self._schemas: list[bytes] = []
        self._channels: list[bytes] = []
        self._counts: dict[int, int] = {}
        self._chunks: list[tuple[bytes, int, int]] = []
        self._metadata: list[bytes] = []
        self._parts: list[bytes] = []
        self._index: dict[int, list[tuple[int, int]]] = {}
        try:
            self._append([MAGIC, _record(HEADER, _text(profile) + _text(library))])
        except RtpipeError:
            self.drop()
            raise

    def schema(self, name: str, encoding: str, text: str) -> int:
        """Declare a message type; returns its number."""
        number = len(self._schemas) + 1
        data = _record(SCHEMA, struct.pack("<H", number) + _text(name) + _text(encoding) + _text(text))
        self._append([data])
        self._schemas.append(data)
        return number

    def channel(self, topic: str, schema: int, encoding: str, metadata: Mapping[str, str]) -> int:
        """Declare a channel; returns its number."""
        number = len(self._channels) + 1
        data = struct.pack("<HH", number, schema) + _text(topic) + _text(encoding) + _map(metadata)
        self._append([_record(CHANNEL, data)])
        self._channels.append(_record(CHANNEL, data))
        self._counts[number] = 0
        return number

    def message(self, channel: int, sequence: int, log_time: int, data: bytes) -> None:
        """Add a message to the open chunk; ``log_time`` in ns. ``ValueError`` beyond ``MAX_RECORD / 2`` bytes."""
        if len(data) > MAX_RECORD // 2:
            raise ValueError(f"a message of {len(data)} bytes is too long")
        head = struct.pack("<BQHIQQ", MESSAGE, 22 + len(data), channel, sequence & 0xFFFFFFFF, log_time, log_time)
        self._index.setdefault(channel, []).append((log_time, self.pending))
        self._parts += (head, data)
        self.pending += len(head) + len(data)

    def flush(self) -> None:
        """Close the open chunk and hand it to the operating system. Raises ``WorldError``; the chunk is lost then."""
        if not self._parts:
            return
        records, index, size = b"".join(self._parts), self._index, self.pending
        self._parts, self._index, self.pending = [], {}, 0
        times = [time for entries in index.values() for time, _ in entries]
        span = struct.pack("<QQ", min(times), max(times))
        body = span + struct.pack("<QIIQ", size, zlib.crc32(records), 0, size)
        head = struct.pack("<BQ", CHUNK, len(body) + size) + body
        start, length = self.size, len(head) + size
        entries, offsets = [], []
        at = start + length
        for channel, listed in index.items():
            flat = [number for entry in listed for number in entry]
            entry = struct.pack(f"<HI{len(flat)}Q", channel, len(flat) * 8, *flat)
            offsets.append(struct.pack("<HQ", channel, at))
            entries.append(_record(MESSAGE_INDEX, entry))
            at += len(entries[-1])
        self._append([head, records, *entries])
        for channel, listed in index.items():
            self._counts[channel] += len(listed)
        located = struct.pack("<QQI", start, length, 10 * len(offsets)) + b"".join(offsets)
        sizes = struct.pack("<QIQQ", at - start - length, 0, size, size)
        self._chunks.append((_record(CHUNK_INDEX, span + located + sizes), min(times), max(times)))

    def metadata(self, name: str, mapping: Mapping[str, str]) -> None:
        """Write a metadata record at once, after the open chunk. Of several with one name the last counts."""
        self.flush()
        data = _record(METADATA, _text(name) + _map(mapping))
        self._metadata.append(_record(METADATA_INDEX, struct.pack("<QQ", self.size, len(data)) + _text(name)))
        self._append([data])

    def finish(self) -> None:
        """Write the open chunk and the index, and close the file. After a failed write it only closes it."""
        try:
            if not self._broken:
                self.flush()
                self._append(self._summary(self.size + 13))
        finally:
            self._close()

    def _summary(self, start: int) -> list[bytes]:
        span = (min(c[1] for c in self._chunks), max(c[2] for c in self._chunks)) if self._chunks else (0, 0)
        counts = b"".join(struct.pack("<HQ", channel, count) for channel, count in self._counts.items())
        numbers = (sum(self._counts.values()), len(self._schemas), len(self._channels), 0)
        statistics = struct.pack("<QHIIII", *numbers, len(self._metadata), len(self._chunks))
        statistics += struct.pack("<QQI", *span, len(counts)) + counts
        groups = {
            SCHEMA: self._schemas,
            CHANNEL: self._channels,
            STATISTICS: [_record(STATISTICS, statistics)],
            CHUNK_INDEX: [chunk[0] for chunk in self._chunks],
            METADATA_INDEX: self._metadata,
        }
        parts: list[bytes] = []
        offsets: list[bytes] = []
        at = start
        for opcode, group in groups.items():
            data = b"".join(group)
            if data:
                offsets.append(_record(SUMMARY_OFFSET, struct.pack("<BQQ", opcode, at, len(data))))
            parts.append(data)
            at += len(data)
        footer = struct.pack("<BQQQ", FOOTER, 20, start, at)
        summary = b"".join([*parts, *offsets, footer])
        return [_record(DATA_END, bytes(4)), summary, struct.pack("<I", zlib.crc32(summary)), MAGIC]

    def _append(self, parts: Sequence[bytes]) -> None:
        """Write ``parts`` at the end, all or nothing."""
        if self._broken:
            raise WorldError(f"{self.path}: an earlier write failed, the recording has ended")
        try:
            for part in parts:
                view = memoryview(part)
                while len(view):
                    view = view[os.write(self._file, view) :]
        except OSError as error:
            self._broken = True
            with suppress(OSError):
                os.ftruncate(self._file, self.size)
            raise WorldError(
                f"{self.path}: cannot write any more ({error.strerror or error}); "
                f"the {self.size:,} bytes recorded so far are kept and can be read"
            ) from error
        self.size += sum(map(len, parts))

    def drop(self) -> None:
        """Close and remove the file."""
        self._close()
        with suppress(OSError):
            self.path.unlink()

    def _close(self) -> None:
        self._broken = True
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
