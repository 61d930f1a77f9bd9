"""A camera's clock on the line of time downstream, on simulated clocks and arrivals."""

import numpy as np
import pytest

from drivers.camera.timeline import Timeline

HOST_NS = 7_000_000_000_000


def host(t_us, late_us=0.0):
    return HOST_NS + round((t_us + late_us) * 1000)


def stream(timeline, kind, start, stop, *, true=None, step=2000, rng=None, jitter_us=3000):
    """Readings of ``step`` µs of the camera's time; ``true`` what it was when the camera's clock said ``start``."""
    shift = 0 if true is None else true - start
    places = set()
    for t in range(start, stop, step):
        late = 500 + (rng.exponential(jitter_us) if rng is not None else 0)
        places.add(timeline.place(kind, t, t + step - 1, host(t + step - 1 + shift, late)))
    return places


def test_a_clock_that_runs_is_passed_on_as_it_is():
    timeline, rng = Timeline(), np.random.default_rng(0)
    assert stream(timeline, "events", 5_000, 3_000_000, rng=rng) == {(0, 0)}
    assert stream(timeline, "imu", 2_900_000, 3_000_000, rng=rng) == {(0, 0)}


@pytest.mark.parametrize("jump", [-16_777_216, 16_777_216, -5_000_000, 700_000])
def test_a_jump_begins_an_epoch_where_the_host_says(jump):
    timeline, rng = Timeline(), np.random.default_rng(1)
    stream(timeline, "events", 20_000_000, 22_000_000, rng=rng)
    places = stream(timeline, "events", 22_000_000 + jump, 23_000_000 + jump, true=22_000_000, rng=rng)
    assert len(places) == 1
    epoch, offset = places.pop()
    assert epoch == 1
    assert abs(jump + offset) < 15_000  # at the true instant, as exactly as arrivals tell


def test_kinds_pass_a_jump_each_at_its_own_time():
    timeline = Timeline()
    stream(timeline, "events", 0, 1_000_000)
    stream(timeline, "frames", 0, 1_000_000)
    (events,) = stream(timeline, "events", 9_000_000, 9_100_000, true=1_000_000)
    (old,) = stream(timeline, "frames", 1_000_000, 1_010_000)
    (frames,) = stream(timeline, "frames", 9_010_000, 9_100_000, true=1_010_000)
    assert old.epoch == 0
    assert frames == events
    assert timeline.epoch == 1


def test_a_camera_that_came_back_goes_on_after_the_true_gap():
    timeline, rng = Timeline(), np.random.default_rng(2)
    stream(timeline, "events", 5_000, 2_000_000, rng=rng)
    timeline.begin()
    (place,) = stream(timeline, "events", 1_000, 1_000_000, true=4_000_000, rng=rng)
    assert place.epoch == 1
    assert abs(place.offset + 1_000 - 4_000_000) < 15_000


def test_whoever_reads_late_makes_no_jump():
    timeline = Timeline()
    stream(timeline, "events", 0, 1_000_000)
    held = [timeline.place("events", t, t + 1999, host(4_000_000)) for t in range(1_000_000, 4_000_000, 2000)]
    after = stream(timeline, "events", 4_000_000, 6_000_000)
    assert set(held) | after == {(0, 0)}
    assert abs(timeline.now_us(host(6_000_000)) - 6_000_000) < 5_000


def test_silence_is_promised_no_further_than_readings_were_late():
    timeline, rng = Timeline(), np.random.default_rng(3)
    worst = 0
    for t in range(0, 5_000_000, 2000):
        late = rng.uniform(0, 80_000)
        worst = max(worst, late)
        timeline.place("events", t, t + 1999, host(t + 1999, late))
    until = timeline.silent_until(host(6_000_000))
    assert 6_000_000 - 1_000_000 <= until < 6_000_000 - worst


def test_the_margin_follows_a_drifting_clock():
    timeline = Timeline()
    for t in range(0, 60_000_000, 20_000):
        timeline.place("events", t, t, HOST_NS + round(t * 1000 * (1 + 80e-6)))
    now = timeline.now_us(HOST_NS + round(60_000_000_000 * (1 + 80e-6)))
    assert abs(now - 60_000_000) < 500


def test_a_kind_that_lags_tells_nothing_of_the_clock():
    timeline = Timeline()
    for t in range(0, 4_000_000, 2000):
        timeline.place("events", t, t + 1999, host(t + 1999))
        timeline.place("frames", max(t - 30_000, 0), max(t - 30_000, 0), host(t + 1999))
        timeline.place("imu", t + 1000, t + 1000, host(t + 1999))
    assert timeline._clock.steps == 0
    assert abs(timeline.now_us(host(4_000_000)) - 4_000_000) < 100
    assert timeline.margin_us < 30_000
