"""Filters in a pipeline: real runs whose report shows what was removed, and pipeline files that are wrong."""

import json

import numpy as np
import pytest

from rtpipe.errors import InputError
from rtpipe.formats import open_recording
from rtpipe.pipeline.config import describe, load
from rtpipe.window.filters import background, filtered, hot_pixels, refractory
from tests.pipeline.command_line import rtpipe
from tests.pipeline.recording import make

LIST = "filters:\n  - hot_pixels\n  - {{filter: background, duration_us: 800}}\n"
PIPELINE = """\
sources:
  camera: {{driver: replay, path: {source}, speed: 0}}
filters:
  - hot_pixels
  - {{filter: background, duration_us: 800}}
window: {{of: camera, by: exposure}}
engine: {{network: edi}}
sinks:
  - {{sink: record, dir: {out}, name: run, streams: [events, frames, output]}}
"""


@pytest.fixture
def pipeline(tmp_path):
    source = make(tmp_path / "source.h5")

    def write(text=PIPELINE):
        path = tmp_path / "pipeline.yaml"
        path.write_text(text.format(source=source, out=tmp_path))
        return path

    return write


def test_a_run_reports_what_its_filters_removed(tmp_path, pipeline):
    code, out, err = rtpipe("run", pipeline(), "--json", "filters.0.pixels=[[20, 5], [33, 40]]")
    assert code == 0, err
    result = json.loads(out)
    assert result["losses"] == []
    stages = result["stages"]["engine"]
    with open_recording(tmp_path / "source.h5") as recording:
        choices = [
            {"filter": "hot_pixels", "pixels": [[20, 5], [33, 40]]},
            {"filter": "background", "duration_us": 800},
        ]
        seen = filtered(recording, choices)
        kept, everything = seen.events(), recording.events()
    hot = ((everything.x == 20) & (everything.y == 5)) | ((everything.x == 33) & (everything.y == 40))
    assert stages["filter hot_pixels"]["dropped"] == {"hot_pixels": int(hot.sum())}
    assert stages["filter background"]["passed"] == len(kept)
    assert stages["filters"] == {
        "taken": len(everything),
        "passed": len(kept),
        "dropped": {name: seen.flows[f"filter {name}"].dropped[name] for name in ("hot_pixels", "background")},
    }
    assert stages["events"]["taken"] == len(kept)
    assert 0 < len(kept) < len(everything)
    assert "(20,5)" in json.dumps(result)
    recorded = open_recording(tmp_path / "run.mcap").events()  # the recorder stands in front of the filters
    np.testing.assert_array_equal(recorded.t, everything.t)
    np.testing.assert_array_equal(recorded.x, everything.x)


def test_what_moves_pixels_moves_pictures_too(tmp_path, pipeline):
    settings = ["filters=[{filter: roi, x: 10, y: 8}]", "filters.0.width=40", "filters.0.height=20"]
    code, out, err = rtpipe("run", pipeline(), *settings, "--json")
    assert code == 0, err
    stages = json.loads(out)["stages"]["engine"]
    assert stages["filtered frames"] == {"taken": 10, "passed": 10, "dropped": {}}
    recorded = open_recording(tmp_path / "run.mcap")
    made, taken = list(recorded.pictures("engine/output")), list(recorded.frames())
    assert {frame.resolution for frame in made} == {(40, 20)}
    assert {frame.resolution for frame in taken} == {(64, 48)}
    assert len(made) == len(taken) == 10


def test_filters_are_named_and_their_settings_overridden(pipeline):
    path = str(pipeline())
    config = load(path, overrides=["filters.0.rate_hz=7", "filters.1.duration_us=100"])
    assert [(part.kind, part.settings) for part in config.filters] == [
        ("hot_pixels", hot_pixels.Settings(rate_hz=7)),
        ("background", background.Settings(duration_us=100)),
    ]
    config = load(path, overrides=["filters=[background, refractory]", "filters.1.period_us=5"])
    assert config.filters[1].settings == refractory.Settings(period_us=5)
    assert describe(config)["filters"][1] == {"kind": "refractory", "period_us": 5, "after": "kept"}
    assert load(path, overrides=["filters=[]"]).filters == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("duration_us: 800", "duration: 800"), ["pipeline.yaml:5", "filters[1].duration", "duration_us"]),
        (("duration_us: 800", "duration_us: -1"), ["pipeline.yaml:5", "duration_us", "-1"]),
        (("- hot_pixels", "- hot_pixel"), ["pipeline.yaml:4", "hot_pixel", "hot_pixels", "refractory"]),
        (("- hot_pixels", "- 7"), ["pipeline.yaml:4", "filters[0]", "filter: NAME"]),
        ((LIST, "filters: hot_pixels\n"), ["pipeline.yaml:3", "list of filters"]),
        (("- hot_pixels", "- {{filter: undistort, calibration: no.txt}}"), ["pipeline.yaml:4", "undistort", "no.txt"]),
        (
            ("window: {{of: camera, by: exposure}}\nengine: {{network: edi}}\n", ""),
            ["pipeline.yaml:3", "filters", "windows"],
        ),
    ],
)
def test_filters_that_cannot_be_are_refused_before_the_run(pipeline, change, words):
    assert change[0] in PIPELINE
    with pytest.raises(InputError) as caught:
        load(str(pipeline(PIPELINE.replace(*change))))
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


def test_a_filter_that_the_sensor_does_not_fit_ends_the_run_in_words(pipeline):
    code, out, err = rtpipe("run", pipeline(), "filters.0.pixels=[[64, 3]]")
    assert code == 2, (out, err)
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) <= 2, err
    assert all(word in err for word in ("hot_pixels", "64, 3", "64x48")), err
