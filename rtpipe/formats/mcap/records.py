"""MCAP's records, and how their fields are taken apart: never beyond what is there."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, CHUNK_INDEX = range(1, 9)
STATISTICS, METADATA, METADATA_INDEX, SUMMARY_OFFSET, DATA_END = range(0x0B, 0x10)
MAX_RECORD = 1 << 28
"""No message and no chunk of ours is longer; a reader refuses what claims to be."""
MAX_CHANNELS = 1000
WORDS = 10
"""Damaged places of a file that are told one by one."""


class Damaged(ValueError):
    """A record that contradicts itself or its surroundings."""


class Fields:
    """A record's fields, taken from the front; raises :class:`Damaged` where there are not enough bytes."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def bytes_(self, n: int) -> memoryview:
        """The next ``n`` bytes, not copied."""
        if n > len(self._data) - self._at:
            raise Damaged("a field is longer than its record")
        self._at += n
        return self._data[self._at - n : self._at]

    def number(self, code: str) -> int:
        """The next integer, of :mod:`struct`'s ``code``."""
        (value,) = struct.unpack("<" + code, self.bytes_(struct.calcsize("<" + code)))
        return int(value)

    def text(self) -> str:
        """The next length-prefixed string."""
        try:
            return str(self.bytes_(self.number("I")), "utf-8")
        except UnicodeDecodeError as error:
            raise Damaged("a text is not UTF-8") from error

    def map(self) -> dict[str, str]:
        """The next map of strings."""
        inner = Fields(self.bytes_(self.number("I")))
        found = {}
        while inner:
            key = inner.text()
            found[key] = inner.text()
        return found

    def __bool__(self) -> bool:
        return self._at < len(self._data)


def records(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Opcode and body of each whole record; :class:`Damaged` where the last one is cut."""
    at = 0
    while at < len(data):
        if len(data) - at < 9:
            raise Damaged("a record is cut")
        opcode, length = struct.unpack_from("<BQ", data, at)
        if length > len(data) - at - 9:
            raise Damaged("a record is longer than what holds it")
        yield opcode, data[at + 9 : at + 9 + length]
        at += 9 + length


@dataclass(frozen=True)
class Channel:
    """A channel: its topic, its message type, what is said of it."""

    topic: str
    schema: str
    encoding: str
    metadata: dict[str, str]


@dataclass(frozen=True)
class ChunkPlace:
    """Where a chunk lies (bytes), the span of its log times (ns), its channels (None: unknown), whether it is whole."""

    offset: int
    length: int
    start: int
    end: int
    channels: frozenset[int] | None = None
    whole: bool = True


@dataclass
class Contents:
    """What a file holds."""

    channels: dict[int, Channel] = field(default_factory=dict)
    chunks: list[ChunkPlace] = field(default_factory=list)
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)
    schemas: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    damaged: int = 0

    def blame(self, text: str) -> None:
        """Note a damaged place, the first few in words."""
        self.damaged += 1
        if self.damaged <= WORDS:
            self.notes.append(text)

    def note(self, body: memoryview) -> None:
        """Take a metadata record; of several with one name the last counts."""
        fields = Fields(body)
        name = fields.text()
        self.metadata[name] = fields.map()

    def declare(self, opcode: int, body: memoryview) -> None:
        """Take note of a schema or a channel."""
        fields = Fields(body)
        number = fields.number("H")
        if opcode == SCHEMA:
            self.schemas[number] = fields.text()
        else:
            schema = self.schemas.get(fields.number("H"), "")
            self.channels[number] = Channel(fields.text(), schema, fields.text(), fields.map())
        if max(len(self.channels), len(self.schemas)) > MAX_CHANNELS:
            raise Damaged("there are too many channels")
