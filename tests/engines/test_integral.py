"""The double integral against a slow, obvious one: each pixel alone, its level drawn as a curve and summed."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.integral import HOLD, OVERSHOOT, RAMP, TAIL, UNTOLD, factors, integrate, intervals
from rtpipe.packing import pack
from rtpipe.types import Array, Events

WIDTH, HEIGHT, LENGTH = 5, 4, 10_000
ON, OFF = 0.21, 0.27


def some_events(seed: int, n: int, t0: int = 0) -> Events:
    random = np.random.default_rng(seed)
    t = np.sort(random.integers(0, LENGTH, n)) + t0
    return Events(t, random.integers(0, WIDTH, n), random.integers(0, HEIGHT, n), random.integers(0, 2, n))


def run(
    events: Events, instants: list[float], model: str, start: int = 0, on: float = ON, off: float = OFF
) -> tuple[Array, Array, Array, int]:
    """Mean intensity and intensity at the instants, relative to that at the start; events per pixel."""
    packed = pack(events)
    pixels = WIDTH * HEIGHT
    state, at = np.empty((pixels, 3)), np.empty((len(instants), pixels))
    seen = np.empty(pixels, np.uint16)
    used = integrate(
        packed.dt, packed.x, packed.yp, packed.t0 - start, LENGTH, WIDTH, *factors(on, off, model),
        intervals(on, off, model), np.array(instants, float), state, at, seen,
    )  # fmt: skip
    return state[:, 2] / LENGTH, at, seen >> 2, used


def obvious_hold(t: Array, p: Array, instants: list[float]) -> tuple[float, list[float]]:
    edges = [0.0, *map(float, t), float(LENGTH)]
    steps = [ON if on else -OFF for on in p]
    levels = [sum(steps[:k]) for k in range(len(steps) + 1)]
    total = sum(math.exp(s) * (b - a) for s, a, b in zip(levels, edges[:-1], edges[1:], strict=True))
    return total / LENGTH, [math.exp(sum(s for s, when in zip(steps, t, strict=True) if when <= f)) for f in instants]


def obvious_ramp(t: Array, p: Array, instants: list[float]) -> tuple[float, list[float]]:
    """The level as a function of time, evaluated at 40,000 moments."""
    steps = [UNTOLD * (ON if on else -OFF) for on in p]

    def level(when: Array) -> Array:
        value = np.zeros_like(when)
        reached, since, last = 0.0, 0.0, 0.0
        for k, step in enumerate([*steps, None]):
            until = float(t[k]) if step is not None else float(LENGTH)
            u = (when - since) / max(until - since, 1e-9)
            if step is None:
                curve = reached + TAIL * last * u
            elif last == 0 or last * step > 0:
                curve = reached + step * u
            else:  # the parabola through (0, 0) and (1, 1) whose low is at -OVERSHOOT
                slope = 2 * OVERSHOOT + 2 * math.sqrt(OVERSHOOT**2 + OVERSHOOT)
                curve = reached + step * ((slope + 1) * u**2 - slope * u)
            value = np.where((when >= since) & (when <= until), curve, value)
            if step is not None:
                reached, since, last = reached + step, until, step
        return value

    fine = 40_000
    mean = np.exp(level((np.arange(fine) + 0.5) * LENGTH / fine)).mean()
    return float(mean), [float(v) for v in np.exp(level(np.array(instants, float)))]


@pytest.mark.parametrize(("model", "tolerance"), [(HOLD, 1e-12), (RAMP, 1e-5)])
def test_every_pixel_agrees_with_the_obvious_integral(model: str, tolerance: float) -> None:
    instants = [0.0, 2500.25, 5000.5, float(LENGTH)]
    events = some_events(1, 160)
    mean, at, seen, used = run(events, instants, model)
    assert used == len(events)
    for q in range(WIDTH * HEIGHT):
        mine = (events.x == q % WIDTH) & (events.y == q // WIDTH)
        t, p = events.t[mine], events.p[mine]
        if len(np.unique(t)) != len(t):
            continue
        wanted, at_instants = (obvious_hold if model == HOLD else obvious_ramp)(t, p, instants)
        assert seen[q] == len(t)
        assert mean[q] == pytest.approx(wanted, rel=tolerance)
        assert at[:, q] == pytest.approx(at_instants, rel=1e-9)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**31), n=st.integers(1, 80), t0=st.sampled_from([0, 7, 1_700_000_000_000_000, 2**60]))
def test_only_the_time_since_the_exposure_began_counts(seed: int, n: int, t0: int) -> None:
    here = run(some_events(seed, n), [5000.0], RAMP)
    there = run(some_events(seed, n, t0), [5000.0], RAMP, start=t0)
    for a, b in zip(here, there, strict=True):
        assert np.array_equal(a, b)


def test_events_outside_the_exposure_do_not_count() -> None:
    events = some_events(3, 50, t0=LENGTH)
    outside = Events.concatenate([Events([0], [1], [1], [1]), events, Events([2 * LENGTH], [1], [1], [1])])
    for a, b in zip(run(events, [1.0], HOLD, start=LENGTH), run(outside, [1.0], HOLD, start=LENGTH), strict=True):
        assert np.array_equal(a, b)


def test_time_run_backwards_with_polarities_swapped_gives_the_same_sharp_pixel() -> None:
    events = some_events(5, 120)
    odd = Events(2 * (events.t // 2) + 1, events.x, events.y, events.p)  # none at the instant itself
    turned = Events((LENGTH - odd.t)[::-1], odd.x[::-1], odd.y[::-1], 1 - odd.p[::-1])
    mean, at, _, _ = run(odd, [LENGTH / 2], HOLD)
    mean_turned, at_turned, _, _ = run(turned, [LENGTH / 2], HOLD, on=OFF, off=ON)
    assert mean / at[0] == pytest.approx(mean_turned / at_turned[0], rel=1e-12)


def test_a_parabola_turns_where_it_is_said_to() -> None:
    table = intervals(ON, OFF, RAMP)
    _, first, second = table[3 * 2 + 1]  # last on, coming off: up first
    u = np.linspace(0, 1, 1001)
    level = first * u + second * u**2
    assert level[-1] == pytest.approx(-UNTOLD * OFF)
    assert level.max() == pytest.approx(OVERSHOOT * UNTOLD * OFF, rel=1e-4)
