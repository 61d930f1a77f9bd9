"""The event sensor does what its equations say, and its faults are as large as asked."""

import itertools
import math

import numpy as np
import pytest

from rtpipe.packing import fault
from rtpipe.simulate.sensor import Sensor, SensorSettings
from rtpipe.types import Events

PERFECT = SensorSettings(
    contrast_on=0.2,
    contrast_off=0.25,
    contrast_spread=0,
    dark=0,
    bandwidth_hz=0,
    refractory_us=0,
    leak_hz=0,
    noise_hz=0,
    hot_share=0,
)


def with_(**changes):
    return SensorSettings(**{name: getattr(PERFECT, name) for name in PERFECT.__struct_fields__} | changes)


def light(log):
    return np.exp(np.asarray(log)).astype(np.float32)


def started(settings, log, seed=0, t=0):
    """A sensor that has seen this log light at ``t`` and remembers it exactly."""
    log = np.asarray(log, float)
    sensor = Sensor(log.shape[::-1], settings, seed)
    assert len(sensor.observe(light(log), t)) == 0
    sensor.forget()
    return sensor


def per_pixel(events, shape, weight_on, weight_off):
    """Sum over each pixel's events of the weight of its polarity."""
    total = np.zeros(shape)
    np.add.at(total, (events.y, events.x), np.where(events.p == 1, weight_on, weight_off))
    return total


def test_a_linear_ramp_in_log_light_crosses_at_exact_microseconds():
    sensor = started(PERFECT, np.full((3, 4), -1.0), t=1000)
    events = sensor.observe(light(np.full((3, 4), -1.0 + 1.1)), 9000)  # 1.1 log units in 8000 µs
    for x, y in ((0, 0), (3, 2)):
        mine = events.t[(events.x == x) & (events.y == y)]
        exact = [1000 + k * 0.2 / 1.1 * 8000 for k in range(1, 6)]
        np.testing.assert_allclose(mine, np.floor(exact), atol=1)  # float32 light may shift a crossing by 0.01 µs
    assert events.p.all()
    falling = sensor.observe(light(np.full((3, 4), -1.0 + 1.1 - 1.0)), 19000)
    # remembered: -1 + 5 * 0.2 = 0; light fell from 0.1 at 1e-4 a µs, so off events at 0.25, 0.5, 0.75 below 0
    mine = falling.t[(falling.x == 1) & (falling.y == 1)]
    np.testing.assert_allclose(mine, 9000 + np.array([3500, 6000, 8500]), atol=1)
    assert not falling.p.any()


def test_as_many_events_as_thresholds_fit_into_the_change():
    random = np.random.default_rng(0)
    before, after = random.uniform(-4, 0, (2, 40, 50))
    events = started(PERFECT, before).observe(light(after), 5000)
    change = after - before
    expected = np.where(change > 0, np.floor(change / 0.2), np.floor(-change / 0.25))
    near = np.abs(np.where(change > 0, change / 0.2, -change / 0.25) % 1) < 1e-4  # float32 may decide either way
    counts = per_pixel(events, (40, 50), 1, 1)
    np.testing.assert_array_equal(counts[~near], expected[~near])
    assert near.sum() < 5
    assert (np.sign(per_pixel(events, (40, 50), 1, -1)) == np.sign(change) * (expected > 0))[~near].all()


def slow_pixel(times, logs, c_on, c_off, leak, refractory):
    """One pixel, obviously: walk along the piecewise linear light, remembering a level that sinks with the leak."""
    events, memory, dead = [], logs[0], -math.inf
    for (t0, v0), (t1, v1) in itertools.pairwise(zip(times, logs, strict=True)):
        slope, t, v = (v1 - v0) / (t1 - t0), t0, v0
        while t < t1:
            if dead > t:
                t = min(dead, t1)
                v = v0 + slope * (t - t0)
                memory = v
                continue
            rate = slope + leak
            wait = math.inf
            if rate > 0:
                wait = (memory + c_on - v) / rate
            elif rate < 0:
                wait = (memory - c_off - v) / rate
            if t + wait > t1:
                memory -= leak * (t1 - t)
                break
            t += wait
            v = v0 + slope * (t - t0)
            events.append((t, rate > 0))
            memory, dead = v, t + refractory
    return events


