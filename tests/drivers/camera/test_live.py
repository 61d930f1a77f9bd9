"""The driver around a device that a test scripts reading by reading: what becomes of each, and of what an SDK does."""

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from drivers.camera import keeper as keeper_module
from drivers.camera import live as live_module
from drivers.camera.choose import Chosen, NoneAttachedError
from drivers.camera.contract import Attached, Batch, Capability, GoneError, Reading
from drivers.camera.inbox import Inbox
from drivers.davis import Driver, Settings
from drivers.evk4 import Driver as Evk4
from drivers.evk4 import Settings as Evk4Settings
from rtpipe.encodings import evt3
from rtpipe.errors import InputError, WorldError
from rtpipe.types import Events, Frame, PackedEvents, RawEvents

RESOLUTION = (40, 30)


def events(*times, x=1):
    n = len(times)
    return Events(np.array(times), np.full(n, x), np.zeros(n), np.ones(n))


def reading(body, kind="events"):
    if isinstance(body, Frame):
        return Reading("frames", body.t, body.t, body)
    return Reading(kind, int(body.t[0]), int(body.t[-1]), body)


class Device:
    """Gives what ``script`` holds: batches, exceptions to raise, callables to call; then nothing more comes."""

    capabilities = (Capability("biases.diff_on", "hardware"),)

    def __init__(self, script, kinds=("events", "frames"), encoding=""):
        self.attached = Attached("scripted", "DAVIS346", "7", RESOLUTION)
        self.kinds, self.encoding = kinds, encoding
        self._script = script
        self.applied = []

    def apply(self, settings):
        self.applied.append(settings)

    def read(self, timeout_s):
        while self._script:
            step = self._script.pop(0)
            if isinstance(step, Exception):
                raise step
            if callable(step):
                step()
                continue
            return Batch(step.readings, time.monotonic_ns(), step.lost, step.backlog, step.refused)
        time.sleep(min(timeout_s, 0.002))
        return Batch()

    def close(self):
        pass


@pytest.fixture
def driver(monkeypatch):
    """``driver(*scripts)``: one script for each time that the device is opened, given from the first read on."""
    made = []

    def make(*scripts, kind=Driver, settings=None, **device):
        begun, devices = threading.Event(), []

        def open_(camera, settings):
            if len(devices) == len(scripts):
                raise GoneError("not there")
            devices.append(Device([begun.wait, *scripts[len(devices)]], **device))
            return devices[-1]

        backend = SimpleNamespace(NAME="scripted", open=open_)
        attached = Attached("scripted", "DAVIS346", "7", RESOLUTION)
        monkeypatch.setattr(live_module, "choose", lambda models, settings: Chosen(backend, attached))
        monkeypatch.setattr(keeper_module, "again", lambda chosen, known: attached)
        live = kind(settings or Settings())
        live.open()
        live.read(0)
        begun.set()
        made.append(live)
        return live, devices

    yield make
    for live in made:
        live.close()


def pump(live, until, seconds=10.0):
    """Packets of all reads until ``until(packets)``."""
    packets, deadline = [], time.monotonic() + seconds
    while not until(packets):
        assert time.monotonic() < deadline, packets
        packets += live.read(0.005)
    return packets


def held(packets, kind=(Events, PackedEvents)):
    return [packet for packet in packets if isinstance(packet.body, kind)]


def assert_balanced(live):
    for kind, flow in live.flows.items():
        assert flow.balanced, (kind, flow)


def test_events_are_cut_into_packets_and_numbered(driver):
    batch = Batch((reading(events(*range(10_000, 20_000, 10))),))
    live, _ = driver([batch])
    packets = held(pump(live, lambda made: sum(p.n_events for p in made) == 1000))
    assert [packet.seq for packet in packets] == list(range(len(packets)))
    assert all(packet.t_last - packet.t_first < 2000 for packet in packets)
    assert np.concatenate([packet.body.t for packet in packets]).tolist() == list(range(10_000, 20_000, 10))
    live.finish()
    assert_balanced(live)


def test_silence_moves_time_on_and_what_is_later_than_that_is_late(driver):
    resumed = threading.Event()
    live, _ = driver([Batch((reading(events(1000, 2000)),)), resumed.wait, Batch((reading(events(2500, 9_000_000)),))])
    time.sleep(0.01)
    # the device does not return from its read: nothing is known to be silent, and nothing is promised
    assert all(packet.body is not None for packet in [p for _ in range(30) for p in live.read(0.01)])
    resumed.set()
    pump(live, lambda made: sum(p.n_events for p in made) >= 1 and made[-1].epoch == 1)
    live.finish()
    assert_balanced(live)


