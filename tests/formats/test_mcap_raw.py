"""Our own recordings of a camera's own bytes: kept as they came, each packet decoded by itself."""

import re
import runpy
from dataclasses import replace
from pathlib import Path

import mcap.reader
import numpy as np
import pytest

from rtpipe.errors import InputError
from rtpipe.formats import open_recording
from rtpipe.formats.mcap import Reader, Writer
from rtpipe.formats.mcap.messages import FRAME, RAW, MessageType
from rtpipe.formats.packets import RawRun
from rtpipe.types import Count, Events, Frame, Packet, RawEvents, StreamInfo, Trigger
from tests.formats.mcap_recordings import bodies, cut, mixed_packets, record, same_events, some_events
from tests.formats.test_hostile import survive
from tests.raw_runs import DRIVING, HASH, SIZE, camera_bytes, digest, packets

DOC = Path(__file__).parents[2] / "docs" / "recording.md"
STREAMS = (StreamInfo("camera/events", SIZE, "Gen4.1", "evt3"), StreamInfo("camera/triggers", None, "Gen4.1"))
PLACES = range(0, 309_000, 7_000)


@pytest.fixture(scope="module")
def data(shared):
    return camera_bytes(shared(DRIVING))


@pytest.fixture(scope="module")
def made(data):
    """A camera's packets, with a trigger and with a watermark between them."""
    sent = list(packets(data, PLACES))
    t = sent[20].t_last
    sent.insert(21, Packet("camera/triggers", 0, t, t, 3, Trigger(np.array([t]), *np.uint8([[1], [1]]))))
    return [*sent, Packet("camera/triggers", 1, t, t, 3, end=True)]


@pytest.fixture
def file(tmp_path, made):
    return record(tmp_path / "a.mcap", made, STREAMS, flush_every=10)


@pytest.mark.parametrize("finished", [True, False])
def test_the_events_come_back_exactly(tmp_path, made, finished):
    path = record(tmp_path / "a.mcap", made, STREAMS, flush_every=10, close=finished)
    with open_recording(path) as reader:
        assert digest(reader.events()) == HASH
        assert reader.counts() == {"camera/events": 219_596, "camera/triggers": 1}
        assert (reader.t_start, reader.t_end) == (11_718_656, 11_727_457)
        assert len(list(reader.triggers())) == 1
        assert bool(reader.notes) is not finished


def test_the_bytes_are_kept_as_they_came(file, data, made):
    """Read by the mcap package and the definition in the file alone."""
    found = []
    with file.open("rb") as stream:
        for schema, channel, message in mcap.reader.make_reader(stream, validate_crcs=True).iter_messages():
            if channel.topic == "/camera/events/raw":
                assert (schema.name, schema.data.decode()) == (RAW.name, RAW.schema)
                found.append(RAW.decode(memoryview(message.data)))
    assert b"".join(fields["data"].tobytes() for fields in found) == data.tobytes()
    assert [fields["state"].tobytes() for fields in found[:-1]] == [b.state for b in bodies(made, "camera/events")]
    assert found[-1]["end"]


def test_the_documented_decoder_reads_them(tmp_path, made):
    """Outside: the mcap package and the code in docs/recording.md."""
    moved = [replace(p, body=replace(p.body, t0=5)) if isinstance(p.body, RawEvents) else p for p in made]
    moved = [replace(p, t_last=p.t_last + 5) for p in moved]
    path = record(tmp_path / "a.mcap", moved, STREAMS, flush_every=7)
    code = "\n".join(re.findall(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL))
    (tmp_path / "documented.py").write_text(code)
    documented = runpy.run_path(str(tmp_path / "documented.py"))
    found = [documented["decode_raw"](data, SIZE) for data in documented["messages"](path, "/camera/events/raw")]
    events = Events(*(np.concatenate([columns[k] for columns in found]) for k in range(4)))
    assert digest(replace(events, t=events.t - 5)) == HASH


def test_packets_and_losses_before_the_recorder_are_kept(tmp_path, made):
    lost = [packet for packet in made if (packet.stream, packet.seq) != ("camera/events", 7)]
    with Reader(record(tmp_path / "a.mcap", lost, STREAMS)) as reader:
        rows = [tuple(map(int, row)) for _, table in reader.packet_table("camera/events") for row in table]
        wanted = [p for p in lost if p.stream == "camera/events"]
        assert rows == [(p.seq, p.t_first, p.t_last, p.received_ns, p.n_events, int(p.end)) for p in wanted]
        assert any("1 packets never reached the recorder" in note for note in reader.notes)
        whole = 219_596 - next(p.n_events for p in made if p.stream == "camera/events" and p.seq == 7)
        assert len(reader.events()) == whole  # the others are not spoiled


