"""Frames of one source on the clock of another's events: a real camera's frames and events are taken apart, the frames'
clock is moved, drifts and jitters, and each must come back to the instant that the camera itself said."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

import rtpipe
from rtpipe.errors import ConfigError, InputError
from rtpipe.types import Edge, Frame, Packet, StreamInfo, Trigger
from rtpipe.window.join import JOINED, NO_CLOCK, JoinStage
from rtpipe.window.join_settings import JoinSettings
from rtpipe.window.settings import WindowSettings
from rtpipe.window.view import View, homography

SLIDER, HIGHWAY = "recordings/ijrr_slider_depth", "recordings/aedat4/davis346_highway.aedat4"
HOST_NS, OWN_US, EXPOSURE_US = 9_000_000_000_000, 77_000_000_000, 8_000


class Taken:
    """A recording as two live sources: events on their own clock, frames on another's, later, drifting, jittering."""

    def __init__(self, path, *, delay_us=42_000, drift=60e-6, jitter_us=1500, seed=0, laps=3):
        rng = np.random.default_rng(seed)
        with rtpipe.open(path) as recording:
            self.resolution, begun = recording.resolution, recording.t_start
            span = recording.t_end - begun + 20_000
            packets = [p for p in recording.packets(packet_us=4000) if p.body is not None]
        self.sent, self.truth = [], []
        for lap in range(laps):
            for packet in packets:
                t = packet.t_last + lap * span
                if isinstance(packet.body, Frame):
                    frame = packet.body
                    start = frame.t + lap * span - EXPOSURE_US // 2
                    due = start + EXPOSURE_US + delay_us
                    self.truth.append(start + EXPOSURE_US // 2)
                    own = OWN_US + round((start - begun + delay_us + rng.uniform(-200, 200)) * (1 + drift))
                    frame = Frame(frame.image, own + EXPOSURE_US // 2, own, own + EXPOSURE_US)
                    arrived = HOST_NS + (due - begun) * 1000 + int(rng.exponential(jitter_us) * 1000)
                    self.sent.append((arrived, "webcam/frames", own + EXPOSURE_US, frame))
                elif packet.stream.endswith("/events"):
                    body = replace(packet.body, t=packet.body.t + lap * span)
                    arrived = HOST_NS + (t - begun) * 1000 + int(rng.exponential(300) * 1000)
                    self.sent.append((arrived, "camera/events", t, body))
        self.sent.sort(key=lambda item: item[0])

    def triggers(self, *, missing=0.0, seed=1, end=False):
        """The exposures' starts (and ends) as signals, some missing; later in the stream than what they mark."""
        rng = np.random.default_rng(seed)
        for t in self.truth:
            if rng.random() < missing:
                continue
            edges = [(t - EXPOSURE_US // 2, Edge.RISING), (t + EXPOSURE_US // 2, Edge.FALLING)][: 2 if end else 1]
            for at, edge in edges:
                body = Trigger(np.array([at]), np.array([0]), np.array([edge]))
                self.sent.append((HOST_NS + (at + 2_000) * 1000, "camera/triggers", at, body))
        self.sent.sort(key=lambda item: item[0])
        return self

    def through(self, settings, *, streams=("camera/events", "camera/triggers", "webcam/frames")):
        """(stage, frames as the windows get them)."""
        stage = JoinStage("camera", "webcam", settings)
        stage.open([StreamInfo(name, None if "trigger" in name else self.resolution) for name in streams])
        made, seq, top = [], {}, {}
        for arrived, stream, t, body in self.sent:
            top[stream] = max(t, top.get(stream, t))
            seq[stream] = seq.get(stream, -1) + 1
            made += stage.process(Packet(stream, seq[stream], t, top[stream], arrived, body))
        made += stage.close()
        return stage, [p.body for p in made if p.stream == "camera/frames" and p.body is not None]

    def errors(self, frames):
        """Of each frame the distance (µs) to the nearest true instant."""
        truth = np.array(self.truth)
        return np.array([f.t - truth[np.argmin(np.abs(truth - f.t))] for f in frames])


def balanced(stage):
    assert all(flow.balanced for flow in stage.flows.values())


@pytest.mark.parametrize(("name", "delay_us"), [(SLIDER, 42_000), (HIGHWAY, 42_000), (HIGHWAY, 5_000)])
def test_by_the_host_frames_come_back_to_their_instants_within_three_milliseconds(shared, name, delay_us):
    taken = Taken(shared(name), delay_us=delay_us)
    stage, frames = taken.through(JoinSettings(clocks="host"))
    known = [f for f in frames if f.exposure_start is not None]
    assert len(known) > len(taken.truth) / 3
    assert np.max(np.abs(taken.errors(known)[20:])) < 3_000
    assert all(
        f.exposure_end - f.exposure_start == EXPOSURE_US and f.t - f.exposure_start == EXPOSURE_US // 2 for f in known
    )
    assert "estimated" in stage.facts["webcam joined"]
    balanced(stage)


def test_until_the_delay_is_known_frames_have_no_exposure_and_before_any_clock_they_are_counted(shared):
    taken = Taken(shared(SLIDER))
    stage, frames = taken.through(JoinSettings(clocks="host"))
    unknown = [f.exposure_start is None for f in frames]
    assert unknown[0]
    assert not unknown[-1]
    assert unknown == sorted(unknown, reverse=True)  # once known, known
    assert 0 < stage.flows["joined frames"].dropped[NO_CLOCK] < 60
    assert [f.t for f in frames] == sorted(f.t for f in frames)


def test_a_given_delay_is_taken_as_it_is(shared):
    taken = Taken(shared(SLIDER), laps=2)
    stage, frames = taken.through(JoinSettings(clocks="host", delay_us=42_000))
    assert all(f.exposure_start is not None for f in frames)
    assert np.max(np.abs(taken.errors(frames)[10:])) < 1_500
    assert "as given" in stage.facts["webcam joined"]


@pytest.mark.parametrize("clocks", ["auto", "trigger"])
def test_by_trigger_each_frame_takes_its_own_signal_s_instant(shared, clocks):
    taken = Taken(shared(SLIDER), delay_us=20_000).triggers(missing=0.1)
    stage, frames = taken.through(JoinSettings(clocks=clocks))
    errors = np.abs(taken.errors(frames[60:]))
    assert len(errors) > 100
    assert np.mean(errors == 0) > 0.85  # nine in ten have a signal
    assert np.max(errors) < 1_500
    assert "by trigger" in stage.facts["webcam joined"]
    balanced(stage)


def test_signals_of_both_edges_measure_the_exposure(shared):
    taken = Taken(shared(SLIDER), delay_us=20_000).triggers(end=True)
    for i, (arrived, stream, t, body) in enumerate(taken.sent):
        if stream == "webcam/frames":  # automatic exposure: the camera does not say
            taken.sent[i] = (arrived, stream, t, replace(body, exposure_start=None, exposure_end=None))
    _, frames = taken.through(JoinSettings(clocks="trigger", marks="exposure"))
    late = frames[30:]
    assert len(late) > 150
    assert all(f.exposure_end - f.exposure_start == EXPOSURE_US for f in late)
    assert np.all(taken.errors(late) == 0)


def test_where_the_events_clock_jumps_frames_are_joined_again(shared):
    taken = Taken(shared(SLIDER), laps=2)
    stage = JoinStage("camera", "webcam", JoinSettings(clocks="host", delay_us=42_000))
    stage.open([StreamInfo("camera/events", taken.resolution), StreamInfo("webcam/frames", taken.resolution)])
    half, made = len(taken.sent) // 2, []
    for i, (arrived, stream, t, body) in enumerate(taken.sent):
        jumped = i >= half and stream == "camera/events"
        if jumped:
            t, body = t + 10**10, replace(body, t=body.t + 10**10)
        made += stage.process(Packet(stream, i, t, t, arrived, body, epoch=int(jumped)))
    stage.close()
    after = [p.body for p in made if p.stream == "camera/frames" and p.epoch == 1]
    assert len(after) > 30
    assert np.max(np.abs(taken.errors([replace(f, t=f.t - 10**10) for f in after])[5:])) < 1_500
    balanced(stage)


def test_what_is_joined_goes_out_twice_and_the_rest_unchanged(shared):
    taken = Taken(shared(SLIDER), laps=1)
    stage = JoinStage("camera", "webcam", JoinSettings(clocks="same", delay_us=OWN_US))
    names = [s.name for s in stage.open([StreamInfo(n, taken.resolution) for n in ("camera/events", "webcam/frames")])]
    assert names == ["camera/events", "camera/frames", JOINED]
    frame = Packet("webcam/frames", 0, OWN_US + 5, OWN_US + 9, 1, Frame(np.zeros((180, 240), np.uint8), OWN_US + 7))
    made = stage.process(frame)
    assert [(p.stream, p.body.t) for p in made] == [("camera/frames", 7), (JOINED, 7)]
    watermark = Packet("camera/events", 0, 5, 5, 1)
    assert list(stage.process(watermark)) == [watermark]
    end = stage.process(Packet("webcam/frames", 1, OWN_US + 9, OWN_US + 9, 1, end=True))
    assert [(p.stream, p.end) for p in end] == [("camera/frames", True), (JOINED, True)]


# geometry


def test_sizes_that_do_not_go_together_are_refused_with_what_to_do():
    with pytest.raises(ConfigError, match="view: resize"):
        View("same", (640, 480), (346, 260))
    with pytest.raises(ConfigError, match="homography"):
        View("resize", (1920, 1080), (346, 260))
    assert View("resize", (692, 520), (346, 260)).apply(np.full((520, 692, 3), 9, np.uint8)).shape == (260, 346, 3)
    with pytest.raises(ValueError, match="10x10"):
        View("same", (346, 260), (346, 260)).apply(np.zeros((10, 10), np.uint8))


def test_a_homography_brings_every_point_to_where_it_says(tmp_path):
    matrix = np.array([[0.5, 0.02, 12], [-0.01, 0.55, 4], [1e-5, 2e-5, 1]])
    path = tmp_path / "view.yaml"
    path.write_text(f"homography: {matrix.ravel().tolist()}\nframe_size: [640, 480]\n")
    view = View(str(path), (640, 480), (346, 260))
    image = np.zeros((480, 640), np.uint8)
    cv2.circle(image, (300, 200), 6, 255, -1)
    seen = view.apply(image)
    x, y, w = matrix @ (300, 200, 1)
    rows, columns = np.nonzero(seen > 128)
    assert seen.shape == (260, 346)
    assert (columns.mean(), rows.mean()) == pytest.approx((x / w, y / w), abs=0.7)
    with pytest.raises(ConfigError, match="640x480"):
        View(str(path), (800, 600), (346, 260))


EYE = "homography: [1,0,0,0,1,0,0,0,1]\n"
BAD = ["", "homography: 3", "homography: [1,2,3]", "homography: [1,0,0,0,1,0,0,0,0]", "{", "\x00", "a: &a [*a]"]
BAD += ["homography: [.nan,0,0,0,1,0,0,0,1]", "homography: [x,0,0,0,1,0,0,0,1]", f"{EYE}frame_size: 7"]
BAD += [f"{EYE}frame_size: [1, -4]"]


@pytest.mark.parametrize("text", BAD)
def test_a_file_that_is_no_homography_is_refused_by_name(tmp_path, text):
    path = tmp_path / "view.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"view\.yaml") as caught:
        homography(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


# settings


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"by": "time", "length_us": 5, "frames": "webcam"}, "no place"),
        ({"by": "frame", "frames": "webcam"}, "of: webcam"),
        ({"frames": "camera"}, "its own frames"),
        ({"join": JoinSettings()}, "name it in frames"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        WindowSettings(**settings)


def test_without_a_stream_of_signals_none_can_be_waited_for():
    stage = JoinStage("camera", "webcam", JoinSettings(clocks="trigger"))
    with pytest.raises(ConfigError, match="no stream of triggers"):
        stage.open([StreamInfo("camera/events", (8, 8)), StreamInfo("webcam/frames", (8, 8))])
    with pytest.raises(ConfigError, match="'webcam' has no frames"):
        stage.open([StreamInfo("camera/events", (8, 8))])
