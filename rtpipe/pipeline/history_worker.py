"""The loop around the history: what comes goes through at once, what is rewound goes out at its own pace."""

from __future__ import annotations

import time
from dataclasses import dataclass

import zmq

from rtpipe.errors import RtpipeError
from rtpipe.history.save import Save
from rtpipe.history.stage import HistoryStage, NotRewoundError
from rtpipe.pipeline.driver_worker import REPLAY_QUEUE
from rtpipe.pipeline.link import Link
from rtpipe.pipeline.messages import Absent, Answer, Do, Note, Status, Stop, WorkerPlan
from rtpipe.pipeline.stage_worker import StageWorker

PLAYING_MS = 2
"""How long to wait at most while packets fall due by the clock."""
SAVE_ANSWER_S = 4.0
"""A file that takes longer to save is answered for before it is there: whoever asked does not wait for ever."""


@dataclass
class _Saving:
    order: Do
    save: Save
    deadline: float


class HistoryWorker(StageWorker):
    """Runs a :class:`~rtpipe.history.stage.HistoryStage` until its source has ended and nothing is rewound."""

    def __init__(
        self, plan: WorkerPlan, history: HistoryStage, link: Link, context: zmq.Context[zmq.Socket[bytes]]
    ) -> None:
        super().__init__(plan, [history], link, context)
        self._history = history
        self._saving: _Saving | None = None

    @property
    def _going(self) -> bool:
        return super()._going or self._history.busy

    @property
    def _taking(self) -> bool:
        return self._history.taking and super()._taking

    @property
    def _idle_ms(self) -> int:
        return PLAYING_MS if self._history.busy else super()._idle_ms

    def _play(self) -> bool:
        """A rewind is like a replay: it waits for its consumers. Little is under way, so that a key acts at once."""
        assert self._publisher is not None
        if not self._publisher.room or self._publisher.backlog >= REPLAY_QUEUE:
            return False
        packets = self._history.due()
        self._publish(packets)
        return bool(packets)

    def _attend(self, timeout_ms: int) -> None:
        super()._attend(timeout_ms)
        saving = self._saving
        if saving is None:
            return
        if not saving.save.is_alive():
            self._saving = None
            self._link.send(Answer(saving.order.id, not saving.save.problem, saving.save.outcome))
        elif time.monotonic() > saving.deadline:
            self._saving = None
            text = f"saving to {saving.save.path} goes on; the run's report says how it ended"
            self._link.send(Answer(saving.order.id, True, text))

    def _obey(self, order: Do | Absent | Status | Note | Stop) -> None:
        if isinstance(order, Stop):
            self._history.go_live()
        super()._obey(order)

    def _control(self, order: Do) -> None:
        verb, _, argument = order.command.partition(" ")
        if verb == "save":
            try:
                save = self._history.save(float(argument))
            except RtpipeError as error:
                self._link.send(Answer(order.id, False, str(error)))
            else:
                self._saving = _Saving(order, save, time.monotonic() + SAVE_ANSWER_S)
            return
        super()._control(order)
        self._report(self._state)  # so that the mark on the screen comes and goes at once

    def _answer(self, order: Do) -> Answer:
        try:
            return Answer(order.id, True, self._history.control(order.command))
        except NotRewoundError as error:
            return Answer(order.id, False, str(error), declined=True)
        except RtpipeError as error:
            return Answer(order.id, False, str(error))

    @property
    def _rewound_s(self) -> float | None:
        return self._history.rewound_s
