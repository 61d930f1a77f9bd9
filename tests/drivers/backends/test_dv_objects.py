"""dv-processing's own objects as readings: every real AEDAT4, read by dv-processing, against rtpipe's own reader."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivers.backends import dv_objects
from drivers.camera.contract import Reading
from rtpipe.formats import open_recording
from rtpipe.types import Edge, Events, Frame, Imu, Trigger

dv = pytest.importorskip("dv_processing")

RECORDINGS = ("davis346_ball_throw", "davis346_highway", "dvxplorer_person2")


def objects(path: Path) -> Iterator[Any]:
    """Everything that dv-processing reads from a file, stream by stream."""
    recording = dv.io.MonoCameraRecording(str(path))
    there = {
        recording.getNextEventBatch: recording.isEventStreamAvailable(),
        recording.getNextFrame: recording.isFrameStreamAvailable(),
        recording.getNextImuBatch: recording.isImuStreamAvailable(),
        recording.getNextTriggerBatch: recording.isTriggerStreamAvailable(),
    }
    for following in (following for following, available in there.items() if available):
        while (data := following()) is not None:
            yield data


def readings(path: Path) -> dict[str, list[Reading]]:
    found: dict[str, list[Reading]] = {"events": [], "frames": [], "imu": [], "triggers": []}
    for data in objects(path):
        reading = dv_objects.reading(data)
        if reading is not None:
            found[reading.kind].append(reading)
    return found


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_real_recording_gives_what_our_own_reader_finds_in_it(shared: Callable[[str], Path], name: str) -> None:
    path = shared(f"recordings/aedat4/{name}.aedat4")
    found = readings(path)
    with open_recording(path) as recording:
        events = Events.concatenate(reading.body for reading in found["events"])  # type: ignore[misc]
        assert len(events) > 50_000
        wanted = recording.events()
        for column in ("t", "x", "y", "p"):
            assert np.array_equal(getattr(events, column), getattr(wanted, column)), column

        frames = list(recording.frames())
        assert len(found["frames"]) == len(frames)
        for reading, frame in zip(found["frames"], frames, strict=True):
            taken = reading.body
            assert isinstance(taken, Frame)
            assert np.array_equal(taken.image, frame.image)
            assert (taken.t, taken.exposure_start, taken.exposure_end) == (
                frame.t,
                frame.exposure_start,
                frame.exposure_end,
            )
            assert (reading.t_first, reading.t_last) == (frame.exposure_start, frame.exposure_end)

        for kind, runs in (("imu", list(recording.imu())), ("triggers", list(recording.triggers()))):
            names = ("t", "acceleration", "rotation", "temperature") if kind == "imu" else ("t", "channel", "edge")
            assert sum(len(run) for run in runs) == sum(len(reading.body) for reading in found[kind])  # type: ignore[arg-type]
            for column in names if runs else ():
                ours = np.concatenate([getattr(reading.body, column) for reading in found[kind]])
                assert np.allclose(ours, np.concatenate([getattr(run, column) for run in runs]), rtol=1e-6), column


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_reading_says_the_first_and_last_time_of_what_is_in_it(shared: Callable[[str], Path], name: str) -> None:
    for kind, found in readings(shared(f"recordings/aedat4/{name}.aedat4")).items():
        for reading in found if kind != "frames" else ():
            assert isinstance(reading.body, Events | Imu | Trigger)
            assert (reading.t_first, reading.t_last) == (reading.body.t[0], reading.body.t[-1])


def test_units_are_si(shared: Callable[[str], Path]) -> None:
    """dv-processing's own conversion, sample by sample; it takes 9.81 m/s² for a g."""
    path = shared("recordings/aedat4/davis346_highway.aedat4")
    vectors = [data for data in objects(path) if type(data).__name__ == "ImuVector"]
    for vector in vectors[:20]:
        reading = dv_objects.imu(vector)
        assert reading is not None
        assert isinstance(reading.body, Imu)
        for sample, a, w in zip(vector, reading.body.acceleration, reading.body.rotation, strict=True):
            assert np.allclose(sample.getAccelerations().ravel(), a, rtol=1e-3)
            assert np.allclose(sample.getAngularVelocities().ravel(), w, rtol=1e-5)
    assert 9.0 < np.linalg.norm(reading.body.acceleration, axis=1).mean() < 11.0, "gravity"


