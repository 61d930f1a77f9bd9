"""Arrays of events [N, 4], against the recording they were made from and NumPy's own reading."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtpipe.errors import FormatError, InputError
from rtpipe.formats import open_recording
from rtpipe.formats.evinr_npy import Writer
from rtpipe.packing import pack
from rtpipe.types import Events, Frame, Packet, StreamInfo


def rows(t: np.ndarray, off: int = -1) -> np.ndarray:
    n = len(t)
    return np.stack([t, np.arange(n) % 200, np.arange(n) % 150, np.where(np.arange(n) % 2, 1, off)], axis=1)


def test_events_are_those_of_the_recording_it_was_made_from(shared: Callable[[str], Path]) -> None:
    arrays = np.load(shared("recordings/ijrr_slider_depth/events.npz"))
    with open_recording(shared("recordings/layouts/evinr_slider.npy")) as reader:
        events = reader.events()
        n = len(events)
        assert n == np.searchsorted(arrays["t_us"], 500_000) == reader.counts()["camera/events"]
        for name, column in (("t", "t_us"), ("x", "x"), ("y", "y"), ("p", "p")):
            assert np.array_equal(getattr(events, name), arrays[column][:n])
        said = "; ".join(reader.notes)
        assert "times are seconds" in said
        assert "polarity is -1 and 1" in said
        assert "240x180 (DAVIS240)" in said
        assert "option resolution" in said
        for t0 in (3811, 131_000, 400_000, 499_995, 600_000):
            part, wanted = reader.events(t0, t0 + 5000), events.between(t0, t0 + 5000)
            assert np.array_equal(part.t, wanted.t)
            assert np.array_equal(part.y, wanted.y)


def test_microseconds_with_polarity_0_and_1_are_told_from_the_data(tmp_path: Path) -> None:
    t = 1_600_000_000_000_000 + np.arange(300) * 10
    np.save(tmp_path / "a.npy", rows(t, off=0))
    with open_recording(tmp_path / "a.npy", resolution=(346, 260)) as reader:
        assert reader.resolution == (346, 260)
        assert np.array_equal(reader.events().t, t)
        assert reader.events().p.tolist()[:4] == [0, 1, 0, 1]
        assert "times are microseconds" in reader.notes[0]


def test_what_the_data_leave_open_is_asked_for(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", rows(np.array([1.0, 2.0, 3.0])))
    with pytest.raises(FormatError, match="option time_unit"):
        open_recording(tmp_path / "a.npy")
    with open_recording(tmp_path / "a.npy", time_unit="s") as reader:
        assert reader.events().t.tolist() == [1_000_000, 2_000_000, 3_000_000]


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (rows(np.arange(100) / 1e4).astype(object), "numbers wanted"),
        (np.asfortranarray(rows(np.arange(100) / 1e4)), "Fortran"),
        (rows(np.arange(100) / 1e4)[:, :3], "rows of four numbers"),
        (rows(np.arange(100) / 1e4)[:0], "no events"),
        (rows(np.arange(100)[::-1] / 1e4), "backwards"),
        (rows(np.full(100, np.nan)), "no time"),
        (rows(np.arange(100) / 1e4) + 0.5, "fractions|polarity"),
        (rows(np.arange(100) / 1e4) * [1, -1, 1, 1], "x from -"),
        (rows(np.arange(100) / 1e4) * [1, 1, 1, 3], "polarity"),
        (np.array(5.0), "rows of four numbers"),
    ],
)
def test_what_is_no_event_is_refused(tmp_path: Path, array: np.ndarray, said: str) -> None:
    path = tmp_path / "a.npy"
    np.save(path, array)
    with pytest.raises(FormatError, match=said) as caught, open_recording(path) as reader:
        reader.events()
    assert str(path) in str(caught.value)


def test_more_claimed_than_stored_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, rows(np.arange(100) / 1e4))
    path.write_bytes(path.read_bytes()[:-16])
    with pytest.raises(FormatError, match="cut short"):
        open_recording(path)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 1_900_000_000), min_size=1, max_size=40), st.integers(0, 1_700_000_000_000_000))
def test_what_is_written_comes_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, times: list[int], start: int
) -> None:
    path = tmp_path_factory.mktemp("npy") / "out.npy"
    t = start + np.sort(np.array(times, np.int64))
    n = len(t)
    events = Events(t, np.arange(n), np.arange(n) + 7, np.arange(n) % 2)
    with Writer.for_streams(path, [StreamInfo("camera/events", (640, 480))]) as writer:
        writer.write(Packet("camera/events", 0, 0, 0, 0, pack(events[: n // 2])))
        writer.write(Packet("camera/events", 1, 0, 0, 0, events[n // 2 :]))
        writer.write(Packet("camera/events", 2, 0, 0, 0, None, end=True))
    array = np.load(path)
    assert array.dtype == np.float64
    assert np.array_equal(array, np.stack([t / 1e6, events.x, events.y, events.p * 2.0 - 1], axis=1))
    with open_recording(path, time_unit="s", resolution=(640, 480)) as reader:
        again = reader.events()
    for name in ("t", "x", "y", "p"):
        assert np.array_equal(getattr(again, name), getattr(events, name))


def test_a_writer_overwrites_nothing_and_leaves_nothing_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "out.npy"
    events = Events(np.array([5, 6]), [1, 1], [1, 1], [1, 0])
    with pytest.raises(InputError, match="bad order"), Writer(path, (10, 10)) as writer:
        [writer.write(Packet("camera/events", 0, 0, 0, 0, run)) for run in (events, events)]
    with pytest.raises(InputError, match="cannot hold Frame"), Writer(path, (10, 10)) as writer:
        writer.write(Packet("camera/frames", 0, 0, 0, 0, Frame(np.zeros((2, 2), np.uint8), 0)))
    with pytest.raises(InputError, match="one stream of events"):
        Writer.for_streams(path, [StreamInfo("camera/frames", (10, 10))])
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(b"mine")
    with pytest.raises(InputError, match="nothing is overwritten"):
        Writer(path, (10, 10))
    assert path.read_bytes() == b"mine"
