"""The filter stage and recordings seen through filters: what passes, what is refused, who owns the columns."""

from dataclasses import replace

import numpy as np
import pytest

from rtpipe import encodings
from rtpipe.errors import ConfigError
from rtpipe.formats import open_recording
from rtpipe.packing import pack, unpack
from rtpipe.types import Events, Frame, Imu, PackedEvents, Packet, RawEvents, StreamInfo
from rtpipe.window.filters import filtered
from rtpipe.window.filters.chain import make
from rtpipe.window.filters.stage import FilterStage
from tests import raw_runs
from tests.pipeline.recording import make as make_recording
from tests.window.filters import slow

RESOLUTION = (20, 16)
STREAMS = [
    StreamInfo("camera/events", RESOLUTION, "c"),
    StreamInfo("camera/frames", RESOLUTION),
    StreamInfo("camera/imu"),
]


def stage(*choices, streams=STREAMS):
    made = FilterStage("camera", make(choices))
    return made, made.open(streams)


def packet(tuples, seq=0, t_last=None, epoch=0, end=False, body=None):
    body = slow.packed(tuples) if tuples else body
    t_first = tuples[0][0] if tuples else t_last or 0
    return Packet("camera/events", seq, t_first, tuples[-1][0] if t_last is None else t_last, 99, body, epoch, end)


def image(resolution=RESOLUTION, seed=0):
    return np.random.default_rng(seed).integers(0, 255, resolution[::-1]).astype(np.uint8)


def test_packets_keep_all_but_their_events():
    made, streams = stage({"filter": "roi", "x": 4, "y": 2, "width": 10, "height": 8})
    assert [stream.resolution for stream in streams] == [(10, 8), (10, 8), None]
    before = packet([(5, 4, 2, 1), (6, 0, 0, 1), (7, 13, 9, 0)], seq=3, t_last=20, epoch=2, end=True)
    (after,) = made.process(before)
    assert slow.rows(unpack(after.body)) == [(5, 0, 0, 1), (7, 9, 7, 0)]
    for name in ("stream", "seq", "t_first", "t_last", "received_ns", "epoch", "end"):
        assert getattr(after, name) == getattr(before, name)
    assert made.flows["filters"].dropped == {"roi": 1}


def test_a_packet_of_which_nothing_is_left_is_a_watermark():
    made, _ = stage("background")
    (after,) = made.process(packet([(5, 4, 2, 1)], t_last=30))
    assert (after.body, after.t_last) == (None, 30)
    (after,) = made.process(packet([], seq=1, t_last=40))
    assert (after.body, after.t_last) == (None, 40)


def test_streams_of_others_pass_untouched():
    made, _ = stage({"filter": "downsample"})
    imu = Imu(np.zeros(1, np.int64), np.zeros((1, 3)), np.zeros((1, 3)), np.zeros(1))
    for other in (
        Packet("camera/imu", 0, 0, 0, 0, imu),
        Packet("second/events", 0, 0, 0, 0, slow.packed([(0, 19, 1, 1)])),
    ):
        assert made.process(other) == (other,)


def test_plain_events_and_packed_events_give_the_same():
    made, _ = stage({"filter": "flip", "vertical": True})
    tuples = [(5, 4, 2, 1), (6, 0, 0, 1)]
    (a,) = made.process(packet(tuples))
    other, _ = stage({"filter": "flip", "vertical": True})
    (c,) = other.process(Packet("camera/events", 0, 5, 6, 0, slow.events_of(tuples)))
    assert slow.rows(unpack(a.body)) == slow.rows(unpack(c.body))


