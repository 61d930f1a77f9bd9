"""kill -9 of each process in turn under load: the rest does what the design says, and the ledger names the loss."""

import os
import signal
import time
from pathlib import Path

import pytest

from rtpipe.formats import open_recording
from tests.pipeline.command_line import Running
from tests.pipeline.recording import make

pytestmark = pytest.mark.slow

REPLAY = """\
sources:
  camera: {{driver: replay, path: {source}, speed: 1}}
window: {{of: camera, by: exposure}}
engine: {{network: edi}}
sinks:
  - {{sink: record, dir: {out}, name: run, streams: [events, frames]}}
  - {{sink: video, path: {out}/run.mp4, panels: [output]}}
"""
LIVE = REPLAY.replace(
    "driver: replay, path: {source}, speed: 1", "driver: synthetic, rate_mev_s: 0.5, seconds: 12, frames_hz: 25"
)


@pytest.fixture
def start(tmp_path):
    started = []

    def begin(text, frames=700):
        runtime = tmp_path / "r"
        runtime.mkdir()
        source = make(tmp_path / "source.h5", frames=frames) if "source" in text else None
        file = tmp_path / "pipeline.yaml"
        file.write_text(text.format(source=source, out=tmp_path))
        started.append(Running(runtime, file))
        return started[-1]

    yield begin
    for running in started:
        running.kill()


def flowing(workers):
    return all(r["processed"]["packets"] > 20 for w in workers.values() for r in w["received"])


@pytest.mark.parametrize("victim", ["camera", "engine", "record", "video"])
def test_a_replay_goes_on_after_any_of_its_processes_is_killed(start, tmp_path, victim):
    running = start(REPLAY)
    workers = running.workers(flowing)
    os.kill(workers[victim]["pid"], signal.SIGKILL)
    reborn = running.workers(lambda now: now[victim]["pid"] not in (0, workers[victim]["pid"]))
    assert reborn[victim]["pid"] != workers[victim]["pid"]
    code, result, err = running.end()
    assert code == 0, err
    assert any("SIGKILL" in death for death in result["deaths"][victim])
    assert any(victim in line for line in result["losses"])
    n_events = len(open_recording(tmp_path / "source.h5").events())
    if victim == "camera":  # a replay continues where its consumers were: nothing is lost, nothing comes twice
        recorded = open_recording(tmp_path / "run.mcap")
        assert len(recorded.events()) == n_events
    else:
        edge = result["edges"][f"camera->{victim}"] if victim != "video" else result["edges"]["engine->video"]
        lost = sum(tally["packets"] for tally in edge["dropped"].values())
        assert edge["offered"]["packets"] == edge["delivered"]["packets"] + lost
    if victim != "record":
        assert len(open_recording(tmp_path / "run.mcap").events()) == n_events


@pytest.mark.parametrize("victim", ["engine", "record"])
def test_a_live_source_never_waits_for_the_dead(start, victim):
    running = start(LIVE)
    workers = running.workers(flowing)
    begun = time.monotonic()
    os.kill(workers[victim]["pid"], signal.SIGKILL)
    code, result, err = running.end()
    assert code == 0, err
    assert time.monotonic() - begun < 30
    assert result["edges"][f"camera->{victim}"]["dropped"]["consumer_absent"]["packets"] > 0
    for edge in (result["edges"]["camera->engine"], result["edges"]["camera->record"]):
        lost = sum(tally["events"] for tally in edge["dropped"].values())
        assert edge["offered"]["events"] == edge["delivered"]["events"] + lost == 6_000_000
    other = "record" if victim == "engine" else "engine"
    assert not set(result["edges"][f"camera->{other}"]["dropped"]) & {"consumer_absent", "consumer_died"}


def test_everything_drains_and_closes_when_the_supervisor_is_killed(start, tmp_path):
    running = start(REPLAY)
    workers = running.workers(flowing)
    running.process.send_signal(signal.SIGKILL)
    running.process.wait()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and any(alive(w["pid"]) for w in workers.values()):
        time.sleep(0.1)
    assert not any(alive(w["pid"]) for w in workers.values())
    recorded = open_recording(tmp_path / "run.mcap")
    assert not any("cut" in note or "missing" in note for note in recorded.notes)
    source = open_recording(tmp_path / "source.h5").events()
    got = recorded.events()
    assert 0 < len(got) <= len(source)
    assert (got.t == source.t[: len(got)]).all()


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_stalled_recorder_makes_a_replay_wait_and_nothing_is_lost(start, tmp_path):
    running = start(REPLAY.replace("speed: 1", "speed: 2"))
    workers = running.workers(flowing)
    os.kill(workers["record"]["pid"], signal.SIGSTOP)
    time.sleep(4)  # by now what an edge may hold is held
    waiting = running.workers()["camera"]["position_s"]
    time.sleep(1)
    assert running.workers()["camera"]["position_s"] == pytest.approx(waiting, abs=0.1)
    os.kill(workers["record"]["pid"], signal.SIGCONT)
    code, result, err = running.end()
    assert code == 0, err
    assert result["losses"] == []
    n_events = len(open_recording(tmp_path / "source.h5").events())
    assert result["edges"]["camera->record"]["delivered"]["events"] == n_events


def test_ctrl_c_drains_and_closes(start, tmp_path):
    running = start(LIVE)
    running.workers(flowing)
    running.process.send_signal(signal.SIGINT)
    code, result, err = running.end()
    assert code == 0, err
    assert result["losses"] == []
    edge = result["edges"]["camera->record"]
    assert len(open_recording(tmp_path / "run.mcap").events()) == edge["delivered"]["events"] > 0


def test_pause_seek_and_speed_reach_the_driver(start):
    running = start(REPLAY)
    running.workers(flowing)
    assert running.control("pause")[0] == 0
    before = running.workers()["camera"]["position_s"]
    time.sleep(1)
    assert running.workers()["camera"]["position_s"] == pytest.approx(before, abs=0.3)
    assert running.control("seek", "4")[0] == 0
    assert running.control("resume")[0] == 0
    assert running.control("speed", "4")[0] == 0
    code, text = running.control("seek", "never")
    assert code == 2
    assert "never" in text
    code, result, err = running.end()
    assert code == 0, err
    assert result["losses"] == []
