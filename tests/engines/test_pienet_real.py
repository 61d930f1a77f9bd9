"""Pictures that PIE-Net makes of real events: scores below which something is broken, runs as a user starts them."""

import json
from dataclasses import replace

import av
import numpy as np
import pytest

import rtpipe
from engines.pienet import NETWORK
from rtpipe.bench.reconstruction import measure
from rtpipe.engine import load_engine
from rtpipe.types import Window
from rtpipe.weights import store
from rtpipe.window.filters import filtered
from rtpipe.window.settings import WindowSettings
from rtpipe.window.stage import WindowStage
from tests.engines.pienet_package import Package
from tests.pipeline.command_line import rtpipe as run

PERSON = "recordings/aedat4/dvxplorer_person2.aedat4"


@pytest.fixture(autouse=True)
def weights(tmp_path, monkeypatch):
    monkeypatch.setenv("RTPIPE_WEIGHTS", str(tmp_path / "weights"))
    NETWORK.import_packaged()


def windows(recording, length_us):
    """As the pipeline cuts them; each valid until the next."""
    stage = WindowStage(WindowSettings(by="time", length_us=length_us), load_engine("pienet").spec)
    stage.open([replace(stream, name=f"camera/{stream.kind}") for stream in recording.streams])
    for packet in recording.packets():
        renamed = replace(packet, stream=f"camera/{packet.stream.rsplit('/', 1)[-1]}")
        yield from (made.body for made in stage.process(renamed) if isinstance(made.body, Window))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "ssim", "mse", "matched"), [("lite", 0.60, 0.022, 0.62), ("full", 0.50, 0.047, 0.53)]
)
def test_against_the_frames_of_slider_depth(shared, variant, ssim, mse, matched):
    """One grid from each frame to the next, as it is scored elsewhere; measured: lite 0.609 and 0.0209 (matched 0.631),
    full 0.514 and 0.0382 (0.546); the complementary filter 0.486, FireNet 0.407."""
    store.save(*_parts(store.load(f"pienet-{variant}")), {}, name="pienet-lite", overwrite=True)
    by_name = {each.engine: each for each in measure(shared("recordings/ijrr_slider_depth"), ["pienet"])}
    result = by_name["pienet"]
    assert result.scored == 86, "the first frame comes before the first event"
    assert result.scores.ssim > ssim
    assert result.scores.mse < mse
    assert result.scores.ssim_matched > matched
    assert result.scores.ssim > by_name["complementary"].scores.ssim


def _parts(stored):
    return stored.tensors, stored.properties


@pytest.mark.slow
def test_a_face_on_a_calm_wall(shared):
    """A turning head in the middle, a wall around it, hot pixels learned and removed."""
    engine = load_engine("pienet")
    with rtpipe.open(shared(PERSON)) as recording:
        engine.warm(recording.resolution)
        for window in windows(filtered(recording, ["hot_pixels"]), 50_000):
            (picture,) = engine.infer(window)
    image = picture.image.astype(float)
    wall, face, hair = image[20:60, 30:120], image[100:170, 140:215], image[73:82, 130:185]
    assert wall.std() < 15
    assert face.std() > 30
    assert wall.mean() > 90, "the wall is light"
    assert hair.mean() < 0.6 * wall.mean(), "hair is dark"
    assert np.percentile(image, 99) > 140, "the picture is not a dim one"


@pytest.mark.parametrize("variant", ["lite", pytest.param("full", marks=pytest.mark.slow)])
def test_real_events_give_the_package_s_own_images(shared, variant):
    with rtpipe.open(shared(PERSON)) as recording:
        engine, package = load_engine("pienet", variant=variant), Package(variant, recording.resolution)
        engine.warm(recording.resolution)
        for window, _ in zip(windows(recording, 25_000), range(2), strict=False):
            wanted = package.step(window.tensor[None])
            assert np.abs(engine.image(window) - wanted).max() < 2e-5


def shown(source, out, config, *more):
    """The run's report and the pictures of its video's output panel."""
    code, text, said = run(
        "run", config, "--source", source, "--headless", "--json", "sources.camera.speed=0",
        f"sinks=[{{sink: video, path: {out}/run.mp4, panels: [output]}}]", *more,
    )  # fmt: skip
    assert code == 0, said
    with av.open(f"{out}/run.mp4") as video:
        return json.loads(text), [frame.to_ndarray(format="gray") for frame in video.decode(video=0)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "more", "least"),
    [
        ("replay-pienet", ("window.length_us=40000",), 35),
        ("replay-reconstruct", ("engine.network=pienet", "window.length_us=80000"), 17),
    ],
)
def test_as_a_user_starts_it(shared, tmp_path, config, more, least):
    report, pictures = shown(shared(PERSON), tmp_path, config, *more)
    assert report["losses"] == []
    inferred = report["stages"]["engine"]["windows inferred"]
    assert inferred["passed"] == inferred["taken"] >= least
    assert len(pictures) >= least
    width, height = 320, 240
    assert pictures[-1].shape[1] == width
    assert np.std(pictures[-1][-height:]) > 20, "below the caption, the face"


def test_the_pipeline_without_weights_says_what_to_do(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("RTPIPE_WEIGHTS", str(tmp_path / "nothing"))
    code, _, said = run("run", "replay-pienet", "--source", shared(PERSON), "--headless", "sinks=[]")
    assert code == 2
    assert "pip install --no-deps event-pienet" in said
    assert "rtpipe engines import pienet" in said
    assert "network: complementary" in said
    assert "Traceback" not in said
