"""AEDAT4 against the published hashes and two other decoders; damage is named, never decoded."""

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lz4.frame
import numpy as np
import pytest
import zstandard

from rtpipe.errors import FormatError, InputError
from rtpipe.formats import open_recording
from rtpipe.formats.aedat4 import Reader
from rtpipe.types import Edge, Events, Frame

aedat = pytest.importorskip("aedat")

FOLDER = "recordings/aedat4/"
KNOWN = {  # from the recordings' README: counts, first and last event, how many are on, hash, frames, IMU, triggers
    "davis346_ball_throw": (237073, 1610696585220661, 1610696585970659, 119704, "ab8301a3d477632f", 19, 740, 75),
    "davis346_highway": (78830, 1589163147368868, 1589163149728813, 41257, "86cee766fede9896", 59, 2363, 236),
    "dvxplorer_person2": (323963, 1605116853975736, 1605116855435698, 167949, "a560e5eeee65ad22", 0, 1176, 0),
}
SMALL = FOLDER + "davis346_ball_throw.aedat4"


def digest(events: Events) -> str:
    columns = (events.t.astype("<i8"), events.x.astype("<u2"), events.y.astype("<u2"), events.p.astype("u1"))
    return hashlib.sha256(b"".join(column.tobytes() for column in columns)).hexdigest()[:16]


@pytest.mark.parametrize("name", KNOWN)
def test_every_count_and_hash_is_the_published_one(shared: Callable[[str], Path], name: str) -> None:
    n, first, last, on, hashed, frames, imu, triggers = KNOWN[name]
    with open_recording(shared(f"{FOLDER}{name}.aedat4")) as reader:
        events = reader.events()
        counts = reader.counts()
        packets = list(reader.packets())
    assert (len(events), events.t[0], events.t[-1], events.p.sum(), digest(events)) == (n, first, last, on, hashed)
    wanted = {"events": n, "frames": frames, "imu": imu, "triggers": triggers}
    assert counts == {f"camera/{kind}": count for kind, count in wanted.items() if count}
    assert digest(Events.concatenate(p.body for p in packets if isinstance(p.body, Events))) == hashed
    assert sum(isinstance(p.body, Frame) for p in packets) == frames
    assert reader.notes == ()


