"""The recorder: files that appear, survive and are never overwritten, and a ledger that adds up."""

import ctypes
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from rtpipe.errors import InputError, WorldError
from rtpipe.formats.mcap import Reader
from rtpipe.ledger import Flow
from rtpipe.sinks import record
from rtpipe.sinks.record import Settings, Sink, wants
from rtpipe.types import Events, Frame, Imu, Packet, StreamInfo
from tests.sinks import live_recorder as live

ROOT = Path(__file__).parents[2]
STREAMS = (
    StreamInfo("camera/events", (640, 480), "Test Camera #1"),
    StreamInfo("camera/frames", (640, 480)),
    StreamInfo("camera/imu"),
    StreamInfo("edi/output", (640, 480)),
)


@pytest.fixture
def settings(tmp_path):
    return Settings(dir=str(tmp_path / "recordings"), min_free_mb=0)


def recorded(sink, packets):
    sink.open(STREAMS)
    for packet in packets:
        sink.process(packet)
    sink.close()
    return sink


def imu_packet(seq, n=3):
    samples = Imu(np.arange(n), np.ones((n, 3), np.float32), np.ones((n, 3), np.float32), np.ones(n, np.float32))
    return Packet("camera/imu", seq, 0, n, 0, samples)


def stream_of(n):
    return [packet for seq in range(n) for packet in live.packets_of(seq)]


