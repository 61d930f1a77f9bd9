"""Running a task in a process of its own: one that crashes or hangs is a line of the report, not the end of it."""

from __future__ import annotations

import select
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from rtpipe.check.one import Taken, Task, take
from rtpipe.errors import RtpipeError
from rtpipe.types import Array

PATIENCE_S = 900.0
"""How long a process may say nothing: exports and builds say something more often."""


@dataclass(frozen=True)
class Outcome:
    """What came of a task: what was ``taken`` and the arrays, or of what it ``failure`` failed."""

    taken: Taken | None = None
    arrays: Mapping[str, Array] = field(default_factory=dict)
    failure: str = ""


class _Line(msgspec.Struct):
    progress: str = ""
    failed: str = ""
    taken: Taken | None = None


def run_here(task: Task, folder: Path, progress: Callable[[str], None]) -> Outcome:  # noqa: ARG001
    """In this process: for tests, and for who calls this from a debugger."""
    try:
        return Outcome(*take(task, progress))
    except Exception as error:
        text = str(error) if isinstance(error, RtpipeError) else f"{type(error).__name__}: {error}"
        return Outcome(failure=" ".join(text.split())[:500])


def run_apart(task: Task, folder: Path, progress: Callable[[str], None], patience_s: float = PATIENCE_S) -> Outcome:
    """In a process of its own. Blocks until it has ended, or has said nothing for ``patience_s``. Never raises for what
    the process does."""
    plan, log = folder / "task.json", folder / "task.log"
    arrays = plan.with_suffix(".npz")
    plan.write_bytes(msgspec.json.encode(task))
    arrays.unlink(missing_ok=True)
    command = [sys.executable, "-m", "rtpipe.check.one", str(plan)]
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
    try:
        last, silent = _hear(process, progress, patience_s)
    finally:
        process.kill()
        code = process.wait()
    if last.taken is not None and arrays.is_file():
        with np.load(arrays, allow_pickle=False) as kept:
            return Outcome(last.taken, {name: kept[name] for name in kept.files})
    if last.failed:
        return Outcome(failure=last.failed)
    why = f"said nothing for {patience_s:.0f} s and was ended" if silent else _death(code)
    said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    where = f" ({last.progress})" if last.progress else ""
    return Outcome(failure=f"its process {why}{where}{'; it printed: ' + said[-1][:200] if said else ''}")


def _hear(process: subprocess.Popen[bytes], progress: Callable[[str], None], patience_s: float) -> tuple[_Line, bool]:
    """Everything the process says until it ends: the last words of each kind, and whether it fell silent."""
    assert process.stdout is not None
    heard, rest = _Line(), b""
    while True:
        ready, _, _ = select.select([process.stdout], [], [], patience_s)
        if not ready:
            return heard, True
        data = process.stdout.read1(1 << 16)  # type: ignore[attr-defined]
        if not data:
            process.wait(10)
            return heard, False
        *lines, rest = (rest + data).split(b"\n")
        for text in lines:
            try:
                line = msgspec.json.decode(text, type=_Line)
            except msgspec.DecodeError:
                continue
            if line.progress:
                heard.progress = line.progress
                progress(line.progress)
            heard.failed, heard.taken = line.failed or heard.failed, line.taken or heard.taken


def _death(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"died of {signal.Signals(-code).name}"
    except ValueError:
        return f"died of signal {-code}"
