"""The supervisor: starts every process of a pipeline, restarts what dies, passes on commands, and holds the ledger."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import msgspec
import zmq

from rtpipe.clocks.relation import Clock, as_json
from rtpipe.errors import InputError, WireError
from rtpipe.pipeline import accounts as ledger_of
from rtpipe.pipeline import rundir
from rtpipe.pipeline.accounts import Account
from rtpipe.pipeline.config import PipelineConfig, describe
from rtpipe.pipeline.messages import (
    WAITING,
    Absent,
    Answer,
    Ask,
    Do,
    Failed,
    Note,
    Report,
    Request,
    Status,
    Stop,
    check_command,
    encode,
    from_worker,
)
from rtpipe.pipeline.orders import Orders
from rtpipe.pipeline.plan import endpoint, plan
from rtpipe.pipeline.processes import WorkerProcess, death
from rtpipe.pipeline.progress import STARTING
from rtpipe.pipeline.status import StatusLine

STATUS_EVERY_S = 0.5
CLOCKS_EVERY_S = 2.0
"""How often recordings are told how the sources' clocks lie to one another."""
FINISH_S = 30.0
"""How long a worker whose producers are gone may take to finish before it is ended and named."""


@dataclass(frozen=True)
class RunResult:
    """How a run ended: ``exit_code`` (0 done, 1 failed, 2 bad input), ``errors`` in plain lines, every ledger."""

    exit_code: int
    errors: Sequence[str]
    accounts: Mapping[str, Account]
    seconds: float
    log_directory: Path | None


