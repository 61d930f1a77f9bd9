"""The replay driver: paced like the camera, obedient, and never going back in time downstream."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

import drivers.replay as replay
from rtpipe.errors import InputError, RtpipeError
from rtpipe.formats import open_recording
from rtpipe.formats.ecm_h5 import Writer
from rtpipe.types import Events, Frame, Packet

SECONDS = 0.4
PERIOD = 40_000


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """0.4 s: an event every 50 µs, a frame every 40 ms exposed for 10 ms."""
    path = tmp_path_factory.mktemp("replay") / "small.h5"
    t = np.arange(0, int(SECONDS * 1e6), 50)
    with Writer(path, (32, 24)) as writer:
        writer.add_events(Events(t, np.arange(len(t)) % 32, np.arange(len(t)) % 24, np.arange(len(t)) % 2))
        for k in range(9):
            start = k * PERIOD + 20_000
            image = np.full((24, 32), k * 20, np.uint8)
            writer.add_frame(Frame(image, start + 5000, start, start + 10_000))
    return path


@pytest.fixture
def play(recording: Path) -> Iterator[Callable[..., replay.Driver]]:
    opened: list[replay.Driver] = []

    def make(**settings: object) -> replay.Driver:
        driver = replay.Driver(replay.Settings(path=str(recording), **settings))  # type: ignore[arg-type]
        driver.open()
        opened.append(driver)
        return driver

    yield make
    for driver in opened:
        driver.close()


def drain(driver: replay.Driver, most: int = 10_000) -> list[Packet]:
    """Packets until the end, or about ``most`` of them."""
    packets: list[Packet] = []
    while len(packets) < most:
        more = driver.read(0.5)
        if more is None:
            break
        packets.extend(more)
    return packets


def columns(packets: list[Packet]) -> Events:
    return Events.concatenate([p.body for p in packets if isinstance(p.body, Events)])


def check_downstream(packets: list[Packet]) -> None:
    """What every consumer relies on, whatever was commanded."""
    seqs: dict[str, int] = {}
    last: dict[str, int] = {}
    for p in packets:
        assert p.seq == seqs.get(p.stream, -1) + 1
        seqs[p.stream] = p.seq
        assert p.t_last >= last.get(p.stream, p.t_last)
        if isinstance(p.body, Events):
            assert p.body.t[0] >= last.get(p.stream, p.body.t[0])
            assert p.t_first <= p.body.t[0]
            assert p.body.t[-1] <= p.t_last
        last[p.stream] = p.t_last
    assert [p.epoch for p in packets] == sorted(p.epoch for p in packets)


def test_as_fast_as_possible_gives_the_recordings_own_packets(
    play: Callable[..., replay.Driver], recording: Path
) -> None:
    packets = drain(play(speed=0))
    with open_recording(recording) as reader:
        expected = list(reader.packets())
    assert [(p.stream, p.seq, p.t_first, p.t_last, p.end) for p in packets] == [
        (p.stream, p.seq, p.t_first, p.t_last, p.end) for p in expected
    ]
    assert sum(p.end for p in packets) == 2
    check_downstream(packets)


def test_at_full_speed_packets_come_when_the_camera_would_have_sent_them(play: Callable[..., replay.Driver]) -> None:
    driver = play(speed=2.0)
    began = time.monotonic_ns()
    packets = drain(driver)
    took = (time.monotonic_ns() - began) / 1e9
    assert took >= SECONDS / 2 - 0.01  # a slow machine may take longer, never shorter
    for p in packets:  # no packet before its time
        assert (p.received_ns - began) / 1e3 >= p.t_last / 2 - 1000


def test_a_consumer_that_made_us_wait_is_not_flooded(play: Callable[..., replay.Driver]) -> None:
    driver = play()
    first = driver.read(0.5)
    assert first
    time.sleep(0.25)  # the consumer stalls for 125 packets' worth
    late = list(driver.read(0.0) or ())
    late += list(driver.read(0.0) or ())
    assert sum(p.stream == "camera/events" for p in late) < 30


def test_times_come_back_and_go_on_over_a_loop(play: Callable[..., replay.Driver]) -> None:
    driver = play(speed=0, loop=True)
    packets = drain(driver, 700)
    check_downstream(packets)
    assert not any(p.end for p in packets)
    assert {0, 1, 2} <= {p.epoch for p in packets}
    laps = [[p for p in packets if p.epoch == k] for k in (0, 1)]
    first, second = (columns(lap) for lap in laps)
    assert np.array_equal(first.x, second.x)
    shift = laps[0][-1].t_last if laps[0][-1].stream == "camera/events" else max(p.t_last for p in laps[0])
    assert np.array_equal(first.t + shift, second.t)
    frames = [[p.body for p in lap if isinstance(p.body, Frame)] for lap in laps]
    assert [f.exposure_start + shift for f in frames[0]] == [f.exposure_start for f in frames[1]]
    assert [f.exposure_end + shift for f in frames[0]] == [f.exposure_end for f in frames[1]]


def test_pause_resume_and_step_by_frame(play: Callable[..., replay.Driver]) -> None:
    driver = play(speed=0)
    driver.control("pause")
    assert not driver.read(0.01)
    packets: list[Packet] = []
    for k in range(3):
        driver.control("step")
        stepped: list[Packet] = []
        while not stepped or stepped[-1].stream != "camera/frames":
            stepped.extend(driver.read(0.5) or ())
        assert not driver.read(0.01)  # paused again
        assert [p.body.image[0, 0] for p in stepped if isinstance(p.body, Frame)] == [k * 20]
        packets += stepped
    assert "0.1" in driver.control("resume")
    packets += drain(driver)
    check_downstream(packets)
    assert len(columns(packets)) == SECONDS * 1e6 / 50


def test_a_seek_back_begins_an_epoch_and_time_goes_on(play: Callable[..., replay.Driver]) -> None:
    driver = play(speed=0)
    before = drain(driver, 120)
    assert driver.control("seek 0.1") == "at 0.100 s"
    after = drain(driver)
    check_downstream(before + after)
    assert {p.epoch for p in before} == {0}
    assert {p.epoch for p in after} == {1}
    shift = after[0].t_first - 100_000
    assert shift == max(p.t_last for p in before) - 100_000
    with open_recording(driver._settings.path) as reader:
        assert np.array_equal(columns(after).t - shift, reader.events(100_000).t)
    assert all(p.body.exposure_start - shift >= 100_000 for p in after if isinstance(p.body, Frame))


def test_a_seek_ahead_jumps_ahead(play: Callable[..., replay.Driver]) -> None:
    driver = play(speed=0)
    before = drain(driver, 20)
    driver.control("seek 0.3")
    after = drain(driver)
    check_downstream(before + after)
    assert after[0].t_first == 300_000
    assert after[0].epoch == 1
    assert driver.progress() == pytest.approx((SECONDS, SECONDS), abs=0.001)


def test_a_seek_with_a_sign_is_from_here_and_stops_at_the_ends(play: Callable[..., replay.Driver]) -> None:
    driver = play(speed=0)
    drain(driver, 20)
    here = driver.progress()[0]
    assert driver.control("seek +0.1") == f"at {here + 0.1:.3f} s"
    assert driver.control("seek -0.05") == f"at {here + 0.05:.3f} s"
    assert driver.control("seek -9") == "at 0.000 s"
    assert driver.control("seek +9") == f"at {driver.progress()[1]:.3f} s"


def test_speed_changes_on_the_way(play: Callable[..., replay.Driver]) -> None:
    driver = play(speed=0.001)
    assert not driver.read(0.05)  # 2 ms of camera time take 2 s
    assert driver.control("speed 0") == "as fast as possible"
    assert len(columns(drain(driver))) == SECONDS * 1e6 / 50


def test_start_in_the_middle(play: Callable[..., replay.Driver]) -> None:
    packets = drain(play(speed=0, start_s=0.2))
    assert columns(packets).t[0] == 200_000
    assert packets[0].seq == 0


@pytest.mark.parametrize("loop", [False, True])
def test_a_restarted_driver_skips_what_the_consumers_have(play: Callable[..., replay.Driver], loop: bool) -> None:
    whole = drain(play(speed=0, loop=loop), 500)
    died_at = 330 if loop else 100
    seen: dict[str, int] = {}
    for p in whole[:died_at]:
        seen[p.stream] = p.seq
    again = play(speed=0, loop=loop)
    again.resume_after(seen)
    rest = drain(again, 150)
    n = min(len(rest), len(whole) - died_at)
    assert n > 100
    for p, q in zip(whole[died_at:][:n], rest[:n], strict=True):
        assert (p.stream, p.seq, p.t_first, p.t_last, p.epoch) == (q.stream, q.seq, q.t_first, q.t_last, q.epoch)


@pytest.mark.parametrize(
    "command", ["", "jump", "seek", "seek x", "seek 99", "seek +x", "seek nan", "speed -1", "pause 3"]
)
def test_nonsense_is_refused_in_words(play: Callable[..., replay.Driver], command: str) -> None:
    driver = play(speed=0)
    with pytest.raises(InputError):
        driver.control(command)
    assert len(columns(drain(driver))) == SECONDS * 1e6 / 50  # and changes nothing


def test_settings_are_refused_in_words(recording: Path) -> None:
    with pytest.raises(InputError, match="speed"):
        replay.Driver(replay.Settings(path="x", speed=-1))
    with pytest.raises(InputError, match="no such file"):
        replay.Driver(replay.Settings(path="nowhere.h5")).open()
    late = replay.Driver(replay.Settings(path=str(recording), start_s=9))
    with pytest.raises(InputError, match="start_s 9"):
        late.open()
    late.close()
    with pytest.raises(msgspec.ValidationError, match="speeed"):
        msgspec.convert({"path": "x", "speeed": 1}, replay.Settings)


def test_damage_further_on_comes_after_what_is_whole(tmp_path: Path, recording: Path) -> None:
    import h5py

    path = tmp_path / "bad.h5"
    path.write_bytes(recording.read_bytes())
    with h5py.File(path, "r+") as file:
        file["events/xs"][-1] = 99
        n = len(file["events/xs"])
    driver = replay.Driver(replay.Settings(path=str(path), speed=0))
    driver.open()
    with pytest.raises(RtpipeError, match=f"bad.h5.*off the 32x24 sensor.*{n}"):
        drain(driver)
    driver.close()


def test_close_ends_the_thread(play: Callable[..., replay.Driver]) -> None:
    import threading

    driver = play(loop=True)
    assert any(thread.name == "rtpipe read-ahead" for thread in threading.enumerate())
    driver.close()
    driver.close()
    assert not any(thread.name == "rtpipe read-ahead" for thread in threading.enumerate())
