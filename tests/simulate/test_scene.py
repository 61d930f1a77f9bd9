"""What the camera sees: the photograph along the path, never its edge; a video, faded from picture to picture."""

import itertools

import av
import cv2
import numpy as np
import pytest

from rtpipe.errors import InputError
from rtpipe.simulate import photograph
from rtpipe.simulate.camera import CameraSettings, exposures
from rtpipe.simulate.path import handheld
from rtpipe.simulate.scene import StillScene, _warp, fitted
from rtpipe.simulate.video import VideoScene

TAKEN = exposures(CameraSettings(), 1_000_000)


def test_the_warp_samples_bilinearly_and_mirrors_outside():
    random = np.random.default_rng(0)
    source = random.uniform(0, 1, (12, 15)).astype(np.float32)
    matrix = np.array([[0.9, 0.2, -4.3], [-0.1, 1.1, -3.7], [1e-3, -2e-3, 1.0]])
    out = np.empty((18, 20), np.float32)
    _warp(source, matrix, out)
    pad = 11
    mirrored = np.pad(source.astype(np.float64), pad, mode="reflect")
    for y, x in np.ndindex(out.shape):
        u, v, w = matrix @ (x, y, 1)
        u, v = u / w + pad, v / w + pad
        i, j = int(np.floor(v)), int(np.floor(u))
        b, a = v - i, u - j
        corners = mirrored[i : i + 2, j : j + 2]
        assert out[y, x] == pytest.approx(np.array([1 - b, b]) @ corners @ np.array([1 - a, a]), abs=1e-5)


def test_the_view_stays_inside_a_picture_that_is_large_enough():
    """A picture with a bright frame around it: the frame is never seen."""
    light = np.full((700, 900), 0.2, np.float32)
    light[:8], light[-8:], light[:, :8], light[:, -8:] = 1, 1, 1, 1
    inner = light.copy()
    inner[:8], inner[-8:], inner[:, :8], inner[:, -8:] = 0.2, 0.2, 0.2, 0.2
    path = handheld((346, 260), TAKEN, 8.0, 1)
    scene = StillScene(light, path, 1_000_000)
    assert not scene.mirrored
    assert scene.scale > 1
    out = np.empty((260, 346), np.float32)
    seen = 0
    for t in range(0, 1_000_001, 10_000):
        scene.render(t, out)
        seen = max(seen, int((out > 0.21).sum()))
    # shown as large as fits, so that some extreme corner touches the edge itself
    assert seen < 0.06 * out.size
    small = StillScene(light[:200, :260], path, 1_000_000)
    assert small.mirrored
    small.render(500_000, out)
    assert out.min() > 0.1


def test_what_is_rendered_moves_as_the_path_says():
    """A bright dot in the photograph is where scale and the path's homography put it."""
    light = np.full((601, 801), 0.05, np.float32)
    cv2.circle(light, (400 + 60, 300 - 30), 6, 1.0, -1)
    path = handheld((346, 260), TAKEN, 10.0, 2)
    scene = StillScene(light, path, 1_000_000)
    left, top, right, bottom = path.extent(0, 1_000_000)
    out = np.empty((260, 346), np.float32)
    for t in (0, 333_333, 777_000):
        scene.render(t, out)
        weight = out - 0.05
        y, x = np.mgrid[:260, :346]
        dot = np.array([[(weight * x).sum(), (weight * y).sum()]]) / weight.sum() - [[172.5, 129.5]]
        placed = [(left + right) / 2 + 60 / scene.scale, (top + bottom) / 2 - 30 / scene.scale]
        np.testing.assert_allclose(path.project(dot, t), [placed], atol=0.1)


def test_steps_are_short_enough_that_nothing_moves_far():
    path = handheld((346, 260), TAKEN, 12.0, 3)
    scene = StillScene(np.ones((500, 600), np.float32), path, 1_000_000, step_px=0.5)
    for t0 in range(0, 900_000, 7000):
        steps = scene.steps(t0, t0 + 13_000)
        cut = [t0 + 13_000 * i // steps for i in range(steps + 1)]
        assert max(path.moved(a, b) for a, b in itertools.pairwise(cut)) < 0.75  # speed varies a little


def test_a_photograph_is_read_as_linear_light(tmp_path):
    picture = np.full((40, 50, 3), 188, np.uint8)  # sRGB 188 is half of white's light
    picture[:20] = 255
    cv2.imwrite(str(tmp_path / "half.png"), picture)
    light = photograph.read(tmp_path / "half.png")
    np.testing.assert_allclose(light[:20], 1.0, atol=1e-6)
    np.testing.assert_allclose(light[20:], 0.5, atol=0.005)
    np.testing.assert_allclose(photograph.linear(np.array([[[0, 0, 255]]], np.uint8)), [[0.2126]], atol=1e-6)


@pytest.mark.parametrize("name", sorted(photograph.SHIPPED))
def test_every_shipped_photograph_is_there(name):
    pytest.importorskip("skimage")
    light = photograph.read(photograph.find(name))
    assert light.ndim == 2
    assert min(light.shape) >= 260
    assert 0 <= light.min() < 0.1 < light.max() < 30


def test_bad_sources_are_refused_in_words(tmp_path):
    with pytest.raises(InputError, match=r"does not exist; give a picture, a video, or one of: astronaut"):
        photograph.find(tmp_path / "missing.png")
    with pytest.raises(InputError, match="is a folder"):
        photograph.find(tmp_path)
    cv2.imwrite(str(tmp_path / "tiny.png"), np.full((20, 400, 3), 99, np.uint8))
    with pytest.raises(InputError, match="400x20 is too small"):
        photograph.read(tmp_path / "tiny.png")
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((50, 50, 3), np.uint8))
    with pytest.raises(InputError, match="all black"):
        photograph.read(tmp_path / "black.png")


def test_a_picture_is_cut_in_the_middle_to_fill_the_sensor():
    picture = np.zeros((100, 300), np.float32)
    picture[:, 100:200] = 1
    cut = fitted(picture, (50, 50))
    assert cut.shape == (50, 50)
    assert cut.mean() == 1
    assert fitted(picture, (640, 480)).shape == (480, 640)


def write_video(path, pictures, rate=250):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=rate)
        stream.width, stream.height, stream.pix_fmt = pictures[0].shape[1], pictures[0].shape[0], "bgr0"
        for picture in pictures:
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def test_a_video_fades_linearly_in_light_from_picture_to_picture(tmp_path):
    levels = [0, 128, 255, 64]
    write_video(tmp_path / "v.mkv", [np.full((48, 64, 3), level, np.uint8) for level in levels])
    scene = VideoScene(tmp_path / "v.mkv", (40, 36))
    light = photograph.linear(np.array([[[level] * 3] for level in levels], np.uint8)).ravel()
    assert scene.duration == 12_000
    assert scene.rate_hz == pytest.approx(250)
    out = np.empty((36, 40), np.float32)
    for t in (0, 1000, 4000, 7000, 8000, 11_000, 12_000, 20_000):
        scene.render(t, out)
        np.testing.assert_allclose(out, np.interp(t, [0, 4000, 8000, 12_000], light), atol=1e-6)
    assert scene.blur(0, 4000) is None


def test_what_is_no_video_is_refused_in_words(tmp_path):
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(InputError, match="neither a picture nor a video"):
        VideoScene(tmp_path / "noise.mp4", (40, 36))
    write_video(tmp_path / "one.mkv", [np.zeros((48, 64, 3), np.uint8)])
    with pytest.raises(InputError, match="two pictures or more"):
        VideoScene(tmp_path / "one.mkv", (40, 36))
