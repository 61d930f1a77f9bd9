"""Recordings that were cut, damaged or forged: what is whole is read, nothing breaks."""

import struct
import tracemalloc

import blosc2
import numpy as np
import pytest
import zstandard

from rtpipe.errors import FormatError, InputError
from rtpipe.formats.mcap import Reader, Writer
from rtpipe.formats.mcap.messages import EVENTS, FRAME, PICTURE
from rtpipe.formats.mcap.pictures import encode_frame
from rtpipe.formats.mcap.write import Container
from rtpipe.types import Events, Frame, Packet
from tests.formats.mcap_recordings import (
    STREAMS,
    bodies,
    chunks,
    mixed_packets,
    record,
    same_events,
    same_frame,
    with_right_checksums,
)


@pytest.fixture(scope="module")
def packets():
    return mixed_packets(n_events=12_000)


@pytest.fixture(scope="module")
def whole(packets, tmp_path_factory):
    """A finished recording's bytes, of some ten chunks."""
    return record(tmp_path_factory.mktemp("whole") / "a.mcap", packets, flush_every=4).read_bytes()


def read_all(path):
    """Everything that a reader offers, checked for what must hold whatever the file says."""
    events, frames = Events.empty(), []
    try:
        with Reader(path) as reader:
            events = reader.events()
            frames = list(reader.frames())
            list(reader.imu())
            list(reader.triggers())
            for stream in reader.recorded:
                list(reader.packet_table(stream.name))
                if stream.kind == "output":
                    list(reader.pictures(stream.name))
            width, height = reader.resolution
            assert not len(events) or (int(events.x.max()) < width and int(events.y.max()) < height)
            assert not len(events) or int(events.p.max()) <= 1
            assert len(reader.notes) < 30
            for number, _ in enumerate(reader.packets()):
                if number > 300:
                    break
    except (FormatError, InputError) as error:
        assert "\n" not in str(error)
        assert str(path) in str(error)
        return None
    return events, frames, reader


def test_cut_at_any_byte_everything_before_is_read(whole, packets, tmp_path):
    events = Events.concatenate(bodies(packets, "camera/events"))
    frames = bodies(packets, "camera/frames")
    places = list(chunks(whole))
    ends = [at + length for at, length in places]
    rng = np.random.default_rng(0)
    cuts = {
        *rng.integers(0, len(whole), 100).tolist(),
        *ends,
        *(at + d for at, _ in places for d in (-1, 1, 9, 49, 60)),
    }
    path, full = tmp_path / "cut.mcap", {}
    before = len(events)
    for cut in sorted(cuts, reverse=True):
        path.write_bytes(whole[:cut])
        found = read_all(path)
        if found is None:
            assert cut < places[0][0]
            continue
        n, reader = len(found[0]), found[2]
        assert same_events(found[0], events[:n])
        assert all(same_frame(a, b) for a, b in zip(found[1], frames, strict=False))
        assert n <= before
        before = n
        assert "missing" in reader.notes[0]
        if cut in ends:
            full[cut] = n
    packets_before = [p for p in packets if p.n_events]
    assert next(iter(full.values())) == len(events)
    assert len(set(full.values())) >= len(packets_before) // 4
    assert len(cuts) > 120


def test_whole_messages_of_a_chunk_that_was_cut_are_read(tmp_path, packets):
    path = record(tmp_path / "a.mcap", packets, close=False)
    (at, length), *more = chunks(path.read_bytes())
    assert not more
    path.write_bytes(path.read_bytes()[: at + length - 10])
    found = read_all(path)
    assert found is not None
    assert same_events(found[0], Events.concatenate(bodies(packets, "camera/events")))