def check_prefix(path, at_least=0):
    """The recording holds the live stream from its beginning, exactly; returns how many packets of it."""
    with Reader(path) as reader:
        found = reader.events()
        n = len(found) // live.PER_PACKET
        assert len(found) == n * live.PER_PACKET
        wanted = Events.concatenate(live.events_of(seq) for seq in range(n))
        assert all(np.array_equal(getattr(found, c), getattr(wanted, c)) for c in ("t", "x", "y", "p"))
        frames = list(reader.frames())
        assert abs(len(frames) - n // 10) <= 1
        for number, frame in enumerate(frames):
            assert np.array_equal(frame.image, live.frame_of(number).image)
            assert (frame.exposure_start, frame.exposure_end) == (number * 20_000, number * 20_000 + 10_000)
        assert n >= at_least
        return n


# Files and names


def test_the_file_is_named_after_time_and_camera(settings):
    sink = recorded(Sink(settings), stream_of(3))
    (path,) = sink.paths
    assert path.parent == Path(settings.dir)
    stamp, camera = path.name.split("_")
    assert camera == "Test-Camera-1.mcap"
    assert time.strptime(stamp, "%Y%m%dT%H%M%SZ")
    assert sink.facts == {"recording": str(path)}
    assert check_prefix(path) == 3


def test_no_file_is_ever_overwritten(tmp_path):
    settings = Settings(dir=str(tmp_path), name="run", min_free_mb=0)
    (tmp_path / "run.mcap").write_text("precious")
    (tmp_path / "run-2.mcap").symlink_to(tmp_path / "nowhere")
    names = [recorded(Sink(settings), stream_of(2)).paths[0].name for _ in range(2)]
    assert names == ["run-3.mcap", "run-4.mcap"]
    assert (tmp_path / "run.mcap").read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_that_cannot_be_is_told_before_the_run(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/none")):
        with pytest.raises(InputError, match=str(folder)) as error:
            Sink(Settings(dir=str(folder))).open(STREAMS)
        assert "\n" not in str(error.value)


def no_rights_over_modes():
    """In a child about to start: a folder's mode binds root too (PR_CAPBSET_DROP of CAP_DAC_OVERRIDE)."""
    if os.getuid() == 0:
        ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)


def test_a_folder_without_permission_is_told_before_the_run(tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    program = (
        "import sys\n"
        "from rtpipe.errors import InputError\n"
        "from rtpipe.sinks.record import Settings, Sink\n"
        "try:\n    Sink(Settings(dir=sys.argv[1])).open([])\n"
        "except InputError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=no_rights_over_modes,
    )
    assert done.stdout.count("\n") == 1
    assert str(folder) in done.stdout
    assert "Permission denied" in done.stdout


NONSENSE = [{"name": "a/b"}, {"name": ""}, {"streams": ["smells"]}, {"streams": []}, {"min_free_mb": -1}, {"colour": 1}]


@pytest.mark.parametrize("wrong", NONSENSE)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, Settings)


def test_it_asks_for_the_camera_unless_told_more():
    assert wants(Settings()) == ("events", "frames", "imu", "triggers")
    assert wants(Settings(streams=("output",))) == ("output",)


# The ledger


def test_every_event_frame_and_sample_is_accounted_for(settings):
    sink = Sink(settings)
    sink.open(STREAMS)
    packets = stream_of(20)
    for packet in packets[:11]:
        sink.process(packet)
    sink.process(imu_packet(0))
    assert sink.control("record off") == f"recorded {sink.paths[0]}"
    assert sink.control("record off") == "not recording"
    for packet in packets[11:16]:
        sink.process(packet)
    sink.process(imu_packet(1, 5))
    assert sink.control("record on") == f"recording to {sink.paths[1]}"
    assert sink.control("record on") == f"already recording to {sink.paths[1]}"
    for packet in packets[16:]:
        sink.process(packet)
    outside = Events(np.array([10**6]), np.array([640]), np.array([0]), np.array([0]))
    sink.process(Packet("camera/events", 20, 0, 10**6, 0, outside))
    sink.process(Packet("camera/frames", 2, 0, 10**6, 0, Frame(np.zeros((2, 2, 7), np.uint8), 0)))
    sink.process(Packet("edi/output", 0, 0, 10**6, 0, live.frame_of(0)))
    sink.close()
    assert len(packets) == 22
    assert sink.flows == {
        "events": Flow(40_001, 30_000, {"recording_off": 10_000, "invalid": 1}),
        "frames": Flow(3, 2, {"invalid": 1}),
        "imu": Flow(8, 3, {"recording_off": 5}),
        "triggers": Flow(),
        "packets": Flow(27, 18, {"recording_off": 6, "invalid": 2, "not_wanted": 1}),
    }
    assert all(flow.balanced for flow in sink.flows.values())
    held = [Reader(path).counts() for path in sink.paths]
    assert sum(counts["camera/events"] for counts in held) == sink.flows["events"].passed
    assert sum(counts["camera/imu"] for counts in held) == 3
    assert [counts["camera/frames"] for counts in held] == [1, 1]


def test_what_waits_for_the_system_is_neither_passed_nor_dropped(settings, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("rtpipe.formats.mcap.time.monotonic", lambda: now[0])
    sink = Sink(settings)
    sink.open(STREAMS)
    size = sink.paths[0].stat().st_size
    for packet in stream_of(4):
        sink.process(packet)
    assert (sink.flows["events"].taken, sink.flows["events"].passed) == (8000, 0)
    now[0] += 0.14
    sink.idle()
    assert sink.paths[0].stat().st_size == size
    now[0] += 0.02
    sink.idle()
    assert sink.flows["events"].passed == 8000
    assert check_prefix(sink.paths[0]) == 4
    sink.process(next(live.packets_of(4)))
    now[0] += 0.16  # nobody idles, data keeps coming
    sink.process(next(live.packets_of(5)))
    assert check_prefix(sink.paths[0]) == 6
    sink.close()


def test_notes_and_marks_lie_in_every_file(settings):
    sink = Sink(settings)
    sink.note("pipeline", '{"engine": "edi"}')
    sink.open(STREAMS)
    for packet in stream_of(2):
        sink.process(packet)
    sink.note("mark", "the ball")
    sink.note("mark", "again")
    assert json.loads(Reader(sink.paths[0]).metadata["mark-001"])["text"] == "the ball"  # at once, not at the end
    sink.control("record off")
    sink.note("ledger", '{"lost": 0}')
    sink.control("record on")
    sink.close()
    first, second = (Reader(path).metadata for path in sink.paths)
    assert json.loads(first["mark-002"])["t"] == 2 * live.PACKET_US
    assert second["pipeline"] == first["pipeline"] == '{"engine": "edi"}'
    assert second["ledger"] == '{"lost": 0}'
    with pytest.raises(InputError, match="record on and record off"):
        sink.control("pause")


# Deaths and full disks


def start(folder, *limits):
    command = [sys.executable, "-m", "tests.sinks.live_recorder", folder, *map(str, limits)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)


def kill_and_check(folder, after_s):
    process = start(folder)
    opened = json.loads(process.stdout.readline())["opened"]
    process.stdout.readline()
    time.sleep(after_s)
    process.kill()
    told = [json.loads(line) for line in process.communicate()[0].splitlines()]
    assert process.returncode == -9
    done = {line["done"]: line["at"] for line in told if "done" in line}
    last = max(done)
    old = [seq for seq, at in done.items() if at < done[last] - 250_000_000]
    kept = check_prefix(opened, at_least=max(old, default=-1) + 1)
    with Reader(opened) as reader:
        assert "the end is missing" in reader.notes[0]
        assert reader.metadata["pipeline"] == '{"test": true}'
    return last, kept


def test_kill_9_loses_less_than_the_last_250_ms(tmp_path):
    rng = np.random.default_rng()
    runs = [kill_and_check(tmp_path, float(rng.uniform(0.3, 1.2))) for _ in range(3)]
    assert sum(kept for _, kept in runs) > 0


@pytest.mark.slow
def test_kill_9_loses_less_than_the_last_250_ms_many_times(tmp_path):
    rng = np.random.default_rng()
    for _ in range(40):
        kill_and_check(tmp_path, float(rng.uniform(0.0, 2.0)))


def check_full(process, at_least=1):
    told = [json.loads(line) for line in process.communicate(timeout=100)[0].splitlines()]
    assert process.returncode == 0
    path = Path(told[0]["opened"])
    errors = [line["error"] for line in told if "error" in line]
    assert len(errors) == 1
    assert "\n" not in errors[0]
    assert str(path) in errors[0]
    flows = told[-1]["flows"]
    for taken, passed, dropped in flows.values():
        assert taken == passed + sum(dropped.values())
        assert set(dropped) <= {"disk_full"}
    assert flows["events"][2]["disk_full"] > 0
    assert check_prefix(path, at_least) * live.PER_PACKET == flows["events"][1]
    return errors[0], path


@pytest.mark.parametrize("limit", [10_000, 2_345_678])
def test_a_full_disk_is_told_once_and_nothing_recorded_is_lost(tmp_path, limit):
    error, path = check_full(start(tmp_path, limit), at_least=limit // 2_000_000)
    assert "File too large" in error
    assert path.stat().st_size <= limit


@pytest.mark.skipif(os.getuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_really_is_full(tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", tmp_path], capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        error, _ = check_full(start(tmp_path, 1 << 40))
        assert "No space left on device" in error
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_recording_ends_in_good_order_before_the_disk_is_full(settings, monkeypatch):
    free = [1000]
    monkeypatch.setattr(record, "_free_mb", lambda folder: free[0])
    monkeypatch.setattr(record, "FREE_EVERY_S", 0.0)
    sink = Sink(msgspec.structs.replace(settings, min_free_mb=500))
    sink.open(STREAMS)
    for packet in stream_of(3):
        sink.process(packet)
    free[0] = 499
    with pytest.raises(WorldError, match="only 499 MB are free"):
        sink.idle()
    for packet in stream_of(3):
        sink.process(packet)
    sink.idle()
    with pytest.raises(WorldError, match="only 499 MB are free"):
        sink.control("record on")
    sink.close()
    assert sink.flows["events"] == Flow(12_000, 6000, {"disk_full": 6000})
    assert check_prefix(sink.paths[0]) == 3
    assert Reader(sink.paths[0]).notes == ()