@pytest.mark.parametrize(("refractory", "leak_hz", "spread"), [(0, 0, 0), (0, 0, 0.15), (130, 0, 0.1), (70, 60, 0.1)])
def test_it_agrees_with_one_pixel_at_a_time_written_out(refractory, leak_hz, spread):
    random = np.random.default_rng(1)
    shape, steps = (9, 11), 12
    times = np.concatenate([[0], np.cumsum(random.integers(200, 5000, steps))])
    logs = np.log(light(np.cumsum(random.normal(0, 0.5, (steps + 1, *shape)), axis=0)).astype(np.float64))
    settings = with_(contrast_spread=spread, refractory_us=refractory, leak_hz=leak_hz)
    sensor = started(settings, logs[0], seed=3)
    events = Events.concatenate([sensor.observe(light(v), int(t)) for t, v in zip(times[1:], logs[1:], strict=True)])
    assert len(events) > 1000
    found = 0
    for y, x in np.ndindex(shape):
        mine = (events.x == x) & (events.y == y)
        leak = float(sensor._leak[y, x])  # how fast this pixel leaks is random; the reference is told
        expected = slow_pixel(
            times, logs[:, y, x], float(sensor.contrast_on[y, x]), float(sensor.contrast_off[y, x]), leak, refractory
        )
        assert len(expected) == mine.sum()
        np.testing.assert_allclose(events.t[mine], [math.floor(t) for t, _ in expected], atol=1)
        np.testing.assert_array_equal(events.p[mine], [on for _, on in expected])
        found += len(expected)
    assert found == len(events)


def test_how_the_time_is_cut_into_steps_does_not_matter():
    random = np.random.default_rng(2)
    before, after = random.uniform(-3, 0, (2, 20, 30))
    settings = with_(contrast_spread=0.1, refractory_us=90, leak_hz=5, hot_share=0.01)
    once = started(settings, before, seed=5).observe(light(after), 60_000)
    sensor = started(settings, before, seed=5)
    cuts = [7, 1000, 1001, 20_000, 47_111, 60_000]
    many = Events.concatenate([sensor.observe(light(before + (after - before) * t / 60_000), t) for t in cuts])
    assert len(once) == len(many)
    for name in ("t", "x", "y", "p"):
        same = getattr(once, name) == getattr(many, name)
        assert same.mean() > 0.99, name  # a float's last bit may move an event over a microsecond's edge
    assert np.abs(once.t - many.t).max() <= 1


def test_a_sensor_that_sees_everything_change_at_once_loses_nothing():
    """More events in one step than the first buffer holds."""
    before = np.full((260, 346), -4.0)
    events = started(PERFECT, before).observe(light(before + 3.1), 500)
    assert len(events) == 15 * before.size
    assert (per_pixel(events, before.shape, 1, 1) == 15).all()
    assert fault(events, (346, 260)) == ""


def test_limited_bandwidth_answers_a_step_like_a_first_order_low_pass():
    settings = with_(bandwidth_hz=100.0)
    sensor = started(settings, [[-1.5]])
    parts = [sensor.observe(light([[-0.5]]), 1)]
    parts += [sensor.observe(light([[-0.5]]), t) for t in range(21, 20_000, 20)]
    events = Events.concatenate(parts)
    tau = 1e6 / (2 * math.pi * 100 * (0.1 + 0.9 * math.exp(-0.5)))
    # the level reaches 1 - exp(-t / tau); five thresholds of 0.2 would need all of it
    exact = [-tau * math.log(1 - 0.2 * k) for k in range(1, 5)]
    np.testing.assert_allclose(events.t[:4], exact, atol=25)
    assert len(events) in (4, 5)