class Supervisor:
    """Runs one pipeline. ``on_status`` is called twice a second with one line for the terminal, ``on_error`` with what
    goes wrong, in plain words, when it does."""

    def __init__(
        self,
        config: PipelineConfig,
        *,
        on_status: Callable[[str], None] | None = None,
        on_error: Callable[[str], None] | None = None,
    ) -> None:
        self._on_status = on_status or (lambda _line: None)
        self._on_error = on_error or (lambda _line: None)
        self._directory = rundir.create()
        notes = {"pipeline": json.dumps(describe(config))}
        self._workers = {p.name: WorkerProcess(p, self._directory) for p in plan(config, self._directory, notes)}
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 200)
        self._socket.bind(endpoint(self._directory, "control"))
        self._status = StatusLine()
        self._errors: list[str] = []
        self._exit_code = 0
        self._signals = 0
        self._stopping = False
        self._orders = Orders(self._workers, self._tell, self._answer)
        self._noted: dict[tuple[str, int], dict[str, str]] = {}  # what each sink in each of its lives was told
        self._next_status = self._next_clocks = 0.0

    @property
    def accounts(self) -> dict[str, Account]:
        """Every worker's ledger as last reported."""
        return {name: worker.account for name, worker in self._workers.items()}

    def run(self) -> RunResult:
        """Blocks until the pipeline has ended: its source did, someone said stop, or it could not go on."""
        begun = time.monotonic()
        with self._signals_caught():
            try:
                for worker in self._workers.values():
                    worker.start()
                while not all(worker.finished for worker in self._workers.values()):
                    self._turn()
            finally:
                for worker in self._workers.values():
                    worker.kill()
                self._hear()
                self._socket.close()
                self._context.destroy(linger=200)
        for problem in [] if self._exit_code == 2 else ledger_of.problems(self.accounts):
            self._fail(1, problem)
        code = self._exit_code
        keep_logs = code == 1 and any(worker.log.exists() and worker.tail() for worker in self._workers.values())
        if not keep_logs:
            shutil.rmtree(self._directory, ignore_errors=True)
        seconds = time.monotonic() - begun
        return RunResult(code, self._errors, self.accounts, seconds, self._directory if keep_logs else None)

    def stop(self) -> None:
        """Let the sources end; everything else drains and closes."""
        self._stopping = True
        for worker in self._workers.values():
            if worker.plan.role == "driver":
                self._tell(worker.plan.name, Stop())
            elif worker.plan.role == "history":
                self._tell(worker.plan.name, Do(0, "live"))  # the end is not waited for behind a rewind

    # one turn of the loop

    def _turn(self) -> None:
        self._socket.poll(50)
        self._hear()
        self._reap()
        self._restart()
        self._finish()
        self._orders.expire()
        if self._signals:
            self._signals -= 1
            if self._stopping:
                self._fail(1, "stopped at once: what was under way is lost")
                for worker in self._workers.values():
                    worker.kill()
                    worker.finished = True
            self.stop()
        now = time.monotonic()
        if now >= self._next_status:
            self._next_status = now + STATUS_EVERY_S
            line = self._status.line(self.accounts)
            self._on_status(line)
            ledger = json.dumps(msgspec.to_builtins([w.account.last for w in self._workers.values()]))
            for worker in self._workers.values():
                if worker.plan.role == "sink":
                    self._tell(worker.plan.name, Status(line, ledger_of.rewound_s(self.accounts), self._shown_clock()))
                    self._tell(worker.plan.name, Note("ledger", ledger))
            self._note_clocks(now)

    def _shown_clock(self) -> Clock | None:
        """The clock of the source that windows are cut from, or of the only one."""
        clocks = ledger_of.clocks(self.accounts)
        cut_from = [worker.plan.window["of"] for worker in self._workers.values() if worker.plan.window]
        if cut_from:
            return clocks.get(cut_from[0])
        drivers = [name for name, worker in self._workers.items() if worker.plan.role == "driver"]
        return clocks.get(drivers[0]) if len(drivers) == 1 else None

    def _note_clocks(self, now: float) -> None:
        clocks = ledger_of.clocks(self.accounts)
        if len(clocks) < 2 or now < self._next_clocks:
            return
        self._next_clocks = now + CLOCKS_EVERY_S
        text = as_json(clocks, ledger_of.synchronised(self.accounts))
        for worker in self._workers.values():
            if worker.plan.role == "sink":
                self._tell(worker.plan.name, Note("clocks", text))

    def _hear(self) -> None:
        while True:
            try:
                identity, *rest = self._socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            try:
                message = from_worker(rest[-1] if rest else b"")
            except WireError:
                continue
            if isinstance(message, Report):
                self._note_report(message)
            elif isinstance(message, Failed) and message.name in self._workers:
                self._workers[message.name].failure = message.text
            elif isinstance(message, Ask):
                self._command(message.command, None, 0)
            elif isinstance(message, Request):
                self._command(message.command, identity, message.id)
            elif isinstance(message, Answer):
                self._orders.heard(identity.decode(errors="replace"), message)

    def _note_report(self, report: Report) -> None:
        worker = self._workers.get(report.name)
        if worker is None:
            return
        lives = worker.account.lives
        was = worker.account.last.rewound_s if worker.account.last is not None else None
        if (report.rewound_s is None) != (was is None):
            self._next_status = 0.0  # the mark on the screen comes and goes at once
        if len(lives) <= len(worker.account.deaths):
            lives.append(report)
        else:
            lives[-1] = report
        self._keep_notes()

    def _keep_notes(self) -> None:
        """Drivers' notes to every sink that has not got them as they are now, one that was restarted included."""
        drivers = [w.account.last for w in self._workers.values() if w.plan.role == "driver" and w.account.last]
        for name, worker in self._workers.items():
            if worker.plan.role != "sink" or len(worker.account.lives) <= len(worker.account.deaths):
                continue
            told = self._noted.setdefault((name, len(worker.account.deaths)), {})
            for key, text in ((key, text) for report in drivers for key, text in report.notes.items()):
                if told.get(key) != text:
                    told[key] = text
                    self._tell(name, Note(key, text))

    def _reap(self) -> None:
        for name, worker in self._workers.items():
            code = worker.died()
            if code is None:
                continue
            self._hear()  # its last report and words come before its end
            if code == 0:
                worker.finished = True
            elif code in (1, 2):
                worker.finished = True
                self._fail(code, f"{name}: {worker.failure or worker.tail() or death(code)}")
                self._gone(name, will_return=False)
                last = worker.account.last
                if code == 2 or worker.plan.role != "sink" or last is None or last.state == WAITING:
                    # bad input, nothing to run without, or a sink that never began: better to end now than be sorry
                    self.stop()
            else:
                self._mourn(worker, worker.failure or death(code))

    def _mourn(self, worker: WorkerProcess, why: str) -> None:
        """A worker died without wanting to: restart it, unless there is nothing left for it to do."""
        name, worker.failure = worker.plan.name, None
        if len(worker.account.lives) <= len(worker.account.deaths):  # it died before its first report
            worker.account.lives.append(Report(name, "died"))
        idle = self._stopping or (bool(worker.plan.inputs) and self._producers_gone(worker))
        again = worker.plan_restart(why) and not idle
        self._gone(name, will_return=again)
        if not again:
            worker.restart_at, worker.finished = None, True
            if not idle:
                self._fail(1, f"{name} {why} and was restarted {len(worker.account.deaths) - 1} times: given up")
                if worker.plan.role != "sink":
                    self.stop()

    def _restart(self) -> None:
        for worker in self._workers.values():
            if worker.restart_at is not None and time.monotonic() >= worker.restart_at:
                if self._stopping:
                    worker.restart_at, worker.finished = None, True
                else:
                    worker.start()

    def _producers_gone(self, worker: WorkerProcess) -> bool:
        return all(self._workers[item.producer].finished for item in worker.plan.inputs)

    def _finish(self) -> None:
        """Nothing more can reach a worker whose producers are gone: it is told so, and given time to close."""
        for worker in self._workers.values():
            if worker.finished or worker.process is None or not worker.plan.inputs or not self._producers_gone(worker):
                continue
            last = worker.account.last
            if last is not None and last.rewound_s is not None and not self._stopping:
                continue  # the source has ended, but what is rewound is still being looked at
            if last is not None and STARTING in last.facts:
                worker.kill()  # it exports or builds, perhaps for minutes, and nothing has reached it: nothing is lost
                continue
            if not worker.told_to_stop:
                worker.told_to_stop = True
                worker.started = time.monotonic()
                self._tell(worker.plan.name, Stop())
            elif time.monotonic() - worker.started > FINISH_S:
                self._fail(1, f"{worker.plan.name} did not finish within {FINISH_S:.0f} s and was ended")
                worker.kill()

    def _gone(self, name: str, *, will_return: bool) -> None:
        for item in self._workers[name].plan.inputs:
            self._tell(item.producer, Absent(name, will_return))

    def _fail(self, code: int, text: str) -> None:
        self._exit_code = max(self._exit_code, code)
        self._errors.append(text)
        self._on_error(text)

    def _tell(self, name: str, message: msgspec.Struct) -> None:
        with suppress(zmq.ZMQError):  # not there (yet, or any more)
            self._socket.send_multipart([name.encode(), encode(message)], zmq.DONTWAIT)

    # commands

    def _command(self, text: str, client: bytes | None, request: int) -> None:
        try:
            command = check_command(text)
        except InputError as error:
            self._answer(client, request, False, str(error))
            return
        verb, _, argument = command.partition(" ")
        if verb == "stop":
            self.stop()
            self._answer(client, request, True, "stopping")
        elif verb == "status":
            self._answer(client, request, True, self._status.json(self.accounts))
        elif verb == "mark":
            for worker in self._workers.values():
                self._tell(worker.plan.name, Note("mark", argument))
            self._answer(client, request, True, f"marked: {argument}")
        elif verb == "rewind" and self._stopping:
            self._answer(client, request, False, "stopping")
        else:
            self._orders.give(command, client, request)

    def _answer(self, client: bytes | None, request: int, ok: bool, text: str) -> None:
        if client is None:
            self._status.say(text)
            return
        with suppress(zmq.ZMQError):
            self._socket.send_multipart([client, encode(Answer(request, ok, text))], zmq.DONTWAIT)

    @contextmanager
    def _signals_caught(self) -> Iterator[None]:
        def note(_signal: int, _frame: FrameType | None) -> None:
            self._signals += 1

        caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        try:
            before = {number: signal.signal(number, note) for number in caught}
        except ValueError:  # not the main thread (a test, a notebook): whoever owns it stops us by stop()
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
