"""The package's own packet classes, filled from real recordings, through the same function as the live camera's."""

import numpy as np
import pytest

import rtpipe
from drivers.backends.neuromorphic_packets import WRAP_US, MissedWraps, parts
from rtpipe.errors import WorldError
from rtpipe.types import Edge, Events, Frame, Imu, Trigger
from tests.drivers.backends import neuromorphic_standin as standin

nd = pytest.importorskip("neuromorphic_drivers")

FILES = ("aedat4/davis346_ball_throw.aedat4", "aedat4/dvxplorer_person2.aedat4", "prophesee/evt3_driving_hd_9ms.raw")


def packet(kind, events=None, imu=None, triggers=None, frames=(), overflow=None):
    """``overflow``: indices by the names of the packet's fields."""
    made = getattr(nd.packet, kind)()
    made.polarity_events = None if events is None else standin.polarity(events)
    made.trigger_events = None if triggers is None else standin.triggers(triggers)
    names = ["polarity_events", "trigger_events"]
    if kind != "Evt3Packet":
        made.imu_events = None if imu is None else standin.imu(imu)
        names.append("imu_events")
    if kind == "Davis346Packet":
        made.frames = [standin.frame(each, nd) for each in frames]
        names.append("frames")
    for name in names:
        setattr(made, f"{name}_overflow_indices", (overflow or {}).get(name))
    return made


def bodies(found, kind):
    return [reading.body for _, readings in found for reading in readings if isinstance(reading.body, kind)]


@pytest.mark.parametrize(
    ("file", "kind"), list(zip(FILES, ("Davis346Packet", "DvxplorerPacket", "Evt3Packet"), strict=True))
)
def test_a_packet_of_a_real_recording_gives_it_back_event_by_event(shared, file, kind):
    options = {"resolution": (1280, 720)} if "prophesee" in file else {}
    with rtpipe.open(shared(f"recordings/{file}"), **options) as recording:
        events, imu, triggers = recording.events(), list(recording.imu()), list(recording.triggers())
        frames = list(recording.frames())
    samples = imu[0] if imu else None
    signals = triggers[0] if triggers else None
    found = parts(packet(kind, events, samples, signals, frames), int(events.t[-1]))
    [got] = bodies(found, Events)
    for name, dtype in (("t", np.int64), ("x", np.uint16), ("y", np.uint16), ("p", np.uint8)):
        assert getattr(got, name).dtype == dtype
        assert np.array_equal(getattr(got, name), getattr(events, name))
    for kept, given in ((bodies(found, Imu), samples), (bodies(found, Trigger), signals)):
        assert len(kept) == (given is not None)
        if given is not None:
            names = ("acceleration", "rotation", "temperature") if isinstance(given, Imu) else ("channel", "edge")
            for name in ("t", *names):
                assert np.array_equal(getattr(kept[0], name), getattr(given, name), equal_nan=name == "temperature")
    pictures = bodies(found, Frame)
    assert len(pictures) == len(frames)
    for picture, frame in zip(pictures, frames, strict=True):
        assert np.array_equal(picture.image, frame.image)
        assert picture.image.dtype == np.uint8
        assert (picture.exposure_start, picture.exposure_end) == (frame.exposure_start, frame.exposure_end)
        assert picture.t == (picture.exposure_start + picture.exposure_end) // 2


def few(n, t0=1000):
    i = np.arange(n)
    return Events(t0 + i, i % 300, i % 200, i % 2)


def test_readings_own_their_arrays():
    made = packet("DvxplorerPacket", few(5))
    [events] = bodies(parts(made, 2000), Events)
    made.polarity_events[:] = 0
    assert events.t.tolist() == [1000, 1001, 1002, 1003, 1004]
    assert events.p.tolist() == [0, 1, 0, 1, 0]


def test_a_ring_overflow_is_told_at_its_place_in_every_kind():
    signals = Trigger(np.array([1, 2, 3]), np.zeros(3, np.uint8), np.array([0, 1, 2], np.uint8))
    made = packet(
        "DvxplorerPacket", few(10), None, signals,
        overflow={"polarity_events": np.array([4, 7], np.uint64), "trigger_events": np.array([1, 1], np.uint64)},
    )  # fmt: skip
    found = parts(made, 5000)
    assert [after for after, _ in found] == [False, True, True]
    assert [[len(b) for b in bodies([each], Events)] for each in found] == [[4], [3], [3]]
    assert [[b.t.tolist() for b in bodies([each], Trigger)] for each in found] == [[[1]], [], [[2, 3]]]


@pytest.mark.parametrize("indices", [[0], [99], [0, 3], [2, 2, 2], [5, 1]])
def test_whatever_the_indices_no_event_is_lost_or_doubled(indices):
    made = packet("Davis346Packet", few(6), overflow={"polarity_events": np.array(indices, np.uint64)})
    found = parts(made, 9000)
    assert sum(len(b) for b in bodies(found, Events)) == 6
    assert found[-1][0]


def test_edges_are_the_packages_numbers():
    signals = Trigger(np.array([1, 2, 3]), np.array([0, 0, 4], np.uint8), np.array([0, 1, 2], np.uint8))
    [got] = bodies(parts(packet("Davis346Packet", triggers=signals), 10), Trigger)
    assert got.edge.tolist() == [Edge.FALLING, Edge.RISING, Edge.PULSE]
    assert got.channel.tolist() == [0, 0, 4]


def test_a_frame_without_exposure_has_none_and_lies_inside_its_acquisition():
    frame = Frame(np.full((260, 346), 77, np.uint8), 5_000)
    [got] = bodies(parts(packet("Davis346Packet", frames=[frame]), 10_000), Frame)
    assert (got.exposure_start, got.exposure_end, got.t) == (None, None, 5_000)
    assert (got.image == 77).all()


def test_silence_is_a_promise_up_to_the_cameras_time():
    [(_, readings)] = parts(packet("DvxplorerPacket"), 123_456)
    assert [(r.kind, r.t_first, r.t_last, r.body) for r in readings] == [("events", 123_456, 123_456, None)]


def test_arrays_of_another_version_are_refused_in_words():
    made = packet("Evt3Packet", few(3))
    made.polarity_events = np.zeros(3, [("timestamp", "<u8"), ("x", "<u2"), ("y", "<u2"), ("on", "?")])
    with pytest.raises(WorldError, match="timestamp, x, y, on, without t: this version"):
        parts(made, 0)


@pytest.mark.parametrize("lost_ms", [1, 20, 33, 40, 200, 1000, 4000])
@pytest.mark.parametrize("drift", [-100e-6, 0, 100e-6])
def test_wraps_that_were_in_lost_transfers_are_made_up_for(lost_ms, drift):
    """A camera that says 15 bits and each wrap, an SDK that counts the wraps it sees, transfers that arrive late by a
    few milliseconds now and then."""
    random = np.random.default_rng(lost_ms)
    wraps, missed, before = MissedWraps(), 0, 0
    for true in range(7_000, 9_000_000, 1000):
        lost = 5_000_000 <= true < 5_000_000 + 1000 * lost_ms
        if true // WRAP_US > before // WRAP_US and lost:
            missed += true // WRAP_US - before // WRAP_US
        before = true
        if lost:
            continue
        said = true - missed * WRAP_US
        received = 3_000_000_000 + int(true * (1 + drift)) + int(random.exponential(700))
        first = true == 5_000_000 + 1000 * lost_ms or (true - 1000 * lost_ms) == 5_000_000
        if first:
            wraps.lost(said, received)
        wraps.arrived(said, received)
        assert said + wraps.lag_us == true
