"""Settings while a camera streams, by `rtpipe control`: who does it is said, and it is kept with the recording."""

import json

import numpy as np
import pytest

from drivers.camera.saved import loaded
from drivers.davis import Settings
from rtpipe.formats import open_recording
from tests.drivers.camera.running import CameraRun


@pytest.fixture
def run(tmp_path, shared):
    run = CameraRun(
        tmp_path, shared("recordings/aedat4/davis346_ball_throw.aedat4"), more=", mask: [[3, 4]], refractory_us: 500"
    )
    yield run
    run.kill()


@pytest.mark.slow
def test_settings_change_while_it_streams(run):
    control = run.flowing().running.control
    said = {
        ("set", "frames.exposure_us", "8000"): "camera: frames.exposure_us 8000 (hardware)",
        ("set", "biases.diff_on", "20"): "camera: biases.diff_on 20 (hardware)",
        ("set", "camera.roi", "10,20,100,80"): "camera: roi 10,20,100,80 (host)",
        ("set", "refractory_us", "off"): "camera: refractory_us off (host)",
    }
    for command, answer in said.items():
        assert control(*command) == (0, answer)
    refused = {
        ("set", "biases.diff_on", "500"): "-20 to 100",
        ("set", "biases.bogus", "5"): "biases.diff_on",
        ("set", "antiflicker_hz", "40,60"): "cannot do it",
        ("set", "roi", "340,20,100,80"): "do not lie on",
        ("set", "serial", "X"): "cannot change while it streams",
        ("set", "no.such", "1"): "there are",
        ("set", "packet_us", "1"): "cannot change",
        ("speed", "2"): "only a replay can",
    }
    for command, answer in refused.items():
        code, text = control(*command)
        assert code == 2, (command, text)
        assert answer in text, (command, text)
    done = run.end(1.0)
    assert done.flows["filter roi"]["dropped"]["roi"] > 0
    assert done.flows["filter refractory"]["taken"] > 0
    with open_recording(run.path) as recording:
        note = json.loads(recording.metadata["source/camera"])
        events = recording.events()
    assert note["settings"]["roi"] == {"x": 10, "y": 20, "width": 100, "height": 80}
    assert note["by"] == {
        "biases.diff_on": "hardware", "frames.exposure_us": "hardware", "roi": "host", "mask": "host"
    }  # fmt: skip
    assert [change["set"] for change in note["changes"]] == [" ".join(c[1:]).removeprefix("camera.") for c in said]
    assert len(events) == done.flows["filters"]["passed"]
    late = events.t > note["changes"][2]["t"] + 100_000
    assert late.any()
    assert ((events.x[late] >= 10) & (events.x[late] < 110) & (events.y[late] >= 20) & (events.y[late] < 100)).all()
    assert not ((events.x == 3) & (events.y == 4)).any()
    assert np.unique(events.x[~late]).size > 110
    applied = done.truth.of("applied")[-1]
    assert (applied["biases"], applied["exposure_us"]) == ({"diff_on": 20}, 8000)
    again = loaded(Settings(load=str(run.path), biases={"diff_on": 7}))
    assert again.roi is not None
    assert again.roi.width == 100
    assert again.biases == {"diff_on": 7}
    assert again.frames.exposure_us == 8000
    assert again.mask == [(3, 4)]