@pytest.mark.parametrize("finished", [True, False])
def test_a_damaged_chunk_is_named(whole, packets, tmp_path, finished):
    data = bytearray(whole)
    places = list(chunks(whole))
    at, length = places[len(places) // 2]
    data[at + length // 2] ^= 1
    if not finished:
        del data[sum(places[-1]) :]
    path = tmp_path / "a.mcap"
    path.write_bytes(data)
    if finished:
        with Reader(path) as reader, pytest.raises(FormatError, match=f"chunk at byte {at:,} is damaged .*checksum"):
            [reader.events(), list(reader.frames())]
    else:
        found = read_all(path)
        assert f"the chunk at byte {at:,} is damaged and was left out (its checksum is wrong)" in found[2].notes
        left = Events.concatenate(bodies(packets, "camera/events"))
        assert 0 < len(found[0]) < len(left)
        assert np.isin(found[0].t, left.t).all()


def mutations(whole, n, seed):
    """Recordings with bytes changed, torn out, doubled or zeroed, half of them with checksums made right again."""
    rng = np.random.default_rng(seed)
    interesting = [0, 1, 0x7F, 0x80, 0xFF]
    for number in range(n):
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(8, len(data) - 8))
            kind = rng.integers(0, 6)
            if kind <= 1:
                data[at] = int(rng.choice(interesting)) if kind else int(rng.integers(0, 256))
            elif kind == 2:
                struct.pack_into("<I", data, at, int(rng.choice([0, 1 << 31, (1 << 32) - 1, 1 << 20, 65537])))
            elif kind == 3:
                del data[at : at + int(rng.integers(1, 200))]
            elif kind == 4:
                data[at:at] = data[at : at + int(rng.integers(1, 200))]
            else:
                size = min(len(data) - at, int(rng.integers(1, 300)))
                data[at : at + size] = bytes(size)
            if len(data) < 100:
                break
        yield number, with_right_checksums(data) if number % 2 else bytes(data)


def headers(whole):
    """Where the first bytes of messages and of compressed columns lie: the places that a forger would choose."""
    for at, length in chunks(whole):
        inner, end = at + 49, at + length
        while inner + 9 < end:
            (size,) = struct.unpack_from("<Q", whole, inner + 1)
            yield inner
            inner += 9 + size


@pytest.mark.parametrize("seed", range(4))
def test_mutated_files_are_refused_or_read_in_part(whole, tmp_path, seed):
    path = tmp_path / "mutated.mcap"
    read = 0
    for _, data in mutations(whole, 120, seed):
        path.write_bytes(data)
        read += read_all(path) is not None
    assert 10 < read < 120


def test_forged_message_headers_are_refused_or_read_in_part(whole, tmp_path):
    path = tmp_path / "forged.mcap"
    rng = np.random.default_rng(9)
    places = list(headers(whole))
    for _ in range(250):
        data = bytearray(whole)
        at = int(rng.choice(places)) + 31 + int(rng.integers(0, 120))
        if at < len(data) - 8:
            data[at] = int(rng.choice([0, 1, 0x10, 0x20, 0x7F, 0x80, 0xFF, int(rng.integers(0, 256))]))
        path.write_bytes(with_right_checksums(data))
        read_all(path)


# Bombs


def forged(path, *more, **changes):
    """A recording of one event message with ``changes``, and one for each of ``more`` changes."""
    writer = Writer(path, STREAMS)
    writer.close()
    path.unlink()
    options = {"codec": blosc2.Codec.LZ4, "clevel": 5, "filters": [blosc2.Filter.BITSHUFFLE], "nthreads": 1}

    def column(values, dtype):
        array = np.array(values, dtype)
        return blosc2.compress2(array, typesize=array.itemsize, **options)

    values = {
        "t0": 5,
        "t1": 7,
        "epoch": 0,
        "n": 2,
        "packets": column([0, 5, 7, 0, 2, 0], "<i8"),
        "dt": column([0, 2], "u1"),
        "x": column([3, 0], "<u2"),
        "y": column([4, 0], "<u2"),
        "counters": "",
    }
    container = Container(path, "ros2", "rtpipe forged")
    schema = container.schema(EVENTS.name, "ros2msg", EVENTS.schema)
    told = {"stream": "camera/events", "width": "346", "height": "260"}
    channel = container.channel("/camera/events", schema, "cdr", told)
    for change in (changes, *more):
        container.message(channel, 0, 7000, EVENTS.encode(**values | {k: v(column) for k, v in change.items()}))
    container.flush()
    return path


def test_the_forger_can_write_a_good_file(tmp_path):
    events, _, _ = read_all(forged(tmp_path / "a.mcap"))
    assert (events.t.tolist(), events.x.tolist(), events.y.tolist()) == ([5, 7], [3, 3], [4, 4])


def patched(data, at, new):
    return data[:at] + new + data[at + len(new) :]


def test_messages_in_which_time_goes_back_are_refused(tmp_path):
    path = forged(tmp_path / "a.mcap", {"t0": lambda _: 6, "t1": lambda _: 8})
    with Reader(path) as reader, pytest.raises(FormatError, match="time goes back between messages"):
        reader.events()


FORGED = {
    "a billion events": {"n": lambda _: 1 << 30},
    "more events than columns": {"n": lambda _: 3},
    "a long column of zeros": {"dt": lambda c: c(np.zeros(1 << 24), "u1")},
    "a column that claims to be long": {
        "x": lambda c: c([1, 2], "<u2")[:4] + b"\xff\xff\xff\x7f" + c([1, 2], "<u2")[8:]
    },
    "column outside": {"x": lambda c: c([346, 0], "<u2")},
    "row outside": {"y": lambda c: c([260, 0], "<u2")},
    "outside by XOR": {"x": lambda c: c([256, 255], "<u2")},
    "time before the end": {"t1": lambda _: 6},
    "time backwards": {"t1": lambda _: 4},
    "time overflows": {"t0": lambda _: (1 << 63) - 1, "t1": lambda _: -(1 << 63) + 1},
    "wide differences": {"dt": lambda c: c([0, 2], "<u8")},
    "another codec": {"x": lambda c: patched(c([3, 0], "<u2"), 2, b"\xf7")},
    "another filter": {"x": lambda c: patched(c([3, 0], "<u2"), 16, b"\x23")},
    "a special chunk": {"x": lambda c: patched(c([3, 0], "<u2"), 31, b"\x40")},
    "no packets": {"packets": lambda _: b""},
    "packets that hold other numbers": {"packets": lambda c: c([0, 5, 7, 0, 3, 0], "<i8")},
    "a broken table of packets": {"packets": lambda c: c([0, 5, 7, 0, 2], "<i8")},
    "a million packets": {"packets": lambda c: c(np.zeros(6 << 20), "<i8")},
    "counters of another kind": {"counters": lambda _: "[" * 100_000},
    "negative counters": {"counters": lambda _: '{"dropped": 7}'},
}


@pytest.mark.parametrize("changes", FORGED.values(), ids=FORGED)
def test_forged_events_are_left_out_without_a_large_allocation(tmp_path, changes):
    path = forged(tmp_path / "a.mcap", **changes)
    tracemalloc.start()
    found = read_all(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found is None or len(found[0]) == 0
    assert peak < 20e6


def test_a_picture_that_is_larger_than_it_says_is_not_decoded(tmp_path):
    frame = Frame(np.zeros((8000, 8000), np.uint8), 5)
    info, picture = encode_frame(Packet("camera/frames", 0, 5, 5, 0, frame), 0)
    small, _ = encode_frame(Packet("camera/frames", 0, 5, 5, 0, Frame(np.zeros((8, 8), np.uint8), 5)), 0)
    huge = bytearray(info)
    struct.pack_into("<II", huge, info.index(struct.pack("<II", 8000, 8000)), 1 << 15, 1 << 15)
    for number, head in enumerate((small, bytes(huge))):
        container = Container(tmp_path / f"{number}.mcap", "ros2", "rtpipe forged")
        told = {"stream": "camera/frames", "width": "8", "height": "8"}
        for kind, data in ((FRAME, head), (PICTURE, picture)):
            schema = container.schema(kind.name, "ros2msg", kind.schema)
            container.message(container.channel(f"/{kind.name}", schema, "cdr", told), 0, 5000, data)
        container.finish()
        with Reader(tmp_path / f"{number}.mcap") as reader:
            tracemalloc.start()
            with pytest.raises(FormatError, match=r"not the PNG|too large"):
                list(reader.frames())
            assert tracemalloc.get_traced_memory()[1] < 5e6
            tracemalloc.stop()


@pytest.mark.parametrize("size", [1000, 1 << 40])
def test_a_chunk_that_swells_is_not_swallowed(whole, tmp_path, size):
    data = zstandard.compress(bytes(1 << 27))
    at = next(chunks(whole))[0]
    body = struct.pack("<QQQII4sQ", 0, 0, size, 0, 4, b"zstd", len(data)) + data
    path = tmp_path / "a.mcap"
    path.write_bytes(whole[:at] + struct.pack("<BQ", 6, len(body)) + body + whole[at:])
    tracemalloc.start()
    found = read_all(path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert found is not None  # by its index the file is as it was
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 8)
    tracemalloc.start()
    assert f"the chunk at byte {at:,} is damaged" in " ".join(Reader(path).notes)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
