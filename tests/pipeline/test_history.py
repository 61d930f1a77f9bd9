"""Rewinding whole pipelines: real processes, real ZeroMQ, a live camera and a replay."""

import os
import signal
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from drivers.synthetic import Driver, Settings
from rtpipe.errors import ConfigError
from rtpipe.formats import open_recording
from rtpipe.pipeline.config import load
from rtpipe.pipeline.control import ask
from rtpipe.types import Events, Frame, FrameFlag
from tests.pipeline.command_line import Running
from tests.pipeline.recording import make

LIVE = """\
sources:
  camera: {{driver: synthetic, rate_mev_s: 0.2, frames_hz: 25, seconds: {seconds}}}
history: {{of: camera, seconds: 5, megabytes: {megabytes}, dir: {out}/saved}}
window: {{of: camera, by: exposure}}
engine: {{network: edi, contrast: 0.2, late: wait}}
sinks:
  - {{sink: record, dir: {out}, name: run, streams: [events, frames, output]}}
  - {{sink: video, path: {out}/run.mp4, panels: [frame, output]}}
"""
REPLAY = LIVE.replace(
    "driver: synthetic, rate_mev_s: 0.2, frames_hz: 25, seconds: {seconds}", "driver: replay, path: {source}"
)


class Rig(Running):
    """A running pipeline whose control socket is asked directly: commands come at once, as keys do."""

    def __init__(self, tmp_path, text, seconds=6, megabytes=64, frames=300):
        self.out = tmp_path
        self.runtime = tmp_path / "r"
        self.runtime.mkdir()
        source = make(tmp_path / "source.h5", frames=frames, events_per_frame=1500) if "{source}" in text else None
        file = tmp_path / "pipeline.yaml"
        file.write_text(text.format(out=tmp_path, source=source, seconds=seconds, megabytes=megabytes))
        super().__init__(self.runtime, file)

    def control(self, *words):
        answer = ask(self.runtime / "rtpipe" / str(self.process.pid), " ".join(words))
        return (0 if answer.ok else 2), answer.text

    def workers(self, ready=lambda workers: True, timeout=60):
        deadline = time.monotonic() + timeout
        while not list(self.runtime.glob("rtpipe/*/control.sock")) and time.monotonic() < deadline:
            time.sleep(0.1)
        return super().workers(ready, timeout)

    def at(self, seconds):
        """Wait until the source has come so far and the engine's pictures are recorded."""
        return self.workers(lambda w: (w["camera"]["position_s"] or 0) >= seconds)


@pytest.fixture
def rig(tmp_path):
    started = []

    def begin(text, **values):
        started.append(Rig(tmp_path, text, **values))
        return started[-1]

    yield begin
    for running in started:
        running.kill()


def check_books(result):
    """Every edge delivered all that was offered, less what it names; the history's own flows balance with them."""
    for name, edge in result["edges"].items():
        lost = sum(tally["packets"] for tally in edge["dropped"].values())
        assert edge["offered"]["packets"] == edge["delivered"]["packets"] + lost, name
    flows = result["stages"]["history"]
    for kind, flow in flows.items():
        assert flow["taken"] == flow["passed"] + sum(flow["dropped"].values()), kind
    again = flows.get("events again", {"passed": 0})["passed"]
    assert result["edges"]["camera->history"]["delivered"]["events"] == flows["events"]["taken"]
    assert result["edges"]["history->engine"]["offered"]["events"] == flows["events"]["passed"] + again
    return flows


def check_pictures(out):
    """Those made again are those made live, bit by bit; returns how many were made again."""
    by_t = defaultdict(list)
    previous, resets = None, 0
    for frame in open_recording(out / "run.mcap").pictures("engine/output"):
        by_t[frame.t].append(frame.image)
        if previous is not None and frame.t < previous:
            assert frame.flags & FrameFlag.STATE_RESET
            resets += 1
        previous = frame.t
    assert resets
    repeated = [images for images in by_t.values() if len(images) > 1]
    for images in repeated:
        for image in images[1:]:
            np.testing.assert_array_equal(image, images[0])
    return len(repeated)


def check_recording(out, events, frames):
    """The recording is what the camera sent, as if nobody had ever rewound it."""
    recording = open_recording(out / "run.mcap")
    assert not any("jumped" in note or "missing" in note for note in recording.notes)
    got = recording.events()
    for column in "txyp":
        np.testing.assert_array_equal(getattr(got, column), getattr(events, column))
    for one, other in zip(recording.frames(), frames, strict=True):
        assert one.t == other.t
        np.testing.assert_array_equal(one.image, other.image)


