"""Two pipelines, as on two machines: one serves, the other records what comes, over tcp with CURVE."""

import os
import signal
import socket

import numpy as np
import pytest

from rtpipe.formats import open_recording
from tests.pipeline.command_line import Running, rtpipe

SERVE = """\
sources:
  camera: {{driver: synthetic, rate_mev_s: 0.5, frames_hz: 25, seconds: {seconds}}}
window: {{of: camera, by: exposure}}
engine: {{network: edi, contrast: 0.2, late: wait}}
sinks:
  - {{sink: serve, bind: "tcp://0.0.0.0:{port}", wait_s: {wait_s}}}
  - {{sink: record, dir: {out}/there, name: there, streams: [events, frames, output]}}
"""
TAKE = """\
sources:
  camera: {{driver: remote, connect: "tcp://127.0.0.1:{port}", server: jetson}}
sinks:
  - {{sink: record, dir: {out}/here, name: here, streams: [events, frames, output]}}
"""


class Machine(Running):
    def __init__(self, home, text, **values):
        home.mkdir(exist_ok=True)
        file = home / "pipeline.yaml"
        file.write_text(text.format(**values))
        os.environ["XDG_CONFIG_HOME"] = str(home)
        super().__init__(home, file)


@pytest.fixture
def machines(tmp_path, monkeypatch):
    """``machines(seconds=…, wait_s=…)``: the server and the taker, known to each other, running."""
    monkeypatch.setenv("XDG_CONFIG_HOME", "")
    homes = {name: tmp_path / name for name in ("jetson", "laptop")}
    public = {}
    for name, home in homes.items():
        public[name] = rtpipe("keys", "make", env={"XDG_CONFIG_HOME": str(home)})[1].splitlines()[1]
    for name, other in (("jetson", "laptop"), ("laptop", "jetson")):
        assert rtpipe("keys", "add", other, public[other], env={"XDG_CONFIG_HOME": str(homes[name])})[0] == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    begun = []

    def begin(seconds, wait_s=30):
        values = {"port": port, "out": tmp_path, "seconds": seconds, "wait_s": wait_s}
        begun.append(Machine(homes["jetson"], SERVE, **values))
        begun.append(Machine(homes["laptop"], TAKE, **values))
        return begun

    yield begin
    for each in begun:
        each.kill()


def test_what_is_served_is_recorded_elsewhere_event_by_event_and_picture_by_picture(machines, tmp_path):
    server, taker = machines(seconds=3)
    code, there, err = server.end()
    assert code == 0, err
    code, here, err = taker.end()
    assert code == 0, err
    assert there["losses"] == here["losses"] == []
    one, other = open_recording(tmp_path / "there/there.mcap"), open_recording(tmp_path / "here/here.mcap")
    sent, came = one.events(0, 1 << 60), other.events(0, 1 << 60)
    assert len(sent) == 1_500_000
    for name in ("t", "x", "y", "p"):
        np.testing.assert_array_equal(getattr(sent, name), getattr(came, name))
    made = list(one.pictures("engine/output"))
    shown = list(other.pictures("camera/output"))
    assert len(made) == len(shown) >= 70
    for a, b in zip(made, shown, strict=True):
        assert a.t == b.t
        np.testing.assert_array_equal(a.image, b.image)


@pytest.mark.slow
def test_a_taker_that_is_killed_neither_stops_the_server_nor_goes_uncounted(machines):
    server, taker = machines(seconds=25)
    taker.workers(lambda workers: (workers["camera"]["position_s"] or 0) > 1.5)
    pid = taker.workers()["camera"]["pid"]
    os.kill(pid, signal.SIGKILL)
    taker.workers(
        lambda workers: workers["camera"]["pid"] not in (0, pid) and (workers["camera"]["position_s"] or 0) > 1
    )
    code, there, err = server.end()
    assert code == 0, err
    peers = [fact["value"] for fact in there["facts"] if fact["fact"].startswith("peer")]
    assert len(peers) == 2
    assert any("not delivered" in said for said in peers)
    code, here, err = taker.end()
    assert code == 0, err
    assert any("SIGKILL" in death for death in here["deaths"]["camera"])


@pytest.mark.slow
def test_a_server_whose_process_is_killed_is_taken_up_in_a_new_epoch(machines, tmp_path):
    """The sink that serves is killed and restarted by its own supervisor; the peer waits for it."""
    server, taker = machines(seconds=12)
    taker.workers(lambda workers: (workers["camera"]["position_s"] or 0) > 1.5)
    pid = server.workers()["serve"]["pid"]
    os.kill(pid, signal.SIGKILL)
    server.workers(lambda workers: workers["serve"]["pid"] not in (0, pid))
    code, _, err = server.end()
    assert code == 0, err
    code, here, err = taker.end()
    assert code == 0, err
    came = open_recording(tmp_path / "here/here.mcap").events(0, 1 << 60)
    assert (np.diff(came.t) >= 0).all()
    assert 1_000_000 < len(came) < 6_000_000
    camera = here["stages"]["camera"]["events"]
    assert camera["taken"] == camera["passed"] + sum(camera["dropped"].values())
    assert camera["passed"] == len(came)