def test_watermarks_come_while_reads_return_nothing(driver):
    live, devices = driver([Batch((reading(events(1000, 2000)),))])
    packets = pump(live, lambda made: sum(p.body is None for p in made) > 5)
    marks = [packet.t_last for packet in packets if packet.body is None]
    assert marks == sorted(marks)
    devices[0]._script.append(Batch((reading(events(2500, marks[-1] - 1)),)))
    pump(live, lambda made: live.flows["events"].dropped)
    assert live.flows["events"].dropped == {"late": 2}
    live.finish()
    assert_balanced(live)


def test_a_few_wrong_times_are_no_jump(driver):
    glitch = events(5000, 5010, 5020, 99_000_000, 99_000_001, 5030, 5040)
    live, _ = driver([Batch((reading(events(1000, 2000)), reading(glitch)))])
    packets = pump(live, lambda made: sum(p.n_events for p in made) == 7)
    assert {packet.epoch for packet in packets} == {0}
    assert live.flows["events"].dropped == {"order": 2}
    live.finish()
    assert_balanced(live)


def test_impossible_times_coordinates_and_frames_are_refused(driver):
    wrong = [
        reading(events(1 << 62)),
        reading(events(3000, x=40)),
        reading(Frame(np.zeros((30, 41), np.uint8), 3000)),
        reading(Frame(np.zeros((30, 40), np.float32), 3000)),
        reading(events(3000), kind="imu"),
    ]
    live, _ = driver([Batch((reading(events(1000, 2000)), *wrong), refused={"after a gap": 3})])
    pump(live, lambda made: live.flows["frames"].taken == 2)
    live.finish()
    assert live.flows["events"].dropped == {"times": 1, "coordinates": 1, "after a gap": 3}
    assert live.flows["frames"].dropped == {"size": 1, "type": 1}
    assert live.flows["imu"].dropped == {"not_wanted": 1}
    assert_balanced(live)


def test_a_frames_exposure_that_is_none_is_left_out(driver):
    image = np.zeros((30, 40), np.uint8)
    frames = [Frame(image, 5000, 4000, 6000), Frame(image, 15_000, 16_000, 14_000), Frame(image, 25_000, 24_000)]
    live, _ = driver([Batch(tuple(reading(frame) for frame in frames))])
    made = held(pump(live, lambda made: len(held(made, Frame)) == 3), Frame)
    assert [packet.body.exposure_end for packet in made] == [6000, None, None]
    assert [(packet.t_first, packet.t_last) for packet in made] == [(4000, 6000), (15_000, 15_000), (25_000, 25_000)]


def frames_at(*times):
    return tuple(reading(Frame(np.zeros((30, 40), np.uint8), t)) for t in times)


def test_while_events_are_silent_the_other_streams_tell_the_time(driver):
    waiting = [Batch(frames_at(t), backlog=9) for t in range(100_000, 1_000_000, 100_000)]
    live, _ = driver([Batch((reading(events(1000, 2000)),), backlog=9), *waiting])
    packets = pump(live, lambda made: len(held(made, Frame)) == 9)
    marks = [packet.t_last for packet in packets if packet.body is None]
    assert marks == [t - 50_000 for t in range(100_000, 1_000_000, 100_000)]


def test_silent_events_follow_the_others_over_a_jump(driver):
    first = Batch((reading(events(20_000_000)), *frames_at(20_000_000)))
    live, _ = driver([first, Batch(frames_at(1_000_000)), Batch(frames_at(1_010_000))])
    packets = pump(live, lambda made: any(packet.body is None and packet.epoch == 1 for packet in made))
    marks = [packet for packet in packets if packet.stream == "camera/events"]
    assert [packet.epoch for packet in marks] == sorted(packet.epoch for packet in marks)
    times = [packet.t_last for packet in marks]
    assert times == sorted(times)


def test_filters_forget_when_the_clock_begins_anew(driver):
    settings = Settings(refractory_us=10_000_000)
    live, _ = driver(
        [Batch((reading(events(1000)),)), GoneError("x")], [Batch((reading(events(50, 60)),))], settings=settings
    )
    packets = pump(live, lambda made: sum(p.n_events for p in made) == 2)
    assert [packet.epoch for packet in packets if packet.n_events] == [0, 1]
    pump(live, lambda made: live.flows["filters"].taken == 3)
    live.finish()
    assert live.flows["filters"].dropped == {"refractory": 1}
    assert_balanced(live)


def test_transfers_that_the_sdk_lost_are_in_the_ledger(driver):
    live, _ = driver([Batch((reading(events(1000)),), lost={"ring overflow": 4})])
    pump(live, lambda made: live.flows["events"].taken == 1)
    live.finish()
    assert (live.flows["transfers"].taken, live.flows["transfers"].dropped) == (5, {"ring overflow": 4})
    assert_balanced(live)


