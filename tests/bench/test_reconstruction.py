"""The reconstruction benchmark runs engines as the pipeline does and says what they reached."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from rtpipe.bench import reconstruction
from rtpipe.errors import InputError
from rtpipe.formats import open_recording
from rtpipe.formats.ecm_h5 import Writer
from rtpipe.types import Events
from tests.pipeline.command_line import rtpipe
from tests.pipeline.recording import RESOLUTION, make


def printed(results):
    out = io.StringIO()
    Console(file=out, width=80).print(reconstruction.table(results))
    return out.getvalue()


def test_a_recording_with_frames_is_scored_at_each_of_them(tmp_path):
    results = reconstruction.measure(make(tmp_path / "source.h5"))
    assert [each.engine for each in results] == [*reconstruction.ENGINES, reconstruction.HELD]
    for each in results[:-1]:
        assert each.scores is not None
        assert 0 < each.p50_ms <= each.p99_ms
        assert each.scored == each.pictures - ("frames" in each.engine)
    text = printed(results)
    assert "…" not in text
    assert f"{results[0].scores.ssim:.3f}" in text


def test_without_frames_the_speed_is_measured_on_the_cadence_of_the_shipped_pipeline(tmp_path):
    random = np.random.default_rng(0)
    n = 230_000
    writer = Writer(tmp_path / "fast.h5", RESOLUTION)
    t = np.sort(random.integers(0, 9000, n)) + 10_000_000
    writer.add_events(Events(t, random.integers(0, 64, n), random.integers(0, 48, n), random.integers(0, 2, n)))
    writer.close()
    assert not any(stream.kind == "frames" for stream in open_recording(tmp_path / "fast.h5").streams)
    results = reconstruction.measure(tmp_path / "fast.h5")
    assert [(each.engine, each.pictures, each.scores) for each in results] == [
        ("complementary", 2, None),
        ("leaky", 2, None),
    ]
    assert "SSIM" in printed(results)


def test_too_few_events_for_a_picture_are_said_to_be(tmp_path):
    writer = Writer(tmp_path / "short.h5", RESOLUTION)
    writer.add_events(Events(np.arange(50) + 1000, np.full(50, 63), np.zeros(50), np.ones(50)))
    writer.close()
    with pytest.raises(InputError, match="too few events"):
        reconstruction.measure(tmp_path / "short.h5")


def test_the_command_prints_facts_as_json(tmp_path):
    code, out, err = rtpipe("bench", "reconstruction", make(tmp_path / "source.h5"), "--json")
    assert code == 0, err
    assert {row["engine"] for row in json.loads(out)} == {*reconstruction.ENGINES, reconstruction.HELD}
