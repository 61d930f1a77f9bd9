"""The delay between a camera's pictures and its events is found again after it was added, on real recordings of cameras
that take both with one clock: the truth is what was added."""

from dataclasses import replace

import numpy as np
import pytest

import rtpipe
from rtpipe.clocks.delay import DelayEstimator
from rtpipe.packing import pack
from rtpipe.types import Events, Frame

SLIDER, HIGHWAY = "recordings/ijrr_slider_depth", "recordings/aedat4/davis346_highway.aedat4"
BALL = "recordings/aedat4/davis346_ball_throw.aedat4"


def estimated(path, added_us, *, change=lambda frame: frame, until=None):
    with rtpipe.open(path) as recording:
        events, frames = recording.events(), [change(frame) for frame in recording.frames()]
        estimator = DelayEstimator(recording.resolution, -50_000, 200_000)
    at = 0
    for t in range(int(events.t[0]), int(events.t[-1]), 5_000):
        while at < len(frames) and frames[at].t + added_us < t:
            estimator.frame(replace(frames[at], t=frames[at].t + added_us))
            at += 1
        estimator.events(pack(events.between(t, t + 5_000)))
    return estimator.estimate


@pytest.mark.parametrize("added_us", [0, 31_700, 120_000])
@pytest.mark.parametrize(("name", "within_us"), [(SLIDER, 1_500), (HIGHWAY, 2_000)])
def test_the_delay_of_a_real_camera_is_found_within_two_milliseconds(shared, name, within_us, added_us):
    delay = estimated(shared(name), added_us)
    assert delay.us == pytest.approx(added_us, abs=within_us)
    assert abs(delay.us - added_us) <= delay.uncertainty_us <= 4_000


def test_ten_pictures_of_a_thrown_ball_tell_it_within_their_own_uncertainty(shared):
    delay = estimated(shared(BALL), 31_700)
    assert abs(delay.us - 31_700) <= delay.uncertainty_us <= 12_000


def test_pictures_of_sixteen_bits_or_in_colour_say_the_same(shared):
    plain = estimated(shared(HIGHWAY), 20_000)
    deep = estimated(shared(HIGHWAY), 20_000, change=lambda f: replace(f, image=f.image.astype(np.uint16) * 257))
    colour = estimated(shared(HIGHWAY), 20_000, change=lambda f: replace(f, image=np.dstack([f.image] * 3)))
    assert colour.us == pytest.approx(plain.us, abs=50)
    assert deep.us == pytest.approx(plain.us, abs=1_000)


def test_nothing_is_said_of_a_still_scene():
    rng = np.random.default_rng(0)
    estimator = DelayEstimator((64, 48), -50_000, 200_000)
    image = rng.integers(40, 200, (48, 64)).astype(np.uint8)
    for k in range(60):
        t = np.sort(rng.integers(k * 40_000, (k + 1) * 40_000, 500))
        xy = rng.integers(0, 48, (2, 500))
        noisy = np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8)
        estimator.events(pack(Events(t, xy[0], xy[1], rng.integers(0, 2, 500))))
        estimator.frame(Frame(noisy, k * 40_000))
    assert estimator.estimate is None


def test_a_picture_that_repeats_at_every_period_is_ambiguous_and_not_believed():
    """A light that flickers with the frames' own period fits at any number of periods."""
    estimator = DelayEstimator((32, 32), -50_000, 200_000)
    y, x = (a.ravel() for a in np.mgrid[:32, :32])
    half = 20_000
    for k in range(120):
        bright = k % 2
        t = np.full(1024, k * half) + np.arange(1024)
        estimator.events(pack(Events(np.sort(t), x, y, np.full(1024, bright))))
        estimator.frame(
            Frame(
                np.full((32, 32), 60 + 100 * bright, np.uint8) + (x % 7).reshape(32, 32).astype(np.uint8),
                k * half + 15_000,
            )
        )
    assert estimator.estimate is None


def test_events_that_are_left_out_for_a_while_do_not_move_the_estimate(shared):
    with rtpipe.open(shared(SLIDER)) as recording:
        events, frames = recording.events(), list(recording.frames())
    estimator, at = DelayEstimator((240, 180), -50_000, 200_000), 0
    resting = range(1_200_000, 2_000_000)
    for t in range(int(events.t[0]), int(events.t[-1]), 5_000):
        if t in resting:
            continue
        if t - 5_000 in resting:
            estimator.resume()
        while at < len(frames) and frames[at].t + 30_000 < t:
            if frames[at].t > t - 40_000:
                estimator.frame(replace(frames[at], t=frames[at].t + 30_000))
            at += 1
        estimator.events(pack(events.between(t, t + 5_000)))
    assert estimator.estimate.us == pytest.approx(30_000, abs=1_500)
