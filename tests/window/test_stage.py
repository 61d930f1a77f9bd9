import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rtpipe
from rtpipe.errors import ConfigError
from rtpipe.packing import pack, unpack
from rtpipe.stage import EngineSpec
from rtpipe.types import Events, Frame, FrameFlag, Packet, StreamInfo
from rtpipe.window.mask import closed_mask
from rtpipe.window.settings import WindowSettings
from rtpipe.window.stage import WindowStage
from tests.window import slow

EVENTS, FRAMES = "camera/events", "camera/frames"
STREAMS = [StreamInfo(EVENTS, slow.SMALL), StreamInfo(FRAMES, slow.SMALL)]
IMAGE = np.zeros((5, 7), np.uint8)


def spec(representation, needs_frame=False, bins=0):
    return EngineSpec("test", representation, needs_frame, False, bins)


def stage(representation="scer", picture=False, streams=STREAMS, **settings):
    made = WindowStage(WindowSettings(**settings), spec(representation), picture)
    made.open(streams)
    return made


class Feed:
    """Packets with the numbers and times that a worker would give them."""

    def __init__(self, stage, keep=lambda packet: packet):
        self.stage, self.keep, self.seq, self.made = stage, keep, {}, []

    def __call__(self, stream, t_first, t_last, body=None, epoch=0, end=False, skip=0):
        seq = self.seq.get(stream, -1) + 1 + skip
        self.seq[stream] = seq
        packets = self.stage.process(Packet(stream, seq, t_first, t_last, 1000 + t_last, body, epoch, end))
        self.made += [self.keep(packet) for packet in packets]
        return packets

    def events(self, events, t_last=None, **more):
        return self(EVENTS, int(events.t[0]), int(events.t[-1]) if t_last is None else t_last, pack(events), **more)

    def frame(self, t0, t1, **more):
        return self(FRAMES, t0, t1, Frame(IMAGE, (t0 + t1) // 2, t0, t1), **more)

    def end(self, t):
        return [*self(EVENTS, t, t, end=True), *self(FRAMES, t, t, end=True)]


def ramp(t0, t1, step=1):
    t = np.arange(t0, t1, step)
    return slow.make(t, t % 7, t % 5, t % 2)


def bits(packet):
    """All that a window says, as something that can be compared."""
    window = packet.body
    if window is None or isinstance(window, Frame):
        return packet.stream, packet.t_last, None if window is None else window.image.tobytes()
    parts = [window.tensor, window.mask]
    if window.events is not None:
        own = unpack(window.events)
        parts += [own.t, own.x, own.y, own.p]
    held = tuple(None if part is None else part.tobytes() for part in parts)
    return packet.t_first, packet.t_last, window.t_start, window.t_end, window.n_events, window.flags, held


@pytest.mark.parametrize("representation", ["voxel", "scer", "count", "time_surface", "events"])
@pytest.mark.parametrize("mode", ["trained", "edges"])
@settings(max_examples=15)
@given(data=st.data())
def test_same_bits_however_packets_are_cut_and_frames_come_between(representation, mode, data):
    events = ramp(1000, 1400, 3)
    exposures = [(1010, 1100), (1100, 1180), (1150, 1260), (1300, 1390), (1380, 1500)]

    def run(places, when):
        feed = Feed(stage(representation, mode=mode, picture=True), bits)
        waiting = sorted(zip(when, exposures, strict=True))
        packets = [unpack(packet) for packet in slow.cut(events, places)]
        for index, packet in enumerate(packets):
            while waiting and waiting[0][0] <= index:
                feed.frame(*waiting.pop(0)[1])
            if len(packet):
                feed.events(packet)
        for _, exposure in waiting:
            feed.frame(*exposure)
        feed.end(1450)
        assert all(flow.balanced for flow in feed.stage.flows.values())
        assert feed.stage.flows["windows"].passed == 4
        return feed.made

    places = data.draw(st.lists(st.integers(0, len(events)), max_size=10))
    when = sorted(data.draw(st.lists(st.integers(0, 12), min_size=5, max_size=5)))
    assert run(places, when) == run([], [0] * 5)


@pytest.mark.parametrize("representation", ["voxel", "scer", "count", "time_surface"])
@pytest.mark.parametrize("by", [{"by": "exposure"}, {"by": "time", "length_us": 90}, {"by": "count", "events": 40}])
def test_a_window_holds_what_the_plain_function_makes_of_its_events(representation, by):
    function = {"voxel": rtpipe.voxel_grid, "count": rtpipe.event_count}.get(representation)
    function = function or getattr(rtpipe, representation)
    for mode in ("trained", "edges") if by["by"] != "count" else ("trained",):
        feed = Feed(stage(representation, mode=mode, **by))
        events = ramp(1000, 1400, 2)
        feed.frame(1050, 1140)
        (first, *_) = feed.events(events)
        window = first.body
        inside = events.between(window.t_start, window.t_end)
        assert window.n_events == len(inside) > 0
        edges = {} if mode == "trained" else {"t0": window.t_start, "t1": window.t_end}
        np.testing.assert_array_equal(window.tensor, function(inside, resolution=slow.SMALL, **edges))
        if representation == "scer":
            np.testing.assert_array_equal(window.mask, closed_mask(window.tensor))


def test_events_come_as_they_are_in_one_piece():
    feed = Feed(stage("events"))
    feed.frame(1050, 1140)
    for start in range(1000, 1200, 20):
        made = feed.events(ramp(start, start + 20))
        if made:
            break
    own = made[0].body.events
    assert (own.t0, own.dt.dtype, len(own)) == (1050, np.uint32, 90)
    np.testing.assert_array_equal(unpack(own).t, np.arange(1050, 1140))
    assert made[0].body.tensor is None
    assert made[0].body.frame.exposure_start == 1050


def test_a_window_of_many_events_grows_its_buffers():
    feed = Feed(stage("events", by="time", length_us=60_000))
    events = ramp(0, 60_001)
    for start in range(0, 60_001, 9000):
        made = feed.events(events[start : start + 9000])
    own = unpack(made[0].body.events)
    for column in "txyp":
        np.testing.assert_array_equal(getattr(own, column), getattr(events, column)[:60_000])


def test_a_window_tells_when_its_last_packet_came_and_counts_on():
    feed = Feed(stage(by="time", length_us=10))
    for start in range(0, 40, 10):
        feed.events(ramp(start, start + 10), t_last=start + 10)
    assert [(p.stream, p.seq, p.t_first, p.t_last, p.received_ns, p.epoch) for p in feed.made] == [
        ("engine/window", k, 10 * k, 10 * k + 10, 1010 + 10 * k, 0) for k in range(4)
    ]


def test_a_watermark_closes_a_window():
    feed = Feed(stage(by="exposure"))
    feed.frame(10, 50)
    assert feed.events(ramp(0, 20)) == []
    assert feed(EVENTS, 20, 49) == []
    assert len(feed(EVENTS, 49, 50)) == 1


def test_the_first_window_and_the_first_after_a_jump_are_marked():
    feed = Feed(stage(by="time", length_us=10))
    feed.events(ramp(0, 25))
    feed.events(ramp(0, 35), epoch=1)
    flags = [bool(packet.body.flags & FrameFlag.STATE_RESET) for packet in feed.made]
    assert flags == [True, False, True, False, False]
    assert [packet.epoch for packet in feed.made] == [0, 0, 1, 1, 1]
    assert feed.stage.flows["windows"].dropped == {"discontinuity": 1}


def test_what_comes_late_from_before_a_jump_is_counted():
    feed = Feed(stage())
    feed.events(ramp(0, 10), epoch=3)
    feed.frame(0, 5, epoch=2)
    feed.events(ramp(50, 60), epoch=2)
    assert feed.made[1:] == []
    feed.end(20)
    assert feed.stage.flows["frames"].dropped == {"discontinuity": 1}
    assert feed.stage.flows["events"].dropped["discontinuity"] == 10


def test_windows_with_events_missing_upstream_are_marked():
    feed = Feed(stage(by="time", length_us=10))
    feed.events(ramp(0, 10), t_last=10)
    feed.events(ramp(12, 20), t_last=20, skip=1)
    feed.events(ramp(20, 30), t_last=30)
    assert [bool(packet.body.flags & FrameFlag.INCOMPLETE) for packet in feed.made] == [False, True, False]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (slow.make([5, 6], [0, 7], [0, 0], [0, 1]), "coordinates"),
        (slow.make([6, 5], [0, 0], [0, 0], [0, 1]), "order"),
        (slow.make([3, 4], [0, 0], [0, 0], [0, 2]), "polarity"),
    ],
)
def test_hostile_events_are_counted_and_never_reach_a_kernel(bad, reason):
    feed = Feed(stage(by="time", length_us=10))
    feed.events(ramp(0, 3))
    feed(EVENTS, 3, 8, bad)
    feed.events(ramp(8, 12))
    feed.end(12)
    flow = feed.stage.flows["events"]
    assert flow.dropped == {reason: 2, "stream_ended": 2}
    assert flow.balanced
    assert feed.made[0].body.flags & FrameFlag.INCOMPLETE


