"""DAT files: headers, times that wrap, what is refused, writing; other packages agree."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rtpipe
from rtpipe.errors import FormatError, InputError
from rtpipe.formats import words
from rtpipe.formats.dat import Reader, Writer
from rtpipe.types import Events, Packet
from tests.encodings import slow
from tests.formats.prophesee_files import dat_file, recording
from tests.formats.test_hostile import survive

VGA = ("Width 640", "Height 480")


def test_events_and_the_geometry_of_the_header(tmp_path):
    events, _ = recording(40_000)
    reader = rtpipe.open(dat_file(tmp_path / "a.dat", events, *VGA))
    assert reader.resolution == (640, 480)
    assert reader.counts() == {"camera/events": 40_000}
    assert reader.notes == ()
    assert slow.rows(reader.events()) == slow.rows(events)
    assert (reader.t_start, reader.t_end) == (int(events.t[0]), int(events.t[-1]))


def test_without_geometry_the_smallest_sensor_that_fits(tmp_path):
    events, _ = recording(size=(304, 240))
    reader = rtpipe.open(dat_file(tmp_path / "a.dat", events))
    assert reader.resolution == (304, 240)
    assert "option resolution" in reader.notes[0]
    assert Reader(tmp_path / "a.dat", resolution=(640, 480)).resolution == (640, 480)


def test_times_that_wrap_go_on_and_are_entered_anywhere(tmp_path, monkeypatch):
    monkeypatch.setattr(words, "PIECE", 1 << 12)
    events, _ = recording(6000, start=(1 << 32) - 30_000)
    reader = rtpipe.open(dat_file(tmp_path / "a.dat", events, *VGA))
    assert slow.rows(reader.events()) == slow.rows(events)
    for t in (int(events.t[0]), 1 << 32, (1 << 32) + 9_999):
        assert slow.rows(reader.events(t, t + 5000)) == slow.rows(events.between(t, t + 5000))


def test_a_step_back_is_left_out_and_said(tmp_path):
    events = Events([5, 9, 11], [1, 2, 3], [1, 2, 3], [1, 0, 1])
    path = dat_file(tmp_path / "a.dat", events, *VGA)
    data = path.read_bytes()
    path.write_bytes(data + data[-24:-16])
    reader = rtpipe.open(path)
    assert slow.rows(reader.events()) == slow.rows(events)
    assert reader.notes == ("1 events earlier than those before them are left out",)


@pytest.mark.parametrize(("change", "said"), [({"kind": 0x0E}, "kind 0xe"), ({"size": 16}, "16 bytes")])
def test_other_kinds_of_events_are_refused(tmp_path, change, said):
    with pytest.raises(FormatError, match=said):
        rtpipe.open(dat_file(tmp_path / "a.dat", recording()[0], *VGA, **change))


def test_a_file_without_events_is_refused(tmp_path):
    with pytest.raises(FormatError, match="not one event"):
        rtpipe.open(dat_file(tmp_path / "a.dat", Events.empty(), *VGA))


@given(
    st.integers(0, 1 << 32),
    st.integers(0, 300),
    st.sampled_from([0, 3, 1 << 22]),
    st.sampled_from([(640, 480), (16384, 16384)]),
)
@settings(max_examples=30, deadline=None)
def test_what_is_written_comes_back_event_by_event(tmp_path_factory, seed, n, step, size):
    path = tmp_path_factory.mktemp("written") / "a.dat"
    events, _ = recording(n + 1, size, seed, seed % 1000, step + 1)
    with Writer(path, size) as writer:
        for part in (events[: n // 2], events[n // 2 :]):
            writer.write(Packet("camera/events", 0, 0, 0, 0, part))
        assert writer.close()["camera/events"].events == n + 1
    with rtpipe.open(path) as reader:
        assert reader.resolution == size
        assert slow.rows(reader.events()) == slow.rows(events)


def test_eventcv_reads_what_we_write(tmp_path):
    eventcv = pytest.importorskip("eventcv")
    events, _ = recording(3000)
    with Writer(tmp_path / "a.dat", (640, 480)) as writer:
        writer.write(Packet("camera/events", 0, 0, 0, 0, events))
    theirs = np.asarray(eventcv.load(str(tmp_path / "a.dat")).numpy())
    assert np.array_equal(theirs, np.stack([events.x, events.y, events.t, events.p], 1))


@pytest.mark.parametrize(
    ("t", "x", "said"),
    [
        ([1 << 32], [0], "from 0 to 4294967295"),
        ([-1], [0], "from 0 to"),
        ([5, 4], [0, 0], "order"),
        ([5], [640], "coordinates"),
    ],
)
def test_what_it_cannot_hold_is_refused_and_leaves_no_file(tmp_path, t, x, said):
    events = Events(t, x, [0] * len(t), [0] * len(t))
    with pytest.raises(InputError, match=said), Writer(tmp_path / "a.dat", (640, 480)) as writer:
        writer.write(Packet("camera/events", 0, 0, 0, 0, events))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="16384x16384"):
        Writer(tmp_path / "a.dat", (20_000, 4))


@pytest.mark.parametrize("n", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_mutated_copies_are_survived(tmp_path, n):
    events, _ = recording(1500, (320, 320))
    outcome = survive(dat_file(tmp_path / "a.dat", events, "Width 320", "Height 320"), n, n)
    assert outcome["read"] + outcome["refused"] == n
    assert outcome["refused"] > 2
