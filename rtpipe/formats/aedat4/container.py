"""AEDAT4 as a container: the header that names its streams, and packets found by their headers alone.

Layout: ``#!AER-DAT4.0\\r\\n``; the length (uint32) of a FlatBuffer ``IOHE`` with compression, position of the table of
contents (-1 in a file that was never closed) and an XML text about the streams; packets of stream (int32), length
(int32) and a compressed FlatBuffer; the table of contents, which is not used.
"""

from __future__ import annotations

import os
import struct
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import lz4.frame
import numpy as np
import zstandard

from rtpipe.errors import FormatError, InputError
from rtpipe.formats.aedat4.flatbuffer import Broken, Table
from rtpipe.types import Array

MAGIC = b"#!AER-DAT4.0\r\n"
LARGEST_HEADER = 1 << 20
LARGEST_PACKET = 1 << 28
"""Bytes of one packet, compressed or not (16 M events); the largest seen in recordings are some hundred kB."""

_NONE, _LZ4, _LZ4_HIGH, _ZSTD, _ZSTD_HIGH = range(5)


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream as the header describes it: ``kind`` ``"EVTS"``, ``"FRME"``, ``"IMUS"``, ``"TRIG"`` or another,
    ``size`` (width, height) or None, ``source`` the camera."""

    number: int
    kind: str
    size: tuple[int, int] | None
    source: str


class Container:
    """An AEDAT4 file, its packets found and none decoded. Raises ``InputError`` or ``FormatError``.

    A file that was never closed (its recorder was killed) is read up to its last whole packet and ``left_out`` says
    how many bytes that leaves; one that was closed and has been cut since is refused, unless ``partial``.
    """

    def __init__(self, path: Path, partial: bool = False) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        self._open = True
        try:
            self.streams = self._header()
            self.left_out = self._find_packets(partial)
        except BaseException:
            self.close()
            raise

    def packets_of(self, stream: Stream) -> Array:
        """The numbers of the packets of ``stream`` in the file's order."""
        return np.flatnonzero(self._stream_of == stream.number)

    def place(self, packet: int) -> str:
        """Where a packet lies, for an error message."""
        return f"packet {packet} at byte {self._offset[packet]}"

    def packet(self, number: int, kind: str) -> Table:
        """The root table of a packet's FlatBuffer. Raises ``FormatError``."""
        size = int(self._size[number])
        data = os.pread(self._fd, size, int(self._offset[number]) + 8)
        try:
            if len(data) != size:
                raise Broken("the file became shorter while it was read")
            return Table.root(self._decompressed(data), 4, kind.encode())
        except (Broken, struct.error) as error:
            raise FormatError(f"{self.path}: damaged {self.place(number)}: {error}") from error

    def close(self) -> None:
        """Let the file go. May be called twice."""
        if self._open:
            self._open = False
            os.close(self._fd)

    def _header(self) -> tuple[Stream, ...]:
        start = os.pread(self._fd, len(MAGIC) + 4, 0)
        if len(start) < len(MAGIC) + 4 or not start.startswith(MAGIC):
            raise FormatError(f"{self.path}: no AEDAT4 file, or cut off within its first {len(MAGIC) + 4} bytes")
        (size,) = struct.unpack_from("<I", start, len(MAGIC))
        if size > LARGEST_HEADER:
            raise FormatError(f"{self.path}: a header of {size} bytes; at most {LARGEST_HEADER} are read")
        header = os.pread(self._fd, size, len(start))
        if len(header) < size:
            raise FormatError(f"{self.path}: cut off in its header: {len(header)} of {size} bytes are there")
        self._first = len(start) + size
        try:
            table = Table.root(header, 0, b"IOHE")
            self._compression = table.number(0, "i")
            self._contents_at = table.number(1, "q", -1)
            self.closed = self._contents_at > 0
            streams = _streams(table.text(2))
        except (Broken, struct.error) as error:
            raise FormatError(f"{self.path}: damaged header: {error}") from error
        if not _NONE <= self._compression <= _ZSTD_HIGH:
            raise FormatError(f"{self.path}: compression {self._compression} is unknown")
        return streams

    def _find_packets(self, partial: bool) -> int:
        """Walk over the packets' headers; returns how many bytes after the last whole one are none."""
        length = os.fstat(self._fd).st_size
        closed = self.closed
        end = self._contents_at if closed else length
        if end > length and not partial:
            raise FormatError(
                f"{self.path}: cut off: its packets end at byte {end}, the file at {length} "
                "(the option partial reads what is whole)"
            )
        known = {stream.number for stream in self.streams}
        streams: list[int] = []
        offsets: list[int] = []
        sizes: list[int] = []
        at = self._first
        while at < end:
            head = os.pread(self._fd, 8, at)
            if len(head) < 8:
                break
            stream, size = struct.unpack("<iI", head)
            if at + 8 + size > min(end, length):
                if partial or not closed:
                    break
                raise FormatError(f"{self.path}: damaged packet {len(sizes)} at byte {at}: {size} bytes do not fit")
            if size > LARGEST_PACKET or stream not in known:
                said = f"{size} bytes" if stream in known else f"stream {stream} is not in the header"
                raise FormatError(f"{self.path}: damaged packet {len(sizes)} at byte {at}: {said}")
            streams.append(stream)
            offsets.append(at)
            sizes.append(size)
            at += 8 + size
        self._stream_of = np.array(streams, np.int32)
        self._offset, self._size = np.array(offsets, np.int64), np.array(sizes, np.int64)
        return int(max(0, min(end, length) - at))

    def _decompressed(self, data: bytes) -> bytes:
        """The packet's bytes; the first four state how many follow, so no more than that is ever made room for."""
        if self._compression == _NONE:
            return data
        try:
            if self._compression in (_LZ4, _LZ4_HIGH):
                decoder = lz4.frame.LZ4FrameDecompressor()
                prefix = decoder.decompress(data, max_length=4)
                n = _length(prefix)
                return bytes(prefix + decoder.decompress(b"", max_length=n)) if n else prefix
            with zstandard.ZstdDecompressor().stream_reader(data) as reader:
                prefix = reader.read(4)
                return bytes(prefix + reader.read(_length(prefix)))
        except (RuntimeError, EOFError, zstandard.ZstdError) as error:
            raise Broken(str(error)) from error


