"""Our own recordings: what goes in comes out."""

import tracemalloc
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtpipe.errors import InputError
from rtpipe.formats import open_recording
from rtpipe.formats.mcap import Reader, Writer
from rtpipe.formats.mcap.read import ContainerFile
from rtpipe.packing import pack
from rtpipe.types import Count, Counters, Events, Frame, FrameFlag, Packet, StreamInfo
from tests.formats.mcap_recordings import (
    RESOLUTION,
    STREAMS,
    bodies,
    cut,
    mixed_packets,
    record,
    same_events,
    same_frame,
    some_events,
)

SLIDER = (240, 180)


@pytest.fixture(scope="module")
def packets():
    return mixed_packets()


@pytest.fixture
def file(tmp_path, packets):
    return record(tmp_path / "a.mcap", packets, flush_every=10)


# What goes in comes out


def test_a_real_recording_comes_back_event_by_event(shared, tmp_path):
    columns = np.load(shared("recordings/ijrr_slider_depth/events.npz"), allow_pickle=False)
    events = Events(columns["t_us"], columns["x"], columns["y"], columns["p"].astype(np.uint8))
    streams = [StreamInfo("camera/events", SLIDER)]
    path = record(tmp_path / "slider.mcap", cut(events, 5000), streams)
    with Reader(path) as reader:
        assert same_events(reader.events(), events)
        assert (reader.t_start, reader.t_end) == (3811, 3404080)
        assert reader.counts() == {"camera/events": 1_078_541}
    assert path.stat().st_size / len(events) < 3.0


@pytest.mark.parametrize("name", ["davis346_ball_throw", "davis346_highway"])
def test_a_replay_of_the_recording_is_a_replay_of_what_was_recorded(shared, tmp_path, name):
    with open_recording(shared(f"recordings/aedat4/{name}.aedat4")) as original:
        path = record(tmp_path / "a.mcap", original.packets(), original.streams, flush_every=100)
        with Reader(path) as copy:
            assert copy.counts() == original.counts()
            assert (copy.t_start, copy.t_end, copy.resolution) == (
                original.t_start,
                original.t_end,
                original.resolution,
            )
            for a, b in zip(original.packets(), copy.packets(), strict=True):
                told = [(p.stream, p.seq, p.t_first, p.t_last, p.end, p.body is None) for p in (a, b)]
                assert told[0] == told[1]
                if isinstance(a.body, Frame):
                    assert same_frame(a.body, b.body)
                elif a.body is not None:
                    for column in type(a.body).__dataclass_fields__:
                        np.testing.assert_array_equal(getattr(a.body, column), getattr(b.body, column))


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
@pytest.mark.parametrize("finished", [True, False])
def test_everything_comes_back_exactly_and_in_order(tmp_path, packets, codec, finished):
    path = record(tmp_path / "a.mcap", packets, flush_every=37, codec=codec, close=finished)
    with open_recording(path) as reader:
        assert same_events(reader.events(), Events.concatenate(bodies(packets, "camera/events")))
        for stream, found in (("camera/frames", reader.frames()), ("engine/output", reader.pictures("engine/output"))):
            wanted = bodies(packets, stream)
            assert all(same_frame(a, b) for a, b in zip(found, wanted, strict=True))
        imu, triggers = list(reader.imu()), list(reader.triggers())
        for column in ("t", "acceleration", "rotation", "temperature"):
            wanted = np.concatenate([getattr(b, column) for b in bodies(packets, "camera/imu")])
            np.testing.assert_array_equal(np.concatenate([getattr(i, column) for i in imu]), wanted)
        for column in ("t", "channel", "edge"):
            wanted = np.concatenate([getattr(b, column) for b in bodies(packets, "camera/triggers")])
            np.testing.assert_array_equal(np.concatenate([getattr(i, column) for i in triggers]), wanted)
        counts = {s.name: sum(len(b) if hasattr(b, "__len__") else 1 for b in bodies(packets, s.name)) for s in STREAMS}
        assert reader.counts() == counts
        assert reader.resolution == RESOLUTION
        assert reader.streams == STREAMS[:4]
        assert reader.recorded == STREAMS
        assert bool(reader.notes) is not finished