def synthetic(seconds):
    """What the synthetic camera of LIVE sends: events and frames."""
    driver = Driver(Settings(rate_mev_s=0.2, frames_hz=25, seconds=seconds))
    driver.open()
    packets = []
    while not driver._ended:
        packets += driver._packet(0)
    events = Events.concatenate([p.body for p in packets if isinstance(p.body, Events)])
    return events, [p.body for p in packets if isinstance(p.body, Frame)]


def test_a_live_camera_is_rewound_through_the_engine_and_its_recording_does_not_notice(rig, tmp_path):
    running = rig(LIVE, seconds=5)
    running.at(2.5)
    assert running.control("live") == (0, "history: live already")
    code, text = running.control("rewind 1.5")
    assert (code, text) == (0, "history: at -1.50 s")
    assert running.control("pause")[1].startswith("history: pause")
    assert running.control("speed 4")[0] == 0
    code, text = running.control("save 1")
    assert code == 0
    assert "saved 1.0" in text
    status = running.workers(lambda w: w["history"]["rewound_s"] is not None)
    assert status["history"]["rewound_s"] >= 1.5
    assert running.control("resume")[0] == 0
    running.workers(lambda w: w["history"]["rewound_s"] is None)
    code, text = running.control("speed 4")
    assert (code, text.split(":")[0]) == (2, "camera")
    code, result, err = running.end()
    assert code == 0, err
    assert result["losses"] == []
    flows = check_books(result)
    assert set(flows["events"]["dropped"]) == {"rewound"}
    assert flows["events"]["taken"] == 1_000_000
    assert flows["events again"]["passed"] == pytest.approx(300_000, abs=2000)
    assert check_pictures(tmp_path) >= 35  # of 37 exposures
    check_recording(tmp_path, *synthetic(5))
    saved = open_recording(next((tmp_path / "saved").glob("*.mcap")))
    assert len(saved.events()) == pytest.approx(200_000, abs=2000)
    assert (saved.events().t[-1] - saved.events().t[0]) / 1e6 == pytest.approx(1, abs=0.01)


def test_a_replay_waits_while_it_is_rewound_and_nothing_is_lost(rig, tmp_path):
    running = rig(REPLAY)
    running.at(2)
    assert running.control("rewind 1")[0] == 0
    before = running.workers()["camera"]["position_s"]
    assert running.control("pause")[0] == 0  # what is rewound; the replay waits by itself
    time.sleep(1)
    running.workers(lambda w: w["camera"]["position_s"] < before + 1.5)
    assert running.control("resume")[0] == 0
    code, result, err = running.end()
    assert code == 0, err
    assert result["losses"] == []
    flows = check_books(result)
    assert flows["events"]["dropped"] == flows["frames"]["dropped"] == {}
    assert check_pictures(tmp_path) >= 45
    source = open_recording(tmp_path / "source.h5")
    check_recording(tmp_path, source.events(), list(source.frames()))
    made = {frame.t for frame in open_recording(tmp_path / "run.mcap").pictures("engine/output")}
    assert made == {frame.t for frame in source.frames()}


