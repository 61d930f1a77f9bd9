"""The last frame as reference: what it tells of the thresholds, and how it is drawn with events on it."""

import numpy as np
import pytest

from engines.reference import HIGHEST, LEAST_TRUST, Reference, render
from rtpipe.types import Frame

SIZE = (160, 120)
OFFSET = 0.012
RATE = 3e-5


def frame(image):
    return Frame(image, 0)


def take(reference, image, counts=None, levels=None, gain=0.0):
    width, height = SIZE
    levels = np.zeros(width * height, np.float32) if levels is None else levels
    rates = np.empty(width * height, np.float32)
    counts = np.zeros((width * height, 2), np.uint16) if counts is None else counts
    reference.take(frame(image), RATE, gain, levels, rates, counts)
    return levels, rates


def moved(on, off, pictures=12, spoiled=0.0, seed=0):
    """A reference that was shown pictures whose logarithm moved by so many events."""
    random = np.random.default_rng(seed)
    reference = Reference(OFFSET, 0.25)
    logs = random.uniform(np.log(60), np.log(120), SIZE[::-1])
    take(reference, np.exp(logs).astype(np.uint16) * 256)
    for _ in range(pictures):
        rates = np.array([0.5 * on / off, 0.5]) * np.exp(np.stack([logs - np.log(80), np.log(80) - logs], axis=-1))
        counts = random.poisson(np.minimum(rates, 3)).astype(np.uint16)  # the darker, the likelier to brighten
        after = logs + on * counts[..., 1] - off * counts[..., 0]
        counts[random.random(SIZE[::-1]) < spoiled] += 9
        image = np.round(np.exp(after) * 256).astype(np.uint16)
        take(reference, image, counts.reshape(-1, 2))
        logs = after
    return reference


@pytest.mark.parametrize(("on", "off"), [(0.15, 0.15), (0.2, 0.35), (0.4, 0.3)])
def test_thresholds_come_from_two_frames_and_the_events_between(on, off):
    reference = moved(on, off)
    assert reference.on == pytest.approx(on, rel=0.06)
    assert reference.off == pytest.approx(off, rel=0.06)


def test_hot_pixels_hardly_move_the_thresholds():
    reference = moved(0.2, 0.3, spoiled=0.02)
    assert reference.on == pytest.approx(0.2, rel=0.12)
    assert reference.off == pytest.approx(0.3, rel=0.12)


def test_frames_that_contradict_their_events_leave_thresholds_in_bounds():
    random = np.random.default_rng(1)
    reference = Reference(OFFSET, 0.25)
    for _ in range(20):
        image = random.integers(0, 255, SIZE[::-1]).astype(np.uint8)
        take(reference, image, random.integers(0, 9, (SIZE[0] * SIZE[1], 2)).astype(np.uint16))
        assert 0 < reference.on <= HIGHEST
        assert 0 < reference.off <= HIGHEST


def test_taking_a_frame_leaves_log_intensity_where_it_was():
    """L = log frame + level: the frame changes what the level stands on, not what is shown."""
    random = np.random.default_rng(2)
    reference = Reference(OFFSET, 0.25)
    levels, _ = take(reference, random.integers(20, 230, SIZE[::-1]).astype(np.uint8))
    levels += random.normal(0, 0.3, levels.shape).astype(np.float32)
    before = reference.logs.ravel() + levels
    take(reference, random.integers(20, 230, SIZE[::-1]).astype(np.uint8), levels=levels)
    np.testing.assert_allclose(reference.logs.ravel() + levels, before, atol=1e-5)


def test_a_correction_takes_its_share_of_the_difference_where_the_frame_can_be_trusted():
    random = np.random.default_rng(4)
    plain, corrected = Reference(OFFSET, 0.25), Reference(OFFSET, 0.25)
    first, second = (random.integers(20, 230, SIZE[::-1]).astype(np.uint8) for _ in range(2))
    second[0] = 255
    made = []
    for reference, gain in ((plain, 0.0), (corrected, 0.75)):
        levels, _ = take(reference, first)
        take(reference, second, levels=levels, gain=gain)
        made.append(levels.reshape(SIZE[::-1]))
    np.testing.assert_allclose(made[1][1:], 0.25 * made[0][1:], atol=1e-6)
    np.testing.assert_array_equal(made[1][0], made[0][0])


def test_black_and_white_are_trusted_least():
    image = np.full(SIZE[::-1], 128, np.uint8)
    image[0], image[1] = 0, 255
    _, rates = take(Reference(OFFSET, 0.25), image)
    rates = rates.reshape(SIZE[::-1])
    np.testing.assert_allclose(rates[:2], LEAST_TRUST * RATE, rtol=1e-5)
    np.testing.assert_allclose(rates[2:], RATE, rtol=1e-5)


def test_a_picture_is_the_frame_times_exp_of_the_level():
    random = np.random.default_rng(3)
    image = random.integers(10, 200, (*SIZE[::-1], 3)).astype(np.uint8)
    levels = random.normal(0, 0.2, SIZE[::-1]).astype(np.float32)
    levels[:10] = 0
    logs = random.normal(0, 1, SIZE[::-1]).astype(np.float32)
    cleaned = np.pad(logs + levels, 1, mode="edge")
    out = np.empty_like(image)
    render(image, levels, logs, cleaned, 4.0, 3.0, 255.0, out)
    wanted = np.clip((image + 3.0) * np.exp(levels)[..., None] - 3.0, 0, 255)
    assert np.abs(out - wanted).max() <= 0.51
    assert np.array_equal(out[:10], image[:10])