@pytest.mark.parametrize("finished", [True, False])
def test_the_packets_that_events_came_in_are_kept(tmp_path, finished):
    rng = np.random.default_rng(3)
    events = some_events(rng, 200_000)
    sizes = [0, 1, 70_000, 3, 0, 0, 65_536, 1]
    packets, at = [], 0
    for seq, size in enumerate(sizes):
        body = events[at : at + size] if size else None
        t = int(events.t[at])
        packets.append(Packet("camera/events", seq, t, int(events.t[at + max(size, 1) - 1]), 5 * seq, body))
        at += size
    packets.append(Packet("camera/events", len(sizes), t + 99, t + 99, 0, end=True))
    path = record(tmp_path / "a.mcap", packets, STREAMS[:1], close=finished)
    rows = [tuple(map(int, row)) for _, table in Reader(path).packet_table("camera/events") for row in table]
    joined = {}
    for seq, first, last, received, n, flags in rows:
        joined.setdefault(seq, [first, last, received, 0, False])
        joined[seq][3] += n
        joined[seq][4] = bool(flags & 1)
    wanted = {p.seq: [p.t_first, p.t_last, p.received_ns, p.n_events, p.end] for p in packets}
    assert joined == wanted
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_stream_of_events_survives(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("any") / "a.mcap"
    side = data.draw(st.sampled_from([1, 7, 1280, 1 << 15]))
    t = data.draw(st.sampled_from([0, -5, 1_700_000_000_000_000, -(1 << 60), 1 << 60]))
    packets, wanted = [], []
    for seq in range(data.draw(st.integers(0, 6))):
        n = data.draw(st.integers(0, 40))
        steps = data.draw(st.lists(st.sampled_from([0, 1, 255, 256, 65536, 1 << 32, 5 << 32]), min_size=n, max_size=n))
        times = t + np.cumsum(steps, dtype=np.int64)
        numbers = np.random.default_rng(seq).integers(0, side, (2, n))
        events = Events(times, numbers[0], numbers[1], numbers[0] % 2)
        t = int(times[-1]) if n else t
        short = n and t - int(times[0]) < 1 << 32
        body = pack(events) if short and data.draw(st.booleans()) else events
        packets.append(Packet("camera/events", seq, int(times[0]) if n else t, t, 0, body))
        wanted.append(events)
    finished = data.draw(st.booleans())
    every = data.draw(st.integers(0, 3))
    record(path, packets, [StreamInfo("camera/events", (side, side))], flush_every=every, close=finished)
    with Reader(path) as reader:
        assert same_events(reader.events(), Events.concatenate(wanted))


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (3, 346), (260, 346, 3), (720, 1280)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pictures_of_every_kind_keep_each_pixel(tmp_path, shape, dtype):
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, endpoint=True).astype(dtype)
    frames = [
        Frame(image, 50, 10, 90, "camera", FrameFlag.NONE),
        Frame(np.asfortranarray(image), -7, None, None, "net", FrameFlag.SKIPPED_BEFORE),
        Frame(image[::-1], 60, None, 90, "é", FrameFlag.PASSED_THROUGH),
    ]
    stream = StreamInfo("engine/output", (shape[1], shape[0]))
    path = record(tmp_path / "a.mcap", [Packet(stream.name, i, 0, 90, 0, f) for i, f in enumerate(frames)], [stream])
    with Reader(path) as reader:
        found = list(reader.pictures("engine/output"))
        assert all(same_frame(a, b) for a, b in zip(found, frames, strict=True))
        assert reader.resolution == stream.resolution


def test_a_recording_of_watermarks_alone_opens_and_says_so(tmp_path):
    path = record(tmp_path / "a.mcap", [Packet("camera/events", i, i, i + 1, 0) for i in range(5)])
    with Reader(path) as reader:
        assert len(reader.events()) == 0
        assert "holds nothing" in " ".join(reader.notes)
        assert all(p.body is None for p in reader.packets())


def test_truth_is_kept_apart(tmp_path):
    sharp = Frame(np.full((4, 4), 9, np.uint8), 5, source="truth")
    streams = [StreamInfo("truth/frames", (4, 4)), StreamInfo("camera/frames", (4, 4))]
    blurred = Frame(np.zeros((4, 4), np.uint8), 6)
    packets = [Packet("truth/frames", 0, 5, 5, 0, sharp), Packet("camera/frames", 0, 6, 6, 0, blurred)]
    with Reader(record(tmp_path / "a.mcap", packets, streams)) as reader:
        assert [s.name for s in reader.streams] == ["camera/frames"]
        assert same_frame(next(reader.truth()), sharp)
        assert [p.body.t for p in reader.packets() if p.body] == [6]


def test_of_two_cameras_one_is_read_and_the_other_named(tmp_path):
    rng = np.random.default_rng(2)
    streams = [StreamInfo("left/events", (8, 8)), StreamInfo("right/events", (9, 9))]
    sides = {s.name: some_events(rng, 100, resolution=s.resolution) for s in streams}
    path = record(tmp_path / "a.mcap", [p for n, e in sides.items() for p in cut(e, 100, n)], streams)
    assert "left, right" in Reader(path).notes[0]
    assert same_events(Reader(path).events(), sides["left/events"])
    right = open_recording(path, source="right")
    assert same_events(right.events(), sides["right/events"])
    assert right.resolution == (9, 9)
    with pytest.raises(InputError, match=r"'top'; there is left, right"):
        Reader(path, source="top")


# Time and loss


def test_packets_are_those_of_the_recording_it_was_made_from(tmp_path, packets):
    wanted = list(Reader(record(tmp_path / "a.mcap", packets)).packets(1000))
    again = record(tmp_path / "b.mcap", wanted, flush_every=9)
    for a, b in zip(wanted, Reader(again).packets(1000), strict=True):
        told = [(p.stream, p.seq, p.t_first, p.t_last, p.epoch, p.end, p.body is None) for p in (a, b)]
        assert told[0] == told[1]
        if isinstance(a.body, Events):
            assert same_events(a.body, b.body)


