"""A camera's bytes, cut where USB cuts them and with pieces missing, held to the file's own decoding of the same."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rtpipe
from drivers.camera import raw_stream
from drivers.camera.raw_stream import AFTER_A_GAP, MOST_BYTES, RawStream, Taken
from rtpipe import encodings
from rtpipe.encodings import evt2, evt3, resume
from rtpipe.encodings.evt3 import Encoder
from rtpipe.raw import fault, opened
from rtpipe.types import Events, RawEvents, Trigger

HD = (1280, 720)
FILES = {
    "evt3_driving_hd_9ms": ("22f2aebe16606074", "evt3", HD),
    "evt3_nightsky_hd": ("eba3ccbb091cea74", "evt3", HD),
    "evt2_sparks_vga": ("902a206106288779", "evt2", (640, 480)),
}


def data_of(path: Path) -> bytes:
    whole = path.read_bytes()
    at = 0
    while whole[at : at + 1] == b"%":
        line, at = whole[at:].partition(b"\n")[0], whole.index(b"\n", at) + 1
        if line.strip() == b"% end":
            break
    return whole[at:]


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = [*sorted(cuts), len(data)]
    return [data[i:j] for i, j in zip([0, *ends[:-1]], ends, strict=True)]


def events_of(taken: list[Taken], size: tuple[int, int]) -> Events:
    """All events of decoded readings, or of runs, each decoded from its own state alone."""
    parts, reached = [], None
    for reading in (reading for each in taken for reading in each.readings if reading.kind == "events"):
        assert reading.t_first <= reading.t_last
        assert reached is None or reading.t_first >= reached
        reached = reading.t_last
        if isinstance(reading.body, RawEvents):
            assert not fault(reading.body)
            events, _ = opened(reading.body, size, reading.t_first, reading.t_last)
        else:
            events = reading.body or Events.empty()
        if len(events):
            assert reading.t_first <= events.t[0] <= events.t[-1] <= reading.t_last
        parts.append(events)
    return Events.concatenate(parts)


def refused(taken: list[Taken], size: tuple[int, int]) -> int:
    """Events that were left out, here or by whoever decodes the runs."""
    n = sum(sum(each.refused.values()) for each in taken)
    for reading in (reading for each in taken for reading in each.readings):
        if isinstance(reading.body, RawEvents):
            n += sum(opened(reading.body, size, reading.t_first, reading.t_last)[1].values())
    return n


def same(a: Events, b: Events) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in "txyp")


def digest(events: Events) -> str:
    columns = (("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1"))
    return hashlib.sha256(b"".join(getattr(events, n).astype(d).tobytes() for n, d in columns)).hexdigest()[:16]


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_transfers_cut_anywhere_give_what_the_file_holds(shared, name, raw):
    known, encoding, size = FILES[name]
    data = data_of(shared(f"recordings/prophesee/{name}.raw"))
    random = np.random.default_rng(4)
    cuts = np.cumsum(random.integers(1, 40_000, 2 * len(data) // 40_000)).tolist()
    stream = RawStream(encoding, size, raw=raw)
    taken = [stream.push(piece) for piece in pieces(data, [cut for cut in cuts if cut < len(data)])]
    assert digest(events_of(taken, size)) == known
    assert not any(each.refused for each in taken)


def test_runs_hold_the_cameras_bytes_all_of_them_and_nothing_else(shared):
    data = data_of(shared("recordings/prophesee/evt3_driving_hd_9ms.raw"))
    stream = RawStream("evt3", HD, raw=True)
    taken = [stream.push(piece) for piece in pieces(data, [1, 2, 77, 4001, 300_001])]
    runs = [reading.body for each in taken for reading in each.readings if isinstance(reading.body, RawEvents)]
    assert b"".join(run.data.tobytes() for run in runs) == data
    assert max(len(run.data) for run in runs) <= MOST_BYTES


@pytest.fixture(scope="module")
def driving(shared) -> tuple[bytes, Events]:
    path = shared("recordings/prophesee/evt3_driving_hd_9ms.raw")
    with rtpipe.open(path, resolution=HD) as recording:
        return data_of(path)[:60_000], recording.events()


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, 60_000), max_size=200), raw=st.booleans())
def test_whatever_the_boundaries_nothing_changes(driving, cuts, raw):
    data, events = driving
    stream = RawStream("evt3", HD, raw=raw)
    got = events_of([stream.push(piece) for piece in pieces(data, cuts)], HD)
    assert same(got, events[: len(got)])
    whole = evt3.Decoder(HD).decode(np.frombuffer(data, np.uint8))
    assert len(got) == len(whole.events)


def slow_entry(data: bytes) -> int:
    """The first byte from which all is known again: a row after a low time after a high one (slow, obvious)."""
    high = low = False
    for i, word in enumerate(np.frombuffer(data[: len(data) // 2 * 2], "<u2").tolist()):
        kind = word >> 12
        if kind == 8:
            low, high = low and high, True
        elif kind == 6:
            low = high
        elif kind == 0 and low:
            return 2 * i
    return len(data) // 2 * 2


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_lost_transfer_spoils_no_other_and_invents_nothing(driving, draw):
    data, _ = driving
    cuts = sorted(2 * cut for cut in draw.draw(st.lists(st.integers(1, 29_999), min_size=2, max_size=12, unique=True)))
    parts = pieces(data, cuts)
    gone = draw.draw(st.integers(1, len(parts) - 1))
    raw = draw.draw(st.booleans())
    stream = RawStream("evt3", HD, raw=raw)
    taken = []
    for i, part in enumerate(parts):
        if i == gone:
            taken.append(stream.gap())
        else:
            taken.append(stream.push(part))
    got = events_of(taken, HD)
    start = sum(map(len, parts[:gone]))
    stop = start + len(parts[gone])
    entry = stop + slow_entry(data[stop:])
    decoder = evt3.Decoder(HD)
    decode = lambda i, j: decoder.decode(np.frombuffer(data[i:j], np.uint8)).events  # noqa: E731
    before, _, blind, after = decode(0, start), decode(start, stop), decode(stop, entry), decode(entry, len(data))
    kept = Events.concatenate((before, after))
    assert same(got, kept)
    if entry < len(data):  # else some are still held, as what follows may tell where they belong
        assert refused(taken, HD) == len(blind)


def test_a_stream_in_single_bytes_finds_its_way_after_a_gap(driving):
    data, _ = driving
    stream = RawStream("evt3", HD)
    taken = [stream.push(data[:30_000]), stream.gap()]
    taken += [stream.push(data[i : i + 1]) for i in range(40_000, 46_000)]
    entry = 40_000 + slow_entry(data[40_000:])
    decoder = evt3.Decoder(HD)
    decoder.decode(np.frombuffer(data[:entry], np.uint8))
    after = decoder.decode(np.frombuffer(data[entry:46_000], np.uint8)).events
    first = evt3.Decoder(HD).decode(np.frombuffer(data[:30_000], np.uint8)).events
    assert len(after) > 100
    assert same(events_of(taken, HD), Events.concatenate((first, after)))


def synthetic(times: list[int], x0: int = 0) -> Events:
    t = np.array(times, np.int64)
    n = np.arange(len(t)) + x0
    return Events(t, (n % 1280).astype(np.uint16), (n * 7 % 720).astype(np.uint16), (n % 2).astype(np.uint8))


@pytest.mark.parametrize("raw", [False, True])
def test_time_goes_on_over_the_wrap_of_24_bits(raw):
    events = synthetic(list(range(5_000, 70_000_000, 250_000)))
    data = Encoder().encode(events)
    stream = RawStream("evt3", HD, raw=raw)
    assert same(events_of([stream.push(part) for part in pieces(data.tobytes(), [101, 555, 777])], HD), events)


@pytest.mark.parametrize("silent_s", [0.2, 9.0, 12.0, 15.0, 20.0, 40.0])
def test_a_gap_of_any_length_is_measured_by_the_hosts_clock(silent_s):
    elapsed = int(silent_s * 1e6)
    early = synthetic(list(range(3_000_000, 15_000_000, 10_000)))
    late = synthetic([15_000_000 + elapsed + i * 10 for i in range(500)], 9)
    encoder = Encoder()
    first, second = encoder.encode(early), encoder.encode(late)
    stream = RawStream("evt3", HD)
    taken = [stream.push(first), stream.gap(elapsed + 70_000), stream.push(second)]
    got = events_of(taken, HD)
    back = got[len(early) :]
    assert len(back) + taken[2].refused.get(AFTER_A_GAP, 0) == len(late)
    assert len(back) > 400
    assert same(back, late[len(late) - len(back) :])


@pytest.mark.parametrize("raw", [False, True])
def test_a_clock_that_falls_back_is_followed_not_refused(raw):
    early = synthetic(list(range(8_000_000, 8_100_000, 50)))
    late = synthetic(list(range(3_000_000, 3_100_000, 50)))
    data = Encoder().encode(early).tobytes() + Encoder().encode(late).tobytes()
    stream = RawStream("evt3", HD, raw=raw)
    readings = stream.push(data).readings
    bodies = [
        encodings.decode(r.body, HD).events if isinstance(r.body, RawEvents) else r.body or Events.empty()
        for r in readings
    ]
    assert same(Events(*(np.concatenate([getattr(b, n) for b in bodies]) for n in "txyp")), joined(early, late))
    assert next(r.t_first for r in readings) < 8_100_000
    assert readings[-1].t_last < 3_200_000


def joined(a: Events, b: Events) -> Events:
    return Events(*(np.concatenate((getattr(a, n), getattr(b, n))) for n in "txyp"))


@pytest.mark.parametrize("raw", [False, True])
def test_triggers_come_with_the_events_unless_they_are_not_wanted(raw):
    events = synthetic(list(range(1_000, 90_000, 100)))
    signals = Trigger(np.arange(5_000, 80_000, 7_500), np.zeros(10, np.uint8), np.arange(10, dtype=np.uint8) % 2)
    data = Encoder().encode(events, signals).tobytes()
    for wanted in (True, False):
        stream = RawStream("evt3", HD, raw=raw, triggers=wanted)
        taken = [stream.push(part) for part in pieces(data, [333, 1001])]
        found = [r.body for each in taken for r in each.readings if isinstance(r.body, Trigger)]
        assert np.array_equal(
            np.concatenate([np.empty(0, np.int64), *(f.t for f in found)]), signals.t if wanted else []
        )
        assert same(events_of(taken, HD), events)


def test_events_off_the_sensor_are_counted_not_passed_on():
    events = Events(np.arange(5), np.array([1, 1300, 2, 3, 4]), np.array([1, 1, 719, 720, 4]), np.ones(5, np.uint8))
    taken = RawStream("evt3", HD).push(Encoder().encode(events).tobytes())
    assert [len(reading.body) for reading in taken.readings] == [3]
    assert taken.refused == {"coordinates": 2}


def test_bytes_before_the_first_time_wait_for_it_and_are_bounded(monkeypatch):
    monkeypatch.setattr(raw_stream, "HELD_BYTES", 400)
    stream = RawStream("evt3", HD)
    blind = np.full(1000, 0x2001, "<u2").tobytes()
    taken = [stream.push(blind)]
    assert taken[0].readings == ()
    assert taken[0].refused == {"no_time": 900}
    taken.append(stream.push(Encoder().encode(synthetic([5, 6, 7])).tobytes()))
    assert taken[1].refused == {"no_time": 100}
    assert events_of(taken, HD).t.tolist() == [5, 6, 7]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.binary(max_size=300), st.booleans()), max_size=12), st.sampled_from(["evt2", "evt21", "evt3"])
)
def test_whatever_the_bytes_nothing_is_raised_and_every_event_is_in_order_and_on_the_sensor(parts, encoding):
    stream = RawStream(encoding, (40, 30))
    for part, gap in parts:
        readings = list(stream.push(part).readings)
        if gap:
            readings += stream.gap(1_000_000).readings
        for reading in readings:
            if isinstance(reading.body, Events) and len(reading.body):
                assert reading.body.x.max() < 40
                assert reading.body.y.max() < 30
                assert not np.any(np.diff(reading.body.t) < 0)
                assert reading.t_first <= reading.body.t[0]
                assert reading.body.t[-1] <= reading.t_last


def test_evt2_goes_on_at_the_next_high_time(shared):
    data = data_of(shared("recordings/prophesee/evt2_sparks_vga.raw"))[:400_000]
    numbers = np.frombuffer(data, np.uint8)
    decoder = evt2.Decoder((640, 480))
    before = decoder.decode(numbers[:200_000]).events
    highs = [i for i in range(300_000, 400_000, 4) if data[i + 3] >> 4 == 8]
    decoder.decode(numbers[200_000 : highs[0]])
    after = decoder.decode(numbers[highs[0] :]).events
    stream = RawStream("evt2", (640, 480))
    taken = [stream.push(data[:200_000]), stream.gap(), stream.push(data[300_000:])]
    assert same(events_of(taken, (640, 480)), Events.concatenate((before, after)))
    found = resume.resume("evt2", numbers[300_000:], evt2.INITIAL)
    assert taken[2].refused.get(AFTER_A_GAP, 0) == found.events
    assert found.skip == highs[0] - 300_000
