"""DAT files of Prophesee: a header of text, the kind and size of an event in two bytes, then events of eight bytes.

Spec: docs.prophesee.ai, DAT File Format.
"""

from __future__ import annotations

from pathlib import Path

from rtpipe.errors import FormatError, InputError
from rtpipe.formats.dat import records
from rtpipe.formats.dat.write import SUFFIXES, Writer
from rtpipe.formats.prophesee import LONGEST_HEADER, read_header, sound_size
from rtpipe.formats.words import WordRecording

__all__ = ["DESCRIPTION", "SUFFIXES", "Reader", "Writer", "probe"]

DESCRIPTION = "Prophesee DAT"

WIDEST = 1 << 14
"""Columns and rows have 14 bits."""

_EVENTS = {0x00: "2D events", 0x0C: "change events"}
_SIZE = 8


def probe(path: Path, head: bytes) -> bool:
    """Whether the header says that it is of events, or the file's ending is ``.dat`` and there is such a header."""
    header = read_header(head)
    says = any(key == "data" and "file containing" in value.lower() for key, value in header.values.items())
    return says or (path.suffix.lower() == ".dat" and header.begun and not {"evt", "format"} & set(header.values))


class Reader(WordRecording):
    """A DAT recording (see :class:`rtpipe.formats.contract.Reader`), decoded piece by piece.

    ``resolution`` (width, height): where the header does not state it, or wrongly.
    """

    def __init__(self, path: Path, *, resolution: tuple[int, int] | None = None) -> None:
        self._begin(path)
        self._module = records
        try:
            head = self._bytes(0, LONGEST_HEADER).tobytes()
            header = read_header(head)
            kind = head[header.size : header.size + 2]
            if len(kind) < 2:
                raise FormatError(f"{self.path}: cut off within its header")
            if kind[0] not in _EVENTS or kind[1] != _SIZE:
                raise FormatError(
                    f"{self.path}: byte {header.size}: events of kind {kind[0]:#x} and {kind[1]} bytes; kinds 0x0 and "
                    f"0xc of {_SIZE} bytes are read"
                )
            if resolution is not None and not 0 < min(resolution) <= max(resolution) <= WIDEST:
                raise InputError(f"{self.path}: option resolution: sides are from 1 to {WIDEST}, not {resolution}")
            size = resolution or header.geometry
            if size is not None:
                size = sound_size(self.path, size, WIDEST)
            self._pass(header.size + 2, records.INITIAL, size, WIDEST, header.camera)
        except BaseException:
            self.close()
            raise
