"""Everything that befalls a camera on the USB, through `rtpipe run` with a recorder: it is taken up again by itself,
the ledger is exact, and the recording holds every event that came, event by event, with the true gap."""

import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tests.drivers.camera import truth
from tests.drivers.camera.faults import Fault, Script, environment
from tests.pipeline.command_line import Running

PIPELINE = """\
sources:
  camera: {{driver: davis, backend: fake{more}}}
sinks:
  - {{sink: record, dir: {out}, name: run}}
"""
BACKENDS = {"fake": "tests.drivers.camera.fake_backend"}


@pytest.fixture
def run(tmp_path, shared):
    """``run(faults, seconds)``: the run's result, the truth, the recording's path."""
    started = []

    def begin(*faults, more="", **script):
        file = tmp_path / "pipeline.yaml"
        file.write_text(PIPELINE.format(out=tmp_path, more=more))
        recording = str(shared("recordings/aedat4/davis346_ball_throw.aedat4"))
        made = Script(
            recording=recording, log=str(tmp_path / "camera.log"), go=str(tmp_path / "go"), faults=faults, **script
        )
        (tmp_path / "r").mkdir()
        running = Running(tmp_path / "r", file, env=environment(tmp_path / "env", made, BACKENDS))
        started.append(running)
        return Run(running, made, tmp_path / "run.mcap")

    yield begin
    for each in started:
        each.kill()


class Run:
    def __init__(self, running, script, path):
        self.running, self.script, self.path = running, script, path

    def flowing(self):
        """Wait until events are recorded."""
        self.running.workers(lambda w: all(r["processed"]["events"] > 0 for r in w["record"]["received"]))
        Path(self.script.go).touch()
        return self

    def end(self, seconds):
        """Stop after so many seconds; the result."""
        time.sleep(seconds)
        self.running.process.send_signal(signal.SIGINT)
        code, self.result, err = self.running.end()
        assert code == 0, (err, self.result)
        self.flows = self.result["stages"]["camera"]
        self.truth = truth.read(self.script)
        return self

    def compare(self):
        """The recording against everything that was handed over; returns (recorded, true) times of the same events."""
        n = self.flows["transfers"]["passed"]
        transfers = self.truth.last(n)
        for kind in truth.KINDS:
            assert self.flows[kind]["taken"] == sum(line.get(kind, 0) for line in transfers), kind
        true, _ = self.truth.events(transfers)
        recorded = truth.recorded(self.path)
        for name in ("x", "y", "p"):
            np.testing.assert_array_equal(getattr(recorded, name), getattr(true, name), err_msg=name)
        assert self.flows["events"]["passed"] == len(recorded)
        return recorded.t, true.t


def test_nothing_wrong_loses_nothing(run):
    done = run().flowing().end(2)
    recorded, true = done.compare()
    assert len(np.unique(recorded - true)) == 1
    assert not any(flow["dropped"] for flow in done.flows.values())
