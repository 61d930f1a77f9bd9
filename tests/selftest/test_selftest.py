"""The self-test on a stand-in, through the real driver: a good camera passes, and each thing that is wrong is named."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from drivers import davis
from rtpipe.errors import WorldError
from rtpipe.machine.cameras import Capability
from rtpipe.selftest import check_others, check_settings, check_situations, check_stream
from rtpipe.selftest.picture import draw
from rtpipe.selftest.result import Report
from rtpipe.selftest.run import Plan, run, summary
from rtpipe.selftest.sample import Arrival, Sample, take
from rtpipe.types import Events, Packet, StreamInfo
from tests.drivers.camera.faults import Fault
from tests.selftest import lying_backend

SIZE = (346, 260)
ABLE = [Capability(each.name, each.where, each.says) for each in lying_backend.Device.capabilities]


class Somebody:
    """Does what is asked, and keeps what is said."""

    def __init__(self, does: bool = True) -> None:
        self.does = does
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def ask(self, text: str) -> bool:
        self.said.append(text)
        return self.does


def states(report: Report) -> dict[str, str]:
    return {result.check: result.state for result in report.results}


def test_a_camera_that_does_what_it_says_passes_and_the_report_can_be_sent(
    plugged: Callable[..., davis.Driver], tmp_path: Path
) -> None:
    plan = Plan("davis", plugged(), ABLE, seconds=0.8, look_s=0.3, still_s=0.3, stall_s=0.2)
    person = Somebody(does=False)
    report, sample = run(plan, person)
    found = states(report)
    failed = {check for check, state in found.items() if state == "failed"}
    failed -= {"clock"}  # a stand-in on a busy machine keeps no time; the clock has a test of its own
    assert failed == set(), report.results
    good = {"events", "order", "coordinates", "polarity", "frames", "imu", "triggers", "losses"}
    good |= {"setting roi", "setting mask", "setting frames.exposure_us", "setting biases.diff_on"}
    assert {check for check, state in found.items() if state == "passed"} >= good, report.results
    assert found["setting sync"] == found["unplug and replug"] == "skipped"
    assert report.ok or found["clock"] == "failed"
    assert summary(report).endswith("works here" if report.ok else "should")
    assert (report.camera["camera"], report.camera["firmware"]) == ("DAVIS346 00000499", "1.0")
    assert len(person.said) > len(report.results)
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report
    picture = draw(report, sample)
    assert picture.shape[1] == 1280
    panels = [picture[80:380, x : x + 400] for x in (20, 440, 860)]
    assert all(panel.std() > 2 for panel in panels)  # events, a picture, rates: none of them blank
    assert cv2.imwrite(str(tmp_path / "report.png"), picture)


@pytest.mark.parametrize("name", ["roi", "frames.exposure_us", "biases.diff_on"])
def test_a_setting_that_is_claimed_and_not_done_is_found_out(plugged: Callable[..., davis.Driver], name: str) -> None:
    driver = plugged()
    driver.open()
    bench = check_settings.Bench(driver, SIZE, ["events", "frames"], 0.4)
    capability = next(each for each in ABLE if each.name == name)
    assert check_settings.one(bench, name, capability).state == "passed"
    lying_backend.lies.add(name)
    result = check_settings.one(bench, name, capability)
    assert result.state == ("noted" if name.startswith("biases") else "failed"), result


def test_a_setting_that_the_camera_refuses_has_failed_if_it_was_claimed(plugged: Callable[..., davis.Driver]) -> None:
    driver = plugged()
    driver.open()
    bench = check_settings.Bench(driver, SIZE, ["events"], 0.2)
    wide = Capability("biases.diff_on", "hardware", "-1,000 to 1,000")
    result = check_settings.one(bench, wide.name, wide)
    assert result.state == "failed"
    assert "-20 to 100 wanted" in result.says


def test_a_setting_for_the_start_alone_is_left_to_the_person(plugged: Callable[..., davis.Driver]) -> None:
    bench = check_settings.Bench(plugged(), SIZE, ["events"], 0.2)
    result = check_settings.one(bench, "roi", Capability("roi", "hardware", "one rectangle; when it is opened only"))
    assert result.state == "skipped"


def test_ranges_are_read_from_the_words_of_every_back_end() -> None:
    assert check_settings._range("biases.diff_on", "-20 to 100") == (-20, 100)
    assert check_settings._range("biases.OnBn.fine", "coarse 0 to 7, fine 0 to 255") == (0, 255)
    assert check_settings._range("biases.x", "0 to 16,777,215") == (0, 16_777_215)
    assert check_settings._range("biases.x", "one of 3, 4") == (None, None)
    tried = check_settings._sensitivity(
        ["biases.DiffOn.coarse", "biases.DiffOn.fine", "biases.bias_diff_on", "biases.Pr"]
    )
    assert tried == ["biases.DiffOn.fine", "biases.bias_diff_on"]


@pytest.mark.parametrize(
    ("spoilt", "check"),
    [("polarity", check_stream.polarity), ("gravity", check_others.imu), ("exposure", check_others.frames)],
)
def test_what_a_spoilt_camera_sends_is_named(
    plugged: Callable[..., davis.Driver], spoilt: str, check: Callable[[Sample], check_stream.Result]
) -> None:
    lying_backend.spoils.add(spoilt)
    driver = plugged()
    driver.open()
    result = check(take(driver, SIZE, 0.6))
    assert result.state == "failed", result


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(what="overflow", at_s=0.2, n=5), "ring overflow"),
        (Fault(what="off_sensor", at_s=0.2), "coordinates"),
        (Fault(what="disorder", at_s=0.2), "order"),
    ],
)
def test_what_the_driver_had_to_drop_is_a_failure_with_its_name(
    plugged: Callable[..., davis.Driver], fault: Fault, reason: str
) -> None:
    driver = plugged(fault)
    driver.open()
    before = check_stream.dropped(driver.flows)
    sample = take(driver, SIZE, 0.8)
    result = check_stream.losses(before, driver.flows)
    assert result.state == "failed"
    assert reason in result.says
    assert check_stream.order(sample).state == "passed"  # what is passed on is in order all the same
    assert check_stream.coordinates(sample).state != "failed"


@pytest.mark.parametrize("what", ["back", "wrap"])
def test_a_clock_that_jumps_is_a_failure(plugged: Callable[..., davis.Driver], what: str) -> None:
    driver = plugged(Fault(what=what, at_s=0.3))  # type: ignore[arg-type]
    driver.open()
    result = check_stream.order(take(driver, SIZE, 0.8))
    assert result.state == "failed"
    assert "1 jumps of the clock" in result.says


def test_silence_is_no_camera(plugged: Callable[..., davis.Driver]) -> None:
    driver = plugged(Fault(what="silence", at_s=0.0, for_s=60))
    driver.open()
    result = check_stream.rate(take(driver, SIZE, 0.3))
    assert result.state == "failed"
    assert "lens" in result.says


def test_the_cable_is_pulled_and_put_back(plugged: Callable[..., davis.Driver]) -> None:
    driver = plugged(Fault(what="unplug", at_s=0.3, for_s=0.5))
    driver.open()
    take(driver, SIZE, 0.1)
    result = check_situations.replug(driver, SIZE, Somebody(), patience_s=10)
    assert result.state == "passed", result
    assert result.numbers["gone_s"] < 5


@pytest.mark.parametrize(
    ("fault", "says"),
    [(None, "did not notice"), (Fault(what="unplug", at_s=0.2, for_s=60), "not taken up again")],
)
def test_a_camera_that_does_not_come_back_has_failed(
    plugged: Callable[..., davis.Driver], fault: Fault | None, says: str
) -> None:
    driver = plugged(*([fault] if fault else []))
    driver.open()
    take(driver, SIZE, 0.1)
    result = check_situations.replug(driver, SIZE, Somebody(), patience_s=1.0)
    assert result.state == "failed"
    assert says in result.says


def test_a_reader_that_stalls_finds_the_stream_going_on(plugged: Callable[..., davis.Driver]) -> None:
    driver = plugged()
    driver.open()
    assert check_situations.stall(driver, SIZE, 0.3).state == "passed"


class Broken:
    """A driver that fails while it streams."""

    live = True

    def __init__(self) -> None:
        self.closed = False

    def open(self) -> Sequence[StreamInfo]:
        return [StreamInfo("camera/events", SIZE)]

    def read(self, timeout_s: float) -> Sequence[Packet] | None:
        raise WorldError("the cable is on fire")

    def control(self, command: str) -> str:
        return ""

    def close(self) -> None:
        self.closed = True


def test_a_driver_that_breaks_is_a_failed_check_and_is_closed() -> None:
    driver = Broken()
    report, sample = run(Plan("broken", driver, seconds=0.1), Somebody())
    assert not report.ok
    assert driver.closed
    assert report.results[-1].says == "the cable is on fire"
    assert draw(report, sample).shape[1] == 1280


def steady(drift: float = 0.0, jitter_ms: float = 2.0, seconds: float = 5.0) -> Sample:
    """Packets of a camera whose clock runs slow by ``drift``, each late by some random time."""
    random = np.random.default_rng(1)
    sample = Sample(SIZE, seconds)
    for n in range(int(seconds * 500)):
        t = n * 2000
        host_ns = int(t * 1000 * (1 + drift) + random.exponential(jitter_ms) * 1e6) + 7_000_000_000
        sample.arrivals.append(Arrival("camera/events", n, t - 2000, t, host_ns, 0, 10))
    return sample


def test_drift_is_measured_through_the_jitter_of_the_usb() -> None:
    result = check_stream.clock(steady(drift=100e-6))
    assert result.state == "passed"
    assert result.numbers["drift_ppm"] == pytest.approx(100, abs=30)
    assert check_stream.clock(steady(drift=0.01)).state == "failed"
    assert check_stream.clock(steady(jitter_ms=40)).state == "noted"


@pytest.mark.parametrize(
    ("change", "says"),
    [({"seq": 7}, "gaps"), ({"t_first": 0}, "packets back"), ({"epoch": 1}, "jumps of the clock")],
)
def test_order_is_judged_packet_by_packet(change: dict[str, int], says: str) -> None:
    sample = steady(seconds=0.1)
    assert check_stream.order(sample).state == "passed"
    sample.arrivals[20] = dataclasses.replace(sample.arrivals[20], **change)  # type: ignore[arg-type]
    result = check_stream.order(sample)
    assert result.state == "failed"
    assert says in result.says


def test_events_off_the_sensor_and_hot_pixels_are_counted() -> None:
    random = np.random.default_rng(2)
    n = 200_000
    x, y = random.integers(0, 346, n).astype(np.uint16), random.integers(0, 260, n).astype(np.uint16)
    x[:5000], y[:5000] = 17, 23
    events = Events(np.arange(n), x, y, random.integers(0, 2, n).astype(np.uint8))
    sample = Sample(SIZE, 1.0)
    sample.add(Packet("camera/events", 0, 0, n, 0, events))
    result = check_stream.coordinates(sample)
    assert (result.state, result.numbers["hot_pixels"]) == ("passed", 1)
    half = Sample(SIZE, 1.0)
    half.add(Packet("camera/events", 0, 0, n, 0, Events(events.t, x, y // np.uint16(3), events.p)))
    assert "lower half is silent" in check_stream.coordinates(half).says
    worse = Sample(SIZE, 1.0)
    worse.add(Packet("camera/events", 0, 0, n, 0, Events(events.t, np.where(events.t == 7, 400, x), y, events.p)))
    assert "1 events off a sensor" in check_stream.coordinates(worse).says
