"""Every recording opens, and becomes every other format that can hold it, with not one event changed."""

import inspect
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rtpipe.cli import app
from rtpipe.convert import Converted, convert, target_format
from rtpipe.errors import InputError
from rtpipe.formats import open_recording, writable
from rtpipe.formats.mcap import Writer as McapWriter
from rtpipe.formats.recording import Recording
from rtpipe.types import Events, Frame, Imu, Packet, StreamInfo

EVENTS = {
    "aedat2/davis240_translBoxes.aedat": 162_771,
    "aedat4/davis346_ball_throw.aedat4": 237_073,
    "aedat4/davis346_highway.aedat4": 78_830,
    "aedat4/dvxplorer_person2.aedat4": 323_963,
    "deblur/edi_camerashake_davis240.npz": 7_213_245,
    "deblur/eslnet_cups_davis346.npz": 2_522_436,
    "es/atis_dvs.es": 473_225,
    "ijrr_slider_depth": 1_078_541,
    "layouts/eventhdr_slider.h5": None,
    "layouts/evinr_slider.npy": None,
    "layouts/highrev": None,
    "layouts/ijrr_slider_1s": None,
    "layouts/reblur_camerashake.h5": None,
    "layouts/reblur_cups.h5": 987_299,
    "layouts/rled_slider_0000_25fps.h5": 1_078_541,
    "prophesee/evt2_sparks_vga.raw": 521_252,
    "prophesee/evt3_driving_hd_9ms.raw": 219_596,
    "prophesee/evt3_nightsky_hd.raw": 1_218_618,
    "ros/codecs_test_data_evt3_trigger_0.db3": 82_469,
    "ros/event_camera_py_test_events_1.bag": 343_474,
    "ros/event_camera_py_test_events_2_0.mcap": 571_266,
}
"""Events in each of the shared recordings, None where nobody has said."""
OPTIONS = {"layouts/evinr_slider.npy": {"resolution": (240, 180)}, "layouts/highrev": {"time_unit": "us"}}
"""What a recording does not say itself."""
PIECE_US = 60_000


def opened(shared: Callable[[str], Path], name: str) -> Recording:
    return open_recording(shared(f"recordings/{name}"), **OPTIONS.get(name, {}))


def read_back(path: Path, to: str, resolution: tuple[int, int]) -> Recording:
    """A written recording, open; formats that do not hold the sensor's size are told it."""
    known = inspect.signature(writable()[to].Reader).parameters
    given = {"resolution": resolution} if to in ("evinr_npy", "ijrr", "dat") and "resolution" in known else {}
    return open_recording(path, **given)


def same(found: Events, expected: Events) -> None:
    for column in ("t", "x", "y", "p"):
        np.testing.assert_array_equal(getattr(found, column), getattr(expected, column), err_msg=column)


@pytest.mark.parametrize("name", EVENTS)
def test_every_recording_opens_with_all_its_events(shared: Callable[[str], Path], name: str) -> None:
    with opened(shared, name) as reader:
        n, newest = 0, None
        for events in reader.event_chunks():
            assert int(events.x.max()) < reader.resolution[0]
            assert int(events.y.max()) < reader.resolution[1]
            assert newest is None or events.t[0] >= newest
            newest = events.t[-1]
            n += len(events)
        assert n > 0
        assert EVENTS[name] in (None, n)
        assert reader.counts()["camera/events"] == n
        assert reader.t_start <= int(newest or 0) <= reader.t_end


