"""Frames find their trigger signals through missed ones, drift and jitter; what cannot be known is said."""

import numpy as np
import pytest

from rtpipe.clocks.pairing import Pairing, Signal

HOST_US, EVENTS_US = 777_000_000_000, 10**15


def paired(seed, *, intervals, missing=0.1, jitter_us=500.0, delay_us=20_000, bounded=True, expected=None):
    """(error in µs, measured?, had a signal?) of each frame, and the pairing."""
    rng = np.random.default_rng(seed)
    t = np.cumsum(intervals(rng, 300)).astype(float)
    frames = t * (1 + 50e-6) + HOST_US + delay_us + rng.exponential(jitter_us, len(t))
    has_frame, has_signal = rng.random((2, len(t))) > missing
    pairing, waiting, found = Pairing(), [], []
    offset = EVENTS_US - HOST_US
    for k in range(len(t)):
        if has_signal[k]:
            pairing.signal(Signal(int(t[k]) + EVENTS_US))
        pairing.reach(int(t[k]) + EVENTS_US + 20_000)
        if has_frame[k]:
            pairing.picture(int(frames[k]))
            waiting.append(k)
        if not pairing.locked:
            pairing.lock(*((offset - 500_000, offset + 5_000) if bounded else ()), expected=expected)
        while waiting and pairing.locked:
            match = pairing.match(int(frames[waiting[0]]))
            if match is None:
                break
            k = waiting.pop(0)
            found.append((match.signal.t - EVENTS_US - t[k], match.measured, has_signal[k]))
    return np.array(found), pairing


def uneven(rng, n):
    return rng.integers(25_000, 45_000, n)


def even(rng, n):
    return np.full(n, 33_333)


@pytest.mark.parametrize("seed", range(5))
def test_every_frame_takes_its_own_signal_though_one_in_ten_of_either_is_missing(seed):
    found, pairing = paired(seed, intervals=uneven)
    own = found[found[:, 2] == 1]
    assert len(found) > 240
    assert np.all(own[:, 1] == 1)
    assert np.all(np.abs(own[:, 0]) < 1)
    assert pairing.unpaired > 0
    assert pairing.unused > 0


@pytest.mark.parametrize("seed", range(5))
def test_without_any_idea_of_the_offset_the_pattern_of_intervals_finds_it(seed):
    found, _ = paired(seed, intervals=uneven, bounded=False, jitter_us=1500, missing=0.2, delay_us=90_000)
    own = found[found[:, 2] == 1]
    assert np.mean(np.abs(own[:, 0]) < 1) > 0.98


def test_a_frame_whose_signal_is_missing_is_placed_where_it_should_be():
    found, _ = paired(1, intervals=uneven)
    missed = found[found[:, 2] == 0]
    assert len(missed) > 10
    assert np.all(missed[:, 1] == 0)
    assert np.max(np.abs(missed[:, 0])) < 3_000


@pytest.mark.parametrize("seed", range(4))
def test_an_even_pace_is_paired_by_what_is_known_of_the_delay(seed):
    found, pairing = paired(seed, intervals=even, delay_us=80_000, expected=EVENTS_US - HOST_US - 81_000)
    assert np.all(np.abs(found[found[:, 2] == 1][:, 0]) < 1)
    assert not pairing.ambiguous


def test_an_even_pace_without_any_knowledge_of_the_delay_is_called_ambiguous_or_right():
    for seed in range(8):
        found, pairing = paired(seed, intervals=even, delay_us=40_000, missing=0.15)
        assert pairing.ambiguous or np.all(np.abs(found[found[:, 2] == 1][:, 0]) < 1)


def test_signals_of_another_rate_are_not_taken_for_the_frames():
    rng = np.random.default_rng(0)
    pairing = Pairing()
    for t in np.cumsum(rng.integers(40_000, 400_000, 60)):
        pairing.signal(Signal(int(t)))
    for t in np.cumsum(np.full(60, 33_333)):
        pairing.picture(int(t))
    assert not pairing.lock(-500_000, 50_000)
