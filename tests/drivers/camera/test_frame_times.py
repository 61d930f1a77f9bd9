"""Frames' times from whatever came with them."""

import numpy as np
import pytest

from drivers.camera.frame_times import Stamper

NOW_US, WALL_S = 5_000_000_000, 1_700_000_000.0


def stamped(stamper, msec, arrived_us, wall_s=WALL_S):
    return stamper.stamp(msec, arrived_us * 1000, wall_s)


def test_a_buffer_s_time_is_taken_as_the_instant_it_says():
    assert stamped(Stamper("device"), (NOW_US - 12_345) / 1e3, NOW_US).t == NOW_US - 12_345


def test_a_buffer_s_time_of_day_is_brought_to_the_monotonic_clock():
    assert stamped(Stamper("device"), (WALL_S * 1e6 - 20_000) / 1e3, NOW_US).t == pytest.approx(NOW_US - 20_000, abs=2)


@pytest.mark.parametrize("msec", [0.0, 123.0, NOW_US / 1e3 + 900.0, -5.0])
def test_a_time_of_no_clock_of_this_computer_is_given_up_for_arrival(msec):
    stamper = Stamper("device")
    assert stamped(stamper, msec, NOW_US).t == NOW_US
    assert stamper.source == "arrival"
    assert stamper.why


def test_a_stream_s_own_intervals_are_kept_through_jitter_of_arrival():
    rng, stamper = np.random.default_rng(0), Stamper("stream")
    t = [stamped(stamper, 40.0 * k, NOW_US + 40_000 * k + int(rng.integers(0, 30_000))).t for k in range(200)]
    assert set(np.diff(t)) == {40_000}


def test_a_stream_that_claims_a_rate_other_than_its_own_is_not_believed():
    """MJPEG over HTTP: 25 per second by name, 40 in truth."""
    stamper = Stamper("stream")
    t = [stamped(stamper, 40.0 * k, NOW_US + 25_000 * k).t for k in range(400)]
    assert stamper.source == "arrival"
    assert set(np.diff(t[-100:])) == {25_000}


def test_a_stream_whose_time_jumps_begins_anew_where_it_arrived():
    stamper = Stamper("stream")
    for k in range(20):
        stamped(stamper, 40.0 * k, NOW_US + 40_000 * k)
    jumped = stamped(stamper, 9e6, NOW_US + 800_000)
    assert jumped.jumped
    assert jumped.t == NOW_US + 800_000
    assert not stamped(stamper, 9e6 + 40, NOW_US + 845_000).jumped


def test_time_never_stands_still_or_goes_back():
    rng, stamper = np.random.default_rng(1), Stamper("arrival")
    t = [stamped(stamper, 0.0, NOW_US + int(v)).t for v in rng.integers(0, 1000, 100)]
    assert np.all(np.diff(t) > 0)


def test_frames_that_the_device_left_out_are_counted_by_the_gap():
    stamper = Stamper("device")
    for k in [*range(20), 22, 23, 24, 28]:
        us = NOW_US + 33_333 * k
        stamped(stamper, us / 1e3, us + 4_000)
    assert stamper.missing == 2 + 3
