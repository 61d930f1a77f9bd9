"""AEDAT4 files of ours, held against the decoders of others and against the recordings they were made from."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rtpipe.errors import InputError, WorldError
from rtpipe.formats import open_recording
from rtpipe.formats.aedat4 import Writer
from rtpipe.types import Edge, Events, Frame, Imu, Packet, StreamInfo, Trigger

STREAMS = tuple(
    StreamInfo(f"camera/{kind}", (64, 48) if kind in ("events", "frames") else None, "DAVIS <7> & co")
    for kind in ("events", "frames", "imu", "triggers")
)
COLUMNS = {
    "events": ("t", "x", "y", "p"),
    "imu": ("t", "acceleration", "rotation", "temperature"),
    "triggers": ("t", "channel", "edge"),
}


def packet(body: object, kind: str = "events", seq: int = 0) -> Packet:
    t = body.t if isinstance(body, Frame) else int(body.t[0])  # type: ignore[attr-defined]
    return Packet(f"camera/{kind}", seq, t, t, 0, body)  # type: ignore[arg-type]


def columns(recording, kind):  # type: ignore[no-untyped-def]
    runs = list({"events": recording.event_chunks, "imu": recording.imu, "triggers": recording.triggers}[kind]())
    return {name: np.concatenate([getattr(run, name) for run in runs]) for name in COLUMNS[kind]}


@pytest.fixture(scope="module")
def copied(shared: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A real recording with everything in it, and our copy."""
    original = shared("recordings/aedat4/davis346_ball_throw.aedat4")
    copy = tmp_path_factory.mktemp("aedat4") / "copy.aedat4"
    with open_recording(original) as reader, Writer(copy, reader.streams) as writer:
        for each in reader.packets(packet_us=10_000):
            writer.write(each)
        assert not copy.exists()  # it takes its name when it is whole
    return original, copy


def test_a_real_recording_comes_back_whole(copied: tuple[Path, Path]) -> None:
    with open_recording(copied[0]) as original, open_recording(copied[1]) as copy:
        assert copy.streams == original.streams
        assert (copy.t_start, copy.t_end, copy.notes) == (original.t_start, original.t_end, ())
        for kind in COLUMNS:
            ours, theirs = columns(copy, kind), columns(original, kind)
            for name in COLUMNS[kind]:
                np.testing.assert_allclose(ours[name], theirs[name], rtol=2e-7 if kind == "imu" else 0, err_msg=name)
        for ours_, theirs_ in zip(copy.frames(), original.frames(), strict=True):
            assert (ours_.t, ours_.exposure_start, ours_.exposure_end) == (
                theirs_.t,
                theirs_.exposure_start,
                theirs_.exposure_end,
            )
            np.testing.assert_array_equal(ours_.image, theirs_.image)


def test_dv_processing_reads_it(copied: tuple[Path, Path]) -> None:
    dv = pytest.importorskip("dv_processing")
    reader = dv.io.MonoCameraRecording(str(copied[1]))
    with open_recording(copied[0]) as original:
        events, frames = original.events(), list(original.frames())
        imu = columns(original, "imu")
    theirs = []
    while (batch := reader.getNextEventBatch()) is not None:
        theirs.append(batch.numpy())
    stored = np.concatenate(theirs)
    for name, field in (("t", "timestamp"), ("x", "x"), ("y", "y"), ("p", "polarity")):
        np.testing.assert_array_equal(stored[field], getattr(events, name))
    for frame in frames:
        other = reader.getNextFrame()
        assert (other.timestamp, other.exposure.total_seconds()) == pytest.approx(
            (frame.exposure_start, (frame.exposure_end - frame.exposure_start) / 1e6)
        )
        np.testing.assert_array_equal(other.image, frame.image)
    samples = []
    while (batch := reader.getNextImuBatch()) is not None:
        samples += [(s.timestamp, s.accelerometerX, s.gyroscopeY) for s in batch]
    assert [s[0] for s in samples] == imu["t"].tolist()
    np.testing.assert_allclose([s[1] for s in samples], imu["acceleration"][:, 0] / 9.80665, rtol=1e-5)
    assert reader.getEventResolution() == (346, 260)


def test_the_aedat_package_reads_it(copied: tuple[Path, Path]) -> None:
    aedat = pytest.importorskip("aedat")
    n_events = n_frames = 0
    for each in aedat.Decoder(copied[1]):
        n_events += len(each["events"]) if "events" in each else 0
        n_frames += "frame" in each
    assert (n_events, n_frames) == (237_073, 19)


def test_every_trigger_that_the_format_knows_and_awkward_names_survive(tmp_path: Path) -> None:
    wired = [(0, Edge.RISING), (0, Edge.FALLING), (0, Edge.PULSE), (1, Edge.RISING), (2, Edge.FALLING), (4, Edge.PULSE)]
    channel, edge = np.array([*wired, (30, Edge.PULSE)], np.uint8).T.copy()
    triggers = Trigger(np.arange(7, dtype=np.int64) * 10, channel, edge)
    events = Events([0, 5, 5], [0, 63, 1], [47, 0, 1], [1, 0, 1])
    colour = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)
    with Writer(tmp_path / "a.aedat4", STREAMS) as writer:
        writer.write(packet(events))
        writer.write(packet(triggers, "triggers"))
        writer.write(packet(Frame(colour, 40), "frames"))
        writer.write(packet(Imu(np.array([7]), np.ones((1, 3), "f4"), np.ones((1, 3), "f4"), np.ones(1, "f4")), "imu"))
        written = writer.close()
    assert {name: count.events + count.packets for name, count in written.items()} == {
        "camera/events": 3,
        "camera/triggers": 7,
        "camera/frames": 1,
        "camera/imu": 1,
    }
    with open_recording(tmp_path / "a.aedat4") as reader:
        assert reader.streams[0].camera == "DAVIS <7> & co"
        found = columns(reader, "triggers")
        np.testing.assert_array_equal(found["channel"], channel)
        np.testing.assert_array_equal(found["edge"], edge)
        (frame,) = reader.frames()
        np.testing.assert_array_equal(frame.image, colour)
        assert (frame.t, frame.exposure_start) == (40, None)


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (Events([1], [64], [0], [1]), "events", "coordinates"),
        (Events([2, 1], [0, 0], [0, 0], [1, 1]), "events", "order"),
        (Frame(np.zeros((48, 64), np.uint16), 1), "frames", "uint8"),
        (Frame(np.zeros((64, 48), np.uint8), 1), "frames", "64x48"),
        (Frame(np.zeros((48, 64), np.uint8), 1, 0, 2), "frames", "not known"),
        (Trigger(np.array([1]), np.array([3], "u1"), np.array([2], "u1")), "triggers", "no trigger of channel 3"),
    ],
)
def test_what_the_format_cannot_hold_is_refused_and_leaves_no_file(
    tmp_path: Path, body: object, kind: str, said: str
) -> None:
    with pytest.raises(InputError, match=said), Writer(tmp_path / "a.aedat4", STREAMS) as writer:
        writer.write(packet(body, kind))
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_not_overwritten_and_a_missing_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.aedat4").write_bytes(b"mine")
    with pytest.raises(InputError, match="already"):
        Writer(tmp_path / "a.aedat4", STREAMS)
    with pytest.raises(WorldError, match="cannot be written"):
        Writer(tmp_path / "nowhere" / "a.aedat4", STREAMS)
    with pytest.raises(InputError, match="one camera"):
        Writer(tmp_path / "b.aedat4", (*STREAMS, StreamInfo("other/events", (64, 48))))
