"""Decoding against slow, obvious decoders, real recordings, and itself cut into pieces."""

import hashlib
import itertools
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtpipe import encodings
from rtpipe.encodings import evt3, evt21
from rtpipe.errors import InputError
from rtpipe.types import Events, RawEvents, Trigger
from tests.encodings import slow

NAMES = encodings.NAMES
SIZE = (700, 500)
name_and_words = st.sampled_from(NAMES).flatmap(lambda name: st.tuples(st.just(name), slow.any_stream(name)))


def digest(events):
    sha = hashlib.sha256()
    for column, dtype in zip((events.t, events.x, events.y, events.p), ("<i8", "<u2", "<u2", "u1"), strict=True):
        sha.update(np.ascontiguousarray(column, dtype).tobytes())
    return sha.hexdigest()[:16]


def camera_words(path, word):
    data, at = path.read_bytes(), 0
    while data[at : at + 2] == b"% ":
        at = data.index(b"\n", at) + 1
    return np.frombuffer(data[at : at + (len(data) - at) // word * word], np.uint8).copy()


REAL = [
    ("evt2", "evt2_sparks_vga", (640, 480), 521_252, "902a206106288779"),
    ("evt3", "evt3_driving_hd_9ms", (1280, 720), 219_596, "22f2aebe16606074"),
    ("evt3", "evt3_nightsky_hd", (1280, 720), 1_218_618, "eba3ccbb091cea74"),
]


@pytest.mark.parametrize(("name", "file", "size", "n", "wanted"), REAL)
def test_real_recordings_have_the_hashes_of_their_readme(shared, name, file, size, n, wanted):
    module = encodings.load(name)
    data = camera_words(shared(f"recordings/prophesee/{file}.raw"), module.WORD)
    decoded = module.Decoder(size).decode(data)
    assert len(decoded.events) == n
    assert digest(decoded.events) == wanted
    assert decoded.refused == encodings.Refused()
    found = module.scan(data)
    assert (found.n, found.t_first, found.t_last) == (n, int(decoded.events.t[0]), int(decoded.events.t[-1]))


@given(name_and_words)
@settings(max_examples=200, deadline=None)
def test_as_the_slow_decoder(stream):
    name, words = stream
    wanted = slow.DECODERS[name](words, SIZE)
    decoded = slow.decoder(name, SIZE).decode(words.view(np.uint8))
    assert slow.rows(decoded.events) == wanted.events
    assert slow.signals(decoded.triggers) == wanted.triggers
    assert {reason: getattr(decoded.refused, reason) for reason in wanted.refused} == wanted.refused
    assert len(decoded.events) + decoded.refused.events == wanted.n
    unknown = {"evt2": (0, 1, 8, 10, 14, 15), "evt21": (0, 1, 8, 10, 14, 15), "evt3": (0, *range(2, 9), 10, 14, 15)}
    kinds = words >> words.dtype.type(words.itemsize * 8 - 4)
    assert decoded.refused.words == int((~np.isin(kinds, unknown[name])).sum())


@given(name_and_words)
@settings(max_examples=100, deadline=None)
def test_a_scan_says_what_the_decoder_finds(stream):
    name, words = stream
    wanted = slow.DECODERS[name](words, SIZE)
    decoder = slow.decoder(name, SIZE)
    refused = decoder.decode(words.view(np.uint8)).refused
    found = encodings.load(name).scan(words.view(np.uint8))
    assert found.n == wanted.n
    assert found.t_first == (wanted.in_order[0] if wanted.in_order else None)
    assert found.t_last == (wanted.in_order[-1] if wanted.in_order else None)
    assert found.t_reached == (None if wanted.time is None else wanted.floor)
    assert slow.signals(found.triggers) == wanted.triggers
    assert found.state == decoder.state
    assert (found.refused.order, found.refused.no_time, found.refused.words, found.refused.triggers) == (
        (refused.order, refused.no_time, refused.words, refused.triggers)
    )


@given(name_and_words, st.lists(st.integers(0, 1 << 16), max_size=8))
@settings(max_examples=100, deadline=None)
def test_cut_anywhere_and_begun_anew_from_the_state_it_gives_the_same(stream, cuts):
    name, words = stream
    module, data = encodings.load(name), words.view(np.uint8)
    whole = module.Decoder(SIZE).decode(data)
    word = module.WORD
    edges = sorted(
        {0, len(data), *(cut * word % (len(data) + word) // word * word for cut in cuts)} & {*range(len(data) + 1)}
    )
    state, parts, refused = module.INITIAL, [], encodings.Refused()
    for a, b in itertools.pairwise(edges):
        run = RawEvents(name, state, data[a:b], 0)
        decoded = encodings.decode(run, SIZE)
        parts.append(decoded)
        refused += decoded.refused
        state = module.scan(data[a:b], state).state
    assert slow.rows(Events.concatenate(part.events for part in parts)) == slow.rows(whole.events)
    assert [row for part in parts for row in slow.signals(part.triggers)] == slow.signals(whole.triggers)
    assert refused == whole.refused


@given(name_and_words, st.data())
@settings(max_examples=100, deadline=None)
def test_bytes_may_come_in_any_portions(stream, data):
    name, words = stream
    module, raw = encodings.load(name), words.view(np.uint8)
    decoder, parts, at = module.Decoder(SIZE), [], 0
    while at < len(raw):
        n = data.draw(st.integers(1, max(1, len(raw) // 2)))
        parts.append(decoder.decode(raw[at : at + n]).events)
        at += n
    assert slow.rows(Events.concatenate(parts)) == slow.rows(module.Decoder(SIZE).decode(raw).events)


@given(name_and_words, st.integers(0, 1 << 36))
@settings(max_examples=100, deadline=None)
def test_before_finds_the_first_event_that_is_late_enough(stream, t):
    name, words = stream
    module, data = encodings.load(name), words.view(np.uint8)
    decoded = module.Decoder((2048, 2048)).decode(data).events
    times = decoded.t
    t = int(times[t % len(times)]) + t % 3 - 1 if len(times) else t
    k = module.before(data, module.INITIAL, t)
    first = module.Decoder((2048, 2048)).decode(data[:k]).events
    assert not len(first) or first.t[-1] < t
    rest = module.Decoder((2048, 2048), module.scan(data[:k]).state).decode(data[k:]).events
    assert not len(rest) or rest.t[0] >= t
    assert len(first) + len(rest) == len(times)


@given(
    st.sampled_from(NAMES),
    st.binary(max_size=4000),
    st.sampled_from([(1, 1), (304, 240), (2048, 2048), (32768, 32768)]),
)
@settings(max_examples=150, deadline=None)
def test_never_an_event_off_the_sensor_or_out_of_order(name, data, size):
    decoded = slow.decoder(name, size).decode(np.frombuffer(data, np.uint8))
    events = decoded.events
    assert (np.diff(events.t) >= 0).all()
    assert (np.diff(decoded.triggers.t) >= 0).all()
    assert (events.x < size[0]).all()
    assert (events.y < size[1]).all()
    assert (events.p <= 1).all()


def test_the_time_of_evt3_wraps_and_falls_by_the_vendors_rule():
    words = [
        0x8FFF,
        0x6FFF,
        0x0001,
        0x2001,
        0x8000,
        0x2002,
        0x6005,
        0x2003,
        0x8000,
        0x2004,
        0x87FF,
        0x2005,
        0x8000,
        0x2006,
    ]
    decoded = evt3.Decoder((640, 480)).decode(np.array(words, "<u2").view(np.uint8))
    wrap = 1 << 24
    assert decoded.events.t.tolist() == [wrap - 1, wrap, wrap + 5, wrap + 5, wrap + (0x7FF << 12)]
    assert decoded.refused.order == 1  # 2047 steps back are no wrap


def test_a_step_back_of_half_the_range_is_a_wrap():
    words = [0x8800, 0x0001, 0x2001, 0x8000, 0x2002]
    decoded = evt3.Decoder((640, 480)).decode(np.array(words, "<u2").view(np.uint8))
    assert decoded.events.t.tolist() == [1 << 23, 1 << 24]


def test_a_low_time_that_no_event_has_takes_nothing_back():
    """Real cameras show a time too early now and then, and correct it before the next event."""
    words = [0x8001, 0x6010, 0x0001, 0x2001, 0x602B, 0x6020, 0x2002, 0x6021, 0x2003]
    events = evt3.Decoder((640, 480)).decode(np.array(words, "<u2").view(np.uint8)).events
    assert events.t.tolist() == [0x1010, 0x1020, 0x1021]


@pytest.mark.parametrize("name", ["evt2", "evt21"])
def test_the_time_of_evt2_wraps_after_34_bits(name):
    shift = 32 if name == "evt21" else 0
    highs = [(1 << 28) - 1, 0, 1]
    words = np.array(
        [word << shift | (shift and 1) for high in highs for word in (8 << 28 | high, 63 << 22)], slow.WORDS[name]
    )
    events = slow.decoder(name).decode(words.view(np.uint8)).events
    assert events.t.tolist() == [(1 << 34) - 1, (1 << 34) + 63, (1 << 34) + 127]


def test_evt21_with_its_upper_half_first():
    words = slow.stream("evt21", 3, 4000)
    plain = evt21.Decoder(SIZE).decode(words.view(np.uint8))
    swapped = words.view("<u4").reshape(-1, 2)[:, ::-1].copy().view(np.uint8).reshape(-1)
    legacy = evt21.Decoder(SIZE, evt21.LEGACY).decode(swapped)
    assert len(plain.events) > 1000
    assert slow.rows(legacy.events) == slow.rows(plain.events)
    assert slow.signals(legacy.triggers) == slow.signals(plain.triggers)
    assert evt21.scan(swapped, evt21.LEGACY).n == evt21.scan(words.view(np.uint8)).n


def test_events_before_the_first_time_are_counted():
    data = np.array([0x0001, 0x2001, 0x3000, 0x4007, 0x8001, 0x2001], "<u2").view(np.uint8)
    decoded = evt3.Decoder((640, 480)).decode(data)
    assert decoded.refused == encodings.Refused(no_time=4)
    assert slow.rows(decoded.events) == [(0x1000, 1, 1, 0)]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_state_or_no_words_is_refused_in_plain_words(name):
    module = encodings.load(name)
    bad_times = struct.pack("<qqq", 5, -1, 5) + module.INITIAL[24:]
    far = struct.pack("<qqq", 1 << 62, 1 << 62, 1 << 62) + module.INITIAL[24:]
    for state in (
        b"",
        module.INITIAL + b"\0",
        bad_times,
        far,
        module.INITIAL[:24] + b"\xff" * len(module.INITIAL[24:]),
    ):
        if state == module.INITIAL:
            continue
        with pytest.raises(InputError, match="state"):
            module.Decoder((640, 480), state)
    with pytest.raises(InputError, match="whole words"):
        module.scan(np.zeros(module.WORD + 1, np.uint8))
    with pytest.raises(InputError, match="no encoding"):
        encodings.load("evt9")


@pytest.mark.parametrize("name", NAMES)
def test_bytes_at_odd_addresses_and_read_only_ones_are_decoded_too(name):
    words = slow.stream(name, 1, 3000)
    wanted = slow.rows(slow.decoder(name).decode(words.view(np.uint8)).events)
    odd = np.frombuffer(b"x" + words.tobytes(), np.uint8)[1:]
    assert not odd.flags.writeable
    assert slow.rows(slow.decoder(name).decode(odd).events) == wanted
    assert isinstance(slow.decoder(name).decode(odd).triggers, Trigger)


def test_time_that_goes_back_before_a_run_has_said_one_is_seen_by_scanning_too():
    first = np.array([0x8001, 0x6064, 0x0005, 0x2007], np.uint16).view(np.uint8)  # an event at 4096 + 100 µs
    then = np.array([0x2008, 0x6032, 0x2009, 0x6065, 0x200A], np.uint16).view(np.uint8)  # the same, 50 back, 101
    evt3 = encodings.load("evt3")
    state = evt3.scan(first).state
    decoder = evt3.Decoder(SIZE, state)
    assert decoder.decode(then).events.t.tolist() == [4196, 4197]
    found = evt3.scan(then, state)
    assert (found.n, found.refused.order, found.state) == (3, 1, decoder.state)