@pytest.mark.parametrize("name", KNOWN)
def test_frames_imu_and_triggers_are_those_of_the_aedat_package(shared: Callable[[str], Path], name: str) -> None:
    path = shared(f"{FOLDER}{name}.aedat4")
    theirs: dict[str, list[Any]] = {"frame": [], "imus": [], "triggers": []}
    for packet in aedat.Decoder(path):
        for kind, into in theirs.items():
            into += [packet[kind]] if kind in packet else []
    with open_recording(path) as reader:
        for mine, frame in zip(reader.frames(), theirs["frame"], strict=True):
            assert np.array_equal(mine.image, frame["pixels"])
            assert (mine.exposure_start, mine.exposure_end) == (frame["exposure_begin_t"], frame["exposure_end_t"])
            assert mine.t == frame["t"]  # mid-exposure in files of the DV application
        imu = np.concatenate(theirs["imus"])
        samples = list(reader.imu())
        assert np.array_equal(np.concatenate([s.t for s in samples]), imu["t"])
        for k, axis in enumerate("xyz"):
            g = np.concatenate([s.acceleration[:, k] for s in samples]) / 9.80665
            degrees = np.degrees(np.concatenate([s.rotation[:, k] for s in samples]))
            np.testing.assert_allclose(g, imu[f"accelerometer_{axis}"], rtol=1e-6)
            np.testing.assert_allclose(degrees, imu[f"gyroscope_{axis}"], rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(np.concatenate([s.temperature for s in samples]), imu["temperature"])
        gravity = np.linalg.norm(np.concatenate([s.acceleration for s in samples]), axis=1)
        assert 9 < np.median(gravity) < 11  # m/s² indeed
        if theirs["triggers"]:
            signals = np.concatenate(theirs["triggers"])
            mine_t = np.concatenate([s.t for s in reader.triggers()])
            assert np.array_equal(mine_t, signals["t"])
            ours = np.concatenate([np.stack([s.channel, s.edge], 1) for s in reader.triggers()])
            table = {6: (2, Edge.RISING), 7: (2, Edge.FALLING), 8: (3, Edge.RISING), 9: (3, Edge.FALLING)}
            assert [tuple(row) for row in ours] == [table[int(s)] for s in signals["source"]]


@pytest.mark.parametrize("name", ["davis346_ball_throw", "davis346_highway"])
def test_exposures_are_those_of_dv_processing(shared: Callable[[str], Path], name: str) -> None:
    dv = pytest.importorskip("dv_processing")
    path = shared(f"{FOLDER}{name}.aedat4")
    theirs = dv.io.MonoCameraRecording(str(path))
    with open_recording(path) as reader:
        for mine in reader.frames():
            frame = theirs.getNextFrame()
            length = round(frame.exposure.total_seconds() * 1e6)
            assert (mine.exposure_start, mine.exposure_end) == (frame.timestamp, frame.timestamp + length)
            assert mine.t == frame.timestamp + length // 2
            assert np.array_equal(mine.image, frame.image)
        assert theirs.getNextFrame() is None


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A file by dv-processing 2, whose frames carry the start of the exposure as their time; one is in colour."""
    from datetime import timedelta

    dv = pytest.importorskip("dv_processing")
    path = tmp_path / "written.aedat4"
    config = dv.io.MonoCameraWriter.Config("TestCam_1")
    config.addEventStream((64, 48))
    config.addFrameStream((64, 48))
    config.addTriggerStream()
    writer = dv.io.MonoCameraWriter(str(path), config)
    start = 1_700_000_000_000_000
    store = dv.EventStore()
    for i in range(1000):
        store.push_back(start + i * 10, i % 64, i % 48, i % 3 == 0)
    writer.writeEvents(store)
    grey = dv.Frame(start + 1000, np.arange(64 * 48, dtype=np.uint8).reshape(48, 64))
    grey.exposure = timedelta(microseconds=5000)
    writer.writeFrame(grey)
    colour = dv.Frame(start + 9000, np.full((48, 64, 3), (1, 2, 3), np.uint8))
    colour.exposure = timedelta(microseconds=700)
    writer.writeFrame(colour)
    for k, kind in enumerate(dv.TriggerType.__members__.values()):
        writer.writeTrigger(dv.Trigger(start + k, kind))
    del writer
    return path


def test_files_of_dv_processing_2_open_with_the_right_exposure_and_colours(written: Path) -> None:
    start = 1_700_000_000_000_000
    with open_recording(written) as reader:
        events = reader.events()
        assert np.array_equal(events.t, start + np.arange(1000) * 10)
        assert np.array_equal(events.p, np.arange(1000) % 3 == 0)
        grey, colour = reader.frames()
        assert (grey.exposure_start, grey.t, grey.exposure_end) == (start + 1000, start + 3500, start + 6000)
        assert (colour.exposure_start, colour.exposure_end) == (start + 9000, start + 9700)
        assert colour.image[5, 7].tolist() == [1, 2, 3]
        signals = next(reader.triggers())
        assert signals.channel.tolist() == [4, 0, 0, 0, 1, 1, 2, 2, 3, 3]
        R, F, P = Edge.RISING, Edge.FALLING, Edge.PULSE
        assert signals.edge.tolist() == [P, R, F, P, R, F, R, F, R, F]
        assert reader.streams[0].camera == "TestCam_1"


def parts(path: Path) -> tuple[bytes, list[tuple[int, bytes]]]:
    """The header and the packets (stream, payload) of a closed file."""
    data = path.read_bytes()
    (size,) = struct.unpack_from("<I", data, 14)
    header, at, packets = data[: 18 + size], 18 + size, []
    end = struct.unpack_from("<q", header, position_field(header))[0]
    while at < end:
        stream, n = struct.unpack_from("<iI", data, at)
        packets.append((stream, data[at + 8 : at + 8 + n]))
        at += 8 + n
    return header, packets


def position_field(header: bytes, field: int = 1) -> int:
    """Where in the header the position of the table of contents is stored (field 0: the compression)."""
    (root,) = struct.unpack_from("<I", header, 18)
    (back,) = struct.unpack_from("<i", header, 18 + root)
    (offset,) = struct.unpack_from("<H", header, 18 + root - back + 4 + 2 * field)
    return 18 + root + int(offset)


def assemble(header: bytes, packets: list[tuple[int, bytes]], compression: int = 1, closed: bool = True) -> bytes:
    body = b"".join(struct.pack("<iI", stream, len(data)) + data for stream, data in packets)
    head = bytearray(header)
    struct.pack_into("<i", head, position_field(header, 0), compression)
    struct.pack_into("<q", head, position_field(header), len(header) + len(body) if closed else -1)
    return bytes(head) + body


@pytest.fixture
def small(shared: Callable[[str], Path]) -> tuple[bytes, list[tuple[int, bytes]]]:
    """Header and the first 40 packets of a real recording."""
    header, packets = parts(shared(SMALL))
    return header, packets[:40]


Small = tuple[bytes, list[tuple[int, bytes]]]


@pytest.mark.parametrize("compression", [0, 1, 2, 3, 4])
def test_every_compression_gives_the_same_events(small: Small, tmp_path: Path, compression: int) -> None:
    header, packets = small
    press = {0: bytes, 1: lz4.frame.compress, 2: lambda d: lz4.frame.compress(d, compression_level=9)}
    with_zstd = zstandard.ZstdCompressor().compress
    anew = [(s, press.get(compression, with_zstd)(lz4.frame.decompress(data))) for s, data in packets]
    path, other = tmp_path / "a.aedat4", tmp_path / "b.aedat4"
    path.write_bytes(assemble(header, packets))
    other.write_bytes(assemble(header, anew, compression))
    with open_recording(path) as a, open_recording(other) as b:
        assert len(a.events()) > 1000
        assert digest(a.events()) == digest(b.events())
        assert [f.t for f in a.frames()] == [f.t for f in b.frames()]


@pytest.mark.parametrize("span", [1, 5000, 400_000])
def test_any_span_is_found_without_reading_what_is_before_it(shared: Callable[[str], Path], span: int) -> None:
    with Reader(shared(SMALL)) as reader:
        events, frames = reader.events(), list(reader.frames())
        samples = np.concatenate([s.t for s in reader.imu()])
        for t0 in (0, reader.t_start, int(events.t[70_000]), reader.t_start + 333_333, reader.t_end, reader.t_end + 9):
            part, wanted = reader.events(t0, t0 + span), events.between(t0, t0 + span)
            assert digest(part) == digest(wanted)
            assert [f.t for f in reader.frames(t0, t0 + span)] == [f.t for f in frames if t0 <= f.t < t0 + span]
            found = [t for s in reader.imu(t0, t0 + span) for t in s.t]
            assert found == [t for t in samples if t0 <= t < t0 + span]
        looked_at: list[int] = []
        original = reader._file.packet
        reader._file.packet = lambda n, kind: (looked_at.append(n), original(n, kind))[1]  # type: ignore[method-assign]
        next(reader.packets(t0=reader.t_end - 50_000))
        assert len(looked_at) < 60  # of 243


def test_a_recording_whose_recorder_was_killed_is_read_to_its_last_whole_packet(small: Small, tmp_path: Path) -> None:
    header, packets = small
    data = assemble(header, packets, closed=False)
    path = tmp_path / "killed.aedat4"
    whole = data[: len(data) - len(packets[-1][1]) - 8]
    path.write_bytes(data[:-1])
    with open_recording(path) as reader:
        n = len(reader.events())
        assert reader.notes[0].startswith("the file was never closed")
        assert f"{len(data) - 1 - len(whole)} bytes" in reader.notes[0]
    path.write_bytes(whole)
    with open_recording(path) as reader:
        assert len(reader.events()) == n > 1000


def test_a_closed_file_that_was_cut_says_where_and_opens_on_demand(small: Small, tmp_path: Path) -> None:
    header, packets = small
    data = assemble(header, packets)
    path = tmp_path / "cut.aedat4"
    path.write_bytes(data[:-1])
    with pytest.raises(FormatError, match=rf"cut\.aedat4: cut off: its packets end at byte {len(data)}, .*partial"):
        open_recording(path)
    with open_recording(path, partial=True) as reader:
        assert len(reader.events()) > 1000
        assert reader.notes


def test_damage_is_named_with_its_packet_and_byte(small: Small, tmp_path: Path) -> None:
    header, packets = small
    path = tmp_path / "damaged.aedat4"
    number = [k for k, (stream, _) in enumerate(packets) if stream == 0][-2]
    raw = bytearray(lz4.frame.decompress(packets[number][1]))
    (n,) = struct.unpack_from("<I", raw, len(raw) - 16 * ((len(raw) - 24) // 16) - 4)
    first = len(raw) - 16 * n

    def with_event(k: int, t: int | None = None, x: int | None = None, p: int | None = None) -> str:
        changed = bytearray(raw)
        at = first + 16 * k
        if t is not None:
            struct.pack_into("<q", changed, at, t)
        if x is not None:
            struct.pack_into("<h", changed, at + 8, x)
        if p is not None:
            changed[at + 12] = p
        anew = [*packets[:number], (0, lz4.frame.compress(bytes(changed))), *packets[number + 1 :]]
        path.write_bytes(assemble(header, anew))
        byte = len(header) + sum(8 + len(data) for _, data in packets[:number])
        with open_recording(path) as reader, pytest.raises(FormatError) as caught:
            reader.events()
        assert str(caught.value).startswith(f"{path}: damaged packet {number} at byte {byte}: ")
        return str(caught.value)

    assert "off the 346x260 sensor" in with_event(3, x=346)
    assert "off the 346x260 sensor" in with_event(3, x=-1)
    assert "polarity 2" in with_event(3, p=2)
    assert "backwards" in with_event(3, t=7)
    assert "back from" in with_event(0, t=7)


def test_a_bomb_is_not_unpacked(small: Small, tmp_path: Path) -> None:
    header, _ = small
    path = tmp_path / "bomb.aedat4"
    claims = struct.pack("<I", 0xFFFF_FFF0) + b"\0" * (1 << 22)
    for compression, press in ((1, lz4.frame.compress), (3, zstandard.ZstdCompressor().compress)):
        path.write_bytes(assemble(header, [(0, press(claims))], compression))
        with pytest.raises(FormatError, match="claims 4294967280 bytes"):
            open_recording(path)


def test_several_cameras_are_told_apart_by_name(small: Small, tmp_path: Path) -> None:
    header, packets = small
    path = tmp_path / "stereo.aedat4"
    (size,) = struct.unpack_from("<I", header, 14)
    text = header[18 : 18 + size]
    node = text[text.index(b'<node name="0"') : text.index(b'<node name="1"')]
    second = node.replace(b'name="0"', b'name="9"', 1).replace(b"DAVIS346_00000133", b"DAVIS346_00000007")
    old = text[text.index(b"<dv") : text.rindex(b"</dv>") + 5]
    new = old.replace(node, node + second)
    at = text.index(old)
    changed = bytearray(text[:at] + new + b"\0")
    struct.pack_into("<I", changed, at - 4, len(new))
    path.write_bytes(assemble(header[:14] + struct.pack("<I", len(changed)) + bytes(changed), packets))
    with pytest.raises(FormatError, match="option camera: DAVIS346_00000007, DAVIS346_00000133"):
        open_recording(path)
    with open_recording(path, camera="DAVIS346_00000133") as reader:
        assert len(reader.events()) > 1000
    with pytest.raises(FormatError, match="there is not one whole packet in it"):
        open_recording(path, camera="DAVIS346_00000007")


def test_an_unknown_option_is_refused_with_those_there_are(small: Small, tmp_path: Path) -> None:
    path = tmp_path / "a.aedat4"
    path.write_bytes(assemble(*small))
    with pytest.raises(InputError, match="knows no option 'exposure_us'; its options are camera, partial"):
        open_recording(path, exposure_us=10)
    with pytest.raises(InputError, match=r"option partial: Expected `bool`"):
        open_recording(path, partial="maybe")