@pytest.mark.parametrize("to", [name for name, module in writable().items() if "events" in module.Writer.HOLDS])
@pytest.mark.parametrize("name", EVENTS)
def test_every_recording_becomes_every_format_event_by_event(
    shared: Callable[[str], Path], tmp_path: Path, name: str, to: str
) -> None:
    suffix = next((ending for ending in writable()[to].SUFFIXES if ending != "/"), "")
    out = tmp_path / f"out{suffix}"
    with opened(shared, name) as reader:
        t0 = next(reader.event_chunks()).t[0]
        shift = -int(t0) if to == "dat" and t0 > 1 << 31 else 0  # DAT counts to 71 minutes
        done = convert(reader, out, to=to, only=["events"], t0=int(t0), t1=int(t0) + PIECE_US, shift=shift)
        expected = reader.events(int(t0), int(t0) + PIECE_US)
        expected = Events(expected.t + shift, expected.x, expected.y, expected.p)
        resolution = reader.resolution
    assert done.counts["camera/events"] == len(expected) > 0
    with read_back(out, to, resolution) as copy:
        assert copy.resolution == resolution
        same(copy.events(), expected)


class Everything:
    """A recording of ours that holds a bit of everything."""

    STREAMS = (
        StreamInfo("camera/events", (64, 48), "TestCam"),
        StreamInfo("camera/frames", (64, 48), "TestCam"),
        StreamInfo("camera/imu"),
    )

    @classmethod
    def write(cls, path: Path) -> Path:
        rng = np.random.default_rng(0)
        t = np.sort(rng.integers(1_000_000, 1_500_000, 5000))
        events = Events(t, rng.integers(0, 64, 5000), rng.integers(0, 48, 5000), rng.integers(0, 2, 5000))
        imu = Imu(np.array([1_100_000]), np.ones((1, 3), "f4"), np.ones((1, 3), "f4"), np.ones(1, "f4"))
        writer = McapWriter(path, cls.STREAMS)
        writer.write(Packet("camera/events", 0, int(t[0]), int(t[-1]), 0, events))
        for k in range(4):
            start = 1_000_000 + k * 100_000
            image = rng.integers(0, 255, (48, 64), dtype=np.uint8)
            frame = Frame(image, start + 10_000, start, start + 20_000)
            writer.write(Packet("camera/frames", k, start, start + 20_000, 0, frame))
        writer.write(Packet("camera/imu", 0, 1_100_000, 1_100_000, 0, imu))
        writer.close()
        return path


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    return Everything.write(tmp_path / "everything.mcap")


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["convert", *map(str, arguments)])
    said = done.output if done.exception is None or isinstance(done.exception, SystemExit) else str(done.exception)
    code = getattr(done.exception, "exit_code", done.exit_code)
    return code, said


def test_there_and_back_again_frames_and_all(everything: Path, tmp_path: Path) -> None:
    code, said = run(everything, tmp_path / "a.h5", "--only", "events,frames", "--verify")
    assert (code, "5,000 events, 4 frames (verified)" in said, "left out: 1 camera/imu" in said) == (0, True, True), (
        said
    )
    assert run(tmp_path / "a.h5", tmp_path / "b.aedat4")[0] == 0
    with open_recording(everything) as first, open_recording(tmp_path / "b.aedat4") as last:
        same(last.events(), first.events())
        for ours, theirs in zip(last.frames(), first.frames(), strict=True):
            np.testing.assert_array_equal(ours.image, theirs.image)
            assert (ours.t, ours.exposure_start, ours.exposure_end) == (
                theirs.t,
                theirs.exposure_start,
                theirs.exposure_end,
            )


def test_what_the_target_cannot_hold_is_never_left_out_in_silence(everything: Path, tmp_path: Path) -> None:
    code, said = run(everything, tmp_path / "a.h5")
    assert code == 2
    assert "ecm_h5 cannot hold camera/imu (1)" in said
    assert "--only events,frames" in said
    assert not (tmp_path / "a.h5").exists()
    code, said = run(everything, tmp_path / "a.h5", "--only", "imu")
    assert (code, "cannot hold imu" in said) == (2, True)
    code, said = run(everything, tmp_path / "a.h5", "--only", "triggers")
    assert (code, "no triggers in it" in said) == (2, True)