def test_a_frame_shows_the_middle_of_its_exposure_and_its_own_time_is_the_start() -> None:
    frame = dv.Frame(1_000_000, np.zeros((4, 6), np.uint8))
    frame.exposure = timedelta(microseconds=6001)
    reading = dv_objects.frame(frame)
    assert reading is not None
    assert isinstance(reading.body, Frame)
    assert (reading.body.exposure_start, reading.body.t, reading.body.exposure_end) == (1_000_000, 1_003_000, 1_006_001)


def test_a_frame_without_exposure_claims_none() -> None:
    reading = dv_objects.reading(dv.Frame(77, np.zeros((4, 6), np.uint8)))
    assert reading is not None
    assert isinstance(reading.body, Frame)
    assert (reading.body.t, reading.body.exposure_start, reading.body.exposure_end) == (77, None, None)


def test_colour_stays_blue_green_red_and_transparency_goes() -> None:
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    three = dv_objects.reading(dv.Frame(1, image))
    four = dv_objects.reading(dv.Frame(1, np.dstack([image, np.full((4, 6), 9, np.uint8)])))
    assert three is not None
    assert four is not None
    assert isinstance(three.body, Frame)
    assert isinstance(four.body, Frame)
    assert np.array_equal(three.body.image, image)
    assert np.array_equal(four.body.image, image)


def test_a_cropped_picture_stands_where_it_was_on_the_sensor() -> None:
    image = np.full((4, 6), 200, np.uint8)
    frame = dv.Frame(1, image)
    frame.positionX, frame.positionY = 3, 2
    reading = dv_objects.reading(frame, (20, 10))
    assert reading is not None
    assert isinstance(reading.body, Frame)
    assert reading.body.image.shape == (10, 20)
    assert np.array_equal(reading.body.image[2:6, 3:9], image)
    assert reading.body.image.sum() == image.sum()
    frame.positionX = 15
    assert dv_objects.reading(frame, (20, 10)) is None, "it does not fit"


def test_what_is_empty_or_no_data_gives_no_reading() -> None:
    nothing = dv.io.DataReadHandler.OutputFlag.CONTINUE
    empty = (dv.EventStore(), dv.Frame(), dv.IMUPacket.ImuVector(), dv.TriggerPacket.TriggersVector(), nothing, None)
    assert [dv_objects.reading(each) for each in empty] == [None] * 6


def test_coordinates_below_zero_lie_off_every_sensor() -> None:
    store = dv.EventStore()
    store.push_back(5, -1, -2, True)
    reading = dv_objects.reading(store)
    assert reading is not None
    assert isinstance(reading.body, Events)
    assert min(reading.body.x[0], reading.body.y[0]) > 60_000


def test_the_readings_own_their_arrays() -> None:
    store = dv.EventStore()
    store.push_back(5, 1, 2, True)
    reading = dv_objects.reading(store)
    assert reading is not None
    assert isinstance(reading.body, Events)
    assert all(getattr(reading.body, name).flags.owndata for name in ("t", "x", "y", "p"))


def test_every_trigger_type_that_dv_processing_knows_has_a_channel_and_an_edge() -> None:
    vector = dv.TriggerPacket.TriggersVector([dv.Trigger(9, kind) for kind in dv.TriggerType.__members__.values()])
    reading = dv_objects.reading(vector)
    assert reading is not None
    assert isinstance(reading.body, Trigger)
    by_name = dict(
        zip(dv.TriggerType.__members__, zip(reading.body.channel, reading.body.edge, strict=True), strict=True)
    )
    assert by_name == {
        "TIMESTAMP_RESET": (4, Edge.PULSE),
        "EXTERNAL_SIGNAL_RISING_EDGE": (0, Edge.RISING),
        "EXTERNAL_SIGNAL_FALLING_EDGE": (0, Edge.FALLING),
        "EXTERNAL_SIGNAL_PULSE": (0, Edge.PULSE),
        "EXTERNAL_GENERATOR_RISING_EDGE": (1, Edge.RISING),
        "EXTERNAL_GENERATOR_FALLING_EDGE": (1, Edge.FALLING),
        "APS_FRAME_START": (2, Edge.RISING),
        "APS_FRAME_END": (2, Edge.FALLING),
        "APS_EXPOSURE_START": (3, Edge.RISING),
        "APS_EXPOSURE_END": (3, Edge.FALLING),
    }