def test_a_window_of_time_is_cut_exactly(file, packets):
    events = Events.concatenate(bodies(packets, "camera/events"))
    frames = bodies(packets, "camera/frames")
    rng = np.random.default_rng(5)
    with Reader(file) as reader:
        for _ in range(20):
            t0, t1 = sorted(map(int, rng.integers(events.t[0] - 9, events.t[-1] + 9, 2)))
            assert same_events(reader.events(t0, t1), events.between(t0, t1))
            assert [f.t for f in reader.frames(t0, t1)] == [f.t for f in frames if t0 <= f.t < t1]
            assert all(((i.t >= t0) & (i.t < t1)).all() for i in reader.imu(t0, t1))


def test_a_finished_file_is_sought_not_read(tmp_path, monkeypatch):
    events = some_events(np.random.default_rng(0), 500_000)
    path = record(tmp_path / "a.mcap", cut(events, 5000), flush_every=2)
    read = []
    honest = ContainerFile._read
    monkeypatch.setattr(ContainerFile, "_read", lambda self, at, n: read.append(n) or honest(self, at, n))
    with Reader(path) as reader:
        assert sum(read) < 0.02 * path.stat().st_size
        t = int(events.t[400_000])
        assert same_events(reader.events(t, t + 1000), events.between(t, t + 1000))
    assert sum(read) < 0.1 * path.stat().st_size


def test_time_that_jumps_is_kept_as_it_was_and_played_forwards(tmp_path):
    rng = np.random.default_rng(4)
    parts = [some_events(rng, 3000, t0) for t0 in (50_000, 10, 40 * 86_400 * 10**6, 40 * 86_400 * 10**6)]
    packets = [p for k, e in enumerate(parts) for p in cut(e, 500, seq=6 * k, epoch=[0, 1, 1, 2][k])]
    for finished in (True, False):
        with Reader(record(tmp_path / f"{finished}.mcap", packets, STREAMS[:1], close=finished)) as reader:
            assert same_events(reader.events(), Events.concatenate(parts))
            assert "time jumped 3 times" in " ".join(reader.notes)  # 1: back, 2: too far ahead, 3: as the driver said
            played = list(reader.packets())
        assert sorted({p.epoch for p in played}) == [0, 1, 2, 3]
        assert [p.seq for p in played] == list(range(len(played)))
        assert [p.end for p in played].count(True) == 1
        assert played[-1].end
        assert all(a.t_last <= b.t_last and a.t_last <= b.t_first for a, b in pairwise(played))
        assert sum(p.n_events for p in played) == 12_000
        later = list(reader_packets_from(tmp_path / f"{finished}.mcap", 60 * 86_400 * 10**6))
        assert later[-1].end


def reader_packets_from(path, t0):
    with Reader(path) as reader:
        yield from reader.packets(t0=t0)


@pytest.mark.parametrize("finished", [True, False])
def test_what_was_lost_before_the_recorder_is_told(tmp_path, finished):
    events = some_events(np.random.default_rng(1), 6000)
    packets = list(cut(events, 1000))
    counters = Counters(Count(3), {"queue_full": Count(2, 2000)})
    packets = packets[:2] + [replace(packet, counters=counters) for packet in packets[4:]]
    gap = "camera/events: 2 packets never reached the recorder (queue_full: 2 packets, 2,000 events)"
    with Reader(record(tmp_path / "a.mcap", packets, STREAMS[:1], close=finished)) as reader:
        assert gap in reader.notes


def test_notes_of_the_run_are_kept(file, tmp_path, packets):
    writer = Writer(tmp_path / "b.mcap", STREAMS)
    writer.metadata("pipeline", '{"old": 1}')
    writer.write(packets[0])
    writer.metadata("pipeline", '{"new": "ü"}')
    assert Reader(tmp_path / "b.mcap").metadata["pipeline"] == '{"new": "ü"}'
    writer.close()
    assert Reader(tmp_path / "b.mcap").metadata["pipeline"] == '{"new": "ü"}'


def test_memory_does_not_grow_with_the_recording(tmp_path):
    events = some_events(np.random.default_rng(0), 100_000, 0)
    span = int(events.t[-1]) + 1
    peaks = {}
    for laps in (20, 60):
        tracemalloc.start()
        writer = Writer(tmp_path / f"{laps}.mcap", STREAMS)
        for lap in range(laps):
            later = Events(events.t + lap * span, events.x, events.y, events.p)
            for packet in cut(later, 2000, seq=lap * 50):
                writer.write(packet)
        writer.close()
        with Reader(tmp_path / f"{laps}.mcap") as reader:
            assert sum(map(len, reader.event_chunks())) == laps * 100_000
        peaks[laps] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[60] < 1.2 * peaks[20]
