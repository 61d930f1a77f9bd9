"""A camera's own bytes played undecoded: the same events at the same times, over loops and seeks; and recordings in
which time jumped."""

import numpy as np
import pytest

import drivers.replay as replay
from rtpipe import raw
from rtpipe.errors import InputError
from rtpipe.formats import open_recording
from rtpipe.formats.ecm_h5 import Writer
from rtpipe.types import Events, Packet, RawEvents, StreamInfo
from tests.drivers.test_replay import check_downstream, columns, drain
from tests.formats.mcap_recordings import cut, record, same_events, some_events
from tests.raw_runs import DRIVING, HASH, SIZE, digest

NIGHT = "recordings/prophesee/evt3_nightsky_hd.raw"
NIGHT_HASH = "eba3ccbb091cea74"


@pytest.fixture
def play():
    opened = []

    def make(path, **settings):
        driver = replay.Driver(replay.Settings(path=str(path), **{"speed": 0, "raw": True, **settings}))
        driver.streams = driver.open()
        opened.append(driver)
        return driver

    yield make
    for driver in opened:
        driver.close()


def events_of(packets):
    """The events of raw packets, each decoded by itself."""
    parts = []
    for packet in packets:
        if isinstance(packet.body, RawEvents):
            events, refused = raw.opened(packet.body, SIZE, packet.t_first, packet.t_last)
            assert refused == {}
            parts.append(events)
    return Events.concatenate(parts)


@pytest.mark.parametrize(("name", "wanted"), [(DRIVING, HASH), (NIGHT, NIGHT_HASH)])
def test_the_events_are_those_of_the_file(shared, play, name, wanted):
    driver = play(shared(name))
    assert [stream.encoding for stream in driver.streams] == ["evt3"]
    packets = drain(driver)
    check_downstream(packets)
    assert not any(isinstance(packet.body, Events) for packet in packets)
    assert digest(events_of(packets)) == wanted
    assert packets[-1].end


def test_the_report_says_what_was_inferred_of_the_recording(shared, play):
    assert "no geometry in the header" in play(shared(DRIVING)).facts["note:"]
    assert play(shared(NIGHT)).facts == {}


def test_packets_lie_on_the_grid_of_decoded_ones_with_watermarks_in_silence(shared, play):
    path = shared(NIGHT)
    packets, plain = (drain(play(path, packet_us=10, raw=raw), 2000) for raw in (True, False))
    packets, plain = ([p for p in some if p.t_last < 11_218_000] for some in (packets, plain))
    assert len(plain) > 1500
    ends = {packet.t_last for packet in packets}
    assert {packet.t_last for packet in plain} <= ends
    silent = [packet for packet in packets if packet.body is None and not packet.end]
    assert silent
    assert [(p.t_first, p.t_last) for p in silent] == [
        (p.t_first, p.t_last) for p in plain if p.body is None and not p.end
    ]


def test_over_a_loop_time_goes_on(shared, play):
    packets = drain(play(shared(DRIVING), loop=True), 30)
    check_downstream(packets)
    first, second = (events_of([p for p in packets if p.epoch == k]) for k in (0, 1))
    shift = max(p.t_last for p in packets if p.epoch == 0) - first.t[0]
    np.testing.assert_array_equal(first.t + shift, second.t)
    assert digest(first) == HASH
    np.testing.assert_array_equal(first.x, second.x)


def test_seeks_begin_an_epoch_at_the_instant(shared, play):
    driver = play(shared(NIGHT))
    before = drain(driver, 100)
    assert driver.control("seek 5") == "at 5.000 s"
    after = drain(driver, 300)
    assert driver.control("seek 1") == "at 1.000 s"
    back = drain(driver, 300)
    check_downstream([*before, *after, *back])
    assert {p.epoch for p in after} == {1}
    assert {p.epoch for p in back} == {2}
    with open_recording(shared(NIGHT)) as reader:
        for packets, start in ((after, 5_000_000), (back, 1_000_000)):
            made = events_of(packets)
            instant = reader.t_start + start
            wanted = reader.events(instant, instant + 900_000)[: len(made)]
            shift = next(p.body.t0 for p in packets if p.body is not None)
            np.testing.assert_array_equal(made.t - shift, wanted.t)
            np.testing.assert_array_equal(made.x, wanted.x)


def test_a_restarted_driver_skips_what_the_consumers_have(shared, play):
    whole = drain(play(shared(NIGHT)), 400)
    again = play(shared(NIGHT))
    again.resume_after({"camera/events": 199})
    rest = drain(again, 150)
    for p, q in zip(whole[200:], rest[:150], strict=False):
        assert (p.seq, p.t_first, p.t_last, p.n_events) == (q.seq, q.t_first, q.t_last, q.n_events)
        assert p.body is None or p.body.data.tobytes() == q.body.data.tobytes()


def test_a_recording_without_a_cameras_bytes_is_refused_in_words(tmp_path, play):
    with Writer(tmp_path / "a.h5", (32, 24)) as writer:
        writer.add_events(some_events(np.random.default_rng(0), 100, 1_000_000, (32, 24)))
    with pytest.raises(InputError, match=r"a\.h5.*leave raw out"):
        play(tmp_path / "a.h5")


def test_a_recorded_replay_is_played_undecoded_again(shared, tmp_path, play):
    packets = drain(play(shared(DRIVING), loop=True), 20)
    packets = [p for p in packets if p.epoch < 2]
    path = record(tmp_path / "a.mcap", packets, [StreamInfo("camera/events", SIZE)])
    again = drain(play(path, loop=False))
    check_downstream(again)
    assert [p.epoch for p in again if p.body is not None] == [p.epoch for p in packets if p.body is not None]
    assert same_events(events_of(again), events_of(packets))


# Recordings in which time jumped


def jumpy(path):
    """A recording of three epochs: one second, from its beginning again, and an hour later."""
    rng = np.random.default_rng(1)
    packets, seq = [], 0
    for epoch, t0 in enumerate((1_000_000, 1_000_000, 3_600_000_000)):
        for packet in cut(some_events(rng, 2000, t0, (32, 24)), 200, seq=seq, epoch=epoch):
            packets.append(packet)
            seq = packet.seq + 1
    return record(path, packets, [StreamInfo("camera/events", (32, 24))]), packets


def test_jumps_in_a_recording_are_epochs_of_its_replay(tmp_path, play):
    path, sent = jumpy(tmp_path / "a.mcap")
    packets = drain(play(path, raw=False))
    check_downstream(packets)
    assert {p.epoch for p in packets} == {0, 1, 2}
    for epoch in range(3):
        wanted = Events.concatenate([p.body for p in sent if p.epoch == epoch])
        made = columns([p for p in packets if p.epoch == epoch])
        np.testing.assert_array_equal(np.diff(made.t), np.diff(wanted.t))
        np.testing.assert_array_equal(made.x, wanted.x)


def test_after_a_lap_or_a_seek_epochs_go_on(tmp_path, play):
    path, _ = jumpy(tmp_path / "a.mcap")
    driver = play(path, raw=False, loop=True)
    packets: list[Packet] = []
    while not packets or packets[-1].epoch < 5:
        packets += driver.read(0.5)
    driver.control("seek 0")
    packets += drain(driver, 20)
    check_downstream(packets)
    assert {p.epoch for p in packets} >= set(range(7))


def test_no_one_waits_for_an_hour_that_was_not_recorded(tmp_path, play):
    path, _ = jumpy(tmp_path / "a.mcap")
    packets = drain(play(path, raw=False, speed=1.0))  # at the recording's pace: 20 ms an epoch
    assert {p.epoch for p in packets} == {0, 1, 2}
