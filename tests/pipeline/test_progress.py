"""What an engine says while it makes ready reaches the status line while the worker is blocked in it."""

import logging

from rtpipe.ledger import Flow
from rtpipe.pipeline.accounts import Account
from rtpipe.pipeline.messages import WAITING, Report, WorkerPlan
from rtpipe.pipeline.progress import STARTING, told
from rtpipe.pipeline.status import StatusLine


def test_remarks_are_passed_on_only_while_it_lasts() -> None:
    said: list[str] = []
    log = logging.getLogger("engines.runtime.exported")
    level = logging.getLogger("engines").level
    with told(said.append):
        log.info("exporting %s", "nernet")
        log.debug("no")
        logging.getLogger("someone.else").warning("no")
    log.info("too late")
    assert said == ["exporting nernet"]
    assert logging.getLogger("engines").level == level


def account(**facts: str) -> dict[str, Account]:
    plan = WorkerPlan("engine", "engine", "nernet", {}, "ipc://x", False)
    return {"engine": Account(plan, [Report("engine", WAITING, flows={"windows": Flow()}, facts=facts)])}


def test_the_status_line_shows_it_and_leaves_long_reasons_to_the_report() -> None:
    line = StatusLine().line(account(**{STARTING: "exporting nernet to ONNX, once for this size"}))
    assert line == "starting: exporting nernet to ONNX, once for this size"
    line = StatusLine().line(account(runtime="ONNX Runtime, cpu", chosen="because of a long story"))
    assert "runtime ONNX Runtime, cpu" in line
    assert "story" not in line
