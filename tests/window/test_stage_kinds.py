"""The window stage with every kind of window: the same bits however packets come, and what it asks of the pipeline."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rtpipe
from rtpipe import wire
from rtpipe.errors import ConfigError
from rtpipe.packing import fault, pack, unpack
from rtpipe.pipeline.config import load
from rtpipe.pipeline.plan import plan
from rtpipe.types import Edge, Frame, Packet, StreamInfo, Trigger
from rtpipe.window import stack as window_stack
from rtpipe.window.settings import FRAMED, WindowSettings, chosen
from rtpipe.window.stage import WindowStage
from tests.window import slow
from tests.window.test_stage import EVENTS, FRAMES, IMAGE, STREAMS, Feed, bits, ramp, spec, stage

TRIGGERS = "camera/triggers"
ALL = [*STREAMS, StreamInfo(TRIGGERS)]
KINDS = {
    "mixed": {"by": "mixed", "events": 30, "length_us": 70},
    "about mid-exposure": {"by": "mid_exposure", "length_us": 120},
    "between frames": {"by": "between_frames"},
    "from each trigger": {"by": "trigger", "length_us": 60, "offset_us": -20},
    "from trigger to trigger": {"by": "trigger", "channel": 3},
    "frames alone": {"by": "frame"},
}
EXPOSURES = [(1010, 1100), (1100, 1180), (1150, 1260), (1300, 1390), (1380, 1500)]
SIGNALS = [1040, 1090, 1100, 1250, 1400]


def signal(t):
    return Trigger(np.array([t]), np.array([3], np.uint8), np.array([Edge.RISING], np.uint8))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("representation", ["voxel", "two_polarity_voxel", "stack", "events", "none"])
@settings(max_examples=12)
@given(data=st.data())
def test_same_bits_however_packets_are_cut_and_when_frames_and_triggers_come(kind, representation, data):
    events, cut = ramp(1000, 1450, 3), KINDS[kind]
    representation = "none" if cut["by"] == "frame" else representation

    def run(places, when):
        made = WindowStage(
            WindowSettings(**cut), spec(representation, bins=4 if representation == "stack" else 0), True
        )
        made.open(ALL)
        feed = Feed(made, lambda packet: (bits(packet), times(packet)))
        waiting = sorted(zip(when, range(5), strict=True))
        packets = [unpack(packet) for packet in slow.cut(events, places)]
        for index, packet in enumerate([*packets, None]):
            while waiting and (waiting[0][0] <= index or packet is None):
                _, k = waiting.pop(0)
                feed.frame(*EXPOSURES[k])
                feed(TRIGGERS, SIGNALS[k], SIGNALS[k], signal(SIGNALS[k]))
            if packet is not None and len(packet):
                feed.events(packet)
        feed(EVENTS, 1460, 1460, end=True)
        feed(FRAMES, 1460, 1460, end=True)
        feed(TRIGGERS, 1460, 1460, end=True)
        assert all(flow.balanced for flow in made.flows.values())
        windows = [said for said in feed.made if said[0][0] != "engine/picture"]
        pictures = [said for said in feed.made if said[0][0] == "engine/picture"]
        assert made.flows["windows"].passed == len(windows) - 1 >= 4  # and the end
        return windows, pictures

    places = data.draw(st.lists(st.integers(0, len(events)), max_size=10))
    when = sorted(data.draw(st.lists(st.integers(0, 12), min_size=5, max_size=5)))
    assert run(places, when) == run([], [0] * 5)


def times(packet):
    body = packet.body
    return None if body is None or isinstance(body, Frame) or body.times is None else body.times.tobytes()


def from_the_wire(events, resolution):
    packet = Packet(EVENTS, 0, int(events.t[0]), int(events.t[-1]), 0, pack(events))
    return wire.decode([bytes(part) for part in wire.encode(packet)], resolution).body


def test_events_that_the_wire_has_checked_for_this_size_are_not_checked_again(monkeypatch):
    asked = []
    monkeypatch.setattr("rtpipe.window.stage.fault", lambda body, size: asked.append(size) or fault(body, size))
    feed = Feed(stage("count", by="time", length_us=10))
    asked.clear()
    for body in (from_the_wire(ramp(0, 15), slow.SMALL), from_the_wire(ramp(15, 25), slow.SMALL)[2:8]):
        feed(EVENTS, body.t0, body.t0 + int(body.dt[-1]), body)
    assert asked == []
    assert feed.made[0].body.n_events == 10


@pytest.mark.parametrize("doubtful", ["another size", "turned round", "made here"])
def test_events_that_nobody_checked_for_this_size_are_checked(doubtful):
    far = slow.make([20, 21, 22], [8, 8, 8], [0, 0, 0], [0, 1, 0])
    body = {
        "another size": lambda: from_the_wire(far, (9, 5)),
        "turned round": lambda: from_the_wire(ramp(20, 23), slow.SMALL)[::-1],
        "made here": lambda: pack(far),
    }[doubtful]()
    feed = Feed(stage("count", by="time", length_us=10))
    feed.events(ramp(0, 3))
    feed(EVENTS, 20, 22, body)
    assert sum(feed.stage.flows["events"].dropped.values()) == 3


def test_a_window_between_frames_carries_the_frame_that_ends_it():
    feed = Feed(stage("voxel", by="between_frames"))
    feed.frame(1050, 1140)
    feed.frame(1150, 1240)
    first, second = feed.events(ramp(1000, 1400, 2))
    assert [(p.body.t_start, p.body.t_end, p.body.frame.t) for p in (first, second)] == [
        (1000, 1095, 1095), (1095, 1195, 1195),
    ]  # fmt: skip


@pytest.mark.parametrize("mode", ["trained", "edges"])
def test_new_representations_hold_what_the_plain_functions_make(mode):
    events = ramp(1000, 1400, 2)
    inside = events.between(1010, 1100)
    edges = {} if mode == "trained" else {"t0": 1010, "t1": 1100}
    feed = Feed(stage("two_polarity_voxel", mode=mode))
    feed.frame(1010, 1100)
    window = feed.events(events)[0].body
    wanted = rtpipe.two_polarity_voxel_grid(inside, resolution=slow.SMALL, **edges)
    np.testing.assert_array_equal(window.tensor, wanted)
    assert window.times is None
    feed = Feed(stage("stack", mode=mode, bins=4))
    feed.frame(1010, 1100)
    window = feed.events(events)[0].body
    stack = rtpipe.equal_count_stack(inside, chunks=4, resolution=slow.SMALL)
    np.testing.assert_array_equal(window.tensor, stack.frames)
    first, last = (1010, 1098) if mode == "trained" else (1010, 1100)
    absolute = (stack.times + 1) / 2 * (1098 - 1010) + 1010
    np.testing.assert_allclose(window.times, 2 * (absolute - first) / (last - first) - 1, atol=1e-12)


def test_a_window_with_fewer_events_than_chunks_has_no_instants():
    feed = Feed(stage("stack", bins=20))
    feed.frame(1010, 1020)
    feed.frame(1030, 1130)
    few, enough = (packet.body for packet in feed.events(ramp(1000, 1200)))
    assert (few.times, few.n_events, few.tensor.any()) == (None, 10, np.False_)
    assert enough.times.shape == (20,)
    assert enough.tensor.any()


def test_a_stack_of_many_chunks_is_compiled_before_the_first_packet(monkeypatch):
    called, fill = [], window_stack._fill
    monkeypatch.setattr(window_stack, "_fill", lambda *given: called.append(1) or fill(*given))
    stage("stack", bins=50)
    assert called


def test_what_an_open_stack_holds_is_bounded_even_between_known_edges():
    feed = Feed(stage("stack", bins=4, by="time", length_us=400, mode="edges", history_mb=8 * 100 / 1e6))
    feed.events(ramp(0, 300))
    feed.events(ramp(300, 500))
    assert feed.made[0].n_events == 0
    assert feed.stage.flows["events"].dropped == {"history_full": 300}


def test_frames_alone_need_no_events_and_no_tensor():
    made = WindowStage(WindowSettings(by="frame"), spec("none", needs_frame=True), picture=True)
    assert [stream.name for stream in made.open([StreamInfo(FRAMES, (9, 8))])] == ["engine/window"]
    feed = Feed(made)
    (packet,) = feed.frame(10, 50)
    assert (packet.body.t_start, packet.body.t_end, packet.body.n_events) == (10, 50, 0)
    assert (packet.body.tensor, packet.body.events) == (None, None)
    np.testing.assert_array_equal(packet.body.frame.image, IMAGE)
    assert not feed.events(ramp(0, 10))
    (last,) = feed(FRAMES, 60, 60, end=True)
    assert last.end


def test_what_a_stage_of_frames_alone_needs_is_said():
    with pytest.raises(ConfigError, match="has no frames, which windows by: frame need"):
        WindowStage(WindowSettings(by="frame"), spec("none")).open([StreamInfo(EVENTS, slow.SMALL)])
    with pytest.raises(ConfigError, match="has no triggers, which windows by: trigger need"):
        WindowStage(WindowSettings(by="trigger"), spec("count")).open(STREAMS)


def test_triggers_from_before_a_jump_are_counted():
    made = WindowStage(WindowSettings(by="trigger", length_us=10), spec("count"))
    made.open(ALL)
    feed = Feed(made)
    feed.events(ramp(0, 10), epoch=1)
    feed(TRIGGERS, 5, 5, signal(5), epoch=0)
    assert made.flows["triggers"].dropped == {"discontinuity": 1}


@pytest.mark.parametrize("text", [
    "{by: mixed}", "{by: mixed, events: 5}", "{by: mixed, length_us: 5}", "{by: frame, length_us: 5}",
    "{by: mixed, events: 5, length_us: 5, mode: edges}", "{by: between_frames, hop_us: 5}", "{by: time, offset_us: 5}",
    "{by: trigger, channel: 256}", "{by: trigger, edge: both}", "{by: frame, representation: voxel}",
    "{by: exposure, edge: any}", "{by: mixed, events: 0, length_us: 9}",
])  # fmt: skip
def test_wrong_settings_are_refused(text):
    with pytest.raises(msgspec.ValidationError, match=r"by: |wanted|Invalid enum"):
        msgspec.yaml.decode(text, type=WindowSettings)


@pytest.mark.parametrize("by", FRAMED)
def test_an_engine_that_needs_the_frame_takes_every_window_that_carries_one(by):
    assert WindowStage(WindowSettings(by=by), spec("none", needs_frame=True)).settings.by == by


@pytest.mark.parametrize(
    ("given", "wanted", "says"),
    [
        ({"by": "frame"}, spec("voxel"), "by: frame takes no events"),
        ({"by": "trigger"}, spec("voxel", needs_frame=True), "use by: exposure or by: mid_exposure"),
        ({"bins": 1}, spec("two_polarity_voxel"), "bins: two_polarity_voxel has at least 2"),
        ({"bins": 3}, spec("count"), "bins: count has 2, not 3"),
    ],
)
def test_what_does_not_fit_the_engine_is_refused(given, wanted, says):
    with pytest.raises(ConfigError, match=says):
        WindowStage(WindowSettings(**given), wanted)


def test_an_engine_of_any_representation_takes_what_the_settings_say():
    assert chosen(WindowSettings(by="frame"), spec("")) == ("none", 0)
    assert chosen(WindowSettings(representation="stack"), spec("")) == ("stack", 50)


@pytest.mark.parametrize(
    ("window", "kinds"),
    [
        ("{by: trigger, length_us: 500}", ["events", "triggers"]),
        ("{by: between_frames}", ["events", "frames"]),
        ("{by: mixed, events: 10, length_us: 500}", ["events"]),
    ],
)
def test_the_pipeline_asks_the_source_for_what_windows_need(tmp_path, window, kinds):
    path = tmp_path / "pipeline.yaml"
    path.write_text(f"sources: {{camera: {{driver: synthetic}}}}\nwindow: {window}\nengine: {{network: leaky}}\n")
    (engine,) = [worker for worker in plan(load(str(path)), tmp_path) if worker.role == "engine"]
    assert [item.kinds for item in engine.inputs] == [kinds]


def test_windows_and_engines_that_do_not_fit_are_refused_with_file_and_key(tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text("sources: {camera: {driver: synthetic}}\nwindow:\n  by: frame\nengine: {network: leaky}\n")
    with pytest.raises(ConfigError, match=r"pipeline.yaml:3: window.by: frame takes no events"):
        load(str(path))
