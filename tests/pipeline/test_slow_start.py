"""An engine that takes long to make ready, as one does that builds a plan: alive is shown, stop is obeyed."""

import os
import time
from pathlib import Path

import pytest

from rtpipe.ledger import Flow
from rtpipe.pipeline import status
from rtpipe.pipeline.accounts import Account
from rtpipe.pipeline.messages import RUNNING, WAITING, Report, WorkerPlan
from rtpipe.pipeline.processes import BACKOFF_S, GOOD_LIFE_S, WorkerProcess
from rtpipe.pipeline.progress import STARTING
from tests.pipeline.command_line import Running

BUILDER = """
import logging
import threading
import time
import msgspec
import numpy as np
from rtpipe.stage import EngineSpec
from rtpipe.types import Frame

LOG = logging.getLogger("engines.builder")

class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    takes_s: float = 2.0

class Engine:
    def __init__(self, settings):
        self.settings = settings
        self.spec = EngineSpec("builder", "count", needs_frame=False, stateful=False)

    def warm(self, resolution):
        self.size = resolution
        ends = time.monotonic() + self.settings.takes_s

        def tell():  # TensorRT tells from whichever thread it likes while this one is in its library
            while time.monotonic() < ends:
                LOG.info("building, %d %%", 100 * (1 - (ends - time.monotonic()) / self.settings.takes_s))
                time.sleep(0.05)

        telling = threading.Thread(target=tell)
        telling.start()
        telling.join()

    def reset(self):
        pass

    def infer(self, window):
        return [Frame(np.full(self.size[::-1], 99, np.uint8), window.t_end, source="builder")]
"""
PIPELINE = """\
sources:
  camera: {{driver: synthetic, rate_mev_s: 0.05, seconds: 0.3, width: 64, height: 48}}
window: {{of: camera, by: time, length_us: 20000}}
engine: {{network: builder, takes_s: {takes_s}}}
sinks:
  - {{sink: record, dir: {out}, name: run, streams: [output]}}
"""


def start(folder: Path, takes_s: float) -> Running:
    package = folder / "package"
    info = package / "builder_engine-1.0.dist-info"
    info.mkdir(parents=True)
    (package / "builder_engine.py").write_text(BUILDER)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: builder-engine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[rtpipe.engines]\nbuilder = builder_engine\n")
    config = folder / "pipeline.yaml"
    config.write_text(PIPELINE.format(out=folder, takes_s=takes_s))
    paths = os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")])
    return Running(folder, config, env={"PYTHONPATH": paths})


def building(workers):
    return workers["engine"]["facts"].get(STARTING, "").startswith("building")


def test_a_build_is_shown_as_it_goes_and_the_run_begins_after_it(tmp_path: Path) -> None:
    run = start(tmp_path, 6.0)
    try:
        first = run.workers(building)["engine"]
        later = run.workers(lambda now: building(now) and now["engine"]["facts"] != first["facts"])["engine"]
        assert later["pid"] == first["pid"]
        code, result, err = run.end()
    finally:
        run.kill()
    assert code == 0, err
    assert result["deaths"] == {}
    windows = result["stages"]["engine"]["windows inferred"]
    assert windows["taken"] == windows["passed"] > 0


def test_stop_during_a_build_is_obeyed_at_once_and_is_no_failure(tmp_path: Path) -> None:
    run = start(tmp_path, 600.0)
    try:
        run.workers(building)
        began = time.monotonic()
        assert run.control("stop")[0] == 0
        code, result, err = run.end()
    finally:
        run.kill()
    assert (code, result["errors"], err) == (0, [], "")
    assert time.monotonic() - began < status.QUIET_S + 20, "it waited for what nobody needs any more"


def account(text: str) -> dict[str, Account]:
    plan = WorkerPlan("engine", "engine", "efnet", {}, "ipc://x", False)
    report = Report("engine", WAITING, flows={"windows": Flow()}, facts={STARTING: text})
    return {"engine": Account(plan, [report])}


def test_words_that_do_not_change_are_shown_with_their_age(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    line = status.StatusLine()
    assert line.line(account("exporting efnet")) == "starting: exporting efnet"
    now += 12
    assert line.line(account("exporting efnet")) == "starting: exporting efnet (for 12 s)"
    now += 1
    assert line.line(account("building efnet, 3 %")) == "starting: building efnet, 3 %"


@pytest.mark.parametrize(("state", "tried"), [(WAITING, len(BACKOFF_S)), (RUNNING, 50)])
def test_dying_again_and_again_while_building_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, tried: int
) -> None:
    """As where memory is short: each try lives for minutes, and none ever gets ready."""
    worker = WorkerProcess(WorkerPlan("engine", "engine", "efnet", {}, "ipc://x", False), tmp_path)
    worker.account.lives.append(Report("engine", state))
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    restarts = 0
    for _ in range(50):
        worker.started = now
        now += 10 * GOOD_LIFE_S
        if not worker.plan_restart("was killed by SIGKILL"):
            break
        restarts += 1
    assert restarts == tried
