"""The hand-held camera's path: as much blur as asked, smooth, and truly a turning camera's."""

import math

import cv2
import numpy as np
import pytest

from rtpipe.simulate.camera import CameraSettings, exposures
from rtpipe.simulate.path import handheld

SIZE = (346, 260)
TAKEN = exposures(CameraSettings(), 2_500_000)


@pytest.mark.parametrize("seed", range(6))
def test_most_frames_are_blurred_by_as_much_as_asked(seed):
    path = handheld(SIZE, TAKEN, 8.0, seed)
    blurs = np.array([path.blur(exposure) for exposure in TAKEN])
    assert np.mean(blurs >= 8 * 0.98) >= 0.79
    assert np.median(blurs) < 20  # and not smeared out of sight
    left, top, right, bottom = path.extent(0, 2_500_000)
    assert max(-left, right) < 346 / 2 + 110
    assert max(-top, bottom) < 260 / 2 + 110


def test_blur_is_the_way_that_points_of_the_picture_go():
    path = handheld(SIZE, TAKEN, 8.0, 1)
    start, end = TAKEN[20]
    centre = np.zeros((1, 2))
    track = np.concatenate([path.project(centre, t) for t in range(start, end + 1, 50)])
    way = np.linalg.norm(np.diff(track, axis=0), axis=1).sum()
    assert path.blur((start, end)) == pytest.approx(way, rel=0.1)  # roll and zoom add little
    assert path.moved(start, end) <= 1.3 * path.blur((start, end))


def test_it_sees_what_a_turning_camera_sees():
    """Rays through OpenCV's rotation give the same points as the homography."""
    path = handheld(SIZE, TAKEN, 10.0, 2)
    points = np.array([[-170.0, 120.0], [33.0, -7.0], [0.0, 0.0]])
    for t in (0, 123_456, 2_000_000):
        pan, tilt, roll, zoom = path.pose(t)
        rotation, _ = cv2.Rodrigues(np.array([tilt, pan, roll]))
        rays = np.column_stack([points / (path.focal * (1 + zoom)), np.ones(3)]) @ rotation.T
        np.testing.assert_allclose(path.project(points, t), path.focal * rays[:, :2] / rays[:, 2:], atol=1e-9)


def test_it_is_band_limited():
    path = handheld(SIZE, TAKEN, 8.0, 3)
    poses = np.array([path.pose(t) for t in range(0, 4_000_000, 4000)])
    spectrum = np.abs(np.fft.rfft(poses * np.hanning(len(poses))[:, None], axis=0)) ** 2
    frequency = np.fft.rfftfreq(len(poses), 0.004)
    assert spectrum[frequency > 13].sum() < 1e-4 * spectrum[1:].sum()
    assert spectrum[(frequency > 1) & (frequency < 13)].sum() > 0.1 * spectrum[1:].sum()


def test_without_blur_the_camera_stands_still():
    path = handheld(SIZE, TAKEN, 0.0, 4)
    np.testing.assert_allclose(path.homography(987_654), np.eye(3), atol=1e-12)
    assert path.blur(TAKEN[3]) == 0


def test_a_seed_decides_the_path():
    a, b, other = (handheld(SIZE, TAKEN, 8.0, seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(a.homography(10_000), b.homography(10_000))
    assert not np.allclose(a.homography(10_000), other.homography(10_000))
    assert math.isfinite(a.homography(0).sum())
