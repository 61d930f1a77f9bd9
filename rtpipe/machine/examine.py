"""Asking every probe in a process of its own: one that crashes or hangs is a fact, not the end of the doctor."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeAlias

import msgspec

from rtpipe.machine.fact import Fact, Group, reason

PATIENCE_S = 90.0
"""A probe that takes longer is reported as hanging."""

_FORK = multiprocessing.get_context("fork")  # children start at once and share what is imported
_Asked: TypeAlias = "tuple[multiprocessing.context.ForkProcess, Connection]"


@dataclass(frozen=True)
class Probe:
    """Something to look at: ``ask`` returns the facts; ``group``, ``part`` and ``required`` name them if it dies."""

    group: Group
    part: str
    ask: Callable[[], Fact | list[Fact]]
    required: bool = False


def examine(probes: Sequence[Probe], patience_s: float = PATIENCE_S) -> list[Fact]:
    """The facts of all ``probes``, in their order. Blocks until the last has answered or ``patience_s`` is over for it;
    as many run at once as there are cores. Never raises for what a probe does."""
    facts = []
    at_once = len(os.sched_getaffinity(0))
    for first in range(0, len(probes), at_once):
        batch = [(probe, _start(probe)) for probe in probes[first : first + at_once]]
        for probe, asked in batch:
            facts += _answer(probe, asked, patience_s)
    return facts


def _start(probe: Probe) -> _Asked:
    ours, theirs = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_ask, args=(probe, theirs), daemon=True)
    process.start()
    theirs.close()  # so that the child's death ends the pipe
    return process, ours


def _ask(probe: Probe, line: Connection) -> None:
    """In the child: what libraries print while they are imported goes nowhere, the facts go up the pipe."""
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            facts = probe.ask()
    except Exception as error:
        facts = Fact(probe.group, probe.part, "missing", reason(error), required=probe.required)
    line.send_bytes(msgspec.json.encode(facts if isinstance(facts, list) else [facts]))


def _answer(probe: Probe, asked: _Asked, patience_s: float) -> list[Fact]:
    process, line = asked
    try:
        if line.poll(patience_s):
            return msgspec.json.decode(line.recv_bytes(), type=list[Fact])
        says = f"did not answer within {patience_s:.0f} s"
    except EOFError:
        process.join()
        code = process.exitcode or 0
        says = f"the process that tried it died of {signal.Signals(-code).name}" if code < 0 else f"it exited ({code})"
    finally:
        process.kill()
        process.join()
        line.close()
    return [Fact(probe.group, probe.part, "missing", says, required=probe.required)]
