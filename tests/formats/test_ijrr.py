"""IJRR folders and text of events, against the arrays they were made from and Python's decimal arithmetic."""

from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtpipe.errors import FormatError, InputError
from rtpipe.formats import format_of, open_recording
from rtpipe.formats.ijrr import Writer, lines, text
from rtpipe.types import Events, Frame, Imu, Packet, StreamInfo, Trigger


@pytest.mark.parametrize("name", ["layouts/ijrr_slider_1s", "layouts/ijrr_slider_1s/events.txt", "ijrr_slider_depth"])
def test_events_are_those_of_the_arrays(shared: Callable[[str], Path], name: str) -> None:
    arrays = np.load(shared("recordings/ijrr_slider_depth/events.npz"))
    n = 311_110 if "1s" in name else len(arrays["t_us"])
    with open_recording(shared(f"recordings/{name}")) as reader:
        events = reader.events()
        assert reader.counts()["camera/events"] == n
        assert reader.resolution == (240, 180)
        assert [stream.kind for stream in reader.streams] == ["events", "frames"]
        assert "exposure_us" in " ".join(reader.notes)
    assert np.array_equal(events.t, arrays["t_us"][:n])
    assert np.array_equal(events.x, arrays["x"][:n])
    assert np.array_equal(events.y, arrays["y"][:n])
    assert np.array_equal(events.p, arrays["p"][:n])


def test_frames_have_their_times_and_an_exposure_that_is_told_lies_about_them(shared: Callable[[str], Path]) -> None:
    path = shared("recordings/layouts/ijrr_slider_1s")
    stamps = [line.split()[0] for line in (path / "images.txt").read_text().splitlines()]
    with open_recording(path, exposure_us=10_000) as reader:
        frames = list(reader.frames())
        assert [frame.t for frame in frames] == [int(Decimal(stamp) * 1_000_000) for stamp in stamps]
        assert [(f.exposure_start, f.exposure_end) for f in frames[:1]] == [(-5000, 5000)]
        assert frames[0].image.shape == (180, 240)
        assert reader.t_start == -5000


@pytest.mark.parametrize("name", ["layouts/ijrr_slider_1s", "ijrr_slider_depth"])
def test_any_span_is_found(shared: Callable[[str], Path], name: str) -> None:
    with open_recording(shared(f"recordings/{name}")) as reader:
        events, frames = reader.events(), list(reader.frames())
        rng = np.random.default_rng(0)
        starts = [0, reader.t_start, reader.t_end, reader.t_end + 1, *events.t[[0, 131_072, -1]]]
        for t0 in [*starts, *rng.integers(reader.t_start, reader.t_end, 20)]:
            for span in (0, 1, 30_000):
                part, wanted = reader.events(int(t0), int(t0) + span), events.between(t0, t0 + span)
                assert np.array_equal(part.t, wanted.t)
                assert np.array_equal(part.x, wanted.x)
                assert [f.t for f in reader.frames(t0, t0 + span)] == [f.t for f in frames if t0 <= f.t < t0 + span]


def test_a_time_is_found_wherever_the_pieces_of_a_large_file_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "BLOCK", 5003)
    monkeypatch.setattr(lines, "NEAR", 300)
    rng = np.random.default_rng(0)
    t = 7_600_000_000 + np.sort(rng.integers(0, 900, 2000)) * 3_000_000
    path = tmp_path / "events.txt"
    comments = {17: "# a comment\n", 900: "#\n" * 400, 1999: "\n\n"}
    path.write_text("".join(f"{comments.get(k, '')}{v / 1e6:.6f} {k % 99} 3 1\n" for k, v in enumerate(t.tolist())))
    with open_recording(path, resolution=(99, 99)) as reader:
        assert np.array_equal(reader.events().t, t)
        assert reader.events().x.tolist() == [k % 99 for k in range(2000)]
        assert reader.counts() == {"camera/events": 2000}
        for t0 in [0, *t[::61].tolist(), *(t[::97] + 1).tolist(), int(t[-1]) + 1]:
            part = reader.events(t0, t0 + 20_000_000)
            low, high = np.searchsorted(t, [t0, t0 + 20_000_000])
            assert part.t.tolist() == t[low:high].tolist()
            assert part.x.tolist() == [k % 99 for k in range(low, high)]


