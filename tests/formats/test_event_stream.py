"""Event Stream files, against what the event_stream package read and a slow obvious decoder."""

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtpipe.errors import FormatError
from rtpipe.formats import event_stream, format_of, open_recording

DVS, ATIS = 1, 2


def file_of(kind: int, size: tuple[int, int], body: bytes) -> bytes:
    return b"Event Stream\2\0\0" + bytes([kind]) + struct.pack("<HH", *size) + body


def test_the_real_file_is_what_the_package_of_its_authors_reads(shared: Callable[[str], Path]) -> None:
    path = shared("recordings/es/atis_dvs.es")
    with open_recording(path) as reader:
        assert format_of(path) == "event_stream"
        assert reader.resolution == (320, 240)
        assert reader.counts() == {"camera/events": 473_225}
        assert (reader.t_start, reader.t_end) == (0, 999_000)
        events = reader.events()
        assert np.count_nonzero(events.p) == 270_001
        digest = hashlib.sha256()
        for column in (events.t, events.x, (239 - events.y).astype("<u2"), events.p):
            digest.update(column.tobytes())
        assert digest.hexdigest()[:16] == "affde73310eac197"  # event_stream 1.6.3, whose y counts from the bottom
        for t0 in (0, 1, 52_000, 404_000, 999_000, 1_000_000):
            part, wanted = reader.events(t0, t0 + 1), events.between(t0, t0 + 1)
            assert np.array_equal(part.t, wanted.t)
            assert np.array_equal(part.x, wanted.x)


def slowly(kind: int, height: int, body: bytes) -> list[tuple[int, int, int, int]]:
    """The events in a body, as the specification tells it."""
    found, now, at = [], 0, 0
    while at < len(body):
        first = body[at]
        if kind == DVS and first == 0b11111111:
            now, at = now + 0b1111111, at + 1
        elif kind == DVS and first == 0b11111110:
            at += 1
        elif kind == ATIS and first >> 2 == 0b111111:
            now, at = now + 0b111111 * (first & 3), at + 1
        else:
            x, y = struct.unpack_from("<HH", body, at + 1)
            now += first >> (1 if kind == DVS else 2)
            if kind == DVS or not first & 1:
                found.append((now, x, height - 1 - y, first & 1 if kind == DVS else first >> 1 & 1))
            at += 5
    return found


piece = st.one_of(
    st.integers(252, 255).map(lambda byte: bytes([byte])),
    st.tuples(st.integers(0, 251), st.integers(0, 303), st.integers(0, 239)).map(
        lambda event: bytes(event[:1]) + struct.pack("<HH", *event[1:])
    ),
)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from([DVS, ATIS]), st.lists(piece, max_size=60), st.integers(7, 60))
def test_any_stream_is_decoded_as_the_specification_says(
    tmp_path_factory: pytest.TempPathFactory, kind: int, pieces: list[bytes], block: int
) -> None:
    if kind == DVS:  # these two are first bytes of events there
        pieces = [each for each in pieces if each not in (b"\xfc", b"\xfd")]
    body = b"".join(pieces) + b"\1\0\0\0\0" * (kind == DVS) + b"\0\0\0\0\0"
    path = tmp_path_factory.mktemp("es") / "a"
    path.write_bytes(file_of(kind, (304, 240), body))
    wanted = slowly(kind, 240, body)
    whole, event_stream.BLOCK = event_stream.BLOCK, block  # so that blocks end within events
    try:
        with open_recording(path) as reader:
            events = reader.events()
            assert reader.counts() == {"camera/events": len(wanted)}
            middle = wanted[len(wanted) // 2][0]
            assert len(reader.events(middle)) == sum(event[0] >= middle for event in wanted)
    finally:
        event_stream.BLOCK = whole
    columns = (events.t, events.x, events.y, events.p)
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == wanted


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (file_of(DVS, (10, 10), b"\0\1\0\1\0" * 3)[:-2], "cut off within the event at byte 30"),
        (file_of(DVS, (10, 10), b"\0\1\0\1\0\0\x0a\0\1\0"), r"byte 25: event at \[10, 1\], off the 10x10 sensor"),
        (file_of(DVS, (10, 10), b"\xff" * 9), "no events"),
        (file_of(DVS, (0, 10), b"\0\1\0\1\0"), "sensor of 0x10"),
        (file_of(4, (10, 10), b"\0\1\0\1\0"), "colour events, no brightness changes"),
        (file_of(DVS, (10, 10), b"")[:18], "within its header"),
        (b"Event Stream\1\0\0\1\0\0\0\0", r"version 1\.0\.0"),
    ],
)
def test_what_is_unsound_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "a.es"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=said):
        open_recording(path)


def test_grey_levels_of_an_atis_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.es"
    path.write_bytes(file_of(ATIS, (10, 10), b"\x02\1\0\1\0" + b"\x05\1\0\1\0" * 3))
    with open_recording(path) as reader:
        assert reader.counts() == {"camera/events": 1}
        assert "3 threshold crossings" in " ".join(reader.notes)