def test_thresholds_spread_as_asked_and_differ_between_on_and_off():
    sensor = Sensor((346, 260), with_(contrast_on=0.2, contrast_off=0.3, contrast_spread=0.12), seed=7)
    for values, mean in ((sensor.contrast_on, 0.2), (sensor.contrast_off, 0.3)):
        assert values.mean() == pytest.approx(mean, rel=0.005)
        assert values.std() == pytest.approx(0.12 * mean, rel=0.02)
        assert values.min() >= mean / 4
    assert abs(np.corrcoef(sensor.contrast_on.ravel(), sensor.contrast_off.ravel())[0, 1]) < 0.02


@pytest.mark.parametrize(("brightness", "share"), [(1e-6, 1.0), (1.0, 0.25)])
def test_noise_comes_as_often_as_asked_and_less_in_the_light(brightness, share):
    still = np.full((100, 120), brightness, np.float32)
    sensor = Sensor((120, 100), with_(noise_hz=3.0), seed=1)
    parts = [sensor.observe(still, t) for t in range(0, 2_000_001, 50_000)]
    events = Events.concatenate(parts)
    expected = 3.0 * 2 * still.size * share
    assert abs(len(events) - expected) < 5 * math.sqrt(expected)
    assert abs(events.p.mean() - 0.5) < 0.02
    per_slot = np.histogram(events.t, 40, (0, 2_000_000))[0]
    assert per_slot.std() < 1.6 * math.sqrt(expected / 40)  # Poisson: as many in every stretch of time


def test_leak_sends_on_events_alone_at_the_rate_asked():
    still = np.full((100, 120), 0.5, np.float32)
    sensor = Sensor((120, 100), with_(leak_hz=2.0), seed=1)
    events = Events.concatenate([sensor.observe(still, t) for t in range(0, 5_000_001, 50_000)])
    assert events.p.all()
    settled = events.between(2_000_000, 5_000_000)  # where a pixel began no longer counts
    spread = math.exp(0.5**2 / 2)  # the mean of what is log-normal about 2 Hz
    assert len(settled) / still.size / 3 == pytest.approx(2.0 * spread, rel=0.02)


def test_hot_pixels_are_as_many_as_asked():
    still = np.full((100, 120), 0.5, np.float32)
    sensor = Sensor((120, 100), with_(hot_share=0.002), seed=4)
    events = Events.concatenate([sensor.observe(still, t) for t in range(0, 1_000_001, 50_000)])
    counts = per_pixel(events, still.shape, 1, 1)
    assert 10 <= (counts > 0).sum() <= 40
    assert ((counts[counts > 0] >= 99) & (counts[counts > 0] <= 801)).all()


def test_a_seed_decides_everything():
    random = np.random.default_rng(3)
    pictures = random.uniform(0.05, 1, (6, 30, 40)).astype(np.float32)

    def run(seed):
        sensor = Sensor((40, 30), SensorSettings(), seed)
        return Events.concatenate([sensor.observe(p, 2000 * i) for i, p in enumerate(pictures)])

    a, b, other = run(1), run(1), run(2)
    for name in ("t", "x", "y", "p"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert len(a) != len(other) or not np.array_equal(a.t, other.t)
    assert fault(a, (40, 30)) == ""


@pytest.mark.parametrize("t", [0, -5, 65_536])
def test_time_that_does_not_advance_or_leaps_is_refused(t):
    sensor = started(PERFECT, np.zeros((4, 4)))
    with pytest.raises(ValueError, match="must grow"):
        sensor.observe(light(np.zeros((4, 4))), t)


def test_light_of_another_size_or_kind_is_refused():
    sensor = started(PERFECT, np.zeros((4, 4)))
    with pytest.raises(ValueError, match="float32"):
        sensor.observe(np.ones((4, 5), np.float32), 10)
    with pytest.raises(ValueError, match="float32"):
        sensor.observe(np.ones((4, 4)), 10)