@settings(deadline=None)
@given(st.decimals(-(10**12), 2 * 10**12, places=9), st.sampled_from(["s", "ms", "us", "ns"]))
def test_times_are_rounded_exactly(value: Decimal, unit: str) -> None:
    exact = (value.scaleb(text.SHIFTS[unit])).quantize(Decimal(1), ROUND_HALF_UP)
    digits = len(value.as_tuple().digits)
    if abs(exact) < 1 << 61 and digits <= 18:
        for word in (f"{value:f}", f"{value:e}"):
            assert text.microseconds(word, text.SHIFTS[unit]) == exact


def test_epoch_stamps_with_nanoseconds_keep_their_microseconds(tmp_path: Path) -> None:
    path = tmp_path / "events.txt"
    path.write_text("1468940293.840812111 3 4 1\n1468940293.840812999 3 4 0\n1468940293.840813500 5 6 1\n")
    with open_recording(path, resolution=(10, 10)) as reader:
        assert reader.events().t.tolist() == [1468940293840812, 1468940293840813, 1468940293840814]


def test_text_of_other_tools_is_read(tmp_path: Path) -> None:
    path = tmp_path / "anything"
    words = ["# t x y p", "  0.001,\t3, 4, 1\r", "", "2e-3 3.0 4.00e0 -1", "0.0025 0 9 1", "+0.0030 1 2 -1"]
    path.write_text("\n".join(words))
    with open_recording(path, resolution=(10, 10)) as reader:
        events = reader.events()
        assert reader.counts() == {"camera/events": 4}
        assert "polarity is -1 and 1" in reader.notes
    assert events.t.tolist() == [1000, 2000, 2500, 3000]
    assert list(zip(events.x.tolist(), events.y.tolist(), events.p.tolist(), strict=True)) == [
        *((3, 4, 1), (3, 4, 0), (0, 9, 1), (1, 2, 0))
    ]
    path.write_text("30 20\n0.5 3 4 1\n0.6 29 19 0\n")
    with open_recording(path) as reader:
        assert reader.resolution == (30, 20)
        assert reader.events().t.tolist() == [500_000, 600_000]


def test_microseconds_are_told_from_seconds_or_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "events.txt"
    path.write_text("".join(f"{1600000000000000 + 10 * k} 1 2 1\n" for k in range(20)))
    with open_recording(path, resolution=(10, 10)) as reader:
        assert reader.t_start == 1600000000000000
        assert "times are microseconds" in " ".join(reader.notes)
    path.write_text("1 2 3 1\n2 2 3 1\n")
    with pytest.raises(FormatError, match="option time_unit"):
        open_recording(path)
    with open_recording(path, time_unit="ms", resolution=(10, 10)) as reader:
        assert reader.events().t.tolist() == [1000, 2000]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("0.1 2 3 1\n0.2 2 3\n", "four numbers .* got '0.2 2 3'"),
        ("0.1 2 3 1\n0.2 2.5 3 1\n", "four numbers"),
        ("0.1 2 3 1\n0.2 -2 3 1\n", "coordinates"),
        ("0.1 2 3 1\n0.2 40000 3 1\n", "coordinates"),
        ("0.1 2 3 1\n0.2 2 3 2\n", "polarity"),
        ("0.1 2 3 0\n0.2 2 3 -1\n", "which of them is off"),
        ("0.1 2 3 1\n0.2 10 3 1\n", "off the 10x10 sensor"),
        ("0.1 2 3 1\n0.3 2 3 1\n0.2 2 3 1\n0.4 2 3 1\n", "backwards"),
        ("0.1 2 3 1\nnan 2 3 1\n", "no time|four numbers"),
        ("0.1 2 3 1\n" + "7" * 10_000 + "\n", "no time|more than 4096 bytes|four numbers"),
    ],
)
def test_what_is_no_event_is_refused_with_its_place(tmp_path: Path, written: str, said: str) -> None:
    path = tmp_path / "events.txt"
    path.write_text(written)
    with pytest.raises(FormatError, match=said) as caught, open_recording(path, resolution=(10, 10)) as reader:
        reader.events()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pictures_outside_the_folder_are_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    folder.mkdir()
    (folder / "events.txt").write_text("0.1 2 3 1\n")
    for name in ("../secret.png", "/etc/hostname", "images/../../secret.png"):
        (folder / "images.txt").write_text(f"0.1 {name}\n")
        with pytest.raises(FormatError, match="not a file in this folder"):
            open_recording(folder)
    (folder / "images.txt").write_text("0.1 images/missing.png\n")
    with pytest.raises(FormatError, match=r"missing\.png"):
        open_recording(folder)