def test_events_earlier_than_promised_are_counted():
    feed = Feed(stage(by="time", length_us=10))
    feed.events(ramp(0, 10), t_last=10)
    feed.events(ramp(5, 8))
    assert feed.stage.flows["events"].dropped == {"order": 3}


def test_the_end_is_passed_on_when_all_inputs_have_ended():
    feed = Feed(stage(picture=True))
    feed.frame(0, 5)
    feed.events(ramp(0, 10))
    assert [packet.end for packet in feed(EVENTS, 10, 10, end=True)] == []
    made = feed(FRAMES, 10, 10, end=True)
    assert [(packet.stream, packet.end, packet.body) for packet in made] == [
        ("engine/window", True, None),
        ("engine/picture", True, None),
    ]
    assert feed.stage.close() == []
    assert feed.stage.flows["events"].passed == 5


def test_closing_a_broken_run_counts_what_is_inside():
    feed = Feed(stage(by="time", length_us=10))
    feed.events(ramp(0, 15))
    feed.stage.close()
    assert feed.stage.flows["events"].dropped == {"stream_ended": 5}
    assert all(flow.balanced for flow in feed.stage.flows.values())


def test_buffers_are_used_again_and_valid_until_the_next_packet():
    feed = Feed(stage("count", by="time", length_us=10))
    first = feed.events(ramp(0, 31))
    tensors = [packet.body.tensor for packet in first]
    assert len({id(tensor) for tensor in tensors}) == 3
    assert [tensor.sum() for tensor in tensors] == [10, 10, 10]
    known = {}
    for start in range(31, 1000, 31):
        known |= {id(packet.body.tensor): packet for packet in feed.events(ramp(start, start + 31))}
    assert len(known) <= 5


