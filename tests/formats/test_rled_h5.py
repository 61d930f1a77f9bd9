"""RLED: what ``event_indices`` names is what slicing by time gives; what is written is what its files hold."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from rtpipe.errors import FormatError, InputError
from rtpipe.formats import eventhdr_h5, format_of, open_recording, rled_h5
from rtpipe.formats.recording import Recording
from rtpipe.types import Events, Frame, StreamInfo

RLED = "recordings/layouts/rled_slider_0000_25fps.h5"


def write(path: Path, source: Recording, module: Any = rled_h5) -> Path:
    with module.Writer.for_streams(path, source.streams) as writer:
        for packet in source.packets(20_000):
            writer.write(packet)
    return path


@pytest.mark.parametrize("options", [{}, {"exposure_us": 10_000}], ids=["as it is", "exposure told"])
def test_a_picture_names_the_events_that_its_row_does(shared: Callable[[str], Path], options: Any) -> None:
    path = shared(RLED)
    with h5py.File(path) as file:
        rows, t = file["event_indices"][:], file["events/ts"][:].astype(np.int64)
    shared_edges = 0
    with open_recording(path, **options) as reader:
        frames = list(reader.frames())
        assert len(frames) == len(rows) == 87
        for (first, end), frame in zip(rows, frames, strict=True):
            cut = np.searchsorted(t, [frame.window_start, frame.window_end])
            ties = (t[first - 1] == t[first] if first else False, end < len(t) and t[end - 1] == t[end])
            shared_edges += any(ties)
            for at, wanted, tied in zip(cut, (first, end), ties, strict=True):
                assert at == wanted or tied
        if options:  # 10 ms either side of mid-exposure, which is 5 ms before each timestamp
            nominal = [f for f in frames if (f.window_start, f.window_end) == (f.t - 10_000, f.t + 10_000)]
            assert len(nominal) == 87
        said = [note for note in reader.notes if "begin or end among events of one time" in note]
        assert bool(said) == (shared_edges > 0)


def test_windows_can_be_left_aside(shared: Callable[[str], Path]) -> None:
    with open_recording(shared(RLED), event_indices=False) as reader:
        assert all(frame.window_start is None for frame in reader.frames())


def test_what_is_written_has_every_attribute_of_the_data_set(shared: Callable[[str], Path], tmp_path: Path) -> None:
    path = shared(RLED)
    with open_recording(path) as reader:
        copy = write(tmp_path / "copy.h5", reader)
    assert format_of(copy) == "ecm_h5"
    with h5py.File(path) as a, h5py.File(copy) as b:
        for name in ("xs", "ys", "ts", "ps"):
            assert a["events"][name].dtype == b["events"][name].dtype
            assert np.array_equal(a["events"][name][:], b["events"][name][:])
        assert set(a.attrs) <= set(b.attrs)
        for name in a.attrs:
            assert np.array_equal(a.attrs[name], b.attrs[name]), name
        assert sorted(a["images"]) == sorted(b["images"])
        for name in a["images"]:
            assert np.array_equal(a["images"][name][:], b["images"][name][:])
            for key in a["images"][name].attrs:
                assert np.array_equal(a["images"][name].attrs[key], b["images"][name].attrs[key]), (name, key)
        assert a["event_indices"].dtype == b["event_indices"].dtype
        assert np.array_equal(a["event_indices"][:], b["event_indices"][:])


def test_eventhdr_is_written_as_its_files_are(shared: Callable[[str], Path], tmp_path: Path) -> None:
    path = shared("recordings/layouts/eventhdr_slider.h5")
    with open_recording(path) as reader:
        copy = write(tmp_path / "copy.h5", reader, eventhdr_h5)

    def plain(value: Any) -> Any:
        return value.decode() if isinstance(value, bytes) else value

    with h5py.File(path) as a, h5py.File(copy) as b:
        for name in ("events/xs", "events/ys", "events/ts", "events/ps", *(f"images/{n}" for n in a["images"])):
            assert a[name].dtype == b[name].dtype
            assert np.array_equal(a[name][:], b[name][:])
            for key in a[name].attrs:
                assert np.array_equal(plain(a[name].attrs[key]), plain(b[name].attrs[key])), (name, key)
        for where in ("/", "images"):
            for key in a[where].attrs:
                assert np.allclose(a[where].attrs[key], b[where].attrs[key], rtol=0, atol=1e-9), key
        assert sorted(a["images"]) == sorted(b["images"])


def test_sixteen_bit_pictures_stay_so(tmp_path: Path) -> None:
    deep = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 21
    t = np.arange(0, 1_000_000, 500)
    with eventhdr_h5.Writer(tmp_path / "a.h5", (64, 48)) as writer:
        writer.add_events(Events(t, t % 64, t % 48, t % 2))
        writer.add_frame(Frame(deep, 500_000))
    with open_recording(tmp_path / "a.h5") as reader:
        (frame,) = reader.frames()
        assert frame.t == 500_000
        assert frame.image.dtype == np.uint16
        assert np.array_equal(frame.image, deep)


def small(path: Path, frames: list[Frame], t: np.ndarray | None = None) -> Path:
    t = np.arange(0, 1_000_000, 100) if t is None else t
    with rled_h5.Writer(path, (64, 48)) as writer:
        writer.add_events(Events(t, t % 64, t % 48, (t // 100) % 2))
        for frame in frames:
            writer.add_frame(frame)
    return path


def picture(t: int, **more: int) -> Frame:
    return Frame(np.full((48, 64), t // 10_000 % 250, np.uint8), t, **more)


def test_a_window_is_about_mid_exposure_or_what_the_frame_says(tmp_path: Path) -> None:
    exposed = picture(105_000, exposure_start=100_000, exposure_end=110_000)
    told = picture(300_000, window_start=250_000, window_end=250_500)
    plain = picture(400_000)
    with h5py.File(small(tmp_path / "a.h5", [exposed, told, plain])) as file:
        assert file["event_indices"][:].tolist() == [[950, 1150], [2500, 2505], [3900, 4100]]
        stamps = [file[f"images/image{k:09d}"].attrs["timestamp"] for k in range(3)]
        assert stamps == [110_000.0, 300_000.0, 400_000.0]
        assert [file[f"images/image{k:09d}"].attrs["event_idx"] for k in range(3)] == [1099, 2999, 3999]
        assert file["events/ps"].dtype == bool
    with open_recording(tmp_path / "a.h5") as reader:
        windows = [(f.window_start, f.window_end) for f in reader.frames()]
        assert windows == [(95_000, 114_901), (250_000, 250_401), (390_000, 409_901)]


def test_an_empty_window_is_a_window(tmp_path: Path) -> None:
    t = np.r_[np.arange(0, 100_000, 100), np.arange(500_000, 1_000_000, 100)]
    with open_recording(small(tmp_path / "a.h5", [picture(300_000)], t)) as reader:
        (frame,) = reader.frames()
        assert frame.window_start == frame.window_end == 290_000
        assert len(reader.events(frame.window_start, frame.window_end)) == 0


def changed(path: Path, rows: Any) -> Path:
    small(path, [picture(t) for t in (100_000, 200_000, 300_000)])
    with h5py.File(path, "r+") as file:
        del file["event_indices"]
        file["event_indices"] = np.asarray(rows)
    return path


@pytest.mark.parametrize(
    "row",
    [[5, 2], [-1, 5], [0, 10_001], [0, 1 << 62], [10, 20]],
    ids=["backwards", "negative", "beyond", "far", "unsorted"],
)
def test_rows_that_cannot_be_are_left_out_and_said(tmp_path: Path, row: list[int]) -> None:
    path = changed(tmp_path / "a.h5", [[900, 1100], row, [2900, 3100]])
    with open_recording(path) as reader:
        assert any("1 of 3 rows are impossible (the first: 1)" in note for note in reader.notes)
        assert [f.window_start for f in reader.frames()] == [90_000, None, 290_000]


def test_windows_far_from_their_pictures_are_refused(tmp_path: Path) -> None:
    t = np.arange(0, 60_000_000, 5_000)
    path = small(tmp_path / "a.h5", [picture(t) for t in (100_000, 200_000)], t)
    with h5py.File(path, "r+") as file:
        file["event_indices"][:] = [[0, 12_000], [0, 12_000]]
    with pytest.raises(FormatError, match=r"event_indices\[0\] names events 0 to 12000, .*option event_indices false"):
        open_recording(path)
    with open_recording(path, event_indices=False) as reader:
        assert len(list(reader.frames())) == 2


def test_a_table_of_another_shape_or_length(tmp_path: Path) -> None:
    for rows in (np.zeros((3, 3), int), np.zeros(6, int), np.zeros((3, 2))):
        with pytest.raises(FormatError, match="event_indices"):
            open_recording(changed(tmp_path / "bad.h5", rows))
    with open_recording(changed(tmp_path / "few.h5", [[900, 1100]])) as reader:
        assert "event_indices has no rows for the last 2 pictures, their windows are unknown" in reader.notes
        assert [f.window_start for f in reader.frames()] == [90_000, None, None]
    with open_recording(changed(tmp_path / "more.h5", [[900, 1100]] * 9)) as reader:
        assert len(list(reader.frames())) == 3


def test_a_writer_never_overwrites_and_takes_one_camera(tmp_path: Path) -> None:
    path = small(tmp_path / "a.h5", [])
    stream = StreamInfo("camera/events", (64, 48))
    with pytest.raises(InputError, match="there is a file of that name"):
        rled_h5.Writer.for_streams(path, [stream])
    with pytest.raises(InputError, match="holds one camera"):
        rled_h5.Writer.for_streams(tmp_path / "b.h5", [stream, StreamInfo("second/events", (64, 48))])
