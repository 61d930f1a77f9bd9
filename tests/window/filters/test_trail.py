"""Event trail suppression against published numbers, and its causal version against the published rule."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from rtpipe.errors import InputError
from rtpipe.packing import pack, unpack
from rtpipe.types import Array, Events
from rtpipe.window.filters.chain import make
from rtpipe.window.filters.trail import Filter, Settings, suppressed

SIZE = (8, 6)


def golden(path: Path) -> tuple[Events, Array, tuple[int, int], dict[str, int]]:
    with np.load(path) as z:
        t, x, y, p = z["in_txyp"].T
        given = {"on_us": int(z["T_on"]), "off_us": int(z["T_off"]), "soft_us": int(z["soft"])}
        return Events(t, x, y, p), z["out_txyp"], (int(z["W"]), int(z["H"])), given


def rows(events: Events) -> Array:
    return np.stack([events.t, events.x, events.y, events.p], axis=1).astype(np.int64)


def slow_instants(events: Events, on_us: int, off_us: int, soft_us: int) -> list[int]:
    """The rule with a dictionary per pixel."""
    state: dict[tuple[int, int], dict[str, int]] = {}
    found = []
    for t, x, y, p in rows(events).tolist():
        pixel = state.get((x, y))
        longest = on_us if p else off_us
        if pixel and p == pixel["p"] and pixel["gap"] < t - pixel["last"] < longest:
            pixel.update(n=pixel["n"] + 1, gap=t - pixel["last"] - soft_us, last=t)
        else:
            pixel = state[x, y] = {"start": t, "n": 0, "gap": 0, "p": p, "last": t}
        found.append(pixel["start"] + pixel["n"])
    return found


def some_events(seed: int, n: int = 4000, span_us: int = 2_000_000) -> Events:
    random = np.random.default_rng(seed)
    return Events(
        np.sort(random.integers(0, span_us, n)) + (1 << 33),
        random.integers(0, SIZE[0], n).astype(np.uint16),
        random.integers(0, SIZE[1], n).astype(np.uint16),
        (random.random(n) < 0.8).astype(np.uint8),
    )


@pytest.mark.parametrize("name", ["ets-91", "ets-92"])
def test_events_move_as_published(shared: Callable[[str], Path], name: str) -> None:
    events, wanted, resolution, given = golden(shared(f"networks/golden/{name}.npz"))
    moved = suppressed(events, resolution=resolution, **given)
    assert np.array_equal(rows(moved), wanted)
    assert (np.count_nonzero(moved.t != events.t)) > 50, "the vector must have trails"


@pytest.mark.parametrize(
    ("on_us", "off_us", "soft_us"), [(1_000_000, 1_000_000, 0), (40_000, 9_000, 0), (10**6, 10**6, 500)]
)
def test_instants_are_those_of_the_rule_written_out(on_us: int, off_us: int, soft_us: int) -> None:
    events = some_events(1)
    moved = suppressed(events, resolution=SIZE, on_us=on_us, off_us=off_us, soft_us=soft_us)
    assert sorted(moved.t.tolist()) == sorted(slow_instants(events, on_us, off_us, soft_us))
    assert np.all(np.diff(moved.t) >= 0)


def test_a_trail_is_pulled_back_to_just_after_its_beginning() -> None:
    t = np.array([100, 110, 130, 180, 900, 1000, 1010])  # ever longer pauses but for the last two
    one = Events(t, np.zeros(7, np.uint16), np.zeros(7, np.uint16), np.ones(7, np.uint8))
    assert suppressed(one, resolution=SIZE).t.tolist() == [100, 101, 102, 103, 104, 1000, 1001]


@pytest.mark.parametrize("reach_us", [0, 3000, 10**7])
def test_the_filter_keeps_what_the_rule_moves_within_reach_where_it_is(reach_us: int) -> None:
    events = some_events(2)
    true = np.array(slow_instants(events, 10**6, 10**6, 0))
    kept = events.t - true <= reach_us
    assert kept.all() == (reach_us == 10**7)
    filter_ = Filter(Settings(reach_us=reach_us))
    filter_.open(SIZE)
    passed = unpack(filter_.apply(pack(events)))
    assert np.array_equal(rows(passed), rows(events)[kept])
    assert (filter_.flow.taken, filter_.flow.passed) == (len(events), int(kept.sum()))
    assert filter_.flow.dropped.get("trail", 0) == len(events) - int(kept.sum())


def test_the_same_events_stay_however_the_stream_is_cut() -> None:
    events = some_events(3)
    cuts = [0, 1, 5, 1200, 1201, 3990, len(events)]
    (filter_,) = make(["trail"])
    filter_.open(SIZE)
    whole = rows(unpack(filter_.apply(pack(events))))
    filter_.reset()
    parts = [unpack(filter_.apply(pack(events[a:b]))) for a, b in pairwise(cuts)]
    assert np.array_equal(np.concatenate([rows(part) for part in parts]), whole)


def test_after_a_jump_in_time_no_trail_goes_on() -> None:
    one = Events(np.array([10]), np.zeros(1, np.uint16), np.zeros(1, np.uint16), np.ones(1, np.uint8))
    later = Events(np.array([100_000]), one.x, one.y, one.p)
    filter_ = Filter(Settings())
    filter_.open(SIZE)
    filter_.apply(pack(one))
    filter_.reset()
    assert len(filter_.apply(pack(later))) == 1
    assert len(filter_.apply(pack(Events(later.t + 30_000, one.x, one.y, one.p)))) == 0


def test_settings_out_of_bounds_and_foreign_events_are_refused() -> None:
    with pytest.raises(InputError, match="reach_us"):
        make([{"filter": "trail", "reach_us": -1}])
    with pytest.raises(InputError, match="8x6"):
        suppressed(Events([0], [8], [0], [1]), resolution=SIZE)


def test_a_pause_as_long_as_the_limit_ends_a_trail() -> None:
    t = np.array([0, 99, 100, 199])
    two = Events(t, np.array([0, 0, 1, 1]), np.zeros(4, np.uint16), np.ones(4, np.uint8))
    moved = {limit: suppressed(two, resolution=SIZE, on_us=limit).t.tolist() for limit in (99, 100)}
    assert moved == {99: [0, 99, 100, 199], 100: [0, 1, 100, 101]}
