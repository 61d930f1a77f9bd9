"""Every filter against a slow obvious version of it, however the stream is cut, and its ledger against both."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rtpipe import registry
from rtpipe.errors import InputError
from rtpipe.packing import fault, unpack
from rtpipe.types import PackedEvents
from rtpipe.window.filters import surface
from rtpipe.window.filters.chain import Chain, make
from tests.window.filters import slow

RESOLUTION = (11, 7)
CASES = [
    (slow.background, {"filter": "background", "duration_us": 20}),
    (slow.refractory, {"filter": "refractory", "period_us": 15}),
    (slow.refractory, {"filter": "refractory", "period_us": 15, "after": "any"}),
    (slow.roi, {"filter": "roi", "x": 3, "y": 2, "width": 6, "height": 4}),
    (slow.roi, {"filter": "roi", "x": 0, "y": 1, "width": 11, "height": 6, "crop": False}),
    (slow.flip, {"filter": "flip", "horizontal": True}),
    (slow.flip, {"filter": "flip", "vertical": True}),
    (slow.flip, {"filter": "flip", "horizontal": True, "vertical": True}),
    (slow.downsample, {"filter": "downsample", "factor": 2}),
    (slow.downsample, {"filter": "downsample", "factor": 3, "events_per_event": 2}),
    (slow.rate_limit, {"filter": "rate_limit", "mev_s": 0.3, "slot_us": 10}),
]
NAMES = [" ".join(str(value) for value in choice.values()) for _, choice in CASES]

steps = st.one_of(st.integers(0, 3), st.integers(0, 60))
streams = st.builds(
    lambda start, rows: [
        (int(t), x, y, p)
        for t, (_, x, y, p) in zip(start + np.cumsum([row[0] for row in rows], dtype=np.int64), rows, strict=True)
    ],
    st.sampled_from([0, 3, 1_700_000_000_000_000, -50]),
    st.lists(
        st.tuples(steps, st.integers(0, RESOLUTION[0] - 1), st.integers(0, RESOLUTION[1] - 1), st.integers(0, 1)),
        max_size=120,
    ),
)
cuts = st.lists(st.integers(0, 120), max_size=6)


def run(choice, tuples, at=(), resolution=RESOLUTION):
    """What one filter keeps of a stream that is cut into packets at these places; and the filter."""
    (filter_,) = make([choice])
    size = filter_.open(resolution)
    kept = []
    bounds = sorted({0, len(tuples), *(place for place in at if place < len(tuples))})
    for first, last in pairwise(bounds):
        out = filter_.apply(slow.packed(tuples[first:last]))
        assert fault(out, size) == ""
        kept += slow.rows(unpack(out))
    return kept, filter_


@pytest.mark.parametrize(("obvious", "choice"), CASES, ids=NAMES)
@given(tuples=streams, at=cuts)
@settings(max_examples=60)
def test_a_filter_keeps_what_its_slow_version_keeps(obvious, choice, tuples, at):
    kept, filter_ = run(choice, tuples, at)
    wanted = obvious(tuples, RESOLUTION, **{key: value for key, value in choice.items() if key != "filter"})
    assert kept == wanted
    assert (filter_.flow.taken, filter_.flow.passed) == (len(tuples), len(wanted))
    assert filter_.flow.balanced
    assert set(filter_.flow.dropped) <= {choice["filter"]}


def test_every_installed_filter_is_tried():
    elsewhere = {"hot_pixels", "trail", "undistort"}  # these have their own files
    tried = {choice["filter"] for _, choice in CASES} | elsewhere
    assert tried == set(registry.names("filters"))


@pytest.mark.parametrize(("obvious", "choice"), CASES, ids=NAMES)
def test_an_empty_packet_comes_out_empty(obvious, choice):
    kept, filter_ = run(choice, [])
    assert len(filter_.apply(slow.packed([]))) == 0
    assert (kept, filter_.flow.taken) == ([], 0)


def stream(n=4000, seed=0, span=4000, start=5):
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, span, n)) + start
    return list(
        zip(
            t.tolist(),
            rng.integers(0, RESOLUTION[0], n).tolist(),
            rng.integers(0, RESOLUTION[1], n).tolist(),
            rng.integers(0, 2, n).tolist(),
            strict=True,
        )
    )


@pytest.mark.parametrize(("obvious", "choice"), CASES, ids=NAMES)
def test_after_a_reset_a_filter_has_seen_nothing(obvious, choice):
    """Time jumps back: what comes then is treated as a stream of its own."""
    (filter_,) = make([choice])
    filter_.open(RESOLUTION)
    filter_.apply(slow.packed(stream(seed=1)))
    filter_.reset()
    again = slow.rows(unpack(filter_.apply(slow.packed(stream(seed=2)))))
    assert again == run(choice, stream(seed=2))[0]


@pytest.mark.parametrize(("obvious", "choice"), CASES, ids=NAMES)
def test_columns_may_be_read_only_unaligned_or_worked_in(obvious, choice):
    tuples = stream(500)
    wanted = run(choice, tuples)[0]
    whole = slow.packed(tuples)
    (filter_,) = make([choice])
    filter_.open(RESOLUTION)
    crooked = []
    for column in (whole.dt, whole.x, whole.yp):
        room = np.zeros(column.nbytes + 1, np.uint8)
        room[1:] = column.view(np.uint8)
        view = room[1:].view(column.dtype)
        view.flags.writeable = False
        crooked.append(view)
    assert slow.rows(unpack(filter_.apply(PackedEvents(whole.t0, *crooked)))) == wanted
    filter_.reset()
    own = PackedEvents(whole.t0, whole.dt.copy(), whole.x.copy(), whole.yp.copy())
    assert slow.rows(unpack(filter_.apply(own, own))) == wanted
    np.testing.assert_array_equal(whole.dt, slow.packed(tuples).dt)  # the packet itself was never touched


@pytest.mark.parametrize("name", ["background", "refractory"])
@pytest.mark.parametrize(
    ("gap", "together"),
    [(surface.NEVER_US - 3, True), (1 << 31, True), ((1 << 32) - 13, True)]
    + [(gap, False) for gap in (surface.NEVER_US - 3, 1 << 31, (1 << 32) - 2, (1 << 32) + 7, 5 << 32)],
)
def test_hours_of_silence_make_nothing_young_again(name, gap, together):
    """Times are kept in 32 bits: a stream that goes on for hours must not look as if it had just begun."""
    obvious, choice = next(case for case in CASES if case[1]["filter"] == name)
    early = [(10, 5, 3, 1), (12, 6, 3, 0)]
    late = [(t + gap, x, y, p) for t, x, y, p in early]
    kept, _ = run(choice, early + late, () if together else (2,))
    assert kept == obvious(early + late, RESOLUTION, choice.get("duration_us") or choice["period_us"])


@example(start=0)
@given(start=st.integers(0, 10**16))
@settings(max_examples=20)
def test_the_rate_limit_holds_and_is_fair(start):
    """Ten times too many events, evenly spread: every slot holds; every pixel, polarity and instant gets its share."""
    n, slot, limit = 40_000, 1000, 100
    rng = np.random.default_rng(start)
    t = start + np.sort(rng.integers(0, 40 * slot, n))
    place = rng.integers(0, [11, 7, 2], (n, 3))
    tuples = list(zip(t.tolist(), *place.T.tolist(), strict=True))
    kept, _ = run({"filter": "rate_limit", "mev_s": limit / slot, "slot_us": slot}, tuples)
    per_slot = np.bincount([event[0] // slot - start // slot for event in kept], minlength=40)
    assert per_slot.max() <= limit
    assert per_slot[2:-2].mean() > 0.9 * limit
    steady = [event for event in kept if event[0] // slot - start // slot >= 2]
    share = len(steady) / 2
    on = sum(event[3] for event in steady)
    first_half = sum(event[0] % slot < slot // 2 for event in steady)
    left = sum(event[1] < 5.5 for event in steady) * 11 / 12
    for part in (on, first_half, left):
        assert abs(part - share) < 6 * np.sqrt(share)  # six standard deviations


def test_after_a_pause_the_rate_limit_passes_the_first_that_come():
    """The slot before was empty: nothing says that there will be too many, until there are."""
    burst = [(k, k % 11, k % 7, k % 2) for k in range(100)]
    later = [(t + 250, x, y, p) for t, x, y, p in burst]
    choice = {"filter": "rate_limit", "mev_s": 0.1, "slot_us": 100}
    assert run(choice, burst + later)[0] == burst[:10] + slow.rate_limit(later, RESOLUTION, 0.1, 100)
    assert slow.rate_limit(later, RESOLUTION, 0.1, 100)[:10] == later[:10]


def test_a_chain_is_its_filters_one_after_the_other():
    tuples = stream()
    choices = [CASES[0][1], CASES[3][1], CASES[9][1], CASES[1][1]]
    chain = Chain(make(choices))
    assert chain.open(RESOLUTION) == (2, 1)
    out = slow.rows(unpack(chain.apply(slow.packed(tuples))))
    wanted = slow.background(tuples, RESOLUTION, 20)
    wanted = slow.roi(wanted, RESOLUTION, 3, 2, 6, 4)
    wanted = slow.downsample(wanted, (6, 4), 3, 2)
    wanted = slow.refractory(wanted, (2, 1), 15)
    assert out == wanted
    assert 0 < len(wanted) < len(tuples)
    flows = chain.flows
    assert all(flow.balanced for flow in flows.values())
    assert flows["filters"].taken == len(tuples)
    assert flows["filters"].passed == len(wanted)
    assert flows["filters"].dropped == {
        name: flows[f"filter {name}"].dropped[name] for name in ("background", "roi", "downsample", "refractory")
    }
    assert flows["filter roi"].taken == flows["filter background"].passed


def test_the_same_filter_twice_has_two_accounts():
    chain = Chain(make(["background", {"filter": "background", "duration_us": 5}]))
    chain.open(RESOLUTION)
    chain.apply(slow.packed(stream()))
    assert list(chain.flows) == ["filters", "filter background 1", "filter background 2"]
    assert chain.total.dropped["background"] == sum(each.flow.dropped["background"] for each in chain.filters)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("hot_pixel", ["hot_pixel", "hot_pixels", "background"]),
        ({"filter": "background", "duration": 5}, ["background", "duration", "duration_us"]),
        ({"filter": "background", "duration_us": 0}, ["background", "duration_us", "1"]),
        ({"filter": "background", "duration_us": "long"}, ["background", "duration_us"]),
        ({"filter": "flip"}, ["flip", "horizontal", "vertical"]),
        ({"duration_us": 5}, ["filter: NAME", "background"]),
        ({"filter": "rate_limit", "mev_s": float("nan")}, ["rate_limit", "mev_s"]),
        ({"filter": "rate_limit", "mev_s": 0.0001}, ["rate_limit", "mev_s"]),
        ({"filter": "hot_pixels", "learn": False}, ["hot_pixels", "pixels"]),
        ({"filter": "hot_pixels", "factor": float("nan")}, ["hot_pixels", "factor"]),
        ({"filter": "roi", "width": 0}, ["roi", "width"]),
        ({"filter": "undistort"}, ["undistort", "calibration", "matrix"]),
    ],
)
def test_what_cannot_be_is_refused_in_words(choice, words):
    with pytest.raises(InputError) as caught:
        make([choice])
    text = str(caught.value)
    assert all(word in text for word in words)
    assert "\n" not in text
    assert len(text) < 500


@pytest.mark.parametrize(
    "choice",
    [
        {"filter": "roi", "x": 11},
        {"filter": "roi", "x": 2, "width": 10},
        {"filter": "roi", "height": 8},
        {"filter": "downsample", "factor": 8},
        {"filter": "hot_pixels", "pixels": [[3, 7]]},
    ],
)
def test_settings_that_the_sensor_does_not_fit_are_refused(choice):
    (filter_,) = make([choice])
    with pytest.raises(InputError, match="11x7"):
        filter_.open(RESOLUTION)
