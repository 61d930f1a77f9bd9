"""Exposures that fit, and frames that are linear in light with the noise that was asked for."""

import itertools

import numpy as np
import pytest

from rtpipe.simulate.camera import Camera, CameraSettings, exposures

CLEAN = CameraSettings(full_well=0, read_noise=0, gain_spread=0)


def test_exposures_lie_in_their_periods_and_vary():
    settings = CameraSettings()
    taken = exposures(settings, 2_500_000, seed=1)
    assert len(taken) == 62
    lengths = [end - start for start, end in taken]
    assert all(a[1] < b[0] for a, b in itertools.pairwise(taken))
    assert taken[0][0] >= 0
    assert taken[-1][1] <= 2_500_000
    assert 0.85 * 26_000 - 2 <= min(lengths) < 24_000
    assert 28_000 < max(lengths) <= 1.15 * 26_000
    assert all((start + end) % 2 == 0 for start, end in taken)  # the middle is a whole microsecond
    assert exposures(settings, 39_999) == []
    assert exposures(settings, 2_500_000, seed=1) == taken


def test_a_frame_is_linear_in_light_and_shows_the_middle_of_its_exposure():
    light = np.tile(np.array([0.0, 0.25, 0.5, 1.0, 3.0], np.float32), (4, 1))
    frame = Camera((5, 4), CLEAN).expose(light, 1000, 21_000)
    np.testing.assert_array_equal(frame.image[0], [5, 62, 120, 235, 255])  # 5 + 230 light, clipped
    assert (frame.t, frame.exposure_start, frame.exposure_end, frame.source) == (11_000, 1000, 21_000, "camera")
    assert frame.image.dtype == np.uint8


def test_the_truth_has_the_frames_brightness_and_no_noise():
    light = np.random.default_rng(0).uniform(0, 1, (20, 30)).astype(np.float32)
    truth = Camera((30, 20), CameraSettings(), seed=1).ideal(light, 77)
    np.testing.assert_array_equal(truth.image, Camera((30, 20), CLEAN).expose(light, 0, 2).image)
    assert (truth.t, truth.source, truth.exposure_start) == (77, "truth", None)


def test_noise_is_as_large_as_asked():
    settings = CameraSettings(full_well=5000, read_noise=2.0, gain_spread=0)
    light = np.full((200, 200), 0.5, np.float32)
    image = Camera((200, 200), settings, seed=2).expose(light, 0, 2).image.astype(float)
    variance = 2.0**2 + 115 * 255 / 5000 + 1 / 12  # read-out, photons, rounding
    assert image.mean() == pytest.approx(120, abs=0.1)
    assert image.var() == pytest.approx(variance, rel=0.05)


def test_fixed_pattern_stays_from_frame_to_frame():
    settings = CameraSettings(full_well=0, read_noise=0, gain_spread=0.05)
    camera = Camera((50, 40), settings, seed=3)
    light = np.full((40, 50), 0.8, np.float32)
    first, second = camera.expose(light, 0, 2).image, camera.expose(light, 2, 4).image
    np.testing.assert_array_equal(first, second)
    assert first.astype(float).std() == pytest.approx(0.05 * 0.8 * 230, rel=0.1)