def test_what_was_sent_on_is_never_written_again_and_the_message_never_touched():
    """Windows keep the columns they are given; other sinks read the same message."""
    made, _ = stage({"filter": "flip", "horizontal": True}, {"filter": "refractory", "period_us": 3})
    rng = np.random.default_rng(3)
    kept = []
    for seq in range(20):
        t = np.sort(rng.integers(seq * 100, seq * 100 + 100, 200))
        whole = pack(
            Events(
                t,
                rng.integers(0, 20, 200).astype(np.uint16),
                rng.integers(0, 16, 200).astype(np.uint16),
                np.ones(200, np.uint8),
            )
        )
        columns = [column.copy() for column in (whole.dt, whole.x, whole.yp)]
        (after,) = made.process(Packet("camera/events", seq, int(t[0]), seq * 100 + 100, 0, whole))
        for column, was in zip((whole.dt, whole.x, whole.yp), columns, strict=True):
            np.testing.assert_array_equal(column, was)
        kept.append((after.body, slow.rows(unpack(after.body))))
    assert all(slow.rows(unpack(body)) == rows for body, rows in kept)


def test_a_few_events_do_not_hold_the_room_of_many():
    made, _ = stage({"filter": "roi", "width": 1, "height": 1})
    (after,) = made.process(packet([(k, k % 20, 0, 1) for k in range(10_000)]))
    assert len(after.body) == 500
    assert after.body.dt.base is None


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ([(50, 20, 3, 1)], "coordinates"),
        ([(50, 3, 16, 1)], "coordinates"),
        ([(9, 3, 3, 1)], "order"),
    ],
)
def test_what_cannot_be_believed_is_counted_and_not_passed_on(wrong, reason):
    made, _ = stage("background")
    assert len(made.process(packet([(5, 4, 2, 1)], t_last=10))) == 1
    assert made.process(packet(wrong, seq=1, t_last=60)) == ()
    assert made.flows["filters"].dropped == {"background": 1, reason: 1}
    assert made.flows["filters"].balanced
    (end,) = made.process(packet([(3, 3, 3, 1)], seq=2, t_last=70, end=True))
    assert (end.body, end.end) == (None, True)


def test_a_new_epoch_begins_anew_and_an_old_one_is_over():
    made, _ = stage({"filter": "refractory", "period_us": 1000})
    (first,) = made.process(packet([(5000, 4, 2, 1)]))
    (second,) = made.process(packet([(5500, 4, 2, 1)], seq=1, epoch=1))
    (third,) = made.process(packet([(10, 4, 2, 1)], seq=2, epoch=2))
    assert len(first.body) == len(second.body) == len(third.body) == 1
    assert made.process(packet([(5501, 4, 2, 1)], seq=3, epoch=1)) == ()
    assert made.flows["filters"].dropped == {"discontinuity": 1}


def test_frames_move_with_the_events():
    whole = image()
    region = {"filter": "roi", "x": 2, "y": 4, "width": 9, "height": 12}
    made, _ = stage(region, {"filter": "flip", "horizontal": True}, {"filter": "downsample", "factor": 2})
    frame = Frame(whole, 50, 40, 60)
    (after,) = made.process(Packet("camera/frames", 0, 40, 60, 0, frame))
    wanted = whole[4:16, 2:11][:, ::-1][:, :8].reshape(6, 2, 4, 2).mean(axis=(1, 3))
    assert np.abs(after.body.image - wanted).max() <= 0.5
    assert (after.body.t, after.body.exposure_start, after.body.exposure_end) == (50, 40, 60)
    (event,) = made.process(packet([(5, 10, 4, 1)]))  # the region's right column, top row: left and top once flipped
    assert slow.rows(unpack(event.body)) == [(5, 0, 0, 1)]
    assert made.flows["filtered frames"].passed == 1


def test_colour_and_deep_frames_keep_their_kind():
    made, _ = stage(
        {"filter": "downsample", "factor": 4},
        {"filter": "undistort", "matrix": [4, 4, 2, 2], "distortion": [0.1, 0, 0, 0]},
    )
    for picture in (np.full((16, 20, 3), 7, np.uint8), np.full((16, 20), 40_000, np.uint16)):
        (after,) = made.process(Packet("camera/frames", 0, 0, 0, 0, Frame(picture, 0)))
        assert (after.body.image.shape[:2], after.body.image.dtype) == ((4, 5), picture.dtype)
        assert after.body.image[2, 2].max() == picture.max()


def test_frames_stay_as_they_are_where_nothing_moves():
    made, _ = stage("hot_pixels", "background")
    frame = Packet("camera/frames", 0, 0, 0, 0, Frame(image(), 0))
    assert made.process(frame) == (frame,)
    assert "filtered frames" not in made.flows


