"""RAW files of Prophesee cameras: a header of text, then the camera's own words (EVT 2.0, 2.1 or 3.0).

Read once at opening, at more than a gigabyte a second: only so it is known where its time ends (EVT3's wraps every 16.8
s), and where in the file which time is found. ``channel`` of a trigger is the camera's; ``edge`` falling or rising.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from rtpipe import encodings
from rtpipe.encodings import evt3, evt21
from rtpipe.errors import FormatError, InputError
from rtpipe.formats.packets import RawRun
from rtpipe.formats.prophesee import LONGEST_HEADER, Header, hinted_size, read_header, sound_size
from rtpipe.formats.prophesee_raw.write import SUFFIXES, TIME_BASE, WIDEST, Writer
from rtpipe.formats.words import PIECE, WordRecording
from rtpipe.types import RawEvents, Resolution

__all__ = ["DESCRIPTION", "SUFFIXES", "Reader", "Writer", "probe"]

DESCRIPTION = "Prophesee RAW"

Choice = Literal["evt2", "evt21", "evt21-legacy", "evt3"]
_BY_VERSION = {"2.0": "evt2", "2": "evt2", "2.1": "evt21", "3.0": "evt3", "3": "evt3"}


def probe(path: Path, head: bytes) -> bool:
    """Whether the header names an encoding; a file without a header is taken for one by its ending ``.raw``."""
    header = read_header(head)
    return "evt" in header.values or "format" in header.values or (not header.begun and path.suffix.lower() == ".raw")


class Reader(WordRecording):
    """A RAW recording (see :class:`rtpipe.formats.contract.Reader`), decoded piece by piece.

    ``resolution`` (width, height): where the header does not state it, or wrongly. ``encoding``: ``"evt2"``,
    ``"evt21"``, ``"evt21-legacy"`` (the upper half of each word first) or ``"evt3"``, where it does not say.
    """

    encoding: str
    """Of :data:`rtpipe.encodings.NAMES`."""

    def __init__(
        self, path: Path, *, resolution: tuple[int, int] | None = None, encoding: Choice | None = None
    ) -> None:
        self._begin(path)
        try:
            header = read_header(self._bytes(0, LONGEST_HEADER).tobytes())
            self._swapped = header.format_fields.get("endianness", "").lower() == "big"
            name = encoding or self._encoding(header)
            self._module = encodings.load(name.removesuffix("-legacy"))
            self.encoding = self._module.NAME
            size = self._size(header, resolution)
            self._pass(header.size, self._initial(header, name), size, WIDEST, header.camera)
        except BaseException:
            self.close()
            raise

    def _encoding(self, header: Header) -> str:
        """Which encoding it is, by the header and, for EVT2.1, by the data."""
        stated = header.values.get("format", "").partition(";")[0].strip().lower()
        version = header.values.get("evt", "").strip()
        found = stated or _BY_VERSION.get(version, "")
        if found not in encodings.NAMES:
            said = f"is of {(stated or version)[:40]!r}" if stated or version else "does not say of what its data are"
            what = f"its header {said}" if header.begun else "it has no header"
            known = "evt2, evt21, evt21-legacy or evt3"
            raise FormatError(f"{self.path}: {what}; option encoding says how to read it: {known}")
        endianness = header.format_fields.get("endianness", "").lower()
        if found != "evt21" or endianness in ("little", "big"):
            return found
        if endianness == "legacy":
            return "evt21-legacy"
        head = self._bytes(header.size, PIECE)
        legacy = evt21.upper_half_first(head[: len(head) // evt21.WORD * evt21.WORD])
        if legacy is None:
            raise FormatError(
                f"{self.path}: which half of its words comes first is neither said nor seen; option encoding says it: "
                "evt21 or evt21-legacy"
            )
        order = "upper" if legacy else "lower"
        self._notes.append(
            f"which half of a word comes first is not stated: the {order} one, or its times make no sense"
        )
        return "evt21-legacy" if legacy else "evt21"

    def _initial(self, header: Header, name: str) -> bytes:
        """The state that decoding begins with."""
        if name == "evt21-legacy":
            return evt21.LEGACY
        base = header.values.get(TIME_BASE, "")
        if name == "evt3" and base.isdecimal() and len(base) < 19:
            return evt3.starting_at(int(base) >> 24 << 24)
        initial: bytes = self._module.INITIAL
        return initial

    def _size(self, header: Header, chosen: Resolution | None) -> Resolution | None:
        """The sensor's size, as far as it is known before the data are read."""
        if chosen is not None:
            if not 0 < min(chosen) <= max(chosen) <= WIDEST:
                raise InputError(f"{self.path}: option resolution: sides are from 1 to {WIDEST}, not {chosen}")
            return chosen
        if header.geometry is not None:
            return sound_size(self.path, header.geometry, WIDEST)
        hint = hinted_size(header)
        if hint is None:
            return None
        self._notes.append(hint[1])
        return hint[0]

    def raw_runs(self, packet_us: int, t0: int | None = None) -> Iterator[RawRun]:
        """The camera's own words, cut where a cell of the grid of ``packet_us`` from ``t_start`` begins (and every
        ``PIECE`` bytes); from the first event at or after ``t0`` (µs) on."""
        module = self._module
        for piece in self._pieces[self._entry(t0) :]:
            data, state, begun = self._words(piece.at, piece.length), piece.state, False
            while len(data):
                least = 0 if t0 is None or begun else t0
                start = module.before(data, state, least)
                if start == len(data):
                    break
                if least:  # what is before belongs to nobody
                    state, data, start, begun = module.scan(data[:start], state).state, data[start:], 0, True
                first = module.scan(data[: start + module.WORD], state)
                now = first.t_first if first.t_first is not None else max(first.t_reached or 0, self.t_start)
                cell = (now - self.t_start) // packet_us
                stop = module.before(data, state, self.t_start + (cell + 1) * packet_us)
                found = module.scan(data[:stop], state)
                run = RawEvents(module.NAME, state, data[:stop], found.n)
                yield RawRun(run, found.t_first or now, found.t_last or now)
                state, data = found.state, data[stop:]
