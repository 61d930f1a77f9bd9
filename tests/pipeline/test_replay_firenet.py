"""The shipped pipeline with FireNet, as a user starts it: with its weights, and without."""

import json

import av
import numpy as np
import pytest

from engines.firenet import NETWORK
from rtpipe.kernels import CACHE
from rtpipe.weights import checkpoint, store
from tests.pipeline.command_line import rtpipe
from tests.pipeline.recording import make


@pytest.fixture(autouse=True)
def weights(tmp_path, monkeypatch):
    monkeypatch.setenv("RTPIPE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if CACHE is not None:  # kernels need not be compiled again
        monkeypatch.setenv("NUMBA_CACHE_DIR", str(CACHE))


def run(source, out, *more):
    return rtpipe(
        "run", "replay-firenet", "--source", source, "--headless", "--json", f"sinks.1.path={out}/run.mp4",
        f"sinks.2.dir={out}", "sources.camera.speed=0", *more,
    )  # fmt: skip


def test_without_weights_it_says_what_to_do(tmp_path):
    code, _, said = run(make(tmp_path / "source.h5"), tmp_path)
    assert code == 2
    assert "rtpipe engines import firenet FireNet.pth" in said
    assert "network: complementary" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_the_way_it_names_for_going_on_without_weights_works(tmp_path):
    code, _, said = run(make(tmp_path / "source.h5"), tmp_path, "engine.network=complementary")
    assert code == 0, said


@pytest.mark.slow
def test_with_its_weights_events_become_video(shared, tmp_path):
    found = checkpoint.read(shared("weights/FireNet.pth"))
    store.save(*NETWORK.recognise(found.tensors, found.config, {}), {})
    code, text, said = run(make(tmp_path / "source.h5"), tmp_path, "window.length_us=20000")
    assert code == 0, said
    result = json.loads(text)
    assert result["losses"] == []
    inferred = result["stages"]["engine"]["windows inferred"]
    assert inferred["passed"] == inferred["taken"] > 3
    with av.open(str(tmp_path / "run.mp4")) as video:
        pictures = [frame.to_ndarray(format="gray") for frame in video.decode(video=0)]
    assert np.std(pictures[-1][:, 330:640]) > 5, "the output's panel shows something"