@pytest.mark.slow
@pytest.mark.parametrize(("text", "stop"), [(LIVE, "stop"), (REPLAY, "SIGINT")], ids=["live", "replay"])
def test_a_run_that_is_stopped_while_rewound_drains_and_closes(rig, tmp_path, text, stop):
    running = rig(text, seconds=60, frames=800)
    running.at(2.5)
    running.control("rewind 2")
    running.control("pause")
    running.workers(lambda w: w["history"]["rewound_s"] is not None)
    if stop == "stop":
        assert running.control("stop")[0] == 0
    else:
        running.process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    code, result, err = running.end()
    assert code == 0, err
    assert time.monotonic() - begun < 25
    assert result["losses"] == []
    flows = check_books(result)
    if text is REPLAY:
        assert set(flows["events"]["dropped"]) == set()
    recorded = open_recording(tmp_path / "run.mcap").events()
    assert len(recorded) == flows["events"]["taken"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("text", [LIVE, REPLAY], ids=["live", "replay"])
def test_a_source_that_ends_while_it_is_rewound_is_looked_at_to_the_end(rig, tmp_path, text):
    """Longer than a driver waits for a consumer that does nothing."""
    running = rig(text, seconds=4, frames=200)
    running.at(3.5)
    running.control("rewind 2")
    running.control("pause")
    held = running.workers()["history"]["rewound_s"]
    assert held > 1  # of the 2 s: it played until the pause came
    time.sleep(14 if text is REPLAY else 2)
    assert running.process.poll() is None
    assert running.workers()["history"]["rewound_s"] >= held
    running.control("resume")
    code, result, err = running.end()
    assert code == 0, err
    assert result["losses"] == []
    check_books(result)
    assert check_pictures(tmp_path) >= 40


@pytest.mark.parametrize("text", [LIVE, pytest.param(REPLAY, marks=pytest.mark.slow)], ids=["live", "replay"])
def test_a_history_that_is_killed_comes_back_and_its_loss_is_counted(rig, tmp_path, text):
    """Also after a rewind: what follows it must take the new one's packets, though its count of jumps is lost."""
    running = rig(text, seconds=60, frames=350)
    workers = running.at(1.5)
    running.control("rewind 0.5")
    running.workers(lambda w: w["history"]["rewound_s"] is None and w["history"]["flows"].get("events again"))
    os.kill(workers["history"]["pid"], signal.SIGKILL)
    workers = running.workers(lambda w: w["history"]["pid"] not in (0, workers["history"]["pid"]) and flowing(w))
    until = running.at(workers["camera"]["position_s"] + 1)["camera"]["position_s"] - 0.5
    if text is LIVE:
        running.control("stop")
    code, result, err = running.end()
    assert code == 0, err
    assert any("SIGKILL" in death for death in result["deaths"]["history"])
    assert any("history" in line for line in result["losses"])
    for edge in ("camera->history", "camera->record"):
        tallies = result["edges"][edge]
        lost = sum(tally["events"] for tally in tallies["dropped"].values())
        assert tallies["offered"]["events"] == tallies["delivered"]["events"] + lost
    assert result["edges"]["camera->record"]["dropped"] == {}
    frames = open_recording(tmp_path / "run.mcap").pictures("engine/output")
    assert max(frame.t for frame in frames) / 1e6 > (until if text is LIVE else 7.9)


def flowing(workers):
    return workers["history"]["flows"].get("events", {"passed": 0})["passed"] > 0


@pytest.mark.slow
def test_a_fast_camera_stays_within_the_rings_bytes(rig, tmp_path):
    """8 Mev/s are 64 MB/s; the history's process grows by its 48 MB and no more."""
    text = LIVE.replace("rate_mev_s: 0.2", "rate_mev_s: 8").replace("[events, frames, output]", "[frames]")
    running = rig(text, seconds=12, megabytes=48)
    pid = running.at(0.1)["history"]["pid"]
    small = resident_mb(pid)
    running.at(3)
    running.control("rewind 0.4")
    running.control("speed 0.1")
    grown = []
    while running.process.poll() is None and Path(f"/proc/{pid}").exists():
        grown.append(resident_mb(pid) - small)
        time.sleep(0.2)
    code, result, err = running.end()
    assert code == 0, err
    flows = check_books(result)
    assert (
        flows["events"]["taken"]
        + sum(tally["events"] for tally in result["edges"]["camera->history"]["dropped"].values())
        == 96_000_000
    )
    kept = next(fact["value"] for fact in result["facts"] if fact["fact"] == "kept")
    assert kept.endswith("in 48 MB")
    assert max(grown) < 48 + 96  # the ring; beside it messages under way (16 MiB a consumer) and their buffers


def resident_mb(pid):
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0.0
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6 if fields else 0.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("of: camera, seconds", "of: kamera, seconds"), ["pipeline.yaml:3", "history.of", "kamera", "camera"]),
        (("seconds: 5", "second: 5"), ["pipeline.yaml:3", "history.second", "seconds", "megabytes"]),
        (("seconds: 5", "seconds: 0"), ["pipeline.yaml:3", "history", "seconds"]),
        (("megabytes: 64", "megabytes: much"), ["pipeline.yaml:3", "history.megabytes"]),
        (("megabytes: 64", "megabytes: 0.2"), ["pipeline.yaml:3", "megabytes"]),
    ],
)
def test_a_history_that_cannot_be_is_refused_by_line_and_key(tmp_path, change, words):
    path = tmp_path / "pipeline.yaml"
    path.write_text(LIVE.format(out=tmp_path, seconds=1, megabytes=64).replace(*change))
    with pytest.raises(ConfigError) as caught:
        load(str(path))
    assert len(str(caught.value).splitlines()) == 1
    for word in words:
        assert word in str(caught.value)


def test_without_a_history_rewind_says_what_is_missing(rig):
    running = rig("\n".join(line for line in LIVE.splitlines() if not line.startswith("history")), seconds=2)
    running.at(0.1)
    for command in ("rewind 1", "save 1", "live"):
        code, text = running.control(command)
        assert code == 2
        assert "history: {of: camera}" in text
    assert running.control("stop")[0] == 0
    assert running.end()[0] == 0
