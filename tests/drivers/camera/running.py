"""A pipeline of a camera that is none and a recorder, as a user runs it."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np

from tests.drivers.camera import truth
from tests.drivers.camera.faults import Script, environment
from tests.pipeline.command_line import Running

PIPELINE = """\
sources:
  camera: {{driver: {driver}, backend: {backend}{more}}}
sinks:
  - {{sink: record, dir: {out}, name: run}}
"""
BACKENDS = {"fake": "tests.drivers.camera.fake_backend"}


class CameraRun:
    """``folder`` is its own. ``more``: further settings of the source, as YAML behind a comma. ``backends``: entry
    points of the run's; ``path`` is first in its PYTHONPATH (a stand-in of an SDK). The rest goes to the script."""

    def __init__(
        self, folder, recording, *faults, driver="davis", backend="fake", backends=None, more="", path=None, **script
    ):
        file = folder / "pipeline.yaml"
        file.write_text(PIPELINE.format(out=folder, more=more, driver=driver, backend=backend))
        self.script = Script(
            recording=str(recording), log=str(folder / "camera.log"), go=str(folder / "go"), faults=faults, **script
        )
        env = environment(folder / "env", self.script, BACKENDS if backends is None else backends)
        if path is not None:
            env["PYTHONPATH"] = f"{path}:{env['PYTHONPATH']}"
        (folder / "r").mkdir()
        self.path = folder / "run.mcap"
        self.running = Running(folder / "r", file, env=env)

    def flowing(self):
        """Wait until events are recorded; the times of faults are counted from here."""
        self.running.workers(lambda w: all(r["processed"]["events"] > 0 for r in w["record"]["received"]))
        Path(self.script.go).touch()
        return self

    def end(self, seconds):
        """Stop after so many seconds: the run must end in order, its ledger balanced."""
        time.sleep(seconds)
        self.running.process.send_signal(signal.SIGINT)
        code, self.result, err = self.running.end()
        assert code == 0, (err, self.result)
        self.flows = self.result["stages"]["camera"]
        self.truth = truth.read(self.script)
        return self

    def compare(self):
        """The ledger and the recording against everything that was handed over; (recorded, true) times of the events
        that were recorded."""
        n = self.flows["transfers"]["passed"]
        transfers = self.truth.last(n)
        for kind in self.script.kinds:
            assert self.flows[kind]["taken"] == sum(line.get(kind, 0) for line in transfers), kind
        true, _ = self.truth.events(transfers)
        recorded = truth.recorded(self.path)
        for name in ("x", "y", "p"):
            np.testing.assert_array_equal(getattr(recorded, name), getattr(true, name), err_msg=f"{name}: {self.flows}")
        assert self.flows["events"]["passed"] == len(recorded)
        return recorded.t, true.t

    def kill(self):
        """Whatever state it is in."""
        self.running.kill()
