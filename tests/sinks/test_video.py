"""Video: what is decoded is what was composed, at its time; the file stays readable whatever ends it."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import av
import msgspec
import numpy as np
import pytest

from rtpipe import registry
from rtpipe.errors import WorldError
from rtpipe.sinks import encoder as encoder_module
from rtpipe.sinks.encoder import Encoder, Timeline
from rtpipe.sinks.layout import GAP, STRIP
from rtpipe.sinks.video import DELIVERY, Settings, Sink, wants
from rtpipe.types import Frame, Packet, StreamInfo

INFOS = [StreamInfo(name, (64, 48)) for name in ("camera/frames", "engine/output", "engine/picture")]
T0 = 1_610_696_585_220_661
WRITER = """
import sys
import numpy as np
from rtpipe.errors import RtpipeError
from rtpipe.sinks.video import Settings, Sink
from rtpipe.types import Frame, Packet, StreamInfo

path, limit = sys.argv[1], int(sys.argv[2])
if limit:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sink = Sink(Settings(path=path, panels=("output",)))
sink.open([StreamInfo("engine/output", (64, 48))])
noise = np.random.default_rng(1).integers(0, 256, (200, 48, 64), np.uint8)
try:
    for i in range(10**9):
        sink.process(Packet("engine/output", i, i * 20_000, i * 20_000, 0, Frame(noise[i % 200], i * 20_000)))
        print(i, flush=True)
except RtpipeError as error:
    print(error)
    try:
        sink.close()
    finally:
        flow = sink.flows["frames"]
        print(flow.balanced, flow.passed, flow.dropped)
"""


def decode(path: Path):
    """All frames of a video: times in µs, pictures as BGR, key frames' times."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    times = [round(frame.time * 1e6) for frame in frames]
    return times, [frame.to_ndarray(format="bgr24") for frame in frames], [frame.key_frame for frame in frames]


def scenery(i):
    """A smooth picture, different for every ``i``."""
    y, x = np.mgrid[:48, :64]
    return ((x * 3 + i * 7) % 192 + y).astype(np.uint8)


