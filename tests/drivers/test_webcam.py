"""The webcam driver on real streams: a video file, MJPEG over HTTP and RTSP with H.264 from servers on loopback; and on
a stand-in of OpenCV's V4L2, since there is no camera."""

import inspect
import time
from itertools import pairwise

import cv2
import numpy as np
import pytest

from drivers.camera import opencv_frames
from drivers.webcam import Driver, Settings
from rtpipe.errors import InputError, WorldError
from tests.drivers.camera.frame_servers import SIZE, Dead, Mjpeg, Rtsp, number, picture, video


def frames(driver, seconds=10.0, most=None, until=lambda packets: False):
    """What a driver sends until its end, ``most`` frames, or so long."""
    got, end = [], time.monotonic() + seconds
    while time.monotonic() < end and (most is None or len(got) < most) and not until(got):
        packets = driver.read(0.02)
        if packets is None:
            break
        got += [packet for packet in packets if packet.body is not None]
    return got


@pytest.fixture
def opened(request):
    def make(**settings):
        driver = Driver(Settings(**settings))
        request.addfinalizer(driver.close)
        driver.open()
        return driver

    return make


def in_order(packets):
    return [b.t_first > a.t_first and b.seq > a.seq for a, b in pairwise(packets)]


def test_a_file_is_played_whole_at_its_own_pace_and_ends(tmp_path, opened):
    driver = opened(device=str(video(tmp_path / "a.mp4")), exposure_us=10_000)
    began = time.monotonic()
    got = frames(driver)
    assert [number(packet.body.image) for packet in got] == list(range(20))
    assert 0.7 < time.monotonic() - began < 5
    assert {round((b.body.t - a.body.t) / 1000) for a, b in pairwise(got)} == {40}
    assert all(p.body.exposure_end - p.body.exposure_start == 10_000 for p in got)
    assert all(p.body.t == p.body.exposure_start + 5_000 for p in got)
    assert driver.read(0.01) is None
    assert driver.flows["frames"].balanced


def test_a_file_that_loops_begins_an_epoch_each_time_while_time_goes_on(tmp_path, opened):
    got = frames(opened(device=str(video(tmp_path / "a.mp4", frames=5)), loop=True, grey=True), most=12)
    assert got[0].epoch < got[-1].epoch
    assert all(in_order(got))
    assert got[0].body.image.shape == (SIZE[1], SIZE[0])


def test_pictures_over_http_come_at_the_pace_at_which_they_are_sent(opened):
    with Mjpeg(rate=40) as server:
        driver = opened(device=f"http://127.0.0.1:{server.port}/")
        got = frames(driver, most=40)
    numbers = [number(packet.body.image) for packet in got]
    assert all((b - a) % 25 == 1 for a, b in pairwise(numbers))
    assert np.median(np.diff([packet.body.t for packet in got])) == pytest.approx(25_000, rel=0.2)
    assert "arrival" in driver.facts["times"]


def test_rtsp_has_the_intervals_of_its_own_clock(opened):
    with Rtsp(rate=25) as server:
        driver = opened(device=f"rtsp://127.0.0.1:{server.port}/live")
        got = frames(driver, most=30)
    assert set(np.diff([packet.body.t for packet in got])) <= {39_999, 40_000, 40_001}
    numbers = [number(packet.body.image) for packet in got]
    assert all((b - a) % 25 == 1 for a, b in pairwise(numbers))


def test_a_server_that_goes_and_comes_back_is_taken_up_again_within_two_seconds(opened):
    server = Mjpeg(rate=40)
    driver = opened(device=f"http://127.0.0.1:{server.port}/")
    before = frames(driver, most=10)
    server.close()
    frames(driver, seconds=1.0)
    with Mjpeg(rate=40, port=server.port):
        back = time.monotonic()
        after = frames(driver, seconds=8, most=10)
        assert len(after) == 10
        assert (after[0].received_ns / 1e9) - back < 2.0
    assert after[0].epoch > before[-1].epoch
    assert all(in_order([*before, *after]))
    assert "came back" in driver.facts
    assert driver.flows["frames"].balanced


def test_a_stream_that_falls_silent_is_given_up_and_watermarks_say_that_nothing_came(opened):
    with Mjpeg(rate=40) as server:
        driver = opened(device=f"http://127.0.0.1:{server.port}/")
        frames(driver, most=5)
        server.silent.set()
        marks, end = [], time.monotonic() + 4
        while time.monotonic() < end and len(marks) < 3:
            marks += [packet for packet in driver.read(0.02) or () if packet.body is None]
        server.silent.clear()
        later = frames(driver, seconds=8, most=3)
    assert len(marks) >= 3
    assert all(packet.t_first >= marks[-1].t_last for packet in later)
    assert len(later) == 3