def recording(seed: int, n: int) -> tuple[Events, list[Frame], Imu]:
    rng = np.random.default_rng(seed)
    t = 1_700_000_000_000_000 + np.sort(rng.integers(0, 1_000_000, n))
    events = Events(t, rng.integers(0, 346, n), rng.integers(0, 260, n), rng.integers(0, 2, n))
    frames = []
    for k in range(4):
        image = rng.integers(0, 65535, (260, 346), dtype=np.uint16) if seed else rng.integers(0, 9, (260, 346, 3))
        start = int(t[0]) + 200_000 * k
        frames.append(Frame(image.astype(np.uint16 if seed else np.uint8), start + 500, start, start + 1001))
    values = rng.normal(0, 9, (2, 50, 3)).astype(np.float32)
    return events, frames, Imu(int(t[0]) + np.arange(50) * 1000, values[0], values[1], values[0, :, 0])


@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_written_comes_back_exactly(tmp_path: Path, seed: int) -> None:
    events, frames, imu = recording(seed, 100_000)
    path = tmp_path / "out"
    streams = [StreamInfo("camera/events", (346, 260)), StreamInfo("camera/frames", (346, 260))]
    with Writer.for_streams(path, [*streams, StreamInfo("camera/imu")]) as writer:
        for k in range(0, len(events), 30_000):
            writer.write(Packet("camera/events", k, 0, 0, 0, events[k : k + 30_000]))
        for frame in frames:
            writer.write(Packet("camera/frames", 0, 0, 0, 0, frame))
        writer.write(Packet("camera/imu", 0, 0, 0, 0, imu))
        assert not path.exists()
    assert format_of(path) == "ijrr"
    with open_recording(path) as reader:
        read = reader.events()
        for name in ("t", "x", "y", "p"):
            assert np.array_equal(getattr(read, name), getattr(events, name))
        for frame, again in zip(frames, reader.frames(), strict=True):
            assert np.array_equal(frame.image, again.image)
            assert frame.image.dtype == again.image.dtype
            assert (frame.t, frame.exposure_start, frame.exposure_end) == (
                *(again.t, again.exposure_start, again.exposure_end),
            )
        (samples,) = reader.imu()
        assert np.array_equal(samples.t, imu.t)
        assert np.array_equal(samples.acceleration, imu.acceleration)
        assert np.array_equal(samples.rotation, imu.rotation)
        part = list(reader.imu(int(imu.t[10]), int(imu.t[12])))
        assert [run.t.tolist() for run in part] == [imu.t[10:12].tolist()]
        assert reader.counts() == {"camera/events": 100_000, "camera/frames": 4, "camera/imu": 50}


@settings(deadline=None)
@given(st.lists(st.integers(-(10**15), 10**15), min_size=1, max_size=20))
def test_any_time_survives_as_text(times: list[int]) -> None:
    t = np.sort(np.array(times, np.int64))
    n = len(t)
    events = Events(t, np.full(n, 32767), np.arange(n), np.arange(n) % 2)
    again = text.parse(text.written(events), 6).events
    assert np.array_equal(again.t, t)
    assert np.array_equal(again.x, events.x)
    assert np.array_equal(again.y, events.y)
    assert np.array_equal(again.p, events.p)


def test_a_writer_overwrites_nothing_and_leaves_nothing_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with pytest.raises(InputError, match="bad coordinates"), Writer(path, (10, 10)) as writer:
        writer.write(Packet("camera/events", 0, 0, 0, 0, Events(np.array([1]), [20], [1], [1])))
    zeros = np.zeros(1, np.uint8)
    with pytest.raises(InputError, match="cannot hold Trigger"), Writer(path, (10, 10)) as writer:
        writer.write(Packet("camera/triggers", 0, 0, 0, 0, Trigger(np.zeros(1, np.int64), zeros, zeros)))
    assert list(tmp_path.iterdir()) == []
    path.mkdir()
    (path / "mine").write_text("x")
    with pytest.raises(InputError, match="nothing is overwritten"):
        Writer(path, (10, 10))
