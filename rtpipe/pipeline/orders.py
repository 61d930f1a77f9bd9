"""Commands on their way: which workers obey, who has answered, and what to tell whoever asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rtpipe.pipeline.messages import Answer, Do
from rtpipe.pipeline.processes import WorkerProcess

ANSWER_S = 5.0


@dataclass
class _Pending:
    """Who asked, who has not answered, what the others said."""

    client: bytes | None
    request: int
    command: str
    waiting: set[str]
    deadline: float
    texts: list[str]
    ok: bool = True


class Orders:
    """Passes commands on to the workers that they are for, and their answers back.

    ``record`` is for recorders; ``rewind``, ``live`` and ``save`` for the history. ``pause``, ``resume``, ``step``,
    ``seek`` and ``speed`` are for what is rewound: the history is asked first, and what it declines, because the stream
    is live, the drivers obey. ``set`` is for the drivers alone: for one of them where the setting begins with its name
    (``set left.roi off``), else for all. ``tell(worker, message)`` sends, ``answer(client, request, ok, text)``
    replies.
    """

    def __init__(
        self,
        workers: Mapping[str, WorkerProcess],
        tell: Callable[[str, Do], None],
        answer: Callable[[bytes | None, int, bool, str], None],
    ) -> None:
        self._workers, self._tell, self._answer = workers, tell, answer
        self._pending: dict[int, _Pending] = {}
        self._next_id = 0

    def give(self, command: str, client: bytes | None, request: int) -> None:
        """Pass on a command in its one spelling; answered when all whom it is for have, or have not in time."""
        verb = command.partition(" ")[0]
        if verb == "record":
            self._send(command, self._acting("sink", "record"), client, request)
        elif verb == "set":
            self._set(command, client, request)
        elif verb not in ("rewind", "live", "save"):
            self._send(command, self._acting("history") or self._acting("driver"), client, request)
        elif any(worker.plan.role == "history" for worker in self._workers.values()):
            self._send(command, self._acting("history"), client, request)
        else:
            text = f"{verb}: nothing is kept; add history: {{of: camera}} to the pipeline"
            self._answer(client, request, False, text)

    def _set(self, command: str, client: bytes | None, request: int) -> None:
        drivers = self._acting("driver")
        name, dot, rest = command.removeprefix("set ").partition(".")
        if dot and name in drivers:
            self._send(f"set {rest}", {name}, client, request)
        else:
            self._send(command, drivers, client, request)

    def heard(self, name: str, answer: Answer) -> None:
        """A worker has answered."""
        pending = self._pending.get(answer.id)
        if pending is None or name not in pending.waiting:
            return
        if answer.declined:
            del self._pending[answer.id]
            self._send(pending.command, self._acting("driver"), pending.client, pending.request)
            return
        pending.waiting.discard(name)
        pending.texts.append(f"{name}: {answer.text}")
        pending.ok = pending.ok and answer.ok
        if not pending.waiting:
            del self._pending[answer.id]
            self._answer(pending.client, pending.request, pending.ok, "; ".join(pending.texts))

    def expire(self) -> None:
        """Say who did not answer in time."""
        now = time.monotonic()
        for number in [n for n, pending in self._pending.items() if now > pending.deadline]:
            pending = self._pending.pop(number)
            silent = ", ".join(sorted(pending.waiting))
            self._answer(pending.client, pending.request, False, f"no answer from {silent} within {ANSWER_S:.0f} s")

    def _acting(self, role: str, part: str | None = None) -> set[str]:
        """The workers of a role that are there. A history that is being restarted has nothing that is rewound."""
        return {
            name
            for name, worker in self._workers.items()
            if worker.plan.role == role and part in (None, worker.plan.part) and worker.process is not None
            if role != "history" or len(worker.account.lives) > len(worker.account.deaths)
        }

    def _send(self, command: str, chosen: set[str], client: bytes | None, request: int) -> None:
        if not chosen:
            self._answer(client, request, False, f"nothing in this pipeline can obey {command.partition(' ')[0]!r}")
            return
        self._next_id += 1
        self._pending[self._next_id] = _Pending(client, request, command, set(chosen), time.monotonic() + ANSWER_S, [])
        for name in chosen:
            self._tell(name, Do(self._next_id, command))
