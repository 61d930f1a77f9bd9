"""The camera's clock is found through jitter and drift, on simulated clocks whose truth is known."""

import numpy as np
import pytest

from rtpipe.clocks.host import CameraClock


def arrivals(drift, seed, seconds=12.0, jitter_ns=3e6, offset_ns=5_000_000_000):
    rng = np.random.default_rng(seed)
    camera_us = np.arange(2000, seconds * 1e6, 2000).astype(np.int64) + 1_700_000_000_000_000
    truth = offset_ns + (camera_us - camera_us[0]) * 1000.0 * (1 + drift)
    return camera_us, truth, truth + rng.exponential(jitter_ns, len(camera_us))


@pytest.mark.parametrize("drift", [0.0, 40e-6, -80e-6])
def test_instants_are_placed_within_half_a_millisecond(drift):
    clock = CameraClock()
    camera, truth, host = arrivals(drift, 1)
    for t, ns in zip(camera, host, strict=True):
        clock.add(int(t), int(ns))
    assert clock.steady
    assert clock.host_ns(int(camera[-1])) == pytest.approx(truth[-1], abs=0.5e6)
    assert clock.drift == pytest.approx(drift, abs=30e-6)


def test_a_clock_that_is_reset_is_taken_up_anew():
    clock = CameraClock()
    camera, truth, host = arrivals(0.0, 2, seconds=3)
    for t, ns in zip(camera, host, strict=True):
        clock.add(int(t), int(ns))
    for t, ns in zip(camera, host, strict=True):  # the camera was unplugged: its clock starts again, the host's goes on
        clock.add(int(t), int(ns) + 60_000_000_000)
    assert clock.host_ns(int(camera[-1])) == pytest.approx(truth[-1] + 60e9, abs=0.5e6)


def test_a_replay_at_double_speed_is_no_steady_clock():
    clock = CameraClock()
    camera, _, host = arrivals(0.0, 3, seconds=8)
    for t, ns in zip(camera, host, strict=True):
        clock.add(int(t), int(host[0] + (ns - host[0]) / 2))
    assert not clock.steady or abs(clock.drift) > 1e-4
