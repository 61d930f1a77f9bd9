"""HDF5 in the events_contrast_maximization layout, against h5py itself; what the data do not prove is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from rtpipe.errors import FormatError, InputError, WorldError
from rtpipe.formats import open_recording
from rtpipe.formats.ecm_h5 import Reader, Writer
from rtpipe.packing import pack
from rtpipe.types import Events, Frame, Imu, Packet, StreamInfo

LAYOUTS = "recordings/layouts/"
FILES = {  # µs per unit, (width, height), pictures
    "rled_slider_0000_25fps.h5": (1, (240, 180), 87),
    "eventhdr_slider.h5": (1e6, (240, 180), 26),
    "reblur_cups.h5": (1e6, (346, 260), 12),
    "reblur_camerashake.h5": (1e6, (240, 180), 20),
}


@pytest.mark.parametrize("name", FILES)
def test_events_and_frames_are_what_h5py_reads(shared: Callable[[str], Path], name: str) -> None:
    scale, resolution, n_frames = FILES[name]
    path = shared(LAYOUTS + name)
    with h5py.File(path) as file, open_recording(path) as reader:
        events = reader.events()
        assert np.array_equal(events.t, np.rint(file["events/ts"][:] * scale).astype(np.int64))
        assert np.array_equal(events.x, file["events/xs"][:])
        assert np.array_equal(events.y, file["events/ys"][:])
        assert np.array_equal(events.p, file["events/ps"][:])
        assert reader.resolution == resolution
        assert reader.counts() == {"camera/events": len(file["events/ts"]), "camera/frames": n_frames}
        frames = list(reader.frames())
        assert len(frames) == n_frames
        for frame, key in zip(frames, sorted(file["images"]), strict=True):
            stored = file["images"][key]
            assert np.array_equal(frame.image, stored[:] if stored.ndim == 2 else stored[:, :, 0])
            if "exposure_start" in stored.attrs:
                assert frame.exposure_start == round(stored.attrs["exposure_start"] * 1e6)
                assert frame.exposure_end == round(stored.attrs["exposure_end"] * 1e6)
                assert frame.t == (frame.exposure_start + frame.exposure_end) // 2
            else:
                assert (frame.t, frame.exposure_start) == (round(stored.attrs["timestamp"] * scale), None)
        cut = Events.concatenate(p.body for p in reader.packets() if isinstance(p.body, Events))
        assert np.array_equal(cut.t, events.t)
        assert np.array_equal(cut.x, events.x)


def test_what_was_inferred_is_said(shared: Callable[[str], Path]) -> None:
    def notes(name: str) -> str:
        with open_recording(shared(LAYOUTS + name)) as reader:
            return "; ".join(reader.notes)

    assert "times are microseconds" in notes("rled_slider_0000_25fps.h5")
    assert "exposures are not in the file" in notes("rled_slider_0000_25fps.h5")
    assert "times are seconds" in notes("eventhdr_slider.h5")
    assert "sensor_resolution is (height, width)" in notes("reblur_cups.h5")
    assert "read as grey" in notes("reblur_cups.h5")


def test_an_exposure_that_is_told_lies_before_the_timestamp(shared: Callable[[str], Path]) -> None:
    with open_recording(shared(LAYOUTS + "rled_slider_0000_25fps.h5"), exposure_us=10_000) as reader:
        first = next(reader.frames())
        assert (first.exposure_start, first.t, first.exposure_end) == (-5000, 0, 5000)
        assert reader.t_start == -5000
        events = [p for p in reader.packets() if isinstance(p.body, Events)]
        assert sum(len(p.body) for p in events) == 1_078_541


@pytest.mark.parametrize("name", ["reblur_cups.h5", "rled_slider_0000_25fps.h5"])
def test_any_span_is_found(shared: Callable[[str], Path], name: str) -> None:
    with Reader(shared(LAYOUTS + name)) as reader:
        events, frames = reader.events(), list(reader.frames())
        rng = np.random.default_rng(0)
        starts = [
            0,
            reader.t_start,
            reader.t_end,
            reader.t_end + 1,
            int(events.t[reader._columns.run]),
            *events.t[[5, 4214]],
        ]
        for t0 in [*starts, *rng.integers(reader.t_start, reader.t_end, 5)]:
            for span in (0, 1, 70_000):
                part, wanted = reader.events(int(t0), int(t0) + span), events.between(t0, t0 + span)
                assert np.array_equal(part.t, wanted.t)
                assert np.array_equal(part.x, wanted.x)
                assert [f.t for f in reader.frames(t0, t0 + span)] == [f.t for f in frames if t0 <= f.t < t0 + span]
        looked_at: list[int] = []
        columns = reader._columns
        original = columns.microseconds
        columns.microseconds = lambda i, j: (looked_at.append(i), original(i, j))[1]  # type: ignore[method-assign]
        columns.first_at(reader.t_end - 50_000)
        assert len(looked_at) < 12  # of 256 chunks


def test_reading_takes_no_more_memory_for_a_longer_file(tmp_path: Path) -> None:
    import tracemalloc

    def peak(n: int) -> int:
        path = tmp_path / f"{n}.h5"
        with Writer(path, (64, 48), compression="blosc") as writer:
            for k in range(n):
                t = np.arange(k * 100_000, (k + 1) * 100_000)
                writer.add_events(Events(t, t % 64, t % 48, t % 2))
        with open_recording(path) as reader:
            tracemalloc.start()
            assert sum(p.n_events for p in reader.packets()) == n * 100_000
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return most

    run = (1 << 18) * 13  # bytes; the one that is cut into packets, those read ahead, and what making them takes
    assert peak(60) < 7.5 * run < 6_000_000 * 13 // 3


def some_events(n: int, start: int = 0, seed: int = 0) -> Events:
    rng = np.random.default_rng(seed)
    t = start + np.sort(rng.integers(0, 1_000_000, n))
    return Events(t, rng.integers(0, 64, n), rng.integers(0, 48, n), rng.integers(0, 2, n))


@pytest.mark.parametrize("start", [0, -3_000_000, 1_610_696_585_220_661, 1 << 50])
@pytest.mark.parametrize("compression", ["gzip", "blosc"])
def test_what_is_written_is_read_back_to_the_microsecond(tmp_path: Path, start: int, compression: Any) -> None:
    events = some_events(150_000, start)
    colour = np.random.default_rng(1).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    deep = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 20
    frames = [Frame(colour, start + 15_000, start + 10_001, start + 20_000), Frame(colour, start + 90_000)]
    path = tmp_path / "out.h5"
    with Writer(path, (64, 48), "TestCam", compression=compression) as writer:
        for k in range(0, len(events), 997):
            writer.add_events(events[k : k + 997])
        for frame in frames:
            writer.add_frame(frame)
        writer.add_truth(Frame(deep, start + 15_000, source="truth"))
        assert not path.exists()  # until it is whole
        counts = writer.close()
        assert counts == writer.close()
    assert (counts["camera/events"].events, counts["camera/frames"].packets, counts["truth"].packets) == (150_000, 2, 1)
    assert list(tmp_path.iterdir()) == [path]
    with open_recording(path) as reader:
        again = reader.events()
        for column in ("t", "x", "y", "p"):
            assert np.array_equal(getattr(again, column), getattr(events, column))
        read = list(reader.frames())
        assert [(f.exposure_start, f.exposure_end) for f in read] == [(start + 10_001, start + 20_000), (None, None)]
        assert read[1].t == start + 90_000
        assert np.array_equal(read[0].image, colour)
        (sharp,) = reader.truth()
        assert (sharp.t, sharp.source) == (start + 15_000, "truth")
        assert np.array_equal(sharp.image, deep)
        assert reader.streams[0] == StreamInfo("camera/events", (64, 48), "TestCam")
        assert not any("times are" in note for note in reader.notes)  # stated, not inferred
    with h5py.File(path) as file:
        assert file["images/image000000000"].attrs["event_idx"] == np.searchsorted(events.t, start + 20_000)
        assert file.attrs["num_events"] == 150_000
        assert file.attrs["num_pos"] == events.p.sum()


def test_a_packets_stream_is_written_without_what_the_layout_lacks(tmp_path: Path) -> None:
    events = some_events(1000)
    frame = Frame(np.zeros((48, 64), np.uint8), 500_000)
    imu = Imu(np.zeros(1, np.int64), np.zeros((1, 3)), np.zeros((1, 3)), np.zeros(1))
    streams = [StreamInfo("camera/imu"), StreamInfo("camera/events", (64, 48), "TestCam")]
    writer = Writer.for_streams(tmp_path / "out.h5", streams)
    bodies = [events[:500], pack(events[500:]), None, frame]
    for k, body in enumerate(bodies):
        kind = "frames" if isinstance(body, Frame) else "events"
        writer.write(Packet(f"camera/{kind}", k, 0, 0, 0, body))
    writer.write(Packet("camera/imu", 0, 0, 0, 0, imu))
    writer.write(Packet("engine/output", 0, 0, 0, 0, frame))
    writer.close()
    with open_recording(tmp_path / "out.h5") as reader:
        assert np.array_equal(reader.events().t, events.t)
        assert reader.counts() == {"camera/events": 1000, "camera/frames": 1}


def test_nothing_is_left_of_a_recording_that_failed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Writer(tmp_path / "out.h5", (64, 48)) as writer:  # noqa: PT012
        writer.add_events(some_events(1000))
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(WorldError, match=r"out\.h5: cannot be written"):
        Writer(tmp_path / "nowhere" / "out.h5", (64, 48))


def test_the_writer_refuses_what_no_reader_could_take(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "out.h5", (64, 48))
    good = some_events(10)
    writer.add_events(good)
    with pytest.raises(InputError, match="bad coordinates"):
        writer.add_events(Events(good.t + 2_000_000, good.x + 64, good.y, good.p))
    with pytest.raises(InputError, match="bad order"):
        writer.add_events(Events(good.t - 1, good.x, good.y, good.p))
    with pytest.raises(InputError, match="too far from zero"):
        writer.add_frame(Frame(np.zeros((48, 64), np.uint8), 1 << 60))
    writer.close()


def make(path: Path, **changes: Any) -> Path:
    """A small RLED-like file, changed: a column by its name, an attribute, ``images`` left out with None."""
    n = 4000
    rng = np.random.default_rng(3)
    columns = {
        "ts": np.sort(rng.integers(0, 400_000, n)).astype(np.float64),
        "xs": rng.integers(0, 60, n).astype(np.int16),
        "ys": rng.integers(0, 40, n).astype(np.int16),
        "ps": rng.integers(0, 2, n).astype(bool),
    }
    shape = changes.pop("images", (48, 64))
    resolution = changes.pop("sensor_resolution", (64, 48))
    stamps = changes.pop("stamps", [100_000.0, 200_000.0, 300_000.0])
    columns.update({k: v(columns[k]) if callable(v) else v for k, v in changes.items()})
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file[f"events/{name}"] = values
        if resolution is not None:
            file.attrs["sensor_resolution"] = resolution
        for k, stamp in enumerate(stamps if shape else []):
            image = np.full(shape, k, np.uint8)
            file[f"images/image{k:09d}"] = image
            file[f"images/image{k:09d}"].attrs["timestamp"] = stamp
    return path


def test_polarity_of_any_encoding(tmp_path: Path) -> None:
    with open_recording(make(tmp_path / "plain.h5")) as reader:
        wanted = reader.events().p
    for dtype in (np.uint8, np.int8, np.int64, np.float32):
        with open_recording(make(tmp_path / "same.h5", ps=lambda p, d=dtype: p.astype(d))) as reader:
            assert np.array_equal(reader.events().p, wanted)
    for dtype in (np.int8, np.float64):
        with open_recording(make(tmp_path / "sign.h5", ps=lambda p, d=dtype: (p * 2 - 1).astype(d))) as reader:
            assert np.array_equal(reader.events().p, wanted)
            assert "polarity is -1 and 1" in reader.notes


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.uint8, np.int64])
def test_coordinates_of_any_integer_type(tmp_path: Path, dtype: Any) -> None:
    with open_recording(make(tmp_path / "plain.h5")) as a:
        path = make(tmp_path / "b.h5", xs=lambda x: x.astype(dtype), ys=lambda y: y.astype(dtype))
        with open_recording(path) as b:
            assert np.array_equal(a.events().x, b.events().x)
            assert np.array_equal(a.events().y, b.events().y)


def test_times_in_any_unit(tmp_path: Path) -> None:
    with open_recording(make(tmp_path / "plain.h5")) as reader:
        wanted = reader.events().t
    for factor, unit, dtype in ((1e-6, None, "f8"), (1, None, "i8"), (1e-3, "ms", "f8"), (1000, "ns", "i8")):
        stamps = [s * factor for s in (100_000.0, 200_000.0, 300_000.0)]
        path = make(tmp_path / "b.h5", ts=lambda t, f=factor, d=dtype: (t * f).astype(d), stamps=stamps)
        options = {"time_unit": unit} if unit else {}
        with open_recording(path, **options) as reader:
            assert np.array_equal(reader.events().t, wanted), unit
            assert next(reader.frames()).t == 100_000


def test_the_order_of_the_resolution_is_proven_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    for stated in ((64, 48), (48, 64), None):
        with open_recording(make(path, sensor_resolution=stated)) as reader:
            assert reader.resolution == (64, 48)
    with pytest.raises(FormatError, match=r"\(64, 99\) is not the size of the pictures, \(64, 48\).*option resolution"):
        open_recording(make(path, sensor_resolution=(64, 99)))
    for stated in ((64, 48), (48, 64)):  # no pictures: x reaches 59, so the width is not 48
        with open_recording(make(path, sensor_resolution=stated, images=None)) as reader:
            assert reader.resolution == (64, 48)
    few = {"xs": lambda x: x // 2, "ys": lambda y: y // 2}
    with pytest.raises(FormatError, match=r"can be .* as well as .*option resolution"):
        open_recording(make(path, images=None, **few))
    with open_recording(make(path, images=None, **few), resolution=(64, 48)) as reader:
        assert reader.resolution == (64, 48)
    with pytest.raises(FormatError, match=r"no sensor_resolution; the largest coordinates are \(59, 39\)"):
        open_recording(make(path, images=None, sensor_resolution=None))


def test_our_own_files_say_which_side_is_which(tmp_path: Path) -> None:
    for resolution in ((64, 48), (48, 64)):
        path = tmp_path / f"{resolution[0]}.h5"
        with Writer(path, resolution) as writer:
            writer.add_events(Events(np.arange(50) * 100, np.arange(50) % 40, np.arange(50) % 40, np.arange(50) % 2))
        with open_recording(path) as reader:
            assert reader.resolution == resolution


def nan_at_last(t: Any) -> Any:
    return np.r_[t[:-1], np.nan]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "times backwards": ({"ts": lambda t: np.r_[t[:2000], t[1990:3990]]}, "time runs backwards among events"),
    "NaN": ({"ts": nan_at_last}, r"ts\[3999\]: nan is no time"),
    "NaN in the middle": (
        {"ts": lambda t: np.where(np.arange(4000) == 2000, np.nan, t)},
        r"ts\[2000\]: nan is no time",
    ),
    "off the sensor": ({"xs": lambda x: x + 20}, r"coordinates up to \(7\d, 39\) are off the 64x48 sensor"),
    "negative": ({"xs": lambda x: x - 1}, r"/events/xs\[0:4000\]: coordinates -1 to"),
    "huge coordinates": ({"xs": lambda x: x.astype(np.int64) + (1 << 40)}, "coordinates 1099511627776"),
    "polarity 2": ({"ps": lambda p: p.astype(np.uint8) * 2}, "polarity 2"),
    "polarity 0 and -1": ({"ps": lambda p: p.astype(np.int8) - 1}, "polarities? .*-1"),
    "columns of different lengths": ({"ps": lambda p: p[:-1]}, "different lengths"),
    "text for numbers": ({"xs": lambda x: np.array([b"a"] * 4000)}, "numbers wanted"),
    "two dimensions": ({"xs": lambda x: x.reshape(2, 2000)}, "1-dimensional numbers wanted"),
    "fractions of a pixel": ({"xs": lambda x: x.astype(np.float32)}, "numbers wanted"),
    "ambiguous time": ({"ts": lambda t: t / 100 + 0.5, "stamps": [10.0, 900.0]}, "can be seconds as well as"),
    "pictures backwards": ({"stamps": [100_000.0, 90_000.0, 300_000.0]}, "earlier than the picture before it"),
    "a picture at no time": ({"stamps": [100_000.0, np.nan, 300_000.0]}, "numbers wanted, got"),
    "flat pictures": ({"images": (64,)}, "2 or 3-dimensional numbers wanted"),
    "pictures of five channels": ({"images": (48, 64, 5)}, "no picture"),
    "no events, no pictures": (
        {"images": None, **{c: lambda v: v[:0] for c in ("ts", "xs", "ys", "ps")}},
        "no events and no",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(tmp_path: Path, what: str) -> None:
    changes, said = REFUSED[what]
    path = make(tmp_path / "bad.h5", **changes)
    with pytest.raises(FormatError, match=said) as caught, open_recording(path) as reader:  # noqa: PT012
        reader.events()
        list(reader.frames())
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_other_files_are_not_read_through_a_link(tmp_path: Path) -> None:
    secret = make(tmp_path / "secret.h5")
    path = make(tmp_path / "linked.h5")
    with h5py.File(path, "r+") as file:
        del file["events/xs"]
        file["events/xs"] = h5py.ExternalLink(str(secret), "events/xs")
    with pytest.raises(FormatError, match="/events/xs is a link to elsewhere"):
        open_recording(path)
    path = make(tmp_path / "virtual.h5")
    with h5py.File(path, "r+") as file:
        del file["events/xs"]
        layout = h5py.VirtualLayout((4000,), np.int16)
        layout[:] = h5py.VirtualSource(str(secret), "events/xs", (4000,))
        file.create_virtual_dataset("events/xs", layout)
    with pytest.raises(FormatError, match="/events/xs keeps its data in another file"):
        open_recording(path)
    path = make(tmp_path / "external.h5")
    with h5py.File(path, "r+") as file:
        del file["events/ys"]
        file.create_dataset("events/ys", (4000,), np.int16, external=[(str(secret), 0, 8000)])
    with pytest.raises(FormatError, match="/events/ys keeps its data in another file"):
        open_recording(path)


def test_what_is_claimed_must_be_stored(tmp_path: Path) -> None:
    path = tmp_path / "claims.h5"
    for chunks in (None, (1000,)):
        with h5py.File(path, "w") as file:
            for name in ("ts", "xs", "ys", "ps"):
                file.create_dataset(f"events/{name}", (10**13,), np.int64, chunks=chunks)
        with pytest.raises(FormatError, match="claims 10000000000000 values of which not all are in the file"):
            open_recording(path)
    with h5py.File(path, "w") as file:
        for name in ("ts", "xs", "ys", "ps"):
            file.create_dataset(f"events/{name}", (4,), np.int64, maxshape=(None,), chunks=(1 << 27,))
    with pytest.raises(FormatError, match="chunks of 1073741824 bytes"):
        open_recording(path)


def test_three_channels_are_grey_or_colour_by_what_they_hold(tmp_path: Path) -> None:
    path = make(tmp_path / "rgb.h5", images=(48, 64, 3))
    with open_recording(path) as reader:
        assert next(reader.frames()).image.shape == (48, 64)
    with open_recording(path, color=True) as reader:
        assert next(reader.frames()).image.shape == (48, 64, 3)
    with h5py.File(path, "r+") as file:
        file["images/image000000001"][5, 5] = (1, 2, 3)
    with open_recording(path) as reader:
        assert next(reader.frames()).image.shape == (48, 64, 3)
        assert not any("grey" in note for note in reader.notes)
    with open_recording(path, color=False) as reader:
        assert [f.image.shape for f in reader.frames()] == [(48, 64)] * 3
