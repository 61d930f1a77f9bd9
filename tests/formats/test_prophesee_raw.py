"""Prophesee RAW files: what the header says or leaves open, entering anywhere, the camera's own bytes, writing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rtpipe
from rtpipe import encodings
from rtpipe.convert import convert
from rtpipe.errors import FormatError, InputError
from rtpipe.formats import words
from rtpipe.formats.prophesee_raw import Reader, Writer
from rtpipe.types import Events, Packet, StreamInfo, Trigger
from tests.encodings import slow
from tests.encodings.test_decoding import REAL, digest
from tests.formats.prophesee_files import evt2_words, evt21_words, halves_swapped, raw_file, recording
from tests.formats.test_hostile import survive

VGA = "geometry 640x480"


def same(reader, events):
    assert slow.rows(reader.events()) == slow.rows(events)


@pytest.mark.parametrize(("_", "file", "size", "n", "wanted"), REAL)
def test_real_files_open_and_have_the_hashes_of_their_readme(shared, _, file, size, n, wanted):
    with rtpipe.open(shared(f"recordings/prophesee/{file}.raw")) as reader:
        assert reader.resolution == size
        assert reader.counts() == {"camera/events": n}
        events = reader.events()
        assert digest(events) == wanted
        assert (reader.t_start, reader.t_end) == (int(events.t[0]), int(events.t[-1]))
        assert reader.streams[0].camera.startswith("Prophesee ")
        assert any("plugin_name" in note for note in reader.notes) == ("night" not in file)


@pytest.mark.parametrize("t", [12_000_001, 17_000_000, 21_968_221])
def test_it_is_entered_anywhere(shared, monkeypatch, t):
    monkeypatch.setattr(words, "PIECE", 1 << 16)
    with rtpipe.open(shared("recordings/prophesee/evt3_nightsky_hd.raw")) as reader:
        whole = reader.events()
        assert slow.rows(reader.events(t, t + 20_000)) == slow.rows(whole.between(t, t + 20_000))
        assert digest(whole) == "eba3ccbb091cea74"
        read = []
        monkeypatch.setattr(reader, "_bytes", lambda at, n, of=reader._bytes: read.append(n) or of(at, n))
        reader.events(t, t + 20_000)
        assert sum(read) < 1 << 20


@pytest.mark.parametrize(
    "header", [("evt 2.0", VGA), ("format EVT2;height=480;width=640", "end"), ("evt 2.0", "format EVT2", VGA, "end")]
)
def test_the_header_may_say_it_in_several_ways(tmp_path, header):
    events, _ = recording()
    reader = rtpipe.open(raw_file(tmp_path / "a.raw", evt2_words(events), *header))
    assert reader.resolution == (640, 480)
    assert reader.notes == ()
    same(reader, events)


@pytest.mark.parametrize(
    ("largest", "size"),
    [
        ((303, 239), (304, 240)),
        ((319, 319), (320, 320)),
        ((304, 200), (320, 320)),
        ((639, 1), (640, 480)),
        ((5, 700), (1280, 720)),
        ((1300, 3), (1301, 4)),
    ],
)
def test_without_geometry_it_is_the_smallest_sensor_that_fits(tmp_path, largest, size):
    events = Events([5, 6], [0, largest[0]], [0, largest[1]], [0, 1])
    reader = rtpipe.open(raw_file(tmp_path / "a.raw", evt2_words(events), "evt 2.0"))
    assert reader.resolution == size
    assert "option resolution" in reader.notes[0]
    same(reader, events)
    assert Reader(tmp_path / "a.raw", resolution=(2048, 2048)).resolution == (2048, 2048)


def test_without_a_header_the_option_encoding_settles_it(tmp_path):
    events, _ = recording()
    path = raw_file(tmp_path / "a.raw", evt2_words(events))
    with pytest.raises(FormatError, match="no header; option encoding says how"):
        rtpipe.open(path)
    same(rtpipe.open(path, encoding="evt2", resolution=[640, 480]), events)
    with pytest.raises(FormatError, match="'evt4'; option encoding"):
        rtpipe.open(raw_file(tmp_path / "b.raw", evt2_words(events), "format EVT4;height=4;width=4"))


@pytest.mark.parametrize(
    ("header", "swap", "noted"),
    [
        ("format EVT21;height=480;width=640;endianness=legacy", True, False),
        ("format EVT21;height=480;width=640;endianness=little", False, False),
        ("format EVT21;height=480;width=640", False, True),
        ("format EVT21;height=480;width=640", True, True),
    ],
)
def test_evt21_with_either_half_first(tmp_path, header, swap, noted):
    events, _ = recording()
    made = evt21_words(events)
    reader = rtpipe.open(raw_file(tmp_path / "a.raw", halves_swapped(made) if swap else made, "evt 2.1", header))
    same(reader, events)
    assert bool(reader.notes) == noted


def test_evt21_that_proves_neither_order_is_refused_with_the_option(tmp_path):
    path = raw_file(tmp_path / "a.raw", np.full(9, 1 << 32, "<u8"), "evt 2.1", VGA)
    with pytest.raises(FormatError, match="evt21 or evt21-legacy"):
        rtpipe.open(path)


def test_words_with_the_upper_byte_first(tmp_path):
    events, _ = recording()
    path = raw_file(
        tmp_path / "a.raw", evt2_words(events).byteswap(), "format EVT2;height=480;width=640;endianness=big"
    )
    same(rtpipe.open(path), events)


def test_what_is_left_out_is_said(tmp_path):
    events, _ = recording(n=200)
    made = evt2_words(events)
    made = np.concatenate([[0x00000001], made, [0x08000000 | 0x3F << 22, 0x30000000], evt2_words(events[:1])]).astype(
        "<u4"
    )
    path = raw_file(tmp_path / "a.raw", made, "evt 2.0", "geometry 600x480")
    path.write_bytes(path.read_bytes() + b"\1\2")
    reader = rtpipe.open(path)
    on = int((events.x < 600).sum())
    assert reader.counts()["camera/events"] in (on, on + 1)
    said = " / ".join(reader.notes)
    for what in (
        "last 2 bytes",
        "earlier than those before",
        "before the first time",
        "of no known kind",
        "off the 600x480",
    ):
        assert what in said


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (np.zeros(5, "<u4"), "not one event"),
        (np.full(100, 0x80000001, "<u4"), "not one event"),
        (np.array([0x80000001, 1] + [0x40000000] * 5, "<u4"), "words are none"),
    ],
)
def test_what_holds_nothing_sound_is_refused(tmp_path, made, said):
    with pytest.raises(FormatError, match=said):
        rtpipe.open(raw_file(tmp_path / "a.raw", made, "evt 2.0", VGA))
    with pytest.raises(FormatError, match="9000x3"):
        rtpipe.open(raw_file(tmp_path / "b.raw", made, "evt 2.0", "geometry 9000x3"))


@pytest.mark.parametrize("t0", [None, 11_720_000])
def test_the_cameras_own_bytes_are_cut_on_the_grid_and_are_all_there(shared, monkeypatch, t0):
    monkeypatch.setattr(words, "PIECE", 1 << 16)
    with rtpipe.open(shared("recordings/prophesee/evt3_driving_hd_9ms.raw")) as reader:
        runs = list(reader.raw_runs(500, t0))
        parts = [encodings.decode(run.body, reader.resolution).events for run in runs]
        assert slow.rows(Events.concatenate(parts)) == slow.rows(reader.events(t0))
        assert len(runs) > 10
        for run, events in zip(runs, parts, strict=True):
            assert (run.t_first, run.t_last) == (int(events.t[0]), int(events.t[-1]))
            assert (run.t_first - reader.t_start) // 500 == (run.t_last - reader.t_start) // 500
            assert run.body.n == len(events)


@pytest.mark.parametrize("name", ["evt2", "evt21"])
def test_so_are_those_of_the_other_encodings(tmp_path, name):
    events, _ = recording(n=3000)
    made = {"evt2": evt2_words, "evt21": evt21_words}[name](events)
    with rtpipe.open(
        raw_file(tmp_path / "a.raw", made, f"format {name.upper()};width=640;height=480;endianness=little")
    ) as reader:
        parts = [encodings.decode(run.body, reader.resolution).events for run in reader.raw_runs(2000)]
        assert len(parts) > 5
        assert slow.rows(Events.concatenate(parts)) == slow.rows(events)


@given(
    st.integers(0, 99),
    st.sampled_from([0, 5, 20]),
    st.sampled_from([20, 4000, 30_000_000]),
    st.sampled_from([0, 1 << 24, 1_700_000_000_000_000]),
)
@settings(max_examples=25, deadline=None)
def test_what_is_written_comes_back_event_by_event(tmp_path_factory, seed, m, step, start):
    path = tmp_path_factory.mktemp("written") / "a.raw"
    size = ((640, 480), (2048, 2048))[seed % 2]
    events, triggers = recording(300, size, seed, start, step, m)
    streams = [StreamInfo("camera/events", size, "TestCam 7")] + [StreamInfo("camera/triggers")] * bool(m)
    with Writer.for_streams(path, streams) as writer:
        for packet in packets(events, triggers, 1 + (int(events.t[-1]) - start) // 7):
            writer.write(packet)
        counts = writer.close()
    assert counts["camera/events"].events == len(events)
    with rtpipe.open(path) as reader:
        assert (reader.resolution, reader.notes, reader.streams[0].camera) == (size, (), "TestCam 7")
        same(reader, events)
        assert [row for run in reader.triggers() for row in slow.signals(run)] == slow.signals(triggers)


def packets(events, triggers, cell):
    """As a recording's packets are cut: of each cell first its events, in two packets, then its triggers."""
    start = int(events.t[0])
    for k in range(8):
        a, b = start + k * cell, start + (k + 1) * cell
        part = events.between(a, b)
        if not len(part):
            yield Packet("camera/events", k, a, b, 0)
            continue
        half = len(part) // 2
        for body, last in ((part[:half], None), (part[half:], b)):
            if len(body):
                yield Packet("camera/events", k, int(body.t[0]), last or int(body.t[-1]), 0, body)
        i, j = np.searchsorted(triggers.t, [a, b])
        if j > i:
            run = Trigger(triggers.t[i:j], triggers.channel[i:j], triggers.edge[i:j])
            yield Packet("camera/triggers", k, int(run.t[0]), b, 0, run)


