"""From ratio to picture: what the filters leave alone and what they take out."""

import numpy as np
import pytest

from engines.restore import log_ratio, restore
from rtpipe.types import Array

SIDE = 7
MIDDLE = SIDE * SIDE // 2


def ratios(counts: Array, integral: Array) -> tuple[Array, Array]:
    """Log ratio and support for event counts and integrals (mean over sharp, exposure 1 µs)."""
    state = np.ones((counts.size, 3))
    state[:, 2] = integral.ravel()
    out, support = np.empty(counts.size, np.float32), np.empty(counts.size, np.uint16)
    log_ratio(state, np.ones(counts.size), (counts.ravel() << 2).astype(np.uint16), 1.0, SIDE, out, support)
    return out.reshape(counts.shape), support.reshape(counts.shape)


def clean(blurred: Array, ratio: Array, support: int = 100, reach: float = 0.2) -> Array:
    sharp = np.empty((*blurred.shape, 1), blurred.dtype)
    logs = np.log(blurred + 3.0).astype(np.float32)
    supports = np.full(blurred.size, support, np.uint16)
    restore(blurred[..., None], logs, ratio.astype(np.float32), supports, 3.0, reach, 255.0, sharp)
    return sharp[..., 0]


@pytest.mark.parametrize(("around", "own", "kept"), [(0, 3, False), (1, 40, False), (1, 7, True), (30, 60, True)])
def test_a_pixel_counts_unless_it_fires_alone_or_far_more_than_its_neighbours(
    around: int, own: int, kept: bool
) -> None:
    counts = np.full((SIDE, SIDE), around)
    counts.flat[MIDDLE] = own
    integral = np.full((SIDE, SIDE), 1.5)
    integral.flat[MIDDLE] = 4.0
    ratio, support = ratios(counts, integral)
    neighbours = np.log(1.5) if around else 0.0
    assert ratio.flat[MIDDLE] == pytest.approx(np.log(4.0) if kept else neighbours, rel=1e-5)
    assert support.flat[MIDDLE] == 8 * around + (own if kept else 0)


def test_an_edge_stays_where_it_is_and_as_high_as_it_is() -> None:
    blurred = np.full((SIDE, SIDE), 100, np.uint8)
    ratio = np.zeros((SIDE, SIDE))
    ratio[:, 3:] = np.log(2.0)
    sharp = clean(blurred, ratio)
    assert np.all(np.abs(sharp[:, :3] - 100.0) <= 3)
    assert np.all(np.abs(sharp[:, 3:] - 48.5) <= 3)


def test_a_speck_goes_and_a_line_stays() -> None:
    blurred = np.full((SIDE, SIDE), 100, np.uint8)
    speck, line = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE))
    speck[3, 3] = -0.6
    line[:, 3] = -0.6
    assert np.all(np.abs(clean(blurred, speck) - 100.0) <= 5)
    assert np.all(clean(blurred, line)[1:-1, 3] > 165)  # of 185; only its ends are shortened


def test_few_events_change_little() -> None:
    blurred = np.full((SIDE, SIDE), 100, np.uint8)
    ratio = np.full((SIDE, SIDE), np.log(2.0))
    changes = [100 - int(clean(blurred, ratio, support)[3, 3]) for support in (0, 1, 3, 6, 60)]
    assert changes[0] == 0
    assert 0 < changes[1] < changes[2] < changes[3] == changes[4]