def _length(prefix: bytes) -> int:
    """How many bytes follow the size prefix of a FlatBuffer."""
    if len(prefix) < 4:
        raise Broken("there is nothing in it")
    n: int = struct.unpack("<I", prefix)[0]
    if n > LARGEST_PACKET:
        raise Broken(f"it claims {n} bytes; at most {LARGEST_PACKET} are read")
    return n


def _streams(text: bytes) -> tuple[Stream, ...]:
    """The streams that the header's XML declares. Raises ``Broken``."""
    if b"<!" in text:
        raise Broken("its XML declares entities")
    try:
        root = ElementTree.fromstring(text.rstrip(b"\0"))
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise Broken(f"its XML: {error}") from error
    found: list[Stream] = []
    for node in root.findall("node[@name='outInfo']/node"):
        name = node.get("name", "")
        info = node.find("node[@name='info']")
        sides = [_attribute(info, side) for side in ("sizeX", "sizeY")]
        if not name.isascii() or not name.isdigit() or len(name) > 9 or not all(s == "" or s.isdigit() for s in sides):
            raise Broken("its XML describes a stream without a number, or of no size")
        size = (int(sides[0][:9]), int(sides[1][:9])) if all(sides) else None
        found.append(Stream(int(name), _attribute(node, "typeIdentifier"), size, _attribute(info, "source")))
    return tuple(found)


def _attribute(node: ElementTree.Element | None, key: str) -> str:
    if node is None:
        return ""
    return next((a.text or "" for a in node.findall("attr") if a.get("key") == key), "")
