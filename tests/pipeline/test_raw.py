"""Whole runs of a camera's own bytes: recorded as they came, windows as of decoded events, the ledger balanced."""

import json

import numpy as np
import pytest

from rtpipe.formats import open_recording
from tests.pipeline.command_line import rtpipe
from tests.raw_runs import DRIVING, HASH, camera_bytes, digest

N = 219_596
RECORDED = """\
sources:
  camera: {{driver: replay, path: {source}, speed: 0, packet_us: 500, raw: {raw}}}
sinks:
  - {{sink: record, dir: {out}, name: run, streams: [events]}}
"""
RECONSTRUCTED = """\
sources:
  camera: {{driver: replay, path: {source}, speed: 0, packet_us: 500, raw: {raw}}}
window: {{of: camera, by: time, length_us: 1000}}
engine: {{network: leaky}}
sinks:
  - {{sink: record, dir: {out}, name: run, streams: [events, output]}}
"""


@pytest.fixture
def run(tmp_path):
    def go(text, source, raw="true", name="out"):
        path = tmp_path / f"{name}.yaml"
        path.write_text(text.format(source=source, out=tmp_path / name, raw=raw))
        code, out, err = rtpipe("run", path, "--json")
        assert code == 0, err
        result = json.loads(out)
        assert result["losses"] == []
        assert result["edges"]["camera->record"]["delivered"]["events"] == N
        return tmp_path / name / "run.mcap", result

    return go


def test_a_raw_run_is_recorded_as_it_came_and_reads_back_to_the_last_event(shared, run):
    path, result = run(RECORDED, shared(DRIVING))
    assert result["stages"]["record"]["events"] == {"taken": N, "passed": N, "dropped": {}}
    with open_recording(path) as reader:
        assert digest(reader.events()) == HASH
        assert (reader.t_start, reader.t_end) == (11_718_656, 11_727_457)
        data = np.concatenate([found.body.data for found in reader.raw_runs(2000)])
    assert data.tobytes() == camera_bytes(shared(DRIVING)).tobytes()


def test_what_an_engine_makes_of_raw_events_is_what_it_makes_of_decoded_ones(shared, run):
    outputs = []
    for raw in ("true", "false"):
        path, result = run(RECONSTRUCTED, shared(DRIVING), raw, name=raw)
        assert result["stages"]["engine"]["events"]["taken"] == N
        with open_recording(path) as reader:
            assert digest(reader.events()) == HASH
            outputs.append([(frame.t, frame.image.tobytes()) for frame in reader.pictures("engine/output")])
    assert len(outputs[0]) >= 8
    assert outputs[0] == outputs[1]


def test_raw_of_a_recording_that_has_none_is_refused_in_a_line(tmp_path, shared):
    path = tmp_path / "pipeline.yaml"
    source = shared("recordings/aedat4/davis346_highway.aedat4")
    path.write_text(RECORDED.format(source=source, out=tmp_path, raw="true"))
    code, _, err = rtpipe("run", path)
    assert code == 2, err
    assert "davis346_highway.aedat4" in err
    assert "leave raw out" in err
    assert len(err.strip().splitlines()) <= 2