def test_converted_it_has_the_same_events(shared, tmp_path):
    with rtpipe.open(shared("recordings/aedat4/dvxplorer_person2.aedat4")) as source:
        done = convert(source, tmp_path / "a.raw", only=["events"])
    with rtpipe.open(tmp_path / "a.raw") as reader:
        assert digest(reader.events()) == "a560e5eeee65ad22"
        assert reader.counts()["camera/events"] == done.counts["camera/events"] == 323_963


def test_eventcv_reads_what_we_write_and_we_agree_on_the_night_sky(shared, tmp_path):
    eventcv = pytest.importorskip("eventcv")
    events, _ = recording(4000, (1280, 720), step=900)
    with Writer(tmp_path / "a.raw", (1280, 720)) as writer:
        writer.write(Packet("camera/events", 0, 0, int(events.t[-1]), 0, events))
    night = shared("recordings/prophesee/evt3_nightsky_hd.raw")
    for path in (tmp_path / "a.raw", night):
        with rtpipe.open(path) as reader:
            ours = reader.events()
        theirs = eventcv.load(str(path)).numpy()
        assert len(theirs) == len(ours)
        assert np.array_equal(theirs, np.stack([ours.x, ours.y, ours.t, ours.p], 1))


def test_what_it_cannot_hold_is_refused_and_leaves_no_file(tmp_path):
    events, triggers = recording(10, m=2)
    with pytest.raises(InputError, match="2048x2048"):
        Writer(tmp_path / "a.raw", (2049, 4))
    with pytest.raises(InputError, match="not announced"), Writer(tmp_path / "a.raw", (640, 480)) as writer:
        writer.write(Packet("camera/triggers", 0, 0, 0, 0, triggers))
    with pytest.raises(InputError, match="coordinates"), Writer(tmp_path / "a.raw", (4, 4)) as writer:
        writer.write(Packet("camera/events", 0, 0, 0, 0, events))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """One small file of each encoding, with triggers in the last."""
    folder = tmp_path_factory.mktemp("small")
    events, triggers = recording(1500, (320, 320), m=20)
    found = {
        "evt2": raw_file(folder / "2.raw", evt2_words(events), "evt 2.0", "geometry 320x320"),
        "evt21": raw_file(folder / "21.raw", evt21_words(events), "format EVT21;width=320;height=320", "end"),
        "evt3": folder / "3.raw",
    }
    with Writer.for_streams(
        found["evt3"], [StreamInfo("camera/events", (320, 320)), StreamInfo("camera/triggers")]
    ) as writer:
        for packet in packets(events, triggers, 7000):
            writer.write(packet)
    return found


def test_mutated_copies_are_survived(small):
    outcome = survive(small["evt3"], 1, 150)
    assert outcome["read"] + outcome["refused"] == 150
    assert outcome["refused"] > 2


@pytest.mark.slow
@pytest.mark.parametrize("name", encodings.NAMES)
def test_a_thousand_mutated_copies_are_survived(small, name):
    outcome = survive(small[name], 2, 1000)
    assert outcome["read"] + outcome["refused"] == 1000
