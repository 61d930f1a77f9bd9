"""The shipped pipelines that make video from events, as a user starts them, on recordings with and without frames."""

import json

import av
import numpy as np
import pytest

from rtpipe.formats import open_recording
from rtpipe.formats.ecm_h5 import Writer
from rtpipe.types import Events
from tests.pipeline.command_line import rtpipe
from tests.pipeline.recording import RESOLUTION, make


def frameless(path):
    """A bar that sweeps over the sensor in 9 ms, 250,000 events: over before the usual 25 ms are."""
    random = np.random.default_rng(0)
    n = 250_000
    t = np.sort(random.integers(0, 9000, n))
    x = (t * 64 // 9000 + random.integers(0, 3, n)).clip(0, 63)
    writer = Writer(path, RESOLUTION)
    writer.add_events(Events(t + 5_000_000, x, random.integers(0, 48, n), (random.random(n) < 0.7).astype(np.uint8)))
    writer.close()
    return path


def run(pipeline, source, out):
    code, text, err = rtpipe(
        "run", pipeline, "--source", source, "--headless", "--json", f"sinks.1.path={out}/run.mp4",
        f"sinks.2.dir={out}", "sources.camera.speed=0",
    )  # fmt: skip
    assert code == 0, err
    result = json.loads(text)
    assert result["losses"] == []
    with av.open(str(out / "run.mp4")) as video:
        pictures = [frame.to_ndarray(format="bgr24") for frame in video.decode(video=0)]
    (recorded,) = out.glob("*.mcap")
    with open_recording(source) as before, open_recording(recorded) as after:
        assert np.array_equal(before.events().t, after.events().t)
    assert result["stages"]["record"]["output"]["passed"] == len(pictures)
    return result, pictures


def test_events_alone_become_video_also_where_they_last_9_ms(tmp_path):
    result, pictures = run("replay-reconstruct", frameless(tmp_path / "fast.h5"), tmp_path)
    assert result["stages"]["engine"]["windows inferred"]["passed"] == 2
    assert len(pictures) == 2
    assert pictures[-1].shape[1] == 2 * 64 * 5 + 2  # output and events; there is no stream of frames to show
    assert pictures[-1][24:, :320].std() > 30


@pytest.mark.parametrize(
    ("pipeline", "expected"),
    [("replay-fuse", 33), pytest.param("replay-reconstruct", 7, marks=pytest.mark.slow)],
)
def test_recordings_with_frames_show_them_beside(tmp_path, pipeline, expected):
    _, pictures = run(pipeline, make(tmp_path / "source.h5"), tmp_path)
    assert len(pictures) >= expected
    assert pictures[-1].shape[1] == 3 * 64 * 5 + 4
