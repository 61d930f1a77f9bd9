"""From levels to a picture: specks, noise and tones."""

import itertools

import numpy as np
import pytest

from engines.tone import HIGHEST, LOWEST, SPECK, Cleaner, Tones, smooth, unspeckle

CONTRAST = 0.25


def padded(plane):
    return np.pad(plane.astype(np.float32), 1, mode="edge")


def around(plane, y, x):
    return [plane[y + j, x + i] for j, i in itertools.product((-1, 0, 1), repeat=2) if (j, i) != (0, 0)]


def test_specks_are_brought_to_their_second_most_extreme_neighbour():
    random = np.random.default_rng(0)
    plane = padded(random.normal(0, 1, (23, 31)))
    out = plane.copy()
    unspeckle(plane, 0.1, out)
    for y, x in itertools.product(range(1, 24), range(1, 32)):
        ring = sorted(around(plane, y, x))
        assert out[y, x] == np.clip(plane[y, x], ring[1] - np.float32(0.1), ring[-2] + np.float32(0.1))


def test_smoothing_is_the_weighted_mean_it_says():
    random = np.random.default_rng(1)
    plane = padded(random.normal(0, 1, (11, 9)))
    out = np.zeros_like(plane)
    smooth(plane, 0.5, out)
    for y, x in itertools.product(range(1, 12), range(1, 10)):
        values = np.array([plane[y, x], *around(plane, y, x)], float)
        share = np.array([1, 0.5, 0.7, 0.5, 0.7, 0.7, 0.5, 0.7, 0.5])
        weights = share / (1 + ((values - plane[y, x]) / 0.5) ** 2) ** 2
        assert out[y, x] == pytest.approx(np.average(values, weights=weights), abs=1e-5)


def test_a_line_one_pixel_wide_stays_and_a_lone_pixel_goes():
    plane = np.zeros((20, 20), np.float32)
    plane[:, 5] = 1.0
    plane[10, 14] = 4.0
    cleaned = Cleaner((20, 20)).clean(plane, CONTRAST, 1.0)[1:-1, 1:-1]
    assert cleaned[5:15, 5].min() > 0.7
    assert abs(cleaned[10, 14]) < SPECK * CONTRAST + 1e-6


def test_without_strength_nothing_is_changed():
    plane = np.random.default_rng(2).normal(0, 1, (20, 30)).astype(np.float32)
    assert np.array_equal(Cleaner((30, 20)).clean(plane, CONTRAST, 0.0)[1:-1, 1:-1], plane)


def test_tones_run_from_black_to_white_over_the_touched_pixels():
    plane = np.zeros((100, 100), np.float32)
    plane[:50] = np.linspace(-2, 2, 5000).reshape(50, 100)
    tones = Tones()
    image = tones.draw(padded(plane), CONTRAST, 0)
    touched = plane[np.abs(plane) >= CONTRAST / 4]
    assert [tones.black, tones.white] == pytest.approx(np.quantile(touched, [LOWEST, HIGHEST]).tolist(), abs=0.01)
    assert (image[plane < tones.black] == 0).all()
    assert (image[plane > tones.white + 0.01] == 255).all()
    order = np.argsort(plane[:50], axis=None)
    assert (np.diff(image[:50].ravel()[order].astype(int)) >= 0).all()


def test_grey_is_the_light_that_a_level_stands_for():
    plane = np.linspace(-2, 2, 10_000).reshape(100, 100).astype(np.float32)
    tones = Tones()
    image = tones.draw(padded(plane), CONTRAST, 0)
    dark, bright = np.exp(tones.black), np.exp(tones.white)
    wanted = np.clip((np.exp(plane) - dark) / (bright - dark) * 255, 0, 255)
    assert np.abs(image - wanted).max() < 5  # of 1024 steps of the logarithm


def test_hot_pixels_do_not_choose_the_tones():
    random = np.random.default_rng(3)
    plane = random.normal(0, 0.4, (100, 100)).astype(np.float32)
    calm, hot = Tones(), Tones()
    calm.draw(padded(plane), CONTRAST, 0)
    plane[random.integers(0, 100, 40), random.integers(0, 100, 40)] = 5.0
    hot.draw(padded(plane), CONTRAST, 0)
    assert hot.white == pytest.approx(calm.white, abs=0.25)


def test_a_quiet_scene_is_not_blown_up_into_noise():
    image = Tones().draw(padded(np.random.default_rng(4).normal(0, 0.02, (50, 50))), CONTRAST, 0)
    assert image.std() < 10


def test_a_flash_does_not_make_the_rest_flicker():
    """The tones follow within a second or so, not from one picture to the next."""
    random = np.random.default_rng(5)
    tones, scene = Tones(), random.normal(0, 0.5, (80, 80)).astype(np.float32)
    for _ in range(30):
        before = tones.draw(padded(scene), CONTRAST, 25_000)
    flash = scene.copy()
    flash[:40] += 3
    during = tones.draw(padded(flash), CONTRAST, 25_000)
    for _ in range(80):
        after = tones.draw(padded(flash), CONTRAST, 25_000)
    at_once, in_the_end = (np.abs(each[40:].astype(int) - before[40:]).mean() for each in (during, after))
    assert at_once < 0.2 * in_the_end


def test_tones_settle_in_time_not_in_pictures():
    random = np.random.default_rng(6)
    scene, brighter = (random.normal(mean, 0.5, (60, 60)).astype(np.float32) for mean in (0, 2))
    whites = []
    for pictures, each in ((1, 200_000), (20, 10_000)):
        tones = Tones()
        for _ in range(100):
            tones.draw(padded(scene), CONTRAST, 100_000)
        for _ in range(pictures):
            tones.draw(padded(brighter), CONTRAST, each)
        whites.append(tones.white)
    assert whites[0] == pytest.approx(whites[1], abs=1e-3)


def test_even_tones_put_no_change_in_the_middle():
    plane = np.zeros((60, 60), np.float32)
    plane[:10], plane[10:13] = 1.5, -0.4
    image = Tones(even=True).draw(padded(plane), CONTRAST, 0)
    assert np.abs(image[20:].astype(int) - 127.5).max() < 2