def test_a_piece_is_entered_in_the_middle(file, made):
    with Reader(file) as reader:
        whole = reader.events()
        t0, t1 = 11_721_000, 11_724_500
        assert same_events(reader.events(t0, t1), whole.between(t0, t1))


def test_raw_packets_are_played_as_they_were_recorded(file, made):
    with Reader(file) as reader:
        played = list(reader.packets(2000, raw=True))
        decoded = list(reader.packets(2000))
    sent = bodies(made, "camera/events")
    came = [p.body for p in played if isinstance(p.body, RawEvents)]
    assert [(b.data.tobytes(), b.state, b.n) for b in came] == [(b.data.tobytes(), b.state, b.n) for b in sent]
    times = [p.t_last for p in played if p.stream == "camera/events"]
    assert times == sorted(times)
    assert times[-1] == max(p.t_last for p in decoded)
    assert [p.stream for p in played if p.end] == [p.stream for p in decoded if p.end]
    assert bodies(played, "camera/triggers")[0].t == bodies(decoded, "camera/triggers")[0].t


def test_raw_from_an_instant_on_begins_with_the_next_packet(file):
    with Reader(file) as reader:
        runs = list(reader.raw_runs(2000))
        later = list(reader.raw_runs(2000, 11_722_000))
    assert all(isinstance(run, RawRun) for run in runs)
    assert [run.t_first for run in later] == [run.t_first for run in runs if run.t_first >= 11_722_000]
    assert len(later) > 10


def test_a_recording_of_decoded_events_has_no_raw_ones(tmp_path):
    path = record(tmp_path / "a.mcap", mixed_packets())
    with Reader(path) as reader, pytest.raises(InputError, match="leave raw out"):
        list(reader.packets(raw=True))


def test_both_kinds_in_one_stream_keep_their_order(tmp_path, made, data):
    raw = [p for p in made if p.stream == "camera/events"][:10]
    rng = np.random.default_rng(1)
    plain = some_events(rng, 3000, raw[-1].t_last, SIZE)
    after = list(cut(plain, 500, seq=10))
    watermark = Packet("camera/events", 16, int(plain.t[-1]) + 9, int(plain.t[-1]) + 9, 0)
    path = record(tmp_path / "a.mcap", [*raw, *after, watermark], STREAMS, flush_every=4)
    with Reader(path) as reader:
        events = reader.events()
        assert same_events(events[len(events) - 3000 :], plain)
        rows = [int(row[0]) for _, table in reader.packet_table("camera/events") for row in table]
        assert rows == list(range(17))
        with pytest.raises(InputError, match="not all"):
            list(reader.raw_runs(2000))


def test_an_offset_and_epochs_are_kept(tmp_path, data):
    first, again = list(packets(data, PLACES, end=False)), list(packets(data, PLACES, t0=10_000_000, end=False))
    looped = [Packet(p.stream, len(first) + p.seq, p.t_first, p.t_last, 0, p.body, epoch=1) for p in again]
    path = record(tmp_path / "a.mcap", [*first, *looped], STREAMS)
    with Reader(path) as reader:
        events = reader.events()
        n = len(events) // 2
        np.testing.assert_array_equal(events.t[:n] + 10_000_000, events.t[n:])
        played = [p for p in reader.packets(raw=True) if p.body is not None]
    assert [p.epoch for p in played] == [0] * len(first) + [1] * len(first)
    assert played[-1].body.t0 == 10_000_000


@pytest.mark.parametrize(
    "changes", [{"n": 5}, {"encoding": "evt9"}, {"state": b"123"}, {"t0": 1 << 63}, {"state": None}]
)
def test_a_run_that_is_not_what_it_says_is_not_taken(tmp_path, made, changes):
    run = made[3].body
    fields = {"encoding": run.encoding, "state": run.state, "data": run.data, "n": run.n, "t0": 0} | changes
    fields["state"] = fields["state"] if fields["state"] is not None else b"\xff" * len(run.state)
    writer = Writer(tmp_path / "a.mcap", STREAMS, flush_s=1e9)
    writer.write(made[0])
    with pytest.raises(ValueError):
        writer.write(Packet("camera/events", 1, 0, 1 << 61, 0, RawEvents(**fields)))
    writer.write(made[1])
    assert writer.close()["camera/events"] == Count(2, made[0].n_events + made[1].n_events)
    with Reader(tmp_path / "a.mcap") as reader:
        assert len(reader.events()) == made[0].n_events + made[1].n_events