def record(sink: Sink, times, epochs=None):
    sink.open(INFOS)
    for i, t in enumerate(times):
        epoch = epochs[i] if epochs else 0
        for info, image in zip(INFOS, (scenery(i), 255 - scenery(i), scenery(i) // 2), strict=True):
            sink.process(Packet(info.name, i, t, t, 0, Frame(image, t), epoch=epoch))
    sink.close()


def test_it_is_found_by_name():
    module = registry.load("sinks", "video")
    assert module.Sink is Sink
    assert DELIVERY == "every"
    assert wants(Settings()) == ("frames", "output", "picture")
    assert wants(Settings(panels=("output",))) == ("output",)


def test_h264_shows_each_instant_at_its_own_time(tmp_path):
    steps = np.array([0, 20, 20, 35, 33, 250, 1, 40, 40, 40, 40, 40, 40, 40]) * 1000
    times = (T0 + np.cumsum(steps)).tolist()
    sink = Sink(Settings(path=str(tmp_path / "a.mp4")))
    record(sink, times)
    decoded, pictures, _ = decode(tmp_path / "a.mp4")
    np.testing.assert_allclose(decoded, np.array(times) - T0, atol=12)
    for i, image in enumerate(pictures):
        assert image.shape[0] % 2 == image.shape[1] % 2 == 0
        factor = -(-240 // 48)
        width = 64 * factor
        for panel, wanted in enumerate((scenery(i), 255 - scenery(i), scenery(i) // 2)):
            left = panel * (width + GAP)
            shown = image[STRIP : STRIP + 48 * factor, left : left + width, 1]
            shown = shown.reshape(48, factor, 64, factor).mean((1, 3))
            assert np.abs(shown - wanted).mean() < 6
    assert sink.flows["frames"].passed == 3 * len(times) == sink.flows["frames"].taken
    assert sink.flows["frames"].balanced
    assert sink.facts == {"video": str(tmp_path / "a.mp4")}
    assert sink.path == tmp_path / "a.mp4"


def test_h264_in_420_at_every_quarter_second_a_key_frame(tmp_path):
    record(Sink(Settings(path=str(tmp_path / "a.mp4"))), [T0 + i * 33_333 for i in range(40)])
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
        assert container.streams.video[0].codec_context.name == "h264"
    times, _, key = decode(tmp_path / "a.mp4")
    keys = [time for time, is_key in zip(times, key, strict=True) if is_key]
    assert keys[0] == 0
    assert max(np.diff([*keys, times[-1]])) <= 250_000
    assert len(keys) < 10


def test_a_finished_file_can_be_sought_in(tmp_path):
    record(Sink(Settings(path=str(tmp_path / "a.mp4"))), [T0 + i * 40_000 for i in range(50)])
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].frames == 50  # an ordinary index, not fragments
        assert container.duration == pytest.approx(2_000_000, abs=2000)
        container.seek(1_200_000)
        assert next(container.decode(video=0)).time == pytest.approx(1.2, abs=0.26)


def test_colours_come_back(tmp_path):
    """Blue, green, red, white patches through BT.709 in limited range, as the file says it is."""
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [40, 40, 40]], np.uint8)
    image = np.repeat(np.repeat(colours[None], 48, 0), 32, 1)
    (tmp_path / "c.mp4").touch()
    encoder = Encoder(tmp_path / "c.mp4", "h264", (160, 48), 5, None)
    encoder.write(image, 0)
    encoder.close()
    with av.open(str(tmp_path / "c.mp4")) as container:
        frame = next(container.decode(video=0))
    assert (frame.colorspace, frame.color_range) == (1, 1)  # BT.709, limited
    y, u, v = (np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size) for plane in frame.planes)
    for patch, (blue, green, red) in enumerate(colours.astype(float) / 255):
        luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
        column = 32 * patch + 16
        assert y[24, column] == pytest.approx(16 + 219 * luma, abs=3)
        assert u[12, column // 2] == pytest.approx(128 + 224 * (blue - luma) / 1.8556, abs=3)
        assert v[12, column // 2] == pytest.approx(128 + 224 * (red - luma) / 1.5748, abs=3)


def test_ffv1_keeps_every_bit(tmp_path):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (10, 240, 320, 3), np.uint8)
    sink = Sink(Settings(path=str(tmp_path / "a.mkv"), panels=("output",)))
    sink.open([StreamInfo("engine/output", (320, 240))])
    for i, image in enumerate(pictures):
        sink.process(Packet("engine/output", i, i * 50_000, i * 50_000, 0, Frame(image, i * 50_000)))
    sink.close()
    times, decoded, key = decode(tmp_path / "a.mkv")
    assert times == [i * 50_000 for i in range(10)]
    assert all(key)
    np.testing.assert_array_equal([image[STRIP : STRIP + 240] for image in decoded], pictures)


def test_time_is_monotonic_across_loops_and_jumps_are_cut_out(tmp_path):
    times = [0, 40_000, 80_000, 0, 40_000, 10_000_000, 10_040_000, 10_080_000]
    epochs = [0, 0, 0, 1, 1, 2, 2, 3]
    record(Sink(Settings(path=str(tmp_path / "a.mp4"))), times, epochs)
    decoded, _, _ = decode(tmp_path / "a.mp4")
    np.testing.assert_allclose(decoded, [i * 40_000 for i in range(8)], atol=12)


def test_timeline_keeps_gaps_and_separates_equal_times():
    line = Timeline(tick_us=10)
    assert [line.stamp(t, 0) for t in (500, 700, 700, 5_000_700)] == [0, 200, 210, 5_000_210]
    line = Timeline(fps=10)
    assert [line.stamp(t, 0) for t in (0, 1, 2)] == [0, 100_000, 200_000]


def test_a_constant_rate_ignores_the_times(tmp_path):
    record(Sink(Settings(path=str(tmp_path / "a.mp4"), fps=25)), [T0, T0 + 7, T0 + 900_000])
    decoded, _, _ = decode(tmp_path / "a.mp4")
    np.testing.assert_allclose(decoded, [0, 40_000, 80_000], atol=12)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_kill_9_loses_no_more_than_the_last_quarter_second(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path), "0"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 60:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    written = max(60, *(int(line) for line in process.stdout.read().split()), 0)
    times, pictures, _ = decode(path)
    assert times == pytest.approx([i * 20_000 for i in range(len(times))], abs=12)
    assert times[-1] >= written * 20_000 - 250_000
    assert len(times) >= written - 2  # in truth: the last picture at most
    noise = np.random.default_rng(1).integers(0, 256, (200, 48, 64), np.uint8)
    last = pictures[-1][STRIP:, :, 1].reshape(48, 5, 64, 5).mean((1, 3))
    assert np.abs(last - noise[(len(times) - 1) % 200]).mean() < 12


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_full_disk_is_said_and_what_was_written_stays(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    ran = subprocess.run(
        [sys.executable, "-c", WRITER, str(path), "1000000"], capture_output=True, text=True, check=True, timeout=120
    )
    *numbers, said, ledger = ran.stdout.splitlines()
    assert ran.stderr == ""
    assert said == (
        f"video: {path} cannot be written: {os.strerror(errno.EFBIG)}; "
        f"the {len(numbers) - 1} pictures before that are in it"
    )
    balanced, passed, dropped = ledger.split(maxsplit=2)
    assert balanced == "True"
    times, _, _ = decode(path)
    assert len(times) == int(passed) == len(numbers) - 1
    assert dropped.startswith("{'not written'")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_after_every_single_write_the_file_is_readable(tmp_path, monkeypatch, suffix):
    """Also while a finished file gets its index and its header is switched over."""
    path, journal = tmp_path / f"a{suffix}", []
    write = encoder_module._File.write

    def journaled(self, data):
        journal.append((self.tell(), bytes(data)))
        return write(self, data)

    monkeypatch.setattr(encoder_module._File, "write", journaled)
    path.touch()
    encoder = Encoder(path, "h264", (64, 48), 30, None)
    written = []  # after so many writes to the file, so many pictures had been given
    for i in range(20):
        encoder.write(np.repeat(scenery(i)[..., None], 3, 2), i * 40_000)
        written += [i + 1] * (len(journal) - len(written))
    encoder.close()
    written += [20] * (len(journal) - len(written))
    so_far = tmp_path / f"so_far{suffix}"
    with so_far.open("wb") as file:
        for (offset, data), pictures in zip(journal, written, strict=True):
            file.seek(offset)
            file.write(data)
            file.flush()
            if pictures > 2:
                assert len(decode(so_far)[0]) >= pictures - 1
    assert so_far.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_disk_that_is_full_at_the_very_end_spoils_nothing(tmp_path, suffix):
    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def __getattr__(self, name):
            return getattr(self.file, name)

    path = tmp_path / f"a{suffix}"
    sink = Sink(Settings(path=str(path), panels=("output",)))
    sink.open(INFOS)
    for i in range(20):
        sink.process(Packet("engine/output", i, i, i, 0, Frame(scenery(i), i * 40_000)))
    sink._encoder._file._file = Full(sink._encoder._file._file)
    with pytest.raises(WorldError, match="No space left on device; the 19 pictures before that"):
        sink.close()
    flow = sink.flows["frames"]
    assert flow.balanced
    assert len(decode(path)[0]) == flow.passed == 19


def test_pictures_too_large_for_the_codec_are_said(tmp_path):
    sink = Sink(Settings(path=str(tmp_path / "a.mp4"), panels=("output",)))
    sink.open([StreamInfo("engine/output", (20000, 300))])
    with pytest.raises(WorldError, match=r"20000x\d+ pictures cannot be encoded"):
        sink.process(Packet("engine/output", 0, 0, 0, 0, Frame(np.zeros((300, 20000), np.uint8), 0)))
    sink.close()
    assert sink.flows["frames"].dropped == {"not written": 1}


def test_no_place_to_write_is_said(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for bad in (tmp_path / "file" / "a.mp4", tmp_path / ("x" * 300) / "a.mp4"):
        sink = Sink(Settings(path=str(bad)))
        with pytest.raises(WorldError, match=r"video: .*a\.mp4 cannot be written: "):
            sink.open(INFOS)
        sink.close()


def test_nothing_is_overwritten_and_nothing_empty_left(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"precious")
    sink = Sink(Settings(path=str(tmp_path / "a.mp4")))
    record(sink, [0, 40_000])
    assert (tmp_path / "a.mp4").read_bytes() == b"precious"
    assert sink.path == tmp_path / "a-2.mp4"
    assert len(decode(sink.path)[0]) == 2
    silent = Sink(Settings(dir=str(tmp_path / "new")))
    record(silent, [])
    assert silent.path is None
    assert silent.facts == {}
    assert list((tmp_path / "new").iterdir()) == []


def test_what_is_left_over_at_the_end_is_written_or_counted(tmp_path):
    sink = Sink(Settings(path=str(tmp_path / "a.mp4")))
    sink.open(INFOS)
    frame = Frame(scenery(0), 1000)
    sink.process(Packet("camera/frames", 0, 1000, 1000, 0, Frame(scenery(1), 0)))
    sink.process(Packet("camera/frames", 1, 1000, 1000, 0, frame))
    sink.process(Packet("engine/output", 0, 1000, 1000, 0, frame))
    sink.close()
    assert len(decode(tmp_path / "a.mp4")[0]) == 1
    assert sink.flows["frames"] == msgspec.structs.replace(
        sink.flows["frames"], taken=3, passed=2, dropped={"unmatched": 1}
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"path": "a.avi"}, r"must end in \.mp4 or \.mkv"),
        ({"path": "a.mp4", "codec": "ffv1"}, r"ffv1 does not go into a \.mp4"),
        ({"fps": -1}, "fps"),
        ({"fps": "fast"}, "fps"),
        ({"quality": 99}, "quality"),
        ({"panels": ["frames"]}, "panels"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(settings, said):
    with pytest.raises(msgspec.ValidationError, match=said):
        msgspec.convert(settings, Settings)