def test_what_raises_is_opened_again(driver):
    live, devices = driver(
        [Batch((reading(events(1000, 2000)),)), ValueError("odd")], [Batch((reading(events(50, 60)),))]
    )
    packets = held(pump(live, lambda made: sum(p.n_events for p in made) == 4))
    assert [packet.epoch for packet in packets] == [0, 1]
    assert packets[1].t_first > packets[0].t_last
    assert "came back" in live.facts
    assert len(devices) == 2


def test_a_call_that_hangs_is_left_behind(driver, monkeypatch):
    monkeypatch.setitem(keeper_module.OVERDUE_S, "read", 0.2)
    forever = threading.Event()
    late = Batch((reading(events(3000, 4000)),))
    live, _ = driver([Batch((reading(events(1000, 2000)),)), forever.wait, late], [Batch((reading(events(50, 60)),))])
    packets = held(pump(live, lambda made: sum(p.n_events for p in made) == 4))
    assert [packet.epoch for packet in packets] == [0, 1]
    forever.set()
    time.sleep(0.05)
    live.finish()
    assert live.flows["events"].taken == 4  # what the lost thread brought in the end is nobody's


def test_pause_counts_what_it_leaves_out(driver):
    live, devices = driver([Batch((reading(events(1000, 2000)),))])
    pump(live, lambda made: sum(p.n_events for p in made) == 2)
    assert live.control("pause") == "paused"
    devices[0]._script.append(Batch((reading(events(3000, 4000, 5000)),)))
    pump(live, lambda made: live.flows["events"].taken == 5)
    assert live.control("resume") == "running"
    devices[0]._script.append(Batch((reading(events(6000, 7000)),)))
    packets = held(pump(live, lambda made: sum(p.n_events for p in made) == 2))
    assert packets[0].epoch == 1
    assert live.flows["events"].dropped == {"paused": 3}
    with pytest.raises(InputError, match="only a replay can"):
        live.control("seek 1")


def test_raw_runs_pass_as_they_are_but_for_their_time(driver):
    words = np.array([0x8000, 0x6001, 0x0005, 0x2003], np.uint16).view(np.uint8)  # time high, time low, row, column
    run = RawEvents("evt3", evt3.INITIAL, words, 1)
    wrong = RawEvents("evt3", evt3.INITIAL, words[:3], 1)
    script = [Batch((Reading("events", 1000, 2000, run), Reading("events", 2100, 2200, wrong)))]
    again = [Batch((Reading("events", 10, 20, run),))]
    settings = Evk4Settings(raw=True)
    live, _ = driver(
        [*script, GoneError("unplugged")], again, kind=Evk4, settings=settings, kinds=("events",), encoding="evt3"
    )
    packets = held(pump(live, lambda made: len(held(made, RawEvents)) == 2), RawEvents)
    assert live.flows["events"].dropped == {"invalid": 1}
    assert packets[0].body is run
    assert packets[1].body.t0 == packets[1].t_first - 10
    np.testing.assert_array_equal(packets[1].body.data, words)
    with pytest.raises(InputError, match="evt3 bytes"):
        live.control("set roi 1,2,3,4")


def test_what_the_host_cannot_hold_is_dropped_and_counted(driver, monkeypatch):
    monkeypatch.setattr(live_module, "Inbox", lambda: Inbox(most_bytes=13 * 25))
    many = [Batch((reading(events(*range(1000 * k, 1000 * k + 10))),)) for k in range(1, 9)]
    put = threading.Event()
    live, _ = driver([*many, put.set])
    assert put.wait(5)
    live.finish()
    assert live.flows["events"].taken == 80
    assert live.flows["events"].dropped == {"host queue": 60}
    assert live.flows["transfers"].dropped == {"host queue": 6}
    assert_balanced(live)


def test_raw_without_bytes_of_its_own_is_refused(driver):
    with pytest.raises(InputError, match="gives no bytes of its own"):
        driver([], settings=Settings(raw=True))


def test_the_first_that_goes_wrong_is_said(monkeypatch):
    def nothing(models, settings):
        raise NoneAttachedError("nothing there")

    def broken(camera, settings):
        raise OSError("the SDK says no")

    monkeypatch.setattr(live_module, "choose", nothing)
    with pytest.raises(WorldError, match="nothing there"):
        Driver(Settings()).open()
    waiting = Driver(Settings(wait=True))
    assert not waiting.ready(0.3)
    assert waiting.facts == {"camera": "waiting: nothing there"}
    waiting.close()
    chosen = Chosen(SimpleNamespace(NAME="scripted", open=broken), Attached("scripted", "DAVIS346", "7", RESOLUTION))
    monkeypatch.setattr(live_module, "choose", lambda models, settings: chosen)
    with pytest.raises(WorldError, match="could not be opened: OSError: the SDK says no"):
        Driver(Settings()).open()