def test_events_off_the_sensor_are_left_out_and_told(tmp_path, made):
    small = (StreamInfo("camera/events", (640, 400)), STREAMS[1])
    with Reader(record(tmp_path / "a.mcap", made, small)) as reader:
        events = reader.events()
        assert (events.x < 640).all()
        assert (events.y < 400).all()
        assert f"{219_596 - len(events):,} events off the sensor" in reader.notes[-1]
        reader.events()
        assert f"{219_596 - len(events):,} events off the sensor" in reader.notes[-1]


def test_a_packet_that_lies_about_its_time_costs_its_own_events_and_is_told(tmp_path, made):
    lying = [replace(p, t_last=p.t_last - 1) if p.seq == 5 and p.n_events else p for p in made]
    with Reader(record(tmp_path / "a.mcap", lying, STREAMS)) as reader:
        lost = next(p.n_events for p in made if p.seq == 5 and p.n_events)
        assert len(reader.events()) == 219_596 - lost
        assert f"{lost:,} events" in reader.notes[-1]


@pytest.mark.parametrize(("seed", "n"), [(1, 150), pytest.param(2, 1000, marks=pytest.mark.slow)])
def test_mutations_are_survived(tmp_path, made, seed, n):
    few = [packet for packet in made if packet.seq < 8 and not packet.end]
    path = record(tmp_path / "a.mcap", few, STREAMS, flush_every=3, close=seed == 2)
    outcome = survive(path, seed, n)
    assert outcome["read"] + outcome["refused"] == n
    assert outcome["refused"] > n // 10


# Frames that name their window, files from before they could, and the writer's contract


def test_frames_keep_the_window_that_belongs_to_them(tmp_path):
    image = np.zeros((4, 6), np.uint8)
    windows = [(None, None), (-5, 900), (100, None), (1 << 40, 1 << 41)]
    frames = [Frame(image, 500 * k, 500 * k, 500 * k + 9, "camera", 0, *w) for k, w in enumerate(windows)]
    sent = [Packet("camera/frames", k, f.t, f.t + 9, 0, f) for k, f in enumerate(frames)]
    with Reader(record(tmp_path / "a.mcap", sent, [StreamInfo("camera/frames", (6, 4))])) as reader:
        assert [(f.window_start, f.window_end) for f in reader.frames()] == windows


def test_a_frame_written_before_it_could_name_its_window_is_read():
    before = MessageType(FRAME.name, FRAME.fields[:-4])
    values = dict.fromkeys((name for _, name, _ in before.fields), 0) | {
        "encoding": "mono8",
        "source": "x",
        "counters": "",
    }
    found = FRAME.decode(memoryview(before.encode(**values)))
    assert (found["has_window_start"], found["window_end"], found["source"]) == (False, 0, "x")


def test_the_writer_keeps_the_contract(tmp_path):
    events = some_events(np.random.default_rng(0), 1000)
    sent = list(cut(events, 100))
    with Writer.for_streams(tmp_path / "a.mcap", [StreamInfo("camera/events", (346, 260))], codec="zstd") as writer:
        for packet in sent:
            writer.write(packet)
        writer.add_truth(Frame(np.zeros((4, 6), np.uint8), 5, source="truth"))
    with Reader(tmp_path / "a.mcap") as reader:
        assert same_events(reader.events(), events)
        assert reader.counts() == {"camera/events": 1000, "truth": 1}
        assert next(reader.truth()).source == "truth"
        assert [info.name for info in reader.streams] == ["camera/events"]
    with pytest.raises(ValueError, match="no stream"), Writer.for_streams(tmp_path / "b.mcap", STREAMS) as writer:
        writer.write(replace(sent[0], stream="another/events"))
    assert not (tmp_path / "b.mcap").exists()
    with pytest.raises(InputError):
        Writer.for_streams(tmp_path / "c.mcap", [StreamInfo("camera/smells")])
    assert not (tmp_path / "c.mcap").exists()