def test_frames_of_another_size_are_refused():
    made, _ = stage({"filter": "flip", "vertical": True})
    assert made.process(Packet("camera/frames", 0, 0, 0, 0, Frame(image((8, 8)), 0))) == ()
    assert made.flows["filtered frames"].dropped == {"size": 1}
    streams = [STREAMS[0], StreamInfo("camera/frames", (40, 32))]
    with pytest.raises(ConfigError, match="flip"):
        stage({"filter": "flip", "vertical": True}, streams=streams)
    stage("background", streams=streams)


def test_a_source_without_events_is_refused():
    with pytest.raises(ConfigError, match="camera/frames"):
        stage("background", streams=STREAMS[1:])


def test_a_cameras_own_bytes_are_decoded_first(shared):
    data = raw_runs.camera_bytes(shared(raw_runs.DRIVING))[:200_000]
    sent = list(raw_runs.packets(data, range(3000, 100_000, 7001), t0=5000))
    streams = [StreamInfo("camera/events", raw_runs.SIZE, encoding="evt3")]
    made, emitted = stage({"filter": "flip", "vertical": True}, streams=streams)
    assert emitted[0].encoding == ""
    got = [out for each in sent for out in made.process(each)]
    whole = encodings.decode(RawEvents("evt3", encodings.load("evt3").INITIAL, data, 0, 5000), raw_runs.SIZE).events
    rows = [row for out in got if out.body is not None for row in slow.rows(unpack(out.body))]
    assert rows == [(t, x, 719 - y, p) for t, x, y, p in slow.rows(whole)]
    assert len(rows) > 10_000
    assert made.flows["filters"].taken == sum(each.n_events for each in sent)
    assert made.flows["filters"].balanced


def test_bytes_that_are_not_what_was_scanned_leave_a_gap(shared):
    data = raw_runs.camera_bytes(shared(raw_runs.DRIVING))[:20_000]
    first, second, *_ = raw_runs.packets(data, [3000])
    made, _ = stage("background", streams=[StreamInfo("camera/events", raw_runs.SIZE, encoding="evt3")])
    assert made.process(replace(first, body=replace(first.body, n=first.body.n + 1))) == ()
    assert made.flows["filters"].dropped == {"miscounted": first.n_events + 1}
    assert len(made.process(second)) == 1


@pytest.fixture
def recording(tmp_path):
    with open_recording(make_recording(tmp_path / "r.h5", frames=4)) as opened:
        yield opened


def test_a_recording_through_filters_reads_like_any_other(recording):
    choices = [{"filter": "background", "duration_us": 400}, {"filter": "roi", "x": 10, "width": 40}]
    seen = filtered(recording, choices)
    assert seen.resolution == (40, 48)
    everything = slow.rows(recording.events())
    wanted = slow.roi(slow.background(everything, (64, 48), 400), (64, 48), 10, 0, 40, 48)
    assert slow.rows(seen.events()) == wanted
    assert 0 < len(wanted) < len(everything)
    assert seen.counts()["camera/events"] == len(wanted)
    assert seen.flows["filters"].taken == len(everything)
    frames, originals = list(seen.frames()), list(recording.frames())
    assert [frame.t for frame in frames] == [frame.t for frame in originals]
    np.testing.assert_array_equal(frames[2].image, originals[2].image[:, 10:50])


def test_a_recording_through_filters_is_what_a_run_makes_of_it(recording):
    """Live and offline: the same events, whatever the packets."""
    choices = ["hot_pixels", {"filter": "rate_limit", "mev_s": 0.1}, {"filter": "refractory", "period_us": 5000}]
    offline = slow.rows(filtered(recording, choices).events())
    for packet_us in (500, 7000):
        made = FilterStage("camera", make(choices))
        made.open(recording.streams)
        live = []
        for each in recording.packets(packet_us):
            for out in made.process(each):
                if isinstance(out.body, PackedEvents):
                    live += slow.rows(unpack(out.body))
        assert live == offline
