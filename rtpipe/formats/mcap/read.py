"""The MCAP container, read: from its index where it was finished, else by one scan, and never beyond its bounds.

Every length is checked against what is there before it is used. What is missing or damaged is told in ``notes``.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from rtpipe.errors import FormatError, InputError
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
    METADATA,
    METADATA_INDEX,
    SCHEMA,
    WORDS,
    ChunkPlace,
    Contents,
    Damaged,
    Fields,
    records,
)

Messages = list[tuple[int, memoryview]]
"""Channel and data, in the order of the file."""
Visit = Callable[[Contents, Messages], None]


class ContainerFile:
    """An MCAP file open for reading. ``InputError`` where it cannot be read, ``FormatError`` where it is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self.size = os.fstat(self._file).st_size
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
        try:
            opcode, length = struct.unpack("<BQ", self._read(8, 9))
            if bytes(self._read(0, 8)) != MAGIC or opcode != HEADER:
                raise Damaged("there is no MCAP header")
            header = Fields(self._read(17, length))
            self.profile, self.library = header.text(), header.text()
            self._begin = 17 + length
        except Damaged as error:
            self.close()
            raise FormatError(f"{path}: not an MCAP file, or cut in its first bytes ({error})") from None

    def close(self) -> None:
        """Let the file go. May be called twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _read(self, offset: int, length: int) -> memoryview:
        if length > MAX_RECORD or offset + length > self.size:
            raise Damaged(f"the record at byte {offset} is longer than the file, or than any record may be")
        try:
            data = os.pread(self._file, length, offset)
        except OSError as error:
            raise FormatError(f"{self.path}: cannot be read at byte {offset}: {error.strerror or error}") from error
        if len(data) != length:
            raise Damaged(f"the file ends before byte {offset + length}")
        return memoryview(data)

    def indexed(self) -> Contents | None:
        """What the index at the file's end says; None where there is none or it is damaged."""
        try:
            tail = self._read(self.size - 37, 37) if self.size >= self._begin + 37 else memoryview(b"")
            if not tail or bytes(tail[:9]) != struct.pack("<BQ", FOOTER, 20) or bytes(tail[29:]) != MAGIC:
                return None
            start, _, crc = struct.unpack_from("<QQI", tail, 9)
            if not self._begin <= start <= self.size - 37:
                return None
            summary = self._read(start, self.size - 37 - start)
            if crc and zlib.crc32(tail[:25], zlib.crc32(summary)) != crc:
                return None
            return self._index(summary)
        except Damaged:
            return None

    def _index(self, summary: memoryview) -> Contents:
        contents = Contents()
        for opcode, body in records(summary):
            fields = Fields(body)
            if opcode in (SCHEMA, CHANNEL):
                contents.declare(opcode, body)
            elif opcode == CHUNK_INDEX:
                start, end, offset, length = (fields.number("Q") for _ in range(4))
                listed = Fields(fields.bytes_(fields.number("I")))
                channels = set()
                while listed:
                    channels.add(listed.number("H"))
                    listed.number("Q")
                last = contents.chunks[-1].offset + contents.chunks[-1].length if contents.chunks else self._begin
                if offset < last or offset + length > self.size:
                    raise Damaged("chunks overlap or lie outside the file")
                contents.chunks.append(ChunkPlace(offset, length, start, end, frozenset(channels) or None))
            elif opcode == METADATA_INDEX:
                offset, length = fields.number("Q"), fields.number("Q")
                for found, inner in records(self._read(offset, length)):
                    if found != METADATA:
                        raise Damaged("the index names something else than metadata")
                    contents.note(inner)
        return contents

    def scan(self, visit: Visit) -> Contents:
        """Read the file once from its beginning, whatever its end looks like; ``visit`` is shown the whole messages of
        every chunk, and may find them damaged. Damage is skipped where the next record can be found, and noted."""
        contents, at = Contents(), self._begin
        while at + 9 <= self.size:
            opcode, length = struct.unpack("<BQ", self._read(at, 9))
            if opcode in (FOOTER, DATA_END):
                break
            if opcode == CHUNK:
                self._scan_chunk(contents, at, length, visit)
            if opcode == 0 or length > self.size - at - 9:
                break
            try:
                if opcode in (SCHEMA, CHANNEL):
                    contents.declare(opcode, self._read(at + 9, length))
                elif opcode == METADATA:
                    contents.note(self._read(at + 9, length))
            except Damaged as error:
                contents.blame(f"the record at byte {at:,} is damaged and was left out ({error})")
            at += 9 + length
        else:
            opcode = 0
        if opcode not in (FOOTER, DATA_END):
            rest = f": nothing whole comes after byte {at:,} of {self.size:,}" if at < self.size else ""
            contents.notes.append(f"the end is missing, the recording was cut off while it was written{rest}")
        if contents.damaged > WORDS:
            contents.notes.append(f"{contents.damaged - WORDS:,} more places are damaged")
        return contents

    def _scan_chunk(self, contents: Contents, at: int, length: int, visit: Visit) -> None:
        whole = length <= self.size - at - 9
        place = ChunkPlace(at, 9 + (length if whole else self.size - at - 9), 0, 0, None, whole)
        found: Messages = []
        try:
            try:
                for opcode, body in self._records(place):
                    if opcode in (SCHEMA, CHANNEL):
                        contents.declare(opcode, body)
                    elif opcode == MESSAGE:
                        found.append(_message(body))
            except Damaged:
                if whole:
                    raise
            visit(contents, found)
        except Damaged as error:
            contents.blame(f"the chunk at byte {at:,} is damaged and was left out ({error})")
            return
        if found:
            start, end = struct.unpack("<QQ", self._read(at + 9, 16))
            channels = frozenset(channel for channel, _ in found)
            contents.chunks.append(ChunkPlace(at, place.length, start, end, channels, whole))

    def messages(self, place: ChunkPlace) -> Messages:
        """The whole messages of a chunk. Raises ``FormatError`` where it is damaged."""
        found: Messages = []
        try:
            found.extend(_message(body) for opcode, body in self._records(place) if opcode == MESSAGE)
        except Damaged as error:
            if place.whole:
                raise FormatError(f"{self.path}: the chunk at byte {place.offset:,} is damaged ({error})") from None
        return found

    def _records(self, place: ChunkPlace) -> Iterator[tuple[int, memoryview]]:
        record = self._read(place.offset, place.length)
        opcode, length = struct.unpack_from("<BQ", record) if len(record) >= 9 else (0, 0)
        if opcode != CHUNK or (place.whole and length != place.length - 9):
            raise Damaged("there is no chunk where one should be")
        fields = Fields(record[9:])
        fields.bytes_(16)
        size, crc, compression = fields.number("Q"), fields.number("I"), fields.text()
        stored = fields.number("Q")
        data = fields.bytes_(stored if place.whole else min(stored, len(record) - 49 - len(compression.encode())))
        if size > MAX_RECORD:
            raise Damaged("it is too large")
        if compression:
            if not place.whole:
                raise Damaged("it is cut")
            data = _decompress(compression, data, size)
        if place.whole and (len(data) != size or (crc and zlib.crc32(data) != crc)):
            raise Damaged("its checksum is wrong")
        return records(data)


def _message(body: memoryview) -> tuple[int, memoryview]:
    if len(body) < 22:
        raise Damaged("a message is too short")
    return int.from_bytes(body[:2], "little"), body[22:]


def _decompress(compression: str, data: memoryview, size: int) -> memoryview:
    """A chunk that another tool has compressed, never more than ``size`` bytes of it."""
    try:
        if compression == "zstd":
            import zstandard

            stream = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data)
            return memoryview(stream.read(size))
        if compression == "lz4":
            import lz4.frame

            return memoryview(lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=size))
    except Exception as error:  # zstandard's and lz4's own errors have no base in common
        raise Damaged(f"it cannot be decompressed: {error}") from error
    raise Damaged(f"its compression {compression!r} is unknown")