def test_a_piece_is_cut_to_the_microsecond(everything: Path, tmp_path: Path) -> None:
    code, said = run(everything, tmp_path / "a.aedat4", "--from", "0.1234", "--until", 0.3)
    assert code == 0, said
    with open_recording(everything) as first, open_recording(tmp_path / "a.aedat4") as piece:
        t0, t1 = first.t_start + 123_400, first.t_start + 300_000
        same(piece.events(), first.events(t0, t1))
        frames = [frame.t for frame in first.frames() if frame.exposure_start >= t0 and frame.t < t1]
        assert [frame.t for frame in piece.frames()] == frames
    code, said = run(everything, tmp_path / "b.aedat4", "--from", 9)
    assert (code, "a piece within the recording" in said) == (2, True)


def test_an_existing_file_stays_unless_told_and_until_the_new_one_is_whole(everything: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.aedat4"
    out.write_bytes(b"mine")
    code, said = run(everything, out)
    assert (code, "--overwrite" in said, out.read_bytes()) == (2, True, b"mine")
    code, said = run(everything, out, "--overwrite", "--only", "nothing")
    assert (code, out.read_bytes()) == (2, b"mine")
    assert run(everything, out, "--overwrite")[0] == 0
    with open_recording(out) as reader:
        assert reader.counts()["camera/events"] == 5000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.aedat4", "everything.mcap"]


def test_the_ending_says_the_format_and_what_says_nothing_is_asked_for(tmp_path: Path) -> None:
    assert target_format(tmp_path / "a.aedat4", None)[0] == "aedat4"
    assert target_format(tmp_path / "a.xyz", "mcap")[0] == "mcap"
    with pytest.raises(InputError, match="--to; there are"):
        target_format(tmp_path / "a.xyz", None)
    with pytest.raises(InputError, match="no format 'xyz'"):
        target_format(tmp_path / "a.mcap", "xyz")


def test_options_of_both_sides_are_checked(everything: Path, tmp_path: Path) -> None:
    code, said = run(everything, tmp_path / "a.aedat4", "-w", "squeeze=9")
    assert (code, "knows no option 'squeeze'" in said) == (2, True)
    code, said = run(everything, tmp_path / "a.aedat4", "-o", "colour=1")
    assert (code, "'colour'" in said) == (2, True)


def test_progress_goes_from_nothing_to_all(everything: Path, tmp_path: Path) -> None:
    shares: list[float] = []
    with open_recording(everything) as reader:
        done: Converted = convert(reader, tmp_path / "a.aedat4", progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) > 10
    assert done.format == "aedat4"


def test_times_can_be_counted_from_zero(everything: Path, tmp_path: Path) -> None:
    assert run(everything, tmp_path / "a.mcap", "--from-zero", "--from", "0.1", "--only", "events,frames")[0] == 0
    with open_recording(everything) as first, open_recording(tmp_path / "a.mcap") as last:
        begin = first.t_start + 100_000
        np.testing.assert_array_equal(last.events().t, first.events(begin).t - begin)
        starts = [frame.exposure_start - begin for frame in first.frames(begin) if frame.exposure_start >= begin]
        assert [frame.exposure_start for frame in last.frames()] == starts


def test_filters_on_the_way_say_what_they_removed(everything: Path, tmp_path: Path) -> None:
    code, said = run(
        everything, tmp_path / "a.aedat4", "--filters", "[{filter: roi, x: 0, y: 0, width: 32, height: 48}]"
    )
    assert code == 0, said
    with open_recording(everything) as first, open_recording(tmp_path / "a.aedat4") as half:
        events = first.events()
        assert half.resolution == (32, 48)
        np.testing.assert_array_equal(half.events().t, events.t[events.x < 32])
        assert f"removed by filters: {np.count_nonzero(events.x >= 32):,} roi" in said
    code, said = run(everything, tmp_path / "b.aedat4", "--filters", "roi")
    assert (code, "a list is wanted" in said) == (2, True)
