"""Our own recordings in the hands of others: tools that read and copy them, files and packets that are not ours."""

import json
import re
import runpy
import struct
from pathlib import Path

import cv2
import mcap.reader
import mcap.records
import mcap.stream_reader
import mcap.writer
import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from rtpipe.errors import FormatError, InputError
from rtpipe.formats import mcap as ours
from rtpipe.formats import open_recording
from rtpipe.formats.mcap import Reader, Writer
from rtpipe.types import Count, Events, Frame, Imu, Packet, StreamInfo, Trigger
from tests.formats.mcap_recordings import (
    STREAMS,
    bodies,
    cut,
    mixed_packets,
    record,
    same_events,
    same_frame,
    some_events,
)

DOC = Path(__file__).parents[2] / "docs" / "recording.md"


@pytest.fixture(scope="module")
def packets():
    return mixed_packets()


@pytest.fixture
def file(tmp_path, packets):
    return record(tmp_path / "a.mcap", packets, flush_every=10)


# Others read it


def test_the_mcap_package_reads_index_checksums_and_metadata(file, packets):
    with file.open("rb") as stream:
        reader = mcap.reader.make_reader(stream, validate_crcs=True)
        summary = reader.get_summary()
        found = list(reader.iter_messages())
        assert len(found) == summary.statistics.message_count
        topics = {c.topic for _, c, _ in found}
        pictures = [f"/{name}/{part}" for name in ("camera/frames", "engine/output") for part in ("info", "compressed")]
        assert topics == {"/camera/events", "/camera/imu", "/camera/triggers", *pictures}
        assert len(summary.chunk_indexes) == summary.statistics.chunk_count > 5
        t0 = 1000 * packets[len(packets) // 2].t_first
        later = [m.log_time for _, _, m in reader.iter_messages(starting_at=t0)]
        assert 0 < len(later) < len(found)
        assert {"rtpipe/recording", "rtpipe/summary"} <= {m.name for m in reader.iter_metadata()}
        assert json.loads(next(m for m in reader.iter_metadata() if m.name == "rtpipe/summary").metadata["json"])


def test_ros_tools_decode_every_message_and_the_pictures(file, packets):
    frames = iter(bodies(packets, "camera/frames"))
    with AnyReader([file]) as bag:
        for connection, _, raw in bag.messages():
            message = bag.deserialize(raw, connection.msgtype)
            if connection.topic == "/camera/frames/compressed":
                frame = next(frames)
                picture = cv2.imdecode(message.data, cv2.IMREAD_UNCHANGED)
                assert message.format == "png"
                assert np.array_equal(picture, frame.image)
                assert message.header.stamp.sec * 10**6 + message.header.stamp.nanosec // 1000 == frame.t
            if connection.topic == "/camera/imu":
                assert len(message.acceleration) == 3 * len(message.t) > 0
    assert next(frames, None) is None


@pytest.mark.parametrize("finished", [True, False])
def test_the_decoder_in_the_documentation_reads_the_events(tmp_path, packets, finished):
    path = record(tmp_path / "a.mcap", packets, flush_every=11, close=finished)
    if not finished:
        path.write_bytes(path.read_bytes()[:-100])
    decoder, container, _ = re.findall(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL)
    (tmp_path / "documented.py").write_text(decoder + container)
    documented = runpy.run_path(str(tmp_path / "documented.py"))
    assert len([line for line in decoder.split("def ")[1].splitlines() if line.strip()]) <= 20
    found = []
    try:
        for data in documented["messages"](path, "/camera/events"):
            found.append(documented["decode_events"](data))
    except (mcap.exceptions.EndOfFile, struct.error):
        assert not finished
    t, x, y, p = (np.concatenate([columns[i] for columns in found]) for i in range(4))
    assert same_events(Events(t, x, y, p), Reader(path).events())
    rows = np.concatenate([columns[4] for columns in found])
    assert np.array_equal(rows, np.concatenate([rows for _, rows in Reader(path).packet_table("camera/events")]))


@pytest.mark.parametrize("compression", ["NONE", "LZ4", "ZSTD"])
def test_a_copy_made_by_another_tool_reads_the_same(file, tmp_path, compression):
    copy = tmp_path / "copy.mcap"
    with file.open("rb") as source, copy.open("wb") as target:
        writer = mcap.writer.Writer(target, chunk_size=50_000, compression=mcap.writer.CompressionType[compression])
        writer.start("ros2", "another tool")
        schemas, channels = {}, {}
        for schema, channel, message in mcap.reader.make_reader(source).iter_messages():
            if schema.id not in schemas:
                schemas[schema.id] = writer.register_schema(schema.name, schema.encoding, schema.data)
            if channel.id not in channels:
                channels[channel.id] = writer.register_channel(
                    channel.topic, channel.message_encoding, schemas[schema.id], channel.metadata
                )
            writer.add_message(
                channels[channel.id], message.log_time, message.data, message.publish_time, message.sequence
            )
        writer.finish()
    with Reader(file) as a, open_recording(copy) as b:
        assert a.counts() == b.counts()
        assert same_events(a.events(), b.events())
        assert all(same_frame(f, g) for f, g in zip(a.frames(), b.frames(), strict=True))


# What is refused


def test_an_existing_file_is_never_overwritten(tmp_path):
    (tmp_path / "a.mcap").write_text("precious")
    with pytest.raises(InputError, match="not overwritten"):
        Writer(tmp_path / "a.mcap", STREAMS)
    assert (tmp_path / "a.mcap").read_text() == "precious"
    with pytest.raises(InputError, match="No such file"):
        Writer(tmp_path / "nowhere" / "a.mcap", STREAMS)
    for streams, why in (([StreamInfo("camera/events")], "resolution"), ([StreamInfo("camera/smell")], "'smell'")):
        with pytest.raises(InputError, match=why):
            Writer(tmp_path / "b.mcap", streams)
        assert not (tmp_path / "b.mcap").exists()


def a_packet(body, stream="camera/events", **changes):
    return Packet(**{"stream": stream, "seq": 0, "t_first": 0, "t_last": 9, "received_ns": 0, "body": body} | changes)


UNFIT = {
    "outside": a_packet(Events(np.array([5]), np.array([346]), np.array([0]), np.array([0]))),
    "below": a_packet(Events(np.array([5]), np.array([0]), np.array([260]), np.array([0]))),
    "polarity": a_packet(Events(np.array([5]), np.array([0]), np.array([0]), np.array([2]))),
    "backwards": a_packet(Events(np.array([5, 4]), np.array([0, 0]), np.array([0, 0]), np.array([0, 0]))),
    "years apart": a_packet(Events(np.array([0, 1 << 50]), np.array([0, 0]), np.array([0, 0]), np.array([0, 0]))),
    "split and outside": a_packet(
        Events(np.arange(70_000), np.r_[np.zeros(69_999, int), 346], np.zeros(70_000, int), np.zeros(70_000, int))
    ),
    "a frame among events": a_packet(Frame(np.zeros((2, 2), np.uint8), 0)),
    "float picture": a_packet(Frame(np.zeros((2, 2)), 0), "camera/frames"),
    "empty picture": a_packet(Frame(np.zeros((0, 2), np.uint8), 0), "camera/frames"),
    "four channels": a_packet(Frame(np.zeros((2, 2, 4), np.uint8), 0), "camera/frames"),
    "IMU of one axis": a_packet(Imu(np.zeros(2, np.int64), *np.zeros((2, 2, 1)), np.zeros(2)), "camera/imu"),
    "short column": a_packet(Trigger(np.zeros(2, np.int64), np.zeros(2), np.zeros(1)), "camera/triggers"),
    "unknown stream": a_packet(None, "other/events"),
    "huge number": a_packet(None, seq=1 << 63),
    "huge time": a_packet(None, t_last=1 << 63),
    "negative epoch": a_packet(None, epoch=-1),
}


@pytest.mark.parametrize("packet", UNFIT.values(), ids=UNFIT)
def test_a_packet_that_contradicts_its_stream_is_refused_whole(tmp_path, packet):
    events = some_events(np.random.default_rng(0), 100, 1000)
    before, after = cut(events, 50)
    writer = Writer(tmp_path / "a.mcap", STREAMS)
    writer.write(before)
    with pytest.raises(ValueError):
        writer.write(packet)
    writer.write(after)
    assert writer.close()["camera/events"] == Count(2, 100)
    with Reader(tmp_path / "a.mcap") as reader:
        assert same_events(reader.events(), events)
        assert reader.counts() == {s.name: 100 * (s.kind == "events") for s in STREAMS}


def test_other_files_are_refused_in_a_line(tmp_path, file):
    foreign = tmp_path / "foreign.mcap"
    with foreign.open("wb") as target:
        writer = mcap.writer.Writer(target)
        writer.start("ros2", "someone")
        writer.add_message(writer.register_channel("/a", "json", 0), 0, b"{}", 0)
        writer.finish()
    newer = tmp_path / "newer.mcap"
    newer.write_bytes(file.read_bytes().replace(b"version\x01\x00\x00\x001", b"version\x01\x00\x00\x002"))
    headless = tmp_path / "headless.mcap"
    headless.write_bytes(file.read_bytes()[:50])
    refused = {foreign: "not a recording of rtpipe", newer: "version '2'", headless: "cut", DOC: "not an MCAP file"}
    for path, why in refused.items():
        with pytest.raises(FormatError, match=why) as error:
            Reader(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
    assert not ours.probe(foreign, foreign.read_bytes()[:4096])
    assert ours.probe(headless, headless.read_bytes()[:4096])
    with pytest.raises(InputError, match="No such file"):
        Reader(tmp_path / "none.mcap")
    with pytest.raises(InputError, match="has no frames 'engine/x'; there is camera/frames, engine/output"):
        Reader(file).pictures("engine/x")