def test_a_server_that_says_nothing_is_an_error_in_plain_words_and_no_hang(monkeypatch):
    monkeypatch.setattr("drivers.webcam.FIRST_S", 1.0)
    with Dead() as server:
        driver = Driver(Settings(device=f"rtsp://someone:secret@127.0.0.1:{server.port}/live"))
        began = time.monotonic()
        with pytest.raises(WorldError) as caught:
            driver.open()
        driver.close()
    assert time.monotonic() - began < 15
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"device": "no-such-file.mp4"}, InputError, "no such file"),
        ({"device": "gopher://x"}, InputError, "gopher"),
        ({"device": "/dev/video77"}, WorldError, "not there"),
        ({"device": "videotestsrc ! appsink"}, InputError, "GStreamer"),
        ({"device": 0, "times": "stream"}, InputError, "times"),
        ({"device": "rtsp://h/x", "login": "NO_SUCH_VARIABLE"}, InputError, "NO_SUCH_VARIABLE"),
    ],
)
def test_what_cannot_be_opened_is_said(settings, error, words):
    if "appsink" in str(settings["device"]) and opencv_frames.has_gstreamer():
        pytest.skip("this OpenCV has GStreamer")
    with pytest.raises(error, match=words):
        Driver(Settings(**settings)).open()


def test_a_file_without_video_is_refused(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"no video at all" * 100)
    driver = Driver(Settings(device=str(path)))
    with pytest.raises((InputError, WorldError), match=r"a\.mp4|no picture|no video"):
        driver.open()
    driver.close()


def test_the_login_is_in_no_fact_and_no_stream(monkeypatch):
    monkeypatch.setenv("DOOR_CAMERA", "someone:secret")
    with Rtsp() as server:
        driver = Driver(Settings(device=f"rtsp://127.0.0.1:{server.port}/live", login="DOOR_CAMERA"))
        streams = driver.open()
        frames(driver, most=2)
        driver.close()
    assert "secret" not in repr((streams, dict(driver.facts)))


# V4L2, by a stand-in with the calls of OpenCV


class FakeV4L2:
    """A camera at 30/s that takes 640x480 for whatever is asked, counts exposure in steps of 500 µs, stamps the start
    of each exposure, and can vanish."""

    present, opened = True, 0

    def __init__(self, device, backend):
        assert backend == cv2.CAP_V4L2
        FakeV4L2.opened += 1
        self.properties, self._k, self._t = {cv2.CAP_PROP_FPS: 30.0}, 0, 0.0

    def isOpened(self):
        return FakeV4L2.present

    def set(self, prop, value):
        if prop == cv2.CAP_PROP_EXPOSURE:
            value = 5 * round(value / 5)
        if prop in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT):
            value = 640.0 if prop == cv2.CAP_PROP_FRAME_WIDTH else 480.0
        self.properties[prop] = value
        return True

    def get(self, prop):
        return self._t if prop == cv2.CAP_PROP_POS_MSEC else self.properties.get(prop, 0.0)

    def grab(self):
        time.sleep(1 / 30)
        self._k += 1
        self._t = time.monotonic() * 1e3 - 20.0
        return FakeV4L2.present

    def retrieve(self):
        return True, picture(self._k, (640, 480))

    def release(self):
        pass


@pytest.fixture
def v4l2(monkeypatch):
    FakeV4L2.present, FakeV4L2.opened = True, 0
    monkeypatch.setattr(opencv_frames.cv2, "VideoCapture", FakeV4L2)


def test_the_stand_in_has_only_calls_that_opencv_has():
    for name, _ in inspect.getmembers(FakeV4L2, inspect.isfunction):
        assert name.startswith("__") or callable(getattr(cv2.VideoCapture, name))


def test_a_v4l2_camera_is_set_asked_and_reported_and_its_buffers_times_are_kept(v4l2, opened):
    driver = opened(device=0, width=1920, height=480, exposure_us=8_200, fourcc="MJPG")
    got = frames(driver, most=5)
    assert "width 640 (asked 1920)" in driver.facts["settings"]
    assert "height 480" in driver.facts["settings"]
    assert "exposure_us 8000 (asked 8200)" in driver.facts["settings"]
    assert "MJPG" in driver.facts["settings"]
    for packet in got:
        assert packet.body.exposure_end - packet.body.exposure_start == 8_000
        assert packet.received_ns / 1e3 - packet.body.exposure_start == pytest.approx(20_000, abs=2_000)
    assert "device" in driver.facts["times"]


def test_exposure_can_be_changed_while_it_runs(v4l2, opened):
    driver = opened(device=0, exposure_us=8_000)
    frames(driver, most=2)
    driver.control("set exposure_us 3000")
    got = frames(driver, most=6)
    assert got[-1].body.exposure_end - got[-1].body.exposure_start == 3_000
    for wrong in ("set exposure_us -3", "set gain 4", "seek 3"):
        with pytest.raises(InputError):
            driver.control(wrong)


def test_a_camera_that_is_unplugged_is_taken_up_again_where_it_comes_back(v4l2, opened):
    driver = opened(device=0)
    before = frames(driver, most=3)
    FakeV4L2.present = False
    frames(driver, seconds=0.6)
    assert "gone" in driver.facts
    FakeV4L2.present = True
    back = time.monotonic()
    after = frames(driver, seconds=5, most=3)
    assert after[0].received_ns / 1e9 - back < 2.0
    assert after[0].epoch == before[-1].epoch + 1
    assert all(in_order([*before, *after]))
    assert "gone" not in driver.facts


def test_paused_frames_are_counted(v4l2, opened):
    driver = opened(device=0)
    frames(driver, most=2)
    assert driver.control("pause") == "paused"
    assert frames(driver, seconds=0.3) == []
    driver.control("resume")
    assert len(frames(driver, most=2)) == 2
    assert driver.flows["frames"].dropped["paused"] > 3
    assert driver.flows["frames"].balanced
