"""Whole runs with two sources: both recorded, their clocks related, and one's frames joined to the other's events."""

import json

import numpy as np
import pytest

from rtpipe.errors import ConfigError
from rtpipe.formats.mcap import Reader
from rtpipe.pipeline.config import load
from rtpipe.pipeline.plan import plan
from tests.drivers.camera.frame_servers import video
from tests.pipeline.command_line import rtpipe
from tests.pipeline.recording import make

LIVE = "driver: synthetic, width: 96, height: 64, seconds: 5"


def run(tmp_path, text):
    path = tmp_path / "pipeline.yaml"
    path.write_text(text)
    env = {"XDG_RUNTIME_DIR": str(tmp_path)}
    code, out, err = rtpipe("run", path, "--json", env=env)
    assert code == 0, err
    return json.loads(out)


def recorded(folder):
    (path,) = folder.glob("*.mcap")
    return path


def test_two_event_cameras_are_recorded_side_by_side_and_their_clocks_related(tmp_path):
    result = run(
        tmp_path,
        f"""
sources:
  left: {{{LIVE}, rate_mev_s: 0.2, frames_hz: 20}}
  right: {{{LIVE}, rate_mev_s: 0.1}}
window: {{of: left, by: exposure}}
engine: {{network: edi}}
sinks: [{{sink: record, dir: {tmp_path}/out, streams: [events, frames, output]}}]
""",
    )
    path = recorded(tmp_path / "out")
    with Reader(path, source="left") as left, Reader(path, source="right") as right:
        assert (len(left.events()), len(right.events())) == (1_000_000, 500_000)
        assert len(list(left.frames())) == 100
        noted = json.loads(left.metadata["clocks"])
    assert {"left", "right"} == set(noted["clocks"])
    relation = noted["relations"][0]
    assert (relation["source"], relation["to"], relation["by"]) == ("right", "left", "host")
    assert abs(relation["offset_us"]) < 2_000_000  # both began with the run
    assert result["clocks"][0]["drift_ppm"] == pytest.approx(0, abs=100)  # one clock drives both
    assert result["sensor"]["what"] == "sensor to output"
    assert result["sensor"]["p50_us"] > 12_500  # half an exposure at least lies between the instant shown and its end
    with Reader(path) as plain:
        assert any("right" in note and "left" in note and "ms" in note for note in plain.notes)


@pytest.mark.slow
def test_frames_joined_on_one_clock_give_the_very_pictures_of_the_recording_itself(tmp_path):
    """A recording's frames, taken from a second replay of it, must make no difference."""
    recording = make(tmp_path / "a.h5")
    outputs = []
    for name, sources, window in (
        ("plain", "", ""),
        ("joined", f"\n  webcam: {{driver: replay, path: {recording}}}", ", frames: webcam, join: {clocks: same}"),
    ):
        run(
            tmp_path,
            f"""
sources:
  camera: {{driver: replay, path: {recording}}}{sources}
window: {{of: camera, by: exposure{window}}}
engine: {{network: edi}}
sinks:
  - {{sink: record, dir: {tmp_path}/{name}, streams: [output]}}
  - {{sink: video, dir: {tmp_path}/{name}, panels: [frame, output, events]}}
""",
        )
        with Reader(recorded(tmp_path / name)) as out:
            outputs.append([(f.t, f.image) for f in out.pictures("engine/output")])
    plain, joined = outputs
    assert len(plain) == len(joined) == 10
    for (t, image), (u, other) in zip(plain, joined, strict=True):
        assert t == u
        assert np.array_equal(image, other)


@pytest.mark.slow
def test_a_frame_camera_beside_an_event_camera_is_shown_in_step_with_it(tmp_path):
    """A video file as frame camera: every picture of the engine has its frame beside it, on the events' clock."""
    path = video(tmp_path / "a.mp4", frames=100)
    result = run(
        tmp_path,
        f"""
sources:
  camera: {{{LIVE}, rate_mev_s: 0.2}}
  webcam: {{driver: webcam, device: {path}, exposure_us: 10000}}
window: {{of: camera, frames: webcam, by: exposure, join: {{delay_us: 0}}}}
engine: {{network: edi}}
sinks:
  - {{sink: record, dir: {tmp_path}/out, streams: [events, frames, output]}}
  - {{sink: video, dir: {tmp_path}/out, panels: [frame, output, events]}}
""",
    )
    stages = result["stages"]
    made = stages["engine"]["joined frames"]["passed"]
    assert made >= 40  # those of the first second come before the clocks are known
    assert stages["engine"]["windows inferred"]["passed"] >= made - 3
    dropped = stages["video"]["frames"]["dropped"]
    assert set(dropped) <= {"unmatched"}  # none is shown beside another's instant
    assert stages["video"]["frames"]["passed"] >= 2 * (made - 5), dropped
    facts = {fact["fact"]: fact["value"] for fact in result["facts"] if fact["of"] in ("engine", "webcam")}
    assert "as given" in facts["webcam joined"]
    with Reader(recorded(tmp_path / "out"), source="webcam") as webcam:
        assert len(list(webcam.frames())) == 100  # what was recorded is the camera's own, every frame


JOINED = """
sources:
  camera: {driver: synthetic}
  webcam: {driver: synthetic, frames_hz: 20}
%s
window: {of: camera, frames: %s, by: exposure}
engine: {network: edi}
sinks: [{sink: display}, {sink: record}]
"""


@pytest.mark.parametrize(
    ("history", "frames", "words"),
    [("", "nobody", "no source 'nobody'"), ("history: {of: camera}", "webcam", "cannot be rewound")],
)
def test_what_cannot_be_joined_is_refused_before_the_run(tmp_path, history, frames, words):
    path = tmp_path / "pipeline.yaml"
    path.write_text(JOINED % (history, frames))
    with pytest.raises(ConfigError, match=words):
        load(str(path))


def test_displays_take_the_joined_frames_and_recorders_the_camera_s_own(tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text(JOINED % ("", "webcam"))
    workers = {worker.name: worker for worker in plan(load(str(path)), tmp_path)}
    taken = {name: {(i.producer, kind) for i in worker.inputs for kind in i.kinds} for name, worker in workers.items()}
    assert {("camera", "events"), ("camera", "triggers"), ("webcam", "frames")} == taken["engine"]
    assert ("engine", "frames") in taken["display"]
    assert ("webcam", "frames") not in taken["display"]
    assert {("camera", "events"), ("webcam", "frames")} <= taken["record"]