def test_unpacked_events_are_taken_too():
    feed = Feed(stage("count", by="time", length_us=10))
    (packet,) = feed(EVENTS, 0, 15, ramp(0, 15))
    assert packet.body.tensor.sum() == 10


def test_other_streams_and_bodies_pass_by():
    feed = Feed(stage(by="time", length_us=10))
    assert not feed("camera/imu", 0, 100)
    assert not feed("other/events", 0, 100, pack(ramp(0, 100)))
    assert not feed.frame(0, 10)
    assert feed.stage.flows["frames"].dropped == {"not_used": 1}


@pytest.mark.parametrize("text", [
    "{by: time}", "{by: count}", "{by: exposure, length_us: 5}", "{by: time, length_us: 0}", "{by: never}",
    "{by: time, length_us: 5, events: 3}", "{by: count, events: 5, mode: edges}", "{representation: pictures}",
    "{bins: 0}", "{history_mb: -1}", "{lenght_us: 5}",
])  # fmt: skip
def test_wrong_settings_are_refused_in_plain_words(text):
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.yaml.decode(text, type=WindowSettings)
    assert "`" in str(caught.value) or "wanted" in str(caught.value) or "by:" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "spec", "says"),
    [
        ({"representation": "voxel"}, spec("scer"), "does not fit"),
        ({"bins": 5}, spec("voxel", bins=10), "takes 10"),
        ({"bins": 5}, spec("scer"), "has 6"),
        ({"bins": 1}, spec("voxel"), "at least 2"),
        ({}, spec("pictures"), "not among"),
        ({"by": "time", "length_us": 5}, spec("events", needs_frame=True), "by: exposure"),
    ],
)
def test_settings_that_do_not_fit_the_engine_are_refused(settings, spec, says):
    with pytest.raises(ConfigError, match=says):
        WindowStage(WindowSettings(**settings), spec)


@pytest.mark.parametrize(
    ("streams", "says"),
    [
        (STREAMS[1:], "has no events"),
        (STREAMS[:1], "no frames"),
        ([StreamInfo(EVENTS), STREAMS[1]], "does not say its resolution"),
        ([], "streams: none"),
    ],
)
def test_sources_that_cannot_be_cut_are_refused(streams, says):
    with pytest.raises(ConfigError, match=says):
        stage(streams=streams)


def test_bins_follow_the_engine():
    made = WindowStage(WindowSettings(), spec("voxel", bins=9))
    made.open(STREAMS)
    feed = Feed(made)
    feed.frame(0, 5)
    (packet,) = feed.events(ramp(0, 10))
    assert packet.body.tensor.shape == (9, 5, 7)


def test_a_real_recording_in_any_cut_gives_the_same_windows(shared):
    with np.load(shared("recordings/ijrr_slider_depth/events.npz"), allow_pickle=False) as data:
        events = slow.make(*(data[column][:150_000] for column in ("t_us", "x", "y", "p")))
    streams = [StreamInfo(EVENTS, (240, 180)), StreamInfo(FRAMES, (240, 180))]

    def run(size, mode):
        feed = Feed(stage("voxel", by="time", length_us=20_000, hop_us=15_000, mode=mode, streams=streams), bits)
        for start in range(0, len(events), size):
            feed.events(events[start : start + size])
        feed.end(int(events.t[-1]))
        return feed.made

    for mode in ("trained", "edges"):
        assert run(1013, mode) == run(len(events), mode)


def test_an_empty_exposure_is_a_window_of_zeros():
    feed = Feed(stage("voxel"))
    feed.frame(100, 120)
    feed.events(ramp(0, 50))
    (packet,) = feed(EVENTS, 50, 130)
    assert packet.body.n_events == 0
    assert not packet.body.tensor.any()
    assert isinstance(packet.body.frame, Frame)
    assert not len(Events.empty())
