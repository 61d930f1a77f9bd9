"""Worker processes: started, watched, restarted with back-off, and ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from rtpipe.pipeline.accounts import Account
from rtpipe.pipeline.messages import WAITING, WorkerPlan

BACKOFF_S = (0.1, 0.3, 1.0, 3.0, 5.0)
"""Waits before the first, second … restart; a life of :data:`GOOD_LIFE_S` starts the row anew."""
GOOD_LIFE_S = 30.0


@dataclass
class WorkerProcess:
    """One worker over all its lives."""

    plan: WorkerPlan
    directory: Path
    account: Account = field(init=False)
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    restart_at: float | None = None
    quick_deaths: int = 0
    finished: bool = False
    """It will not run again: done, failed, or given up."""
    told_to_stop: bool = False
    failure: str | None = None

    def __post_init__(self) -> None:
        self.account = Account(self.plan)

    @property
    def log(self) -> Path:
        """What the worker printed, all lives together."""
        return self.directory / f"{self.plan.name}.log"

    def start(self) -> None:
        """Start the process, in a session of its own so that the terminal's Ctrl-C reaches only the supervisor."""
        plan_file = self.directory / f"{self.plan.name}.json"
        plan = msgspec.structs.replace(self.plan, life=len(self.account.deaths))
        plan_file.write_bytes(msgspec.json.encode(plan))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "rtpipe.pipeline.worker", str(plan_file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started, self.restart_at, self.told_to_stop = time.monotonic(), None, False

    def died(self) -> int | None:
        """The exit code if the process has just ended (negative: the signal), else None. Says so once."""
        if self.process is None:
            return None
        code = self.process.poll()
        if code is not None:
            self.process = None
        return code

    def plan_restart(self, why: str) -> bool:
        """Note the death and when to start again; False when it has died too often too quickly."""
        now = time.monotonic()
        self.account.deaths.append(why)
        last = self.account.last
        lived = last is not None and last.state != WAITING  # one that died while it built for minutes never lived
        self.quick_deaths = 1 if lived and now - self.started > GOOD_LIFE_S else self.quick_deaths + 1
        if self.quick_deaths > len(BACKOFF_S):
            return False
        self.restart_at = now + BACKOFF_S[self.quick_deaths - 1]
        return True

    def kill(self) -> None:
        """End the process at once."""
        if self.process is not None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                self.process.kill()
            self.process.wait()

    def tail(self) -> str:
        """The last line of the log that is not empty."""
        try:
            lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        except OSError:
            return ""
        return lines[-1] if lines else ""


def death(code: int) -> str:
    """An exit code in words."""
    if code < 0:
        try:
            return f"was killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"was killed by signal {-code}"
    return f"stopped with exit code {code}"
