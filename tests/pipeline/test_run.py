"""Whole runs: real processes, real ZeroMQ, real files."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest

from rtpipe.formats import open_recording
from tests.pipeline.command_line import rtpipe
from tests.pipeline.recording import make

PIPELINE = """\
sources:
  camera: {{driver: replay, path: {source}, speed: {speed}}}
window: {{of: camera, by: exposure}}
engine: {{network: edi}}
sinks:
  - {{sink: record, dir: {out}, name: run, streams: [events, frames, output]}}
  - {{sink: video, path: {out}/run.mp4, panels: [frame, output, events]}}
"""


@pytest.fixture
def source(tmp_path):
    return make(tmp_path / "source.h5")


@pytest.fixture
def pipeline(tmp_path, source):
    def write(speed=0, text=PIPELINE):
        path = tmp_path / "pipeline.yaml"
        path.write_text(text.format(source=source, out=tmp_path, speed=speed))
        return path

    return write


@pytest.mark.parametrize("speed", [0, 2])
def test_a_run_delivers_everything_and_its_ledger_says_so(tmp_path, source, pipeline, speed):
    code, out, err = rtpipe("run", pipeline(speed), "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["losses"] == []
    n_events = len(open_recording(source).events())
    for edge in ("camera->engine", "camera->record"):
        assert result["edges"][edge]["offered"] == result["edges"][edge]["delivered"]
        assert result["edges"][edge]["offered"]["events"] == n_events
    assert result["stages"]["engine"]["frames"] == {"taken": 10, "passed": 10, "dropped": {}}
    assert result["edges"]["engine->record"]["latency"]["n"] >= 10
    assert result["sensor"] == {}  # a replay has none, so no latency from it


def test_what_was_recorded_is_what_was_replayed(tmp_path, source, pipeline):
    code, _, err = rtpipe("run", pipeline())
    assert code == 0, err
    before, after = open_recording(source), open_recording(tmp_path / "run.mcap")
    assert after.resolution == before.resolution
    old, new = before.events(), after.events()
    for column in "txyp":
        np.testing.assert_array_equal(getattr(old, column), getattr(new, column))
    old_frames = list(before.frames())
    new_frames = [frame for frame in after.frames() if frame.source == "camera"]
    assert [f.t for f in new_frames] == [f.t for f in old_frames]
    for a, b in zip(old_frames, new_frames, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        assert (a.exposure_start, a.exposure_end) == (b.exposure_start, b.exposure_end)


def test_a_packet_thrown_away_uncounted_fails_the_run_and_names_the_edge(pipeline):
    code, _, err = rtpipe("run", pipeline(), env={"RTPIPE_TEST_LOSE": "camera->engine:5"})
    assert code == 1
    assert "camera->engine" in err
    assert len(err.strip().splitlines()) == 1  # said once


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("speed: 0", "sped: 0"), ["pipeline.yaml:2", "sources.camera.sped", "allowed", "speed"]),
        (("driver: replay", "driver: reply"), ["pipeline.yaml:2", "'reply'", "replay", "synthetic"]),
        (("network: edi", "network: efnett"), ["pipeline.yaml:4", "'efnett'", "edi"]),
        (("by: exposure", "by: moonlight"), ["pipeline.yaml:3", "moonlight"]),
        (("by: exposure", "by: time, length_us: 1000"), ["window.by", "exposure"]),
        (("of: camera", "of: kamera"), ["window.of", "kamera", "camera"]),
        (("sink: video", "sink: vidio"), ["pipeline.yaml:7", "vidio", "video", "display"]),
        (("sinks:", "sink:"), ["pipeline.yaml:5", "sink", "sinks"]),
        (("source.h5", "missing.h5"), ["missing.h5"]),
        (("panels: [frame, output, events]", "panels: [frame, colour]"), ["colour"]),
    ],
)
def test_bad_input_is_said_in_one_or_two_lines(pipeline, change, words):
    path = pipeline()
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change))
    code, out, err = rtpipe("run", path)
    assert code == 2, (out, err)
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) <= 2, err
    for word in words:
        assert word in err


def test_a_directory_that_cannot_be_written_is_said_before_the_run(tmp_path, pipeline):
    (tmp_path / "file").write_text("")
    code, _, err = rtpipe("run", pipeline(), f"sinks.0.dir={tmp_path / 'file'}")
    assert code == 2, err
    assert str(tmp_path / "file") in err
    assert len(err.strip().splitlines()) <= 2


def test_a_disk_without_room_is_said_before_the_run(tmp_path, pipeline):
    begun = time.monotonic()
    code, _, err = rtpipe("run", pipeline(), "sinks.0.min_free_mb=1000000000", "sources.camera.loop=true")
    assert code == 1, err
    assert "min_free_mb" in err
    assert len(err.strip().splitlines()) <= 2, err
    assert time.monotonic() - begun < 60  # it does not go on for ever without its recorder


def test_a_disk_that_fills_up_ends_the_recording_and_not_the_run(tmp_path, source, pipeline):
    """The recorder may write 300 kB (RLIMIT_FSIZE stands for a full disk); both files need more than that."""
    make(source, frames=60)
    path = pipeline(speed=1, text=PIPELINE.replace("panels: [frame, output, events]", "panels: [output]"))
    limited = f"ulimit -f 300; exec {sys.executable} -m rtpipe run {path} sinks.0.min_free_mb=0 --json"
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    assert "run.mcap" in done.stderr
    assert "Traceback" not in done.stderr
    result = json.loads(done.stdout)
    assert result["edges"]["camera->engine"]["delivered"]["events"] == len(open_recording(source).events())
    kept = open_recording(tmp_path / "run.mcap").events()
    assert len(kept) > 0
    assert (kept.t == open_recording(source).events().t[: len(kept)]).all()
