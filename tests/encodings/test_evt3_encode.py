"""What is encoded decodes to the same events and triggers, whoever decodes it, and in few bytes."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtpipe.encodings import Refused, evt3
from rtpipe.errors import InputError
from rtpipe.types import Events, Trigger
from tests.encodings import slow

WIDE = (2048, 2048)
WRAP = 1 << 24


@st.composite
def recordings(draw):
    """Events and triggers in order: rows of neighbours at one instant, long silences, wide sensors."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    n = draw(st.integers(0, 400))
    longest = draw(st.sampled_from([0, 3, 5000, WRAP + 5, 10 * WRAP]))
    t = draw(st.integers(0, 3 * WRAP)) + np.cumsum(rng.integers(0, longest + 1, n) * (rng.random(n) < 0.2))
    side = draw(st.sampled_from([1, 40, 2048]))
    y = rng.integers(0, side, n)[np.cumsum(rng.random(n) < 0.1) % max(n, 1)] if n else np.empty(0, int)
    x = (rng.integers(0, side) + np.cumsum(rng.integers(0, 4, n))) % side if n else np.empty(0, int)
    p = np.cumsum(rng.random(n) < 0.05) % 2
    m = draw(st.integers(0, 20))
    lowest, highest = (int(t[0]), int(t[-1]) + 1) if n else (0, 100)
    s = np.sort(rng.integers(lowest, highest, m))
    return Events(t, x, y, p), Trigger(
        s, rng.integers(0, 16, m).astype(np.uint8), rng.integers(0, 2, m).astype(np.uint8)
    )


@given(recordings())
@settings(max_examples=150, deadline=None)
def test_events_and_triggers_come_back_as_they_were(recording):
    events, triggers = recording
    words = evt3.Encoder().encode(events, triggers)
    decoded = evt3.Decoder(WIDE).decode(words)
    assert slow.rows(decoded.events) == slow.rows(events)
    assert slow.signals(decoded.triggers) == slow.signals(triggers)
    assert decoded.refused == Refused()
    obvious = slow.evt3(words.view("<u2"), WIDE)
    assert obvious.events == slow.rows(events)
    assert obvious.triggers == slow.signals(triggers)


@given(recordings(), st.lists(st.integers(0, 400), max_size=4), st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_written_in_parts_and_begun_later_it_is_the_same_stream(recording, cuts, wraps):
    events, _ = recording
    origin = wraps * WRAP
    later = Events(events.t + origin, events.x, events.y, events.p)
    encoder = evt3.Encoder(origin)
    edges = sorted({0, len(later), *(cut % (len(later) + 1) for cut in cuts)})
    parts = [encoder.encode(later[a:b]) for a, b in itertools.pairwise(edges)]
    words = np.concatenate([np.empty(0, np.uint8), *parts])
    assert slow.rows(evt3.Decoder(WIDE).decode(words).events) == slow.rows(events)
    decoded = evt3.Decoder(WIDE, evt3.starting_at(origin)).decode(words)
    assert slow.rows(decoded.events) == slow.rows(later)


def test_neighbours_of_one_instant_share_their_words():
    row = Events(np.full(640, 5), np.arange(640), np.full(640, 7), np.ones(640))
    words = evt3.Encoder().encode(row).view("<u2")
    kinds = np.bincount(words >> 12, minlength=16)
    assert kinds[3] == 1  # one base column for all of it
    assert len(words) == 1 + 1 + 1 + 1 + 3 * 20
    alone = Events(np.full(4, 5), np.array([0, 50, 100, 150]), np.full(4, 7), np.ones(4))
    assert len(evt3.Encoder().encode(alone)) == 2 * (3 + 4)


def test_a_real_recording_gets_no_longer(shared):
    from tests.encodings.test_decoding import camera_words, digest

    data = camera_words(shared("recordings/prophesee/evt3_driving_hd_9ms.raw"), 2)
    events = evt3.Decoder((1280, 720)).decode(data).events
    words = evt3.Encoder().encode(events)
    assert digest(evt3.Decoder((1280, 720)).decode(words).events) == "22f2aebe16606074"
    assert len(words) < len(data)


def trigger(t=5, channel=0, edge=0):
    return Trigger(
        *(np.array([value], dtype) for value, dtype in zip((t, channel, edge), ["q", "B", "B"], strict=True))
    )


@pytest.mark.parametrize(
    ("events", "triggers", "said"),
    [
        (([5], [2048], [0], [0]), None, "coordinates"),
        (([5], [0], [2048], [0]), None, "coordinates"),
        (([5, 4], [0, 0], [0, 0], [0, 0]), None, "order"),
        (([-1], [0], [0], [0]), None, "comes after 0"),
        (([5], [0], [0], [0]), trigger(channel=16), "channels are below 16"),
        (([5], [0], [0], [0]), trigger(edge=2), "rising or falling"),
        (([1 << 50], [0], [0], [0]), None, "more than a year"),
    ],
)
def test_what_evt3_cannot_say_is_refused(events, triggers, said):
    with pytest.raises(InputError, match=said):
        evt3.Encoder().encode(Events(*map(np.array, events)), triggers)
